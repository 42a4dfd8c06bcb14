"""The evaluations of `ops.recurrence` on one layout, x [h, e, b, t]: h heads of e channels, time last."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.ops._checks import check_shape
from resonance_jax.ops._chunks import cycles
from resonance_jax.ops._products import product
from resonance_jax.ops._segments import check_lengths, check_segments, check_step_mask, last_segment
from resonance_jax.ops.fourier import fast_length

# exp(ν) is kept in [1.2e-7, 100]: |λ| stays below 1 in float32, and the derivatives of γ and exp(−exp ν) finite. ν is
# clipped before exp, which overflows from 89 on and would leave 0 · ∞ in the gradient.
_LOG_DECAY_RANGE = math.log(1.2e-7), math.log(100.0)


class Given(NamedTuple):
    """The checked arguments of an evaluation, and how to lay out its result."""

    x: Any  # [h, e, b, t]
    bank: Any
    state: Any  # complex [h, k, e, b], or None for zero
    segments: Any  # [b, t] or None
    observed: Any  # bool [b, t] or None: neither hidden nor padding
    lengths: Any  # [b] or None
    batch: tuple[int, ...]
    channels_first: bool
    dtype: Any


def prepare(x, bank, state, segments, mask, lengths, channels_first: bool) -> Given:
    """Checks the arguments of an evaluation and lays them out."""
    x = jnp.asarray(x)
    if x.ndim < 2 or 0 in x.shape or not jnp.issubdtype(x.dtype, jnp.floating):
        layout = "[d, ..., t]" if channels_first else "[..., t, d]"
        raise ValueError(
            f"x must be real floating point {layout}, not empty, got {x.dtype} {x.shape}."
        )
    if not channels_first:
        x = jnp.moveaxis(x, -1, 0)
    features, batch, length = x.shape[0], x.shape[1:-1], x.shape[-1]
    check_bank(bank, features)
    bank = widened(bank, x.dtype)
    heads = bank.phase.shape[0]
    if state is not None:
        state = check_state(state, batch, bank, features)
        state = state.reshape(-1, state.shape[-2], heads, features // heads)
        state = jnp.transpose(state, (2, 1, 3, 0))
    segments, mask, lengths = (
        given if given is None or hasattr(given, "shape") else np.asarray(given)
        for given in (segments, mask, lengths)
    )
    if segments is not None:
        segments = check_segments(segments, (*batch, length)).reshape(-1, length)
    observed = None
    if mask is not None:
        check_step_mask(mask, (*batch, length))
        observed = jnp.asarray(mask).reshape(-1, length)
    if lengths is not None:
        lengths = check_lengths(lengths, batch, length).reshape(-1)
        inside = jnp.arange(length) < lengths[:, None]
        observed = inside if observed is None else observed & inside
    dtype = x.dtype
    if dtype == jnp.float16:  # its range is too small for the products
        x = x.astype(jnp.float32)
    x = x.reshape(heads, features // heads, -1, length)
    if observed is not None:
        x = jnp.where(observed, x, 0)
    return Given(x, bank, state, segments, observed, lengths, batch, channels_first, dtype)


def finish(given: Given, y, state) -> tuple[jax.Array, jax.Array]:
    """Lays out y [h, e, b, t] and the state, complex [h, k, e, b], as the caller's."""
    if given.observed is not None:
        y = jnp.where(given.observed, y, 0)
    heads, size = y.shape[:2]
    y = y.reshape(heads * size, *given.batch, y.shape[-1]).astype(given.dtype)
    if not given.channels_first:
        y = jnp.moveaxis(y, 0, -1)
    state = jnp.transpose(state, (3, 1, 0, 2))
    return y, state.reshape(*given.batch, state.shape[1], heads * size)


def widened(bank, dtype=jnp.float32):
    """The bank in a precision that is at least its own, this one, and float32: no bfloat16 is complex."""
    real = jnp.promote_types(jnp.promote_types(bank.phase.dtype, dtype), jnp.float32)
    types = real, real, jnp.result_type(real, jnp.complex64)
    return type(bank)(*(jnp.asarray(v, t) for v, t in zip(bank, types, strict=True)))


