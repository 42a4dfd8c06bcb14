"""A fast-weight memory as a sequence mixer: keys and values are written by the delta rule and read by queries."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from resonance_jax.array_typing import (
    FastWeights,
    RealSequence,
    RecentSteps,
    SequenceLengths,
    SequenceMask,
    StepMask,
    Values,
)
from resonance_jax.layers.dropout import Dropout
from resonance_jax.ops._checks import check_choice, check_real_sequence, check_shape
from resonance_jax.ops._segments import check_lengths
from resonance_jax.ops.delta_rule import DEFAULT_CHUNK, delta_rule, delta_step

ACTIVATIONS = ("silu", "none")


class FastWeightState(NamedTuple):
    """What a `FastWeightMemory` carries from one step to the next."""

    recent: RecentSteps
    """The last taps − 1 projected steps, which the convolution still reads, [b, taps − 1, h (2 i + j)]."""
    memory: FastWeights
    """The memory of each head, [b, h, j, i], at least float32."""


class FastWeightMemory(nn.Module):
    """Stores and recalls inside a sequence, causally: one matrix a head, written by `ops.delta_rule`.

        [q k v]_t = a(conv(P x)_t),  q, k ← q/|q|, k/|k|,    β_t = r sigmoid(B x_t)
        S_t = S_{t−1} + β_t (v_t − S_{t−1} k_t) k_tᵀ,    y_t = O [RMSNorm(S_t q_t) ⊙ silu(G x_t)]

    conv is causal and depthwise: each channel of each step is a sum of the last `conv_size` ones. It lets a step write
    a value under the key that came before it.

    A hidden step (mask False) is read as 0 by the convolution, in its place in time; it writes nothing, and gives 0.

    Parameters: `qkv`, `rate`, `out` and with `gate` `gate` (Dense), `convolution` (kernel [taps, channels]) and `norm`
    (RMSNorm over j).

    Attributes:
        features: d.
        num_heads: h.
        key_dim: i, of each head, how many keys it tells apart exactly; None is d / h.
        value_dim: j, of each head; None is d / h.
        conv_size: taps of the convolution; 0 leaves it out.
        activation: a, "silu" or "none". Usual is silu with the gate; experiments/associative_recall.py has neither.
        max_rate: r, in (0, 2]; above 1 a write can turn the sign of what was held.
        error_correcting: False writes v_t whatever is held already (Hebbian: linear attention).
        gate: False leaves the factor silu(G x) out.
        chunk_size: of `delta_rule`; affects speed only.
        dropout: rate on the output.
        dtype: of the projections and the result; None is the input's. The memory is at least float32.
        param_dtype: of the parameters.

    References:
        Yang, Wang, Zhang, Shen, Kim, Parallelizing Linear Transformers with the Delta Rule over Sequence Length,
            arXiv:2406.06484.
    """

    features: int
    num_heads: int = 1
    key_dim: int | None = None
    value_dim: int | None = None
    conv_size: int = 4
    activation: str = "silu"
    max_rate: float = 1.0
    error_correcting: bool = True
    gate: bool = True
    chunk_size: int = DEFAULT_CHUNK
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __call__(
        self, x: RealSequence, mask: SequenceMask | None = None, *, deterministic: bool = True
    ) -> RealSequence:
        """Maps x [b, t, d] to y [b, t, d], from an empty memory.

        Raises:
            ValueError: as `extend`.
        """
        return self.extend(x, None, mask, deterministic=deterministic)[0]

    def initial_state(
        self, batch: tuple[int, ...] = (), dtype: Any = jnp.float32
    ) -> FastWeightState:
        """Returns an empty memory for inputs [*batch, t, d] of a dtype."""
        _check_options(self)
        i, j = self._dims()
        channels = self.num_heads * (2 * i + j)
        wide = jnp.promote_types(dtype, jnp.float32)
        return FastWeightState(
            jnp.zeros((*batch, max(self.conv_size - 1, 0), channels), self.dtype or dtype),
            jnp.zeros((*batch, self.num_heads, j, i), wide),
        )

    def step(
        self, x: Values, state: FastWeightState, mask: StepMask | None = None
    ) -> tuple[Values, FastWeightState]:
        """Maps one step x [b, d] (mask [b]) and the state before it to y [b, d] and the state after it.

        Raises:
            ValueError: as `extend`.
        """
        y, state = self.extend(x[..., None, :], state, None if mask is None else mask[..., None])
        return y[..., 0, :], state

    @nn.compact
    def extend(
        self,
        x: RealSequence,
        state: FastWeightState | None = None,
        mask: SequenceMask | None = None,
        *,
        lengths: SequenceLengths | None = None,
        deterministic: bool = True,
    ) -> tuple[RealSequence, FastWeightState]:
        """Maps x [b, t, d] and the state before it to y [b, t, d] and the state after it.

        A sequence in parts, each with the state that the part before returned, gives what the whole gives. None is the
        empty memory of `initial_state`. With lengths [b] the steps from there on are padding: hidden, and the state is
        that before them.

        Raises:
            ValueError: if x is not real [b, t, features], mask, lengths or state do not fit, or an option is not as
                stated.
        """
        x = jnp.asarray(x, self.dtype or x.dtype)
        _check_options(self)
        _check_input(self.features, x, mask)
        if lengths is not None:
            lengths = check_lengths(lengths, x.shape[:-2], x.shape[-2])
            inside = jnp.arange(x.shape[-2]) < lengths[..., None]
            mask = inside if mask is None else mask & inside
        empty = jax.eval_shape(lambda: self.initial_state(x.shape[:-2], x.dtype))
        if state is None:
            state = self.initial_state(x.shape[:-2], x.dtype)
        check_shape("state.recent", state.recent, empty.recent.shape)
        check_shape("state.memory", state.memory, empty.memory.shape)
        dense = functools.partial(nn.Dense, dtype=x.dtype, param_dtype=self.param_dtype)
        channels = empty.recent.shape[-1]
        if mask is not None:
            x = jnp.where(mask[..., None], x, 0)  # what is hidden reaches no gradient either
        # Matrices [b t, d]: XLA's CPU gradient of a kernel alone is faster with one batch axis than with two.
        flat, steps = x.reshape(-1, self.features), x.shape[:-1]
        projected = dense(channels, use_bias=False, name="qkv")(flat).reshape(*steps, channels)
        rate = dense(self.num_heads, name="rate")(flat).reshape(*steps, self.num_heads)
        rate = self.max_rate * nn.sigmoid(rate)
        if mask is not None:
            projected = jnp.where(mask[..., None], projected, 0)
            rate = jnp.where(mask[..., None], rate, 0)
        convolution = CausalConvolution(self.conv_size, self.param_dtype, name="convolution")
        before = projected
        projected, recent = convolution(before, state.recent)
        if lengths is not None:
            seen = jnp.concatenate([state.recent.astype(before.dtype), before], axis=-2)
            places = lengths[..., None] + jnp.arange(recent.shape[-2])
            recent = jnp.take_along_axis(seen, places[..., None], axis=-2)
        if self.activation == "silu":
            projected = nn.silu(projected)
        read, memory = self._recall(projected, rate, state.memory)
        read = nn.RMSNorm(dtype=x.dtype, param_dtype=self.param_dtype, name="norm")(read)
        read = read.reshape(len(flat), -1)
        if self.gate:
            read = read * nn.silu(dense(read.shape[-1], use_bias=False, name="gate")(flat))
        y = dense(self.features, use_bias=False, name="out")(read).reshape(x.shape)
        y = Dropout(self.dropout)(y, deterministic=deterministic)
        y = y if mask is None else jnp.where(mask[..., None], y, 0)
        return y, FastWeightState(recent, memory)

    def _dims(self) -> tuple[int, int]:
        share = self.features // self.num_heads
        return self.key_dim or share, self.value_dim or share

    def _recall(self, projected, rate, memory):
        """Cuts [b, t, h (2i + j)] into heads, writes and reads: S q [b, t, h, j] and the new S."""
        i, j = self._dims()
        heads = projected.reshape(*projected.shape[:-1], self.num_heads, 2 * i + j)
        query, key, value = jnp.split(jnp.swapaxes(heads, -2, -3), [i, 2 * i], axis=-1)
        query, key, rate = _unit_norm(query), _unit_norm(key), jnp.swapaxes(rate, -1, -2)
        if projected.shape[-2] == 1 and self.error_correcting:
            now = (x[..., 0, :] for x in (query, key, value))
            read, memory = delta_step(memory, *now, rate[..., 0])
            return read[..., None, :, :], memory
        options: dict[str, Any] = dict(
            error_correcting=self.error_correcting, chunk_size=self.chunk_size
        )
        read, memory = delta_rule(query, key, value, rate, memory, **options)
        return jnp.swapaxes(read, -2, -3), memory


class CausalConvolution(nn.Module):
    """Filters each channel by taps of its own over the last steps: y_t = Σ_τ w_τ x_{t−τ}, τ = 0 … taps − 1.

    Parameters: `kernel` [taps, d], the present step's tap first, uniform in ±√(3 / (taps · d)) at the start:
    its fan-in counts the channels too (`ChannelConvolution`'s does not).

    Attributes:
        taps: 1 or more; 0 is the identity without parameters.
        param_dtype: of the kernel.
    """

    taps: int = 4
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: RealSequence, recent: RecentSteps | None = None
    ) -> tuple[RealSequence, RecentSteps]:
        """Maps x [b, t, d], and the taps − 1 steps before it (None is zeros), to y and the last taps − 1 steps.

        Raises:
            ValueError: if taps is negative, or recent is not [b, taps − 1, d].
        """
        if self.taps < 0:
            raise ValueError(f"taps must be 0 or more, got {self.taps}.")
        before, length = max(self.taps - 1, 0), x.shape[-2]
        if recent is None:
            recent = jnp.zeros((*x.shape[:-2], before, x.shape[-1]), x.dtype)
        check_shape("recent", recent, (*x.shape[:-2], before, x.shape[-1]))
        if not self.taps:
            return x, recent
        start = nn.initializers.variance_scaling(1.0, "fan_in", "uniform", in_axis=0, out_axis=())
        kernel = self.param("kernel", start, (self.taps, x.shape[-1]), self.param_dtype)
        kernel = jnp.asarray(kernel, x.dtype)
        seen = jnp.concatenate([jnp.asarray(recent, x.dtype), x], axis=-2)
        shifted = (seen[..., before - lag : before - lag + length, :] for lag in range(self.taps))
        y = functools.reduce(
            jnp.add, (tap * past for tap, past in zip(kernel, shifted, strict=True))
        )
        return y, seen[..., length:, :]


def _unit_norm(x):
    """x / |x| along the last axis, in float32 or wider; 0 where x is 0."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x * jax.lax.rsqrt(jnp.sum(x**2, axis=-1, keepdims=True) + 1e-12)


def _check_input(features: int, x, mask) -> None:
    check_real_sequence("x", x)
    if x.shape[-1] != features:
        raise ValueError(f"expected {features} features, got x of shape {x.shape}.")
    # Not `check_mask`: to a memory that goes on, a part that is hidden as a whole is nothing unusual.
    if mask is not None and (mask.dtype != bool or mask.shape != x.shape[:-1]):
        raise ValueError(
            f"mask must be boolean (True = observed) of shape {x.shape[:-1]}, got {mask.dtype} {mask.shape}."
        )


def _check_options(layer: FastWeightMemory) -> None:
    check_choice("activation", layer.activation, ACTIVATIONS)
    for name in ("features", "num_heads", "key_dim", "value_dim"):
        size = getattr(layer, name)
        if size is not None and size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}.")
    if None in (layer.key_dim, layer.value_dim) and layer.features % layer.num_heads:
        raise ValueError(
            f"num_heads = {layer.num_heads} must divide features = {layer.features}; or give key_dim and value_dim."
        )
    if not 0 < layer.max_rate <= 2:
        raise ValueError(
            f"max_rate must lie in (0, 2], got {layer.max_rate}: above 2 the memory grows without bound."
        )
    if layer.conv_size < 0:
        raise ValueError(f"conv_size must be 0 or more, got {layer.conv_size}.")
