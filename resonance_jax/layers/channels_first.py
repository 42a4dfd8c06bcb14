"""Dense, norm and causal convolution on the layout [d, b, t]: channels first, time last.

In this layout a dense layer is one product without a transpose, heads are a reshape, and filters along time run over
memory in order. On a CPU that halves the time of a causal block (benchmarks/recurrence.py).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resonance_jax.array_typing import (
    ChannelSequence,
    ProjectedChannels,
    RecentSteps,
    Segments,
    SequenceLengths,
)
from resonance_jax.ops._checks import check_shape
from resonance_jax.ops._products import product
from resonance_jax.ops._segments import last_segment


class ChannelDense(nn.Module):
    """y = W x for x [d, b, t], W [features, d]; no bias.

    Parameters: `kernel` [features, d], variance 1/d at the start.

    Attributes:
        features: rows of W.
        scale: of the start's variance.
        dtype: of the factors; sums and result are float32 or wider. None is x's.
        param_dtype: of the kernel.
    """

    features: int
    scale: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: ChannelSequence) -> ProjectedChannels:
        """Maps x [d, b, t] to y [features, b, t]."""
        start = nn.initializers.variance_scaling(
            self.scale, "fan_in", "truncated_normal", in_axis=1, out_axis=0
        )
        kernel = self.param("kernel", start, (self.features, x.shape[0]), self.param_dtype)
        return channel_product(kernel, x, self.dtype)


def channel_product(matrix, x, dtype=None):
    """matrix [o, d] times x [d, b, t], factors in `dtype`, summed in float32 or wider."""
    # A single step is bound by reading the matrix: converting it first would cost more than it saves.
    dtype = x.dtype if dtype is None or x.shape[1] * x.shape[2] < 64 else dtype
    flat = x.reshape(x.shape[0], -1).astype(dtype)
    return product(matrix.astype(dtype), flat).reshape(matrix.shape[0], *x.shape[1:])


def per_channel(values, x):
    """Broadcasts values [d] against x [d, b, t], so that the gradient is summed over b first.

    XLA's CPU sum over the last axis is not vectorised: in two sums, the second one small, it is ten times as fast.
    """
    rows = jnp.broadcast_to(values[:, None, None].astype(x.dtype), (len(values), 1, x.shape[-1]))
    return jax.lax.optimization_barrier(rows)


class ChannelNorm(nn.Module):
    """Root-mean-square norm over the channels: y = g x / √(mean_d x² + 1e-6).

    Parameters: `scale` [d], g, 1 at the start.

    References:
        Zhang, Sennrich, Root Mean Square Layer Normalization, arXiv:1910.07467.
    """

    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: ChannelSequence) -> ChannelSequence:
        """Maps x [d, b, t] to y [d, b, t]."""
        scale = self.param("scale", nn.initializers.ones, (x.shape[0],), self.param_dtype)
        power = jnp.mean(jnp.square(x), axis=0, keepdims=True)
        return x * jax.lax.rsqrt(power + 1e-6) * per_channel(scale, x)


class ChannelConvolution(nn.Module):
    """Filters each channel by taps of its own over the last steps: y_t = Σ_τ w_τ x_{t−τ}, τ = 0 … taps − 1.

    Parameters: `kernel` [taps, d], the present step's tap first, uniform in ±√(3 / taps) at the start.

    Attributes:
        taps: 1 or more.
        param_dtype: of the kernel.
        axis_name: in shard_map or pmap, the axis along which x is one of equal parts of a sequence, in their order;
            each gives its last steps to the next one. `recent` is then that before the whole sequence.
    """

    taps: int = 4
    param_dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        x: ChannelSequence,
        recent: RecentSteps | None = None,
        segments: Segments | None = None,
        lengths: SequenceLengths | None = None,
    ) -> tuple[ChannelSequence, RecentSteps]:
        """Filters x [d, b, t] after the steps `recent` [b, taps − 1, d]; returns y and the last taps − 1 steps.

        Steps of another segment are read as 0 (those in `recent` are of segment 0); with lengths [b] the last steps
        are those before them.
        """
        channels, batch, length = x.shape
        before = self.taps - 1
        if recent is None:
            recent = jnp.zeros((batch, before, channels), x.dtype)
        check_shape("recent", recent, (batch, before, channels))
        if self.axis_name is not None and not self.is_initializing():
            if not (segments is None and lengths is None):
                raise ValueError(
                    "a sequence in parts along an axis of devices takes neither segments nor lengths."
                )
            recent = _last_steps_before(x, recent, self.axis_name)
        # The channels are a batch of filters, not inputs of one.
        start = nn.initializers.variance_scaling(
            1.0, "fan_in", "uniform", in_axis=0, out_axis=(), batch_axis=1
        )
        kernel = self.param("kernel", start, (self.taps, channels), self.param_dtype)
        seen = jnp.concatenate([jnp.transpose(recent, (2, 0, 1)).astype(x.dtype), x], axis=-1)
        if segments is not None:
            known = jnp.pad(segments, [(0, 0), (before, 0)])
        y = per_channel(kernel[0], x) * x
        for lag in range(1, self.taps):
            here = slice(before - lag, before - lag + length)
            past = seen[..., here]
            if segments is not None:
                past = jnp.where(known[:, here] == segments, past, 0)
            y = y + per_channel(kernel[lag], x) * past
        if segments is not None:
            seen = jnp.where(known == last_segment(segments, lengths)[:, None], seen, 0)
        if lengths is None:
            recent = seen[..., length:]
        else:
            places = lengths[:, None] + jnp.arange(before)
            recent = jnp.take_along_axis(seen, places[None], axis=-1)
        return y, jnp.transpose(recent, (1, 2, 0))


def _last_steps_before(x, first, axis_name: str):
    """The last steps of the part before this one, [b, steps, d]; `first` before the first part."""
    steps, parts = first.shape[1], jax.lax.axis_size(axis_name)
    if x.shape[-1] < steps:
        raise ValueError(
            f"a part of {x.shape[-1]} steps is shorter than the {steps} that the convolution after it reads: take "
            "fewer parts."
        )
    last = jnp.transpose(x[..., x.shape[-1] - steps :], (1, 2, 0))
    ring = [
        (part, (part + 1) % parts) for part in range(parts)
    ]  # vmap refuses one that leaves parts out
    handed = jax.lax.ppermute(last, axis_name, ring)
    return jnp.where(jax.lax.axis_index(axis_name) == 0, first.astype(x.dtype), handed)