def decay_rate(bank) -> jax.Array:
    """exp(ν), kept in range."""
    return jnp.exp(jnp.clip(bank.log_decay, *_LOG_DECAY_RANGE))


def input_gain(bank) -> jax.Array:
    """γ = √(1 − |λ|²), without cancellation; its derivative is finite because exp(ν) is kept in range."""
    return jnp.sqrt(-jnp.expm1(-2 * decay_rate(bank)))


def powers(bank, times) -> jax.Array:
    """λ^τ, complex [h, k, *times]: angles are reduced to a fraction of a cycle before they are rounded."""
    decay = decay_rate(bank).reshape(-1)
    angle = 2 * np.pi * cycles(times, (bank.phase / (2 * np.pi)).reshape(-1))
    size = jnp.exp(-jnp.asarray(times, decay.dtype)[..., None] * decay)
    values = jax.lax.complex(size * jnp.cos(angle), size * jnp.sin(angle))
    return jnp.moveaxis(values, -1, 0).reshape(*bank.phase.shape, *np.shape(times))


def output_variance(bank) -> jax.Array:
    """Σ_τ h[τ]² [h] = ½ Re Σ_jk (a_j a_k / (1 − λ_j λ_k) + a_j ā_k / (1 − λ_j λ̄_k)), a = c γ."""
    weights, pole = bank.readout * input_gain(bank), powers(bank, np.array([1]))[..., 0]

    def pairs(weights_k, pole_k):
        products = weights[:, :, None] * weights_k[:, None]
        return jnp.sum(products / (1 - pole[:, :, None] * pole_k[:, None]), axis=(1, 2)).real

    return 0.5 * (pairs(weights, pole) + pairs(jnp.conj(weights), jnp.conj(pole)))


def kernel(bank, length: int) -> jax.Array:
    """h[τ] [h, length]."""
    return readout_sum(bank.readout * input_gain(bank), powers(bank, np.arange(length)))


def convolve(given: Given, num_segments: int | None):
    """y and the state by FFT."""
    x, bank, length = given.x, given.bank, given.x.shape[-1]
    x = x.astype(jnp.promote_types(x.dtype, bank.phase.dtype))
    size = fast_length(2 * length)
    spectrum = jnp.fft.rfft(kernel(bank, length), size)[:, None, None]

    def filtered(x):
        return jnp.fft.irfft(jnp.fft.rfft(x, size) * spectrum, size)[..., :length]

    if num_segments is None:
        y = filtered(x)
    else:
        # One after another: a sum over all at once would hold num_segments spectra.
        def add(y, segment):
            here = given.segments == segment
            return y + jnp.where(here, filtered(jnp.where(here, x, 0)), 0), None

        y, _ = jax.lax.scan(add, jnp.zeros_like(x), jnp.arange(num_segments))
        y = jnp.where(given.segments < num_segments, y, jnp.nan)
    if given.state is not None:
        left = product(real_rows(given.state), free_response(bank, length))
        y = y + (left if given.segments is None else jnp.where(given.segments == 0, left, 0))
    start = given.state if given.state is not None else zero_state(given)
    lengths = length if given.lengths is None else given.lengths
    if given.segments is not None:
        last = last_segment(given.segments, given.lengths)
        x = jnp.where(given.segments == last[:, None], x, 0)
        start = jnp.where(last == 0, start, 0)
    return y, state_after(bank, x, start, lengths)


