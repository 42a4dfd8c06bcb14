"""The evaluations of `ops.recurrence` on one layout, x [h, e, b, t]: h heads of e channels, time last."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.ops._checks import check_shape, is_concrete
from resonance_jax.ops._chunks import cycles
from resonance_jax.ops._products import product
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
    return _readout_sum(bank.readout * input_gain(bank), powers(bank, np.arange(length)))


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
        left = product(_real_rows(given.state), _free_response(bank, length))
        y = y + (left if given.segments is None else jnp.where(given.segments == 0, left, 0))
    start = given.state if given.state is not None else _zero_state(given)
    lengths = length if given.lengths is None else given.lengths
    if given.segments is not None:
        last = last_segment(given.segments, given.lengths)
        x = jnp.where(given.segments == last[:, None], x, 0)
        start = jnp.where(last == 0, start, 0)
    return y, _state_after(bank, x, start, lengths)


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


def chunked(given: Given, size: int):
    """y and the state by matrix products inside chunks and a scan over the states between them."""
    x, bank = given.x, given.bank
    heads, channels, batch, length = x.shape
    size = min(size, length)
    count = -(-length // size)
    padding = [(0, 0)] * 3 + [(0, count * size - length)]
    x = jnp.pad(x, padding).reshape(heads, channels, batch, count, size)
    table = powers(bank, np.arange(size + 1))
    gain = input_gain(bank)
    toeplitz = _toeplitz(_readout_sum(bank.readout * gain, table[..., :size]))
    segments = _ChunkSegments.of(given.segments, count, size)
    start = _real_rows(_zero_state(given) if given.state is None else given.state)
    starts = start[:, :, :, None]  # [h, e, b, c, 2k]
    if count > 1:
        into = jnp.swapaxes(_real_columns(gain[..., None] * table[..., size - 1 :: -1]), 1, 2)
        read = x if segments is None else jnp.where(segments.in_last, x, 0)
        goes_on = None if segments is None else segments.goes_on
        starts = _starts(start, product(read, into), table[..., -1], goes_on)
    has_state = count > 1 or given.state is not None
    response = _free_response(bank, size)
    if segments is not None:
        y = jnp.einsum(
            "hebcs,hst,bcst->hebct",
            x, toeplitz.astype(x.dtype), segments.together.astype(x.dtype),
            precision=jax.lax.Precision.HIGHEST, preferred_element_type=toeplitz.dtype,
            optimize=[(1, 2), (0, 1)],
        )  # fmt: skip
        if has_state:
            y = y + jnp.where(segments.in_first, product(starts.astype(x.dtype), response), 0)
    elif has_state:
        y = product(x, toeplitz) + product(starts.astype(x.dtype), response)
    else:
        y = product(x, toeplitz)
    y = y.reshape(heads, channels, batch, count * size)[..., :length]
    return y, _chunk_end(given, x, starts, segments)


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


def check_step_mask(mask, shape) -> None:
    """Requires booleans of a shape; a row that is hidden as a whole is nothing unusual to a filter that goes on."""
    if mask.dtype != bool or tuple(mask.shape) != tuple(shape):
        raise ValueError(
            f"mask must be boolean (True = observed) of shape {shape}, got {mask.dtype} {mask.shape}."
        )


def check_segments(segments, shape) -> jax.Array:
    """Requires integers that do not decrease along the last axis, from 0."""
    if tuple(segments.shape) != tuple(shape) or not jnp.issubdtype(segments.dtype, jnp.integer):
        raise ValueError(
            f"segments must be integers {shape}, got {segments.dtype} {segments.shape}."
        )
    if is_concrete(segments):
        values = np.asarray(segments)
        if values.min() < 0 or np.any(values[..., 1:] < values[..., :-1]):
            raise ValueError(
                "segments must not be negative and not decrease along time: number the documents of a row in "
                "their order, 0 for what goes on from the state."
            )
    return jnp.asarray(segments)


def count_segments(segments, num_segments: int | None) -> int:
    """Counts known segments where num_segments is not given, and requires that a given one is enough."""
    if not is_concrete(segments):
        if num_segments is None:
            raise ValueError(
                "the segments are traced: pass num_segments, or use chunked, which needs no bound."
            )
        return num_segments
    needed = int(np.max(np.asarray(segments))) + 1
    if num_segments is not None and num_segments < needed:
        raise ValueError(
            f"num_segments must be above every segment, got {num_segments} for segments up to {needed - 1}."
        )
    return needed if num_segments is None else num_segments


def check_lengths(lengths, batch, length: int) -> jax.Array:
    """Requires an integer 0 … t a row."""
    if tuple(lengths.shape) != tuple(batch) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths must be integers {batch}, got {lengths.dtype} {lengths.shape}.")
    if is_concrete(lengths) and np.size(lengths):
        low, high = int(np.min(np.asarray(lengths))), int(np.max(np.asarray(lengths)))
        if low < 0 or high > length:
            raise ValueError(f"lengths must lie in 0 .. {length}, got {low} .. {high}.")
    return jnp.asarray(lengths, jnp.int32)  # unsigned ones would wrap below 0


class _ChunkSegments(NamedTuple):
    """Which steps of a chunk read what: the last segment seen before it, and the one at its end."""

    together: jax.Array  # [b, c, T, T]: σ and τ are of one segment
    in_first: jax.Array  # [b, c, T]: reads the state before the chunk
    in_last: jax.Array  # [b, c, T]: is in the state after it
    goes_on: jax.Array  # [b, c]: the state before is in the state after
    values: jax.Array  # [b, c, T]
    before: jax.Array  # [b, c]

    @classmethod
    def of(cls, segments, count: int, size: int):
        if segments is None:
            return None
        segments = jnp.pad(segments, [(0, 0), (0, count * size - segments.shape[1])], mode="edge")
        values = segments.reshape(-1, count, size)
        last = values[..., -1]
        before = jnp.pad(last[:, :-1], [(0, 0), (1, 0)])
        return cls(
            values[..., :, None] == values[..., None, :],
            values == before[..., None],
            values == last[..., None],
            before == last,
            values,
            before,
        )


def _starts(first, summed, pole, goes_on):
    """States before each chunk, [h, e, b, c, 2k], from the first and what each chunk adds.

    On one device channels and batch are one axis, as in `product`: with its gradient a scan over five axes takes a
    third of the whole evaluation's time longer on a CPU.
    """
    heads, channels, batch, count, parts = summed.shape
    rows = (channels * batch,) if jax.device_count() == 1 else (channels, batch)
    if goes_on is not None:
        goes_on = jnp.broadcast_to(goes_on.T[:, None], (count, channels, batch))
        goes_on = goes_on.reshape(count, *rows, 1)
    real, imag = (jnp.expand_dims(part, range(1, 1 + len(rows))) for part in (pole.real, pole.imag))

    def advance(state, chunk):
        added, going = chunk
        a, b = jnp.split(state, 2, axis=-1)
        after = jnp.concatenate([real * a - imag * b, real * b + imag * a], axis=-1)
        after = after if going is None else jnp.where(going, after, 0)
        return after + added, state

    added = jnp.moveaxis(summed.reshape(heads, *rows, count, parts), -2, 0)
    _, starts = jax.lax.scan(advance, first.reshape(heads, *rows, parts), (added, goes_on))
    return jnp.moveaxis(starts, 0, -2).reshape(summed.shape)


def _chunk_end(given: Given, x, starts, segments):
    """The state after the last step, from the state before the chunk that holds it."""
    batch, count, size = x.shape[2:]
    length = given.x.shape[-1]
    if given.lengths is None:
        chunk, steps = count - 1, length - (count - 1) * size
        x, start = x[..., chunk, :], starts[..., chunk, :]
    else:
        chunk = jnp.maximum(given.lengths - 1, 0) // size
        steps = given.lengths - chunk * size
        x, start = (
            jnp.take_along_axis(parts, chunk.reshape(1, 1, -1, 1, 1), axis=3)[..., 0, :]
            for parts in (x, starts)
        )
    start = _complex_state(start)
    if segments is not None:
        index = jnp.broadcast_to(jnp.asarray(chunk), (batch,))[:, None]
        values = jnp.take_along_axis(segments.values, index[..., None], axis=1)[:, 0]
        before = jnp.take_along_axis(segments.before, index, axis=1)[:, 0]
        end = jnp.broadcast_to(jnp.maximum(jnp.asarray(steps) - 1, 0), (batch,))
        last = jnp.take_along_axis(values, end[:, None], axis=1)
        x = jnp.where(values == last, x, 0)
        # A row of length 0 has read nothing: its state stays.
        start = jnp.where((before == last[:, 0]) | (jnp.asarray(steps) == 0), start, 0)
    return _state_after(given.bank, x, start, steps)


def _state_after(bank, x, start, steps):
    """λ^steps start + Σ_{τ<steps} λ^{steps−1−τ} γ x[τ], complex [h, k, e, b]; steps of all rows, or of each [b]."""
    length = x.shape[-1]
    if isinstance(steps, int):
        x, kept = x[..., :steps], powers(bank, np.array([steps]))[..., None]
    else:
        places = jnp.arange(length) - (length - steps)[:, None]  # moved to the end of the window
        moved = jnp.take_along_axis(x, jnp.maximum(places, 0)[None, None], axis=-1)
        x, kept = jnp.where(places >= 0, moved, 0), powers(bank, steps)[:, :, None]
    weights = input_gain(bank)[..., None] * powers(bank, np.arange(x.shape[-1])[::-1])
    added = product(x, jnp.swapaxes(_real_columns(weights), 1, 2))
    return kept * start + _complex_state(added)


def last_segment(segments, lengths):
    """The segment of each row's last step, [b]; 0, which keeps the state, for a row of length 0."""
    if lengths is None:
        return segments[:, -1]
    last = jnp.take_along_axis(segments, jnp.maximum(lengths - 1, 0)[:, None], axis=1)[:, 0]
    return jnp.where(lengths == 0, 0, last)


