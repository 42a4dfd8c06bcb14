"""Filter banks of raw sound: damped resonators read once a hop, and the log-mel spectrum; both causal, both streaming.

A resonator of frequency f, decay δ and order n is n filters with one pole, one after another (a gammatone filter). Its
gain is 1 for e^{2πift/sample_rate}, and its bandwidth (−3 dB) about δ √(2^{1/n} − 1) sample_rate / π:

    h_t^j = a h_{t−1}^j + (1 − |a|) h_t^{j−1},    h^0 = x,    a = exp(−δ + 2πi f / sample_rate),    |a| = e^{−δ}

It is read every P samples alone, and exactly: with H^j at the end of hop m and γ = 1 − |a|

    H_m^j = a^P Σ_{i≤j} γ^{j−i} C(P+j−i−1, j−i) H_{m−1}^i + γ^j Σ_{τ<P} C(τ+j−1, τ) a^τ x_{mP−1−τ}

so that a hop takes one product with a matrix [P, 2nk], and only H runs through a recurrence. A frame of S samples is
the mean power |H^n|² of its `reads` hops of P = S / reads samples each. A frame reads the samples up to its end.

References:
    Patterson et al., An efficient auditory filterbank based on the gammatone function, APU report 2341 (1988).
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import (
    BankDecay,
    BankPhase,
    FrameCounts,
    FrameValues,
    PendingSamples,
    Waveforms,
)
from resonance_jax.ops import _recurrence as core
from resonance_jax.ops._checks import check_shape
from resonance_jax.ops._products import product
from resonance_jax.ops._segments import check_lengths
from resonance_jax.ops.mel import mel_edges
from resonance_jax.ops.recurrence import ResonatorBank


class FilterBankState(NamedTuple):
    """What a filter bank carries from one part of a sound to the next."""

    pending: PendingSamples
    """The first `count` are samples after the last whole frame, [b, stride]; 0 after them."""
    count: FrameCounts
    """int32 [b], below the stride."""
    memory: Any
    """Of resonators complex [b, n, k]; of log-mel a window's samples but the last stride, [b, window − stride]."""


class Frames(NamedTuple):
    """What a filter bank makes of a part of a sound."""

    values: FrameValues
    """[b, m, k], or [b, m, 3k] with phases: 0 from each row's length on."""
    lengths: FrameCounts
    """int32 [b]: frames that are whole."""
    state: FilterBankState
    """After the last observed sample."""


