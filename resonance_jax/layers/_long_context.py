"""What `LongContextBlock` is made of: sums over chunks, their spectral mixer, and how arrays are cut into chunks."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import Array
from resonance_jax.layers import initializers
from resonance_jax.ops.fourier import select_bins
from resonance_jax.ops.polar import from_polar

# Weights e^s of the steps in a sum, |s| below this: ratios up to e^24 = 3e10, and sums that float32 holds.
LARGEST_LOGIT = 12.0


TAPS = 4  # of the filter over the last steps


class Frames(NamedTuple):
    """Chunks, with the steps before and after each; "seen" are masks."""

    x: Any
    """[c, b, T, d]."""
    seen: Any
    """[c, b, T]."""
    before: Any
    """[c, b, 3, d]."""
    before_seen: Any
    """[c, b, 3]."""
    after: Any
    """[c, b, v, d]."""
    after_seen: Any
    """[c, b, v]."""


class Sums(NamedTuple):
    """What the steps of one chunk or of several give to the others; sums of these are those of more steps."""

    spectrum: Any
    """Σ a_t v_t e^{−2πi f_k t}, complex [..., b, k, d]."""
    weight: Any
    """Σ a_t, [..., b, d]."""
    summary_spectrum: Any
    """Σ s_c e^{−2πi g_k c} over chunks c, complex [..., b, j, d]."""
    count: Any
    """Chunks with an observed step, [..., b]."""


class ChunkState(NamedTuple):
    """What `LongContextBlock.stream` keeps between chunks."""

    sums: Sums
    """Of all chunks before the waiting one."""
    waiting: Any
    """The last chunk, which waits for the steps after it, and its mask: [b, T, d], [b, T]."""
    before: Any
    """The last steps before it and their mask: [b, 3, d], [b, 3]."""
    spill: Any
    """What the frame before it gives to its first `overlap` steps, [b, v, d]."""
    index: Any
    """Its place, int32; −1 at the start."""


class SpectralMixer(nn.Module):
    """Weights a spectrum X [..., k, d] and lets its frequencies mix: S = W ⊙ X, S ← S + M S.

    The frequencies are bins of a reference length, spaced geometrically from one cycle in it to one in two steps, DC
    with them. Parameters: `log_magnitude`, `phase` [k, d] of W, `interference` [2, k, k] (real, imaginary part of M).
    """

    features: int
    num_frequencies: int
    reference_length: int
    param_dtype: Any = jnp.float32

    @property
    def frequencies(self) -> np.ndarray:
        """Cycles per step, [k]."""
        bins = select_bins(self.reference_length // 2 + 1, self.num_frequencies, "log")
        return bins / self.reference_length

    @nn.compact
    def __call__(self, spectrum):
        """Returns c ⊙ S, to be synthesized: c_k is 1 at DC and at half a cycle a step, 2 elsewhere."""
        f = self.frequencies
        shape = (len(f), self.features)
        small = initializers.small_normal(0.02)
        log_magnitude = self.param("log_magnitude", small, shape, self.param_dtype)
        phase = self.param("phase", small, shape, self.param_dtype)
        start = initializers.small_interference
        parts = self.param("interference", start, (2, len(f), len(f)), self.param_dtype)
        mixed = from_polar(jnp.exp(log_magnitude), phase) * spectrum
        m = jax.lax.complex(parts[0], parts[1])
        mixed = mixed + jnp.einsum("jk,...kd->...jd", m, mixed, precision="highest")
        scale = np.where((f == 0) | (f == 0.5), 1, 2).astype(parts.dtype)
        return scale[:, None] * mixed


def of_all(own: Sums, axis_name: str | None) -> Sums:
    """The sums of all chunks, the same for each, [c, ...]."""
    total = jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), own)
    if axis_name is not None:
        total = jax.lax.psum(total, axis_name)
    return jax.tree.map(lambda leaf, each: jnp.broadcast_to(leaf, each.shape), total, own)


def up_to_each(own: Sums, axis_name: str | None) -> Sums:
    """The sums of each chunk and all before it, [c, ...]."""
    sums = jax.tree.map(lambda leaf: jnp.cumsum(leaf, axis=0), own)
    if axis_name is None:
        return sums
    parts = jnp.arange(jax.lax.axis_size(axis_name)) < jax.lax.axis_index(axis_name)

    def of_parts_before(leaf):
        totals = jax.lax.all_gather(leaf[-1], axis_name)
        return leaf + jnp.tensordot(parts.astype(leaf.dtype), totals, 1, precision="highest")

    return jax.tree.map(of_parts_before, sums)


def divide(total, weight):
    """total / weight, and 0 where nothing was observed."""
    return total / jnp.maximum(weight, np.exp(-LARGEST_LOGIT - 1))


def cut_frames(x: Array, seen: Array, size: int, overlap: int, reach: int, axis_name: str | None):
    """Cuts [b, t, d] and its mask into `Frames` of chunks [b, T, d], with zeros that are not seen after the end.

    In parts along an axis of devices, the steps beyond a part's edges are those of its neighbours.
    """
    x, seen = split(x, size), split(seen, size)
    first, last = (
        (x[:1, :, :overlap], seen[:1, :, :overlap]),
        (x[-1:, :, -reach:], seen[-1:, :, -reach:]),
    )
    if axis_name is None:
        after, before = jax.tree.map(jnp.zeros_like, (first, last))
    else:
        count, part = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)
        rows, known = to_neighbour(first, axis_name, -1)
        after = rows, known & (part < count - 1)
        rows, known = to_neighbour(last, axis_name, 1)
        before = rows, known & (part > 0)
    ahead = [
        jnp.concatenate([array[1:, :, :overlap], edge])
        for array, edge in zip((x, seen), after, strict=True)
    ]
    behind = [
        jnp.concatenate([edge, array[:-1, :, -reach:]])
        for array, edge in zip((x, seen), before, strict=True)
    ]
    return Frames(x, seen, *behind, *ahead)


def to_neighbour(values, axis_name: str, step: int):
    """Hands values to the part `step` further along the axis, in a ring: the ends must not use what comes around."""
    count = jax.lax.axis_size(axis_name)
    return jax.lax.ppermute(values, axis_name, [(i, (i + step) % count) for i in range(count)])


def split(x: Array, size: int) -> jax.Array:
    """Cuts [b, t, ...] into chunks [c, b, T, ...], with zeros after the end."""
    missing = -x.shape[1] % size
    x = jnp.pad(x, [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2))
    return jnp.swapaxes(x.reshape(x.shape[0], -1, size, *x.shape[2:]), 0, 1)


def join(chunks: jax.Array, length: int) -> jax.Array:
    """Undoes `split`: [c, b, T, d] → [b, t, d]."""
    x = jnp.swapaxes(chunks, 0, 1)
    return x.reshape(x.shape[0], -1, x.shape[-1])[:, :length]


def in_groups(x: jax.Array, size: int) -> jax.Array:
    """Cuts [c, ...] into groups [c/g, g, ...], with zeros after the end."""
    missing = -len(x) % size
    x = jnp.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1))
    return x.reshape(len(x) // size, size, *x.shape[1:])
