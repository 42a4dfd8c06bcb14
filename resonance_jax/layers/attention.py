"""Causal softmax attention with rotary positions and a key–value cache: the baseline of causal resonance."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from resonance_jax.array_typing import Array, ChannelSequence, Segments, SequenceLengths
from resonance_jax.layers.channels_first import ChannelDense
from resonance_jax.layers.dropout import Dropout
from resonance_jax.ops._checks import check_shape
from resonance_jax.ops._products import product, product_of_rows
from resonance_jax.ops._segments import check_lengths, check_segments


class AttentionState(NamedTuple):
    """Keys and values of all steps read, in a buffer of max_length steps."""

    keys: Array
    """[b, h, max_length, e], rotated."""
    values: Array
    """[b, h, max_length, e]."""
    position: Array
    """int [b]: steps read."""


class CausalAttention(nn.Module):
    """Softmax attention over the past, on the layout [d, b, t].

    Parameters: `qkv` (kernel [3d, d]) and `out_proj` (kernel [d, d]).

    Attributes:
        features: d.
        num_heads: h, a divisor of d; d / h must be even.
        max_length: steps of the cache.
        dropout, dtype, param_dtype: as in `CausalResonance`.

    References:
        Vaswani et al., Attention Is All You Need, arXiv:1706.03762.
        Su et al., RoFormer: Enhanced Transformer with Rotary Position Embedding, arXiv:2104.09864.
    """

    features: int
    num_heads: int = 4
    max_length: int = 1024
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def initial_state(self, batch: int) -> AttentionState:
        """Returns an empty cache."""
        shape = (batch, self.num_heads, self.max_length, self.features // self.num_heads)
        return AttentionState(jnp.zeros(shape), jnp.zeros(shape), jnp.zeros(batch, jnp.int32))

    @nn.compact
    def extend(
        self,
        x: ChannelSequence,
        state: AttentionState | None,
        *,
        segments: Segments | None = None,
        lengths: SequenceLengths | None = None,
        deterministic: bool = True,
    ) -> tuple[ChannelSequence, AttentionState | None]:
        """Maps x [d, b, t] and the cache before it to y [d, b, t] and the cache after it.

        Without a cache none is made. What does not fit into the cache gives NaN: check the lengths before.

        Raises:
            ValueError: if shapes or options do not fit, or a cache is given together with segments.
        """
        if self.features % self.num_heads or self.features // self.num_heads % 2:
            raise ValueError(
                f"num_heads = {self.num_heads} must divide features = {self.features} into an even number."
            )
        check_shape("x", x, (self.features, *x.shape[1:]))
        if state is not None and segments is not None:
            raise ValueError("attention with a cache takes no segments: start each with its own.")
        _, batch, length = x.shape
        if state is not None:
            empty = jax.eval_shape(lambda: self.initial_state(batch))
            for name in AttentionState._fields:
                check_shape(f"state.{name}", getattr(state, name), getattr(empty, name).shape)
        if segments is not None:
            segments = check_segments(segments, (batch, length))
        if lengths is not None:
            lengths = check_lengths(lengths, (batch,), length)
        dense = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        qkv = ChannelDense(3 * self.features, name="qkv", **dense)(x)
        qkv = qkv.reshape(3, self.num_heads, -1, batch, length)
        start = jnp.zeros(batch, jnp.int32) if state is None else state.position
        places = start[:, None] + jnp.arange(length)
        qkv = jnp.moveaxis(qkv, 3, 1)  # [3, b, h, e, t]
        query, key = (_rotate(part, places) for part in (qkv[0], qkv[1]))
        query = jnp.swapaxes(query, -1, -2) * (query.shape[-2] ** -0.5)
        if state is None:
            allowed = places[:, :, None] >= places[:, None, :]
            if segments is not None:
                allowed &= segments[:, :, None] == segments[:, None, :]
            weights = self._weigh(product, query, key, allowed)
            read = product_of_rows(qkv[2].astype(weights.dtype), weights)
        else:
            state = self._store(state, key, qkv[2], lengths)
            allowed = places[:, :, None] >= jnp.arange(self.max_length)
            # The cache as it lies: a transpose of it would cost more than the step.
            weights = self._weigh(product_of_rows, query, state.keys, allowed)
            read = jnp.swapaxes(product(weights, state.values), -1, -2)
            # Beyond the cache nothing is stored.
            read = jnp.where((places < self.max_length)[:, None, None], read, jnp.nan)
        y = jnp.transpose(read, (1, 2, 0, 3)).reshape(self.features, batch, length)
        y = ChannelDense(self.features, name="out_proj", **dense)(y)
        return Dropout(self.dropout)(y, deterministic=deterministic).astype(x.dtype), state

    def _weigh(self, multiply, query, keys, allowed):
        """softmax(Q Kᵀ) [b, h, t, s] of queries [b, h, t, e] and keys in the layout that `multiply` takes."""
        dtype = query.dtype if self.dtype is None or query.shape[2] == 1 else self.dtype
        scores = multiply(query.astype(dtype), keys)
        scores = jnp.where(allowed[:, None], scores, jnp.finfo(scores.dtype).min)
        return jax.nn.softmax(scores, axis=-1).astype(dtype)

    def _store(self, state: AttentionState, key, value, lengths) -> AttentionState:
        """Writes keys and values [b, h, e, t] behind what is stored."""
        length = key.shape[-1]
        if lengths is not None:
            # What padding holds may be NaN, which no mask would keep out of a product.
            inside = (jnp.arange(length) < lengths[:, None])[:, None, None]
            key, value = jnp.where(inside, key, 0), jnp.where(inside, value, 0)

        def write(buffer, new, at):
            # Not dynamic_update_slice, which would move a write that does not fit.
            rows = at + jnp.arange(length)
            return buffer.at[:, rows].set(new, mode="drop")

        keys, values = (
            jax.vmap(write)(buffer, jnp.swapaxes(new, -1, -2).astype(buffer.dtype), state.position)
            for buffer, new in ((state.keys, key), (state.values, value))
        )
        # Padding is written too, and overwritten by the next steps before anything reads it.
        return AttentionState(
            keys, values, state.position + (length if lengths is None else lengths)
        )


def _rotate(x, places):
    """Turns pairs of channels of x [b, h, e, t] by place · 10000^(−2i/e)."""
    half = x.shape[-2] // 2
    rate = 10000.0 ** (-jnp.arange(half) / half)
    angle = (places[:, None, :] * rate[:, None])[:, None]
    first, second = x[..., :half, :], x[..., half:, :]
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    turned = [first * cosine - second * sine, first * sine + second * cosine]
    return jnp.concatenate(turned, axis=-2)