def mel_resonators(
    features: int,
    sample_rate: int,
    min_frequency: float = 50.0,
    max_frequency: float | None = None,
    order: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns log δ and 2π f / sample_rate, [k]: f evenly spaced in mel, bandwidths half the way between neighbours.

    Arguments and Raises as `mel.mel_edges`; order is n.

    >>> log_decay, phase = mel_resonators(2, 8000)
    >>> (phase * 8000 / (2 * np.pi)).round().tolist(), bandwidths(log_decay, 8000).round().tolist()
    ([683.0, 1849.0], [900.0, 1659.0])
    """
    edges = mel_edges(features, sample_rate, min_frequency, max_frequency)
    width = (edges[2:] - edges[:-2]) / 2
    decay = np.pi * width / (sample_rate * math.sqrt(2 ** (1 / order) - 1))
    return np.log(decay), 2 * np.pi * edges[1:-1] / sample_rate


def bandwidths(log_decay: BankDecay, sample_rate: int, order: int = 1) -> BankDecay:
    """Returns δ √(2^{1/n} − 1) sample_rate / π in Hz, [k]: how far apart the frequencies of half the power are.

    >>> bandwidths(np.log([np.pi / 100]), 8000).round(6).tolist()
    [80.0]
    """
    exp = np.exp if isinstance(log_decay, np.ndarray) else jnp.exp
    return exp(log_decay) * (math.sqrt(2 ** (1 / order) - 1) * sample_rate / np.pi)


def initial_state(stride: int, memory: Any) -> FilterBankState:
    """Returns the state of a filter bank that has read nothing, for frames of `stride` samples and an empty memory.

    >>> import jax.numpy as jnp
    >>> initial_state(80, jnp.zeros((2, 8), jnp.complex64)).pending.shape
    (2, 80)
    """
    batch, dtype = memory.shape[0], jnp.real(memory).dtype
    return FilterBankState(jnp.zeros((batch, stride), dtype), jnp.zeros(batch, jnp.int32), memory)


def resonator_power(
    x: Waveforms,
    log_decay: BankDecay,
    phase: BankPhase,
    stride: int,
    *,
    reads: int = 1,
    order: int = 1,
    state: FilterBankState | None = None,
    lengths: FrameCounts | None = None,
) -> tuple[FrameValues, Any, FrameCounts, FilterBankState]:
    """Computes the power of resonators in frames of a sound, without evaluating them at other samples than those read.

    Args:
        x: real [b, t]; samples after what the state has read.
        log_decay: log δ [k], δ per sample.
        phase: 2π f / sample_rate [k], radians a sample.
        stride: S samples in a frame.
        reads: readings in a frame, a divisor of S; their mean is its power.
        order: n.
        state: of an earlier part; None has read nothing.
        lengths: int [b]: the samples from there on are padding.
    Returns:
        Power [b, m, k] and the reading at the frame's end, complex [b, m, k], in float32 or wider; how many frames of
        each row are whole, int32 [b]; the state. m is t // S without a state, else the most that there can be.
    Raises:
        ValueError: if a shape or dtype does not fit, or a sound without a state is shorter than a frame.

    >>> import jax, jax.numpy as jnp
    >>> log_decay, phase = mel_resonators(8, 8000)
    >>> wave = jnp.cos(phase[5] * jnp.arange(400.0))[None]
    >>> power = jax.jit(resonator_power, static_argnums=3)(wave, log_decay, phase, 80)[0]
    >>> power.shape, int(power[0, -1].argmax())
    ((1, 5, 8), 5)
    """
    check_shape("phase", phase, log_decay.shape)
    if stride < 1 or reads < 1 or stride % reads:
        raise ValueError(f"reads = {reads} must divide the stride of {stride} samples.")
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}.")
    hops, frames, pending, count = _take_hops(x, stride, state, lengths)
    batch, most, _ = hops.shape
    size, features = stride // reads, log_decay.shape[0]
    real = jnp.promote_types(hops.dtype, jnp.result_type(phase))
    weights, transition = _hop(log_decay, phase, size, order, real)
    drive = product(hops.reshape(1, -1, size).astype(real), weights)
    drive = jax.lax.complex(*jnp.split(drive.reshape(batch, -1, 2 * order * features), 2, axis=-1))
    drive = drive.reshape(batch, -1, order, features)
    start = jnp.zeros_like(drive[:, 0]) if state is None else state.memory
    check_shape("the state's memory", start, (batch, order, features))
    states = _recur(transition, drive, start)
    seen = jnp.concatenate([start[:, None], states], axis=1)
    memory = jnp.take_along_axis(seen, reads * frames[:, None, None, None], axis=1)[:, 0]
    readings = states[:, :, -1].reshape(batch, most, reads, features)
    power = jnp.square(readings.real) + jnp.square(readings.imag)
    state = FilterBankState(pending, count, memory)
    return power.mean(axis=2), readings[:, :, -1], frames, state


def mel_power(
    x: Waveforms,
    filters: Any,
    window: np.ndarray,
    stride: int,
    *,
    state: FilterBankState | None = None,
    lengths: FrameCounts | None = None,
) -> tuple[FrameValues, FrameCounts, FilterBankState]:
    """Computes the power in mel bands of windows that end where frames end: |rfft(w x)|² / (Σ w)² times the filters.

    Args:
        x, stride, state, lengths: as `resonator_power`.
        filters: [f, k], of `mel.mel_filters` for an FFT of 2 (f − 1) samples.
        window: w, real, at least S samples; before the sound's begin they are 0.
    Returns:
        Power [b, m, k] in float32 or wider; how many frames of each row are whole; the state.
    Raises:
        ValueError: as `resonator_power`; if the window is shorter than a frame or longer than the FFT.

    >>> import jax, jax.numpy as jnp
    >>> from resonance_jax.ops.mel import mel_filters
    >>> filters, window = mel_filters(3, 256, 8000), np.hanning(200)
    >>> jax.jit(lambda x: mel_power(x, filters, window, 80)[0])(jnp.ones((1, 400))).shape
    (1, 5, 3)
    """
    before, fft_size = len(window) - stride, 2 * (filters.shape[0] - 1)
    if not stride <= len(window) <= fft_size:
        raise ValueError(
            f"the window's {len(window)} samples must be at least the stride of {stride} and at most the FFT's "
            f"{fft_size}."
        )
    hops, frames, pending, count = _take_hops(x, stride, state, lengths)
    batch, most, _ = hops.shape
    start = jnp.zeros((batch, before), hops.dtype) if state is None else state.memory
    check_shape("the state's memory", start, (batch, before))
    samples = jnp.concatenate([start, hops.reshape(batch, -1)], axis=1)
    places = stride * np.arange(most)[:, None] + np.arange(len(window))
    spectrum = jnp.fft.rfft(samples[:, places] * np.asarray(window, hops.dtype), fft_size)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    power = product(power, jnp.asarray(filters, power.dtype) / np.square(window.sum()))
    kept = stride * frames[:, None] + np.arange(before)
    memory = jnp.take_along_axis(samples, kept, axis=1)
    return power, frames, FilterBankState(pending, count, memory)


def _take_hops(x, stride: int, state: FilterBankState | None, lengths):
    """Cuts what is pending and x into hops [b, m, S]; how many of a row are whole, and the samples after them."""
    x = jnp.asarray(x)
    if x.ndim != 2 or 0 in x.shape or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be real sound [b, t], not empty, got {x.dtype} {x.shape}.")
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    batch, length = x.shape
    if state is None and length < stride:
        raise ValueError(
            f"the sound's {length} samples are less than a frame of {stride}: pad it and give its lengths, or begin "
            "with an initial state."
        )
    total = jnp.full(batch, length, jnp.int32)
    if lengths is not None:
        total = check_lengths(lengths, (batch,), length).astype(jnp.int32)
        x = jnp.where(jnp.arange(length) < total[:, None], x, 0)
    most = length // stride if state is None else (length + stride - 1) // stride
    size = (most + 1) * stride
    samples = jnp.pad(x, [(0, 0), (0, size - length)])
    if state is not None:
        check_shape("the state's pending samples", state.pending, (batch, stride))
        joined = jnp.concatenate([state.pending.astype(x.dtype), samples], axis=1)
        places, before = np.arange(size), state.count[:, None]
        places = jnp.where(places < before, places, places - before + stride)  # no gap between them
        samples = jnp.take_along_axis(joined, places, axis=1)
        total = total + state.count
    frames = total // stride
    rest = total - stride * frames
    pending = jnp.take_along_axis(samples, stride * frames[:, None] + np.arange(stride), axis=1)
    hops = samples[:, : most * stride].reshape(batch, most, stride)
    return hops, frames, pending, rest


def _hop(log_decay, phase, size: int, order: int, dtype):
    """What a hop of P samples adds to H [1, P, 2nk], and what it leaves of H before it, complex [n, n, k]."""
    one = jnp.ones((1, len(phase)), jnp.result_type(dtype, jnp.complex64))
    bank = core.widened(ResonatorBank(log_decay[None], phase[None], one), dtype)
    gain = -jnp.expm1(-core.decay_rate(bank))[0]
    powers = core.powers(bank, np.arange(size + 1))[0]  # [k, P + 1]
    added = np.array([[math.comb(t + j, j) for t in range(size)] for j in range(order)], float)
    kept = [
        [math.comb(size + j - i - 1, j - i) if j >= i else 0 for i in range(order)]
        for j in range(order)
    ]
    place = np.arange(order)
    weights = gain[:, None] ** (1 + place[:, None, None]) * added[:, None] * powers[:, :size]
    weights = core.real_columns(weights.reshape(1, -1, size)[..., ::-1])
    distance = np.maximum(place[:, None] - place, 0)[..., None]
    transition = gain**distance * np.array(kept, float)[..., None] * powers[:, size]
    return jnp.swapaxes(weights, 1, 2).astype(dtype), transition.astype(one.dtype)


def _recur(transition, drive, start):
    """h_m = transition h_{m−1} + drive_m for complex drive [b, m, n, k], all m.

    On a CPU a scan takes a quarter of the time of an associative scan with its gradient, and a tenth to compile.
    """

    def advance(h, added):
        h = jnp.sum(transition * h[:, None], axis=2) + added
        return h, h

    return jnp.moveaxis(jax.lax.scan(advance, start, jnp.moveaxis(drive, 1, 0))[1], 0, 1)