def scan(given: Given):
    """y and the state by an associative scan over complex states [t, h, k, e, b]."""
    x, bank = jnp.moveaxis(given.x, -1, 0)[:, :, None], given.bank
    x = x.astype(input_gain(bank).dtype)
    drive = input_gain(bank)[..., None, None] * x
    pole = powers(bank, np.array([1]))[None, ..., None]  # [1, h, k, 1, 1]
    length = given.x.shape[-1]
    factor = jnp.broadcast_to(pole, (length, *pole.shape[1:4], 1))
    if given.segments is not None:
        before = jnp.pad(given.segments[:, :-1], [(0, 0), (1, 0)])
        factor = jnp.where((given.segments == before).T[:, None, None, None], factor, 0)
    if given.lengths is not None:  # padding leaves the state as it is
        padding = jnp.arange(length)[:, None, None, None, None] >= given.lengths
        factor = jnp.where(padding, 1, factor)
    drive = drive.astype(factor.dtype)
    if given.state is not None:
        drive = drive.at[0].add(factor[0] * given.state)

    def join(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    _, states = jax.lax.associative_scan(join, (factor, drive))
    y = jnp.sum(jnp.real(bank.readout[..., None, None] * states), axis=2)
    return jnp.moveaxis(y, 0, -1), states[-1]


def check_bank(bank, features: int) -> None:
    """Requires ν, θ and c of one shape [h, k], and h heads that divide the features."""
    check_shape("bank.log_decay", bank.log_decay, bank.phase.shape)
    check_shape("bank.readout", bank.readout, bank.phase.shape)
    if bank.phase.ndim != 2 or 0 in bank.phase.shape:
        raise ValueError(f"a bank's arrays must have shape [h, k], got {bank.phase.shape}.")
    if features % bank.phase.shape[0]:
        raise ValueError(
            f"the {bank.phase.shape[0]} heads of the bank must divide the {features} features of x."
        )


def check_state(state, batch, bank, features: int) -> jax.Array:
    """Requires a complex state [*b, k, d]."""
    expected = (*batch, bank.phase.shape[1], features)
    if tuple(state.shape) != expected or not jnp.issubdtype(state.dtype, jnp.complexfloating):
        raise ValueError(
            f"state must be complex {expected}, for the batch of x, k resonators and d features, got {state.dtype} "
            f"{tuple(state.shape)}; it belongs to another batch or model: begin with initial_state."
        )
    return jnp.asarray(state, jnp.result_type(state.dtype, bank.readout.dtype))


def state_after(bank, x, start, steps):
    """λ^steps start + Σ_{τ<steps} λ^{steps−1−τ} γ x[τ], complex [h, k, e, b]; steps of all rows, or of each [b]."""
    length = x.shape[-1]
    if isinstance(steps, int):
        x, kept = x[..., :steps], powers(bank, np.array([steps]))[..., None]
    else:
        places = jnp.arange(length) - (length - steps)[:, None]  # moved to the end of the window
        moved = jnp.take_along_axis(x, jnp.maximum(places, 0)[None, None], axis=-1)
        x, kept = jnp.where(places >= 0, moved, 0), powers(bank, steps)[:, :, None]
    weights = input_gain(bank)[..., None] * powers(bank, np.arange(x.shape[-1])[::-1])
    added = product(x, jnp.swapaxes(real_columns(weights), 1, 2))
    return kept * start + complex_state(added)


def free_response(bank, length: int):
    """What a state gives in the steps after it, [h, 2k, length]: Re(c λ^{τ+1} s) = Re(cλ…) Re s − Im(cλ…) Im s."""
    values = bank.readout[..., None] * powers(bank, np.arange(1, length + 1))
    return jnp.concatenate([values.real, -values.imag], axis=1)


def readout_sum(weights, table):
    """Re Σ_k w_k table_k: [h, k], [h, k, τ] → [h, τ]."""
    return jnp.sum(jnp.real(weights[..., None] * table), axis=1)


def zero_state(given: Given):
    heads, channels, batch, _ = given.x.shape
    dtype = jnp.result_type(given.bank.phase.dtype, jnp.complex64)
    shape = heads, given.bank.phase.shape[1], channels, batch
    return jnp.zeros_like(given.x, dtype, shape)  # in shard_map, varying as x does


def real_rows(state):
    """Complex [h, k, e, b, …] → real [h, e, b, …, 2k]."""
    return jnp.moveaxis(real_columns(state), 1, -1)


def complex_state(rows):
    """Real [h, e, b, 2k] → complex [h, k, e, b]."""
    real, imag = jnp.split(jnp.moveaxis(rows, -1, 1), 2, axis=1)
    return jax.lax.complex(real, imag)


def real_columns(values):
    """Complex [h, k, …] → real and imaginary parts side by side, [h, 2k, …]."""
    return jnp.concatenate([values.real, values.imag], axis=1)
