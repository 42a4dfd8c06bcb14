"""Banks of resonators by matrix products inside chunks and a scan over the states between them.

Layouts are those of `_recurrence`; c chunks of T steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.ops import _recurrence as core
from resonance_jax.ops._products import product


def chunked(given: core.Given, size: int, axis_name: str | None = None):
    """y and the state by matrix products inside chunks and a scan over the states between them.

    With axis_name x is one of the equal parts of a sequence along a mapped axis, `given.state` that before all of it,
    and the state after x: what the parts before this one leave is added to the states of a scan from zero.
    """
    x, bank = given.x, given.bank
    heads, channels, batch, length = x.shape
    size = min(size, length)
    count = -(-length // size)
    padding = [(0, 0)] * 3 + [(0, count * size - length)]
    x = jnp.pad(x, padding).reshape(heads, channels, batch, count, size)
    table = core.powers(bank, np.arange(size + 1))
    gain = core.input_gain(bank)
    toeplitz = _toeplitz(core.readout_sum(bank.readout * gain, table[..., :size]))
    segments = _ChunkSegments.of(given.segments, count, size)
    alone = given.state is None or axis_name is not None
    start = core.real_rows(core.zero_state(given) if alone else given.state)
    starts = start[:, :, :, None]  # [h, e, b, c, 2k]
    if count > 1:
        into = jnp.swapaxes(core.real_columns(gain[..., None] * table[..., size - 1 :: -1]), 1, 2)
        read = x if segments is None else jnp.where(segments.in_last, x, 0)
        goes_on = None if segments is None else segments.goes_on
        starts = _starts(start, product(read, into), table[..., -1], goes_on)
    if axis_name is not None:
        ended = _chunk_end(given, x, starts, segments)
        before = _state_before_part(bank, given.state, ended, length, axis_name)
        kept = core.powers(bank, size * np.arange(count))[:, :, None, None]  # [h, k, 1, 1, c]
        starts = starts + core.real_rows(kept * before[..., None])
        ended = ended + core.powers(bank, np.array([length]))[..., None] * before
    has_state = count > 1 or given.state is not None or axis_name is not None
    response = core.free_response(bank, size)
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
    return y, _chunk_end(given, x, starts, segments) if axis_name is None else ended


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


def _state_before_part(bank, first, ended, length: int, axis_name: str):
    """λ^{mt} first + Σ_{j<m} λ^{(m−1−j)t} ended_j before part m of t steps, complex [h, k, e, b], by one all-gather."""
    part, count = jax.lax.axis_index(axis_name), jax.lax.axis_size(axis_name)
    table = jnp.moveaxis(core.powers(bank, length * np.arange(count)), -1, 0)[..., None, None]
    distance = part - 1 - np.arange(count)
    weights = jnp.where((distance >= 0)[:, None, None, None, None], table[distance], 0)
    before = jnp.sum(weights * jax.lax.all_gather(ended, axis_name), axis=0)
    return before if first is None else before + table[part] * first


def _chunk_end(given: core.Given, x, starts, segments):
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
    start = core.complex_state(start)
    if segments is not None:
        index = jnp.broadcast_to(jnp.asarray(chunk), (batch,))[:, None]
        values = jnp.take_along_axis(segments.values, index[..., None], axis=1)[:, 0]
        before = jnp.take_along_axis(segments.before, index, axis=1)[:, 0]
        end = jnp.broadcast_to(jnp.maximum(jnp.asarray(steps) - 1, 0), (batch,))
        last = jnp.take_along_axis(values, end[:, None], axis=1)
        x = jnp.where(values == last, x, 0)
        # A row of length 0 has read nothing: its state stays.
        start = jnp.where((before == last[:, 0]) | (jnp.asarray(steps) == 0), start, 0)
    return core.state_after(given.bank, x, start, steps)


def _toeplitz(kernel):
    """M[σ, τ] = h[τ − σ] for τ ≥ σ, else 0: [h, T] → [h, T, T], without a gather.

    Row σ of a matrix [T, 2T − 1] filled with repetitions of (h, 0) is that vector turned by σ places.
    """
    heads, size = kernel.shape
    padded = jnp.concatenate([kernel, jnp.zeros_like(kernel)], axis=1)
    tiled = jnp.tile(padded, (1, size))[:, : size * (2 * size - 1)]
    return tiled.reshape(heads, size, 2 * size - 1)[..., :size]
