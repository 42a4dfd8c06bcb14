"""Resonance over sequences that are worked on a chunk at a time: what a chunk needs of the others is a few sums."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import RealSequence, SequenceMask
from resonance_jax.layers._long_context import (
    LARGEST_LOGIT,
    TAPS,
    ChunkState,
    Frames,
    SpectralMixer,
    Sums,
    cut_frames,
    divide,
    in_groups,
    join,
    of_all,
    to_neighbour,
    up_to_each,
)
from resonance_jax.layers.dropout import Dropout
from resonance_jax.layers.resonance import ResonanceLayer
from resonance_jax.ops._checks import check_choice, check_mask, check_real_sequence, check_shape
from resonance_jax.ops._chunks import rotation
from resonance_jax.ops.fourier import project, synthesize

REMATERIALIZATIONS = ("none", "products", "chunk")


class LongContextBlock(nn.Module):
    """A block that mixes a sequence in chunks of T steps: local resonance, global resonance, and a bridge of summaries.

    With u = LayerNorm(x), and v = silu of a filter of each channel of u over its last 4 steps, in chunks c that each
    know a few steps of the next:

        local: a `ResonanceLayer` of every frame, a chunk and `overlap` steps of the next one. Where two frames overlap
            they are faded into each other with weights that add up to 1.
        global: X_k = Σ_t a_t v_t e^{−2πi f_k t} / Σ_t a_t, weighted and mixed (`SpectralMixer`), and put back. It is
            the sum of what the chunks give, k d numbers each, rotated to their places: exact, whatever the chunks.
            The weights a = exp(12 tanh(s / 12)), s a projection of v to `num_heads` numbers, let few steps of a long
            sequence count for all others.
        bridge: s_c = Σ a v / Σ a over a chunk, filtered in the same way along the chunks.

    The sum of the three, times silu of a projection of u, is projected and added to x; then norm → MLP → residual.

    Attributes:
        features: d.
        num_frequencies, local_frequencies, bridge_frequencies: of the three.
        chunk_size: T; a divisor of max_context_length.
        overlap: steps of the next chunk that a chunk's frame has, 0 … T.
        max_context_length: longest sequence; the lowest frequency has one cycle in it.
        num_heads: weights of a step, each for d / num_heads features; a divisor of d.
        mlp_dim: hidden width of the MLP.
        bidirectional: let every chunk hear the whole sequence; else itself, those before, and `overlap` steps after it.
        chunks_at_once: chunks in one step of the loop over them; 0 is all, without a loop.
        rematerialize: what the loop's gradient computes again from the block's input: "none", all but matrix
            "products", or all that is in a "chunk".
        axis_name: in shard_map or pmap, the axis along which x is one of equal parts of a sequence, in their order,
            each of whole chunks. One all-reduce of (k + j) d complex numbers, d weights and a count, with
            bidirectional=False an all-gather of as much; permutes of the steps at the edges.
        dropout: rate on the output of both branches.
        dtype: of the computation outside the transforms, and of the result; None is the input's.
        param_dtype: of the parameters.
    """

    features: int
    num_frequencies: int = 32
    local_frequencies: int = 32
    bridge_frequencies: int = 8
    chunk_size: int = 2048
    overlap: int = 128
    max_context_length: int = 262144
    num_heads: int = 4
    mlp_dim: int = 128
    bidirectional: bool = True
    chunks_at_once: int = 1
    rematerialize: str = "chunk"
    axis_name: str | None = None
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        """Declares the parts."""
        check_choice("rematerialize", self.rematerialize, REMATERIALIZATIONS)
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.norm = nn.LayerNorm(**dtypes)
        self.score = nn.Dense(
            self.num_heads,
            use_bias=False,  # the same factor for all weights is none
            kernel_init=nn.initializers.lecun_normal(),
            param_dtype=self.param_dtype,
        )
        self.kernel = self.param(
            "kernel",
            nn.initializers.variance_scaling(
                1.0, "fan_in", "uniform", in_axis=0, out_axis=(), batch_axis=1
            ),
            (TAPS, self.features),
            self.param_dtype,
        )
        self.local = ResonanceLayer(
            self.features,
            self.local_frequencies,
            selection="log",
            unselected="pass",
            post_norm=False,
            **dtypes,
        )
        self.spectrum = SpectralMixer(
            self.features, self.num_frequencies, self.max_context_length, self.param_dtype
        )
        self.bridge = SpectralMixer(
            self.features,
            self.bridge_frequencies,
            self.max_context_length // self.chunk_size,
            self.param_dtype,
        )
        self.gate = nn.Dense(self.features, **dtypes)
        self.out = nn.Dense(self.features, **dtypes)
        if self.mlp_dim:
            self.mlp_norm = nn.LayerNorm(**dtypes)
            self.mlp_in = nn.Dense(self.mlp_dim, **dtypes)
            self.mlp_out = nn.Dense(self.features, **dtypes)
        self.drop = Dropout(self.dropout)

    def __call__(
        self, x: RealSequence, mask: SequenceMask | None = None, *, deterministic: bool = True
    ) -> RealSequence:
        """Maps x [b, t, d] to y [b, t, d]; hidden steps of the mask are not heard.

        Raises:
            ValueError: if x is not real [b, t, features], longer than max_context_length, or, in parts along an axis
                of devices, not of whole chunks.
        """
        x = jnp.asarray(x, self.dtype or x.dtype)
        check_real_sequence("x", x)
        axis_name = None if self.is_initializing() else self.axis_name
        self._check_length(x, axis_name)
        mask = jnp.ones(x.shape[:2], bool) if mask is None else mask
        check_mask(mask, x)
        frames = cut_frames(x, mask, self.chunk_size, self.overlap, TAPS - 1, axis_name)
        index = jnp.arange(len(frames.x))
        if axis_name is not None:
            index = index + jax.lax.axis_index(axis_name) * len(frames.x)
        _, own = self._loop(_sums_of_chunks, None, (frames, index))
        sums = of_all(own, axis_name) if self.bidirectional else up_to_each(own, axis_name)
        spill = jnp.zeros_like(frames.after[0])
        if axis_name is not None:
            # The first part does not use what comes around: its first chunk is not faded.
            last = jax.tree.map(lambda leaf: leaf[-1:], frames)
            spill = to_neighbour(self._local(last)[1][0, :, self.chunk_size :], axis_name, 1)
        given = frames, index, *self._mix(sums, index)
        _, y = self._loop(partial(_outputs_of_chunks, deterministic=deterministic), spill, given)
        return join(y, x.shape[1])

    def stream(
        self, x: RealSequence, mask: SequenceMask | None, state: ChunkState | None, delay: int = 0
    ) -> tuple[RealSequence, SequenceMask, ChunkState]:
        """Takes the next chunk [b, T, d]; returns the outputs of the chunk before it, its mask, and the state.

        What comes out is what the whole sequence gives with bidirectional=False, one chunk later; a chunk that is
        hidden by its mask brings out the last one. The state None starts, `delay` calls before the first chunk, as
        behind other blocks; dropout is off.

        Raises:
            ValueError: if the block is bidirectional, or x is no chunk.
        """
        if self.bidirectional:
            raise ValueError(
                "a stream cannot hear what is still to come: build the block with bidirectional=False."
            )
        x = jnp.asarray(x, self.dtype or x.dtype)
        check_shape("x", x, (x.shape[0], self.chunk_size, self.features))
        # An array of JAX's: a chunk may be hidden as a whole.
        mask = jnp.ones(x.shape[:2], bool) if mask is None else jnp.asarray(mask)
        check_mask(mask, x)
        if state is None:
            state = self._start(x, delay)
        v, reach = self.overlap, TAPS - 1
        (rows, seen), (before, before_seen) = state.waiting, state.before
        frames = Frames(rows, seen, before, before_seen, x[:, :v], mask[:, :v])
        frames, index = jax.tree.map(lambda leaf: leaf[None], (frames, state.index))
        _, own = _sums_of_chunks(self, None, (frames, index))
        sums = jax.tree.map(lambda before, new: before + new[0], state.sums, own)
        mixed = self._mix(jax.tree.map(lambda leaf: leaf[None], sums), index)
        given = frames, index, *mixed
        spill, y = _outputs_of_chunks(self, state.spill, given, deterministic=True)
        last = rows[:, -reach:], seen[:, -reach:]
        return y[0], seen, ChunkState(sums, (x, mask), last, spill, state.index + 1)

    def _start(self, x, delay: int) -> ChunkState:
        """The state of a stream, `delay` calls before its first chunk."""
        batch, size, d = x.shape
        spectrum, summaries = (
            jnp.zeros((batch, k, d), jnp.complex64)
            for k in (self.num_frequencies, self.bridge_frequencies)
        )
        sums = Sums(spectrum, jnp.zeros((batch, d)), summaries, jnp.zeros(batch))
        rows, seen = jnp.zeros_like(x), jnp.zeros((batch, size), bool)
        last = rows[:, : TAPS - 1], seen[:, : TAPS - 1]
        index = jnp.asarray(-1 - delay)
        return ChunkState(sums, (rows, seen), last, rows[:, : self.overlap], index)

    def _check_length(self, x, axis_name) -> None:
        size, longest = self.chunk_size, self.max_context_length
        if size < TAPS - 1 or longest % size or not 0 <= self.overlap <= size:
            raise ValueError(
                f"expected chunk_size >= {TAPS - 1} that divides max_context_length and 0 <= overlap <= chunk_size, "
                f"got {size}, {longest} and {self.overlap}."
            )
        if self.features % self.num_heads:
            raise ValueError(
                f"num_heads = {self.num_heads} must divide features = {self.features}."
            )
        length = x.shape[-2] * (1 if axis_name is None else jax.lax.axis_size(axis_name))
        if x.ndim != 3 or x.shape[-1] != self.features or length > longest:
            raise ValueError(
                f"expected x [b, t, {self.features}] of t <= max_context_length = {longest} steps in all, got "
                f"{x.shape} and {length} steps."
            )
        if axis_name is not None and x.shape[1] % size:
            raise ValueError(
                f"each part of a sequence along an axis of devices must be of whole chunks of {size} steps, got "
                f"{x.shape[1]}: add hidden steps (`training.padding.pad_steps`)."
            )

    def _loop(self, body, carry, xs):
        """Runs body(block, carry, xs of g chunks) over all chunks; returns the carry and what it gives, [c, ...]."""
        count = len(jax.tree.leaves(xs)[0])
        size = min(self.chunks_at_once or count, count)
        looped = size < count
        if self.rematerialize != "none":
            policy = None
            if self.rematerialize == "products":
                policy = jax.checkpoint_policies.dots_saveable
            body = nn.remat(body, prevent_cse=not looped, policy=policy)
        if not looped:
            return body(self, carry, xs)
        xs = jax.tree.map(lambda leaf: in_groups(leaf, size), xs)
        scan = nn.scan(
            body, variable_broadcast="params", split_rngs={"params": False, "dropout": True}
        )
        carry, ys = scan(self, carry, xs)
        return carry, jax.tree.map(lambda leaf: jax.lax.collapse(leaf, 0, 2)[:count], ys)

    def _sums(self, frames: Frames, index) -> Sums:
        """What each of some chunks gives to the others."""
        x = jnp.concatenate([frames.before, frames.x], axis=-2)
        _, v = self._filtered(x, jnp.concatenate([frames.before_seen, frames.seen], axis=-1))
        v = v.astype(jnp.float32)
        logit = LARGEST_LOGIT * jnp.tanh(self.score(v) / LARGEST_LOGIT)
        a = jnp.where(frames.seen[..., None], jnp.exp(logit), 0)
        a = jnp.repeat(a, self.features // self.num_heads, axis=-1)
        weighted = a * v
        spectrum = project(weighted, self.spectrum.frequencies) * self._turn(index)
        weight = jnp.sum(a, axis=-2)
        summary = divide(jnp.sum(weighted, axis=-2), weight)[..., None, :]
        count = jnp.any(frames.seen, axis=-1).astype(jnp.float32)
        return Sums(spectrum, weight, summary * self._turn_chunk(index), count)

    def _mix(self, sums: Sums, index):
        """Returns S [c, b, k, d], turned to each chunk's start, and the bridge's outputs [c, b, 1, d]."""
        spectrum = divide(sums.spectrum, sums.weight[..., None, :])
        heard = self.spectrum(spectrum) * jnp.conj(self._turn(index))
        summaries = divide(sums.summary_spectrum, sums.count[..., None, None])
        bridged = self.bridge(summaries) * jnp.conj(self._turn_chunk(index))
        return heard, jnp.sum(bridged.real, axis=-2, keepdims=True)

    def _turn(self, index):
        """e^{−2πi f cT}, [c, 1, k, 1]."""
        chunks = self.max_context_length // self.chunk_size
        table = rotation(chunks, self.chunk_size, self.spectrum.frequencies, jnp.float32)
        return table[index % chunks][:, None]

    def _turn_chunk(self, index):
        """e^{−2πi g c}, [c, 1, j, 1]."""
        chunks = self.max_context_length // self.chunk_size
        return rotation(chunks, 1, self.bridge.frequencies, jnp.float32)[index % chunks][:, None]

    def _filtered(self, x, seen):
        """Returns u and v; x begins 3 steps before them."""
        u = jnp.where(seen[..., None], self.norm(x), 0)
        kernel = jnp.asarray(self.kernel, u.dtype)
        first, length = TAPS - 1, u.shape[-2] - TAPS + 1
        v = sum(kernel[lag] * u[..., first - lag : first - lag + length, :] for lag in range(TAPS))
        return u[..., first:, :], jnp.where(seen[..., first:, None], nn.silu(v), 0)

    def _local(self, frames: Frames):
        """Returns u and the local resonance of whole frames, [g, b, T + v, d]."""
        x = jnp.concatenate([frames.before, frames.x, frames.after], axis=-2)
        seen = jnp.concatenate([frames.before_seen, frames.seen, frames.after_seen], axis=-1)
        u, v = self._filtered(x, seen)
        return u, jnp.where(seen[..., TAPS - 1 :, None], self.local(v), 0)

    def _outputs(self, spill, frames: Frames, index, heard, bridged, *, deterministic: bool):
        """The outputs of some chunks [g, b, T, d], and what the last one's frame gives to the next chunk."""
        size, v, dtype = self.chunk_size, self.overlap, frames.x.dtype
        u, local = self._local(frames)
        spilled = local[..., size:, :]
        before = jnp.concatenate([spill[None], spilled[:-1]])
        fade = jnp.asarray((np.arange(v) + 0.5) / max(v, 1), dtype)[:, None]
        fade = jnp.where(index[:, None, None, None] == 0, 1, fade)
        start = fade * local[..., :v, :] + (1 - fade) * before
        y = jnp.concatenate([start, local[..., v:size, :]], axis=-2)
        y = y + synthesize(heard, self.spectrum.frequencies, size).astype(dtype)
        y = y + bridged.astype(dtype)
        y = self._project(frames.x, u[..., :size, :], y, deterministic=deterministic)
        return spilled[-1], y

    def _project(self, x, u, y, *, deterministic: bool):
        """Gate, projection and MLP, step by step."""
        # Matrices [g b T, d]: XLA's CPU gradient of a kernel alone is faster with one batch axis than with several.
        shape = x.shape
        x, u, y = (array.reshape(-1, self.features) for array in (x, u, y))
        y = self.out(y * nn.silu(self.gate(u)))
        x = x + self.drop(y, deterministic=deterministic)
        if self.mlp_dim:
            u = self.mlp_out(nn.gelu(self.mlp_in(self.mlp_norm(x))))
            x = x + self.drop(u, deterministic=deterministic)
        return x.reshape(shape)


def _sums_of_chunks(block: LongContextBlock, carry, xs):
    return carry, block._sums(*xs)


def _outputs_of_chunks(block: LongContextBlock, spill, xs, *, deterministic: bool):
    return block._outputs(spill, *xs, deterministic=deterministic)