def _free_response(bank, length: int):
    """What a state gives in the steps after it, [h, 2k, length]: Re(c λ^{τ+1} s) = Re(cλ…) Re s − Im(cλ…) Im s."""
    values = bank.readout[..., None] * powers(bank, np.arange(1, length + 1))
    return jnp.concatenate([values.real, -values.imag], axis=1)


def _readout_sum(weights, table):
    """Re Σ_k w_k table_k: [h, k], [h, k, τ] → [h, τ]."""
    return jnp.sum(jnp.real(weights[..., None] * table), axis=1)


def _toeplitz(kernel):
    """M[σ, τ] = h[τ − σ] for τ ≥ σ, else 0: [h, T] → [h, T, T], without a gather.

    Row σ of a matrix [T, 2T − 1] filled with repetitions of (h, 0) is that vector turned by σ places.
    """
    heads, size = kernel.shape
    padded = jnp.concatenate([kernel, jnp.zeros_like(kernel)], axis=1)
    tiled = jnp.tile(padded, (1, size))[:, : size * (2 * size - 1)]
    return tiled.reshape(heads, size, 2 * size - 1)[..., :size]


def _zero_state(given: Given):
    heads, channels, batch, _ = given.x.shape
    dtype = jnp.result_type(given.bank.phase.dtype, jnp.complex64)
    shape = heads, given.bank.phase.shape[1], channels, batch
    return jnp.zeros_like(given.x, dtype, shape)  # in shard_map, varying as x does


def _real_rows(state):
    """Complex [h, k, e, b] → real [h, e, b, 2k]."""
    return jnp.moveaxis(_real_columns(state), 1, -1)


def _complex_state(rows):
    """Real [h, e, b, 2k] → complex [h, k, e, b]."""
    real, imag = jnp.split(jnp.moveaxis(rows, -1, 1), 2, axis=1)
    return jax.lax.complex(real, imag)


def _real_columns(values):
    """Complex [h, k, …] → real and imaginary parts side by side, [h, 2k, …]."""
    return jnp.concatenate([values.real, values.imag], axis=1)
