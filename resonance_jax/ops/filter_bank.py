"""Filter banks of raw sound: damped resonators read once a hop, and the log-mel spectrum; both causal, both streaming.

A resonator of frequency f and decay δ, with |a| = e^{−δ}, has gain 1 for e^{2πift/sample_rate}:

    h_t = a h_{t−1} + (1 − |a|) x_t,    a = exp(−δ + 2πi f / sample_rate),    bandwidth (−3 dB) ≈ δ sample_rate / π

It is read every P samples alone, and exactly: with h at the end of hop m

    H_m = a^P H_{m−1} + (1 − |a|) Σ_{τ<P} a^{P−1−τ} x_{mP+τ}

so that a hop takes one product with a matrix [P, 2k], and only H runs through a recurrence. A frame of S samples is the
mean power |H|² of its last `reads` hops of P = S / reads samples each. A frame reads the samples up to its end.
"""

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
from resonance_jax.ops.recurrence import ResonatorBank


class FilterBankState(NamedTuple):
    """What a filter bank carries from one part of a sound to the next."""

    pending: PendingSamples
    """The first `count` are samples after the last whole frame, [b, stride]; 0 after them."""
    count: FrameCounts
    """int32 [b], below the stride."""
    memory: Any
    """Of resonators complex [b, k]; of log-mel the last window's samples but the last stride, [b, window − stride]."""


class Frames(NamedTuple):
    """What a filter bank makes of a part of a sound."""

    values: FrameValues
    """[b, m, k], or [b, m, 3k] with phases: 0 from each row's length on."""
    lengths: FrameCounts
    """int32 [b]: frames that are whole."""
    state: FilterBankState
    """After the last observed sample."""


def hz_to_mel(frequency: Any) -> Any:
    """Returns 2595 log₁₀(1 + f / 700) of frequencies in Hz (O'Shaughnessy's formula, as HTK has it).

    >>> round(hz_to_mel(1000.0))
    1000
    """
    return 2595.0 * np.log10(1.0 + np.asarray(frequency) / 700.0)


def mel_to_hz(mel: Any) -> Any:
    """Returns 700 (10^{m / 2595} − 1), in Hz, the inverse of `hz_to_mel`.

    >>> round(float(mel_to_hz(hz_to_mel(440.0))))
    440
    """
    return 700.0 * (10.0 ** (np.asarray(mel) / 2595.0) - 1.0)


def mel_edges(
    features: int, sample_rate: int, min_frequency: float = 50.0, max_frequency: float | None = None
) -> np.ndarray:
    """Returns features + 2 frequencies in Hz, evenly spaced in mel: a band's centre and those of its neighbours.

    Args:
        features: k bands.
        sample_rate: in Hz.
        min_frequency, max_frequency: the first and the last of them; None is sample_rate / 2.
    Raises:
        ValueError: unless k >= 1 and 0 <= min_frequency < max_frequency <= sample_rate / 2.

    >>> mel_edges(2, 8000).round().tolist()
    [50.0, 683.0, 1849.0, 4000.0]
    """
    highest = sample_rate / 2 if max_frequency is None else max_frequency
    if features < 1:
        raise ValueError(f"features must be at least 1, got {features}.")
    if not 0 <= min_frequency < highest <= sample_rate / 2:
        raise ValueError(
            f"expected 0 <= min_frequency < max_frequency <= {sample_rate / 2:g} Hz, half the sample rate, got "
            f"{min_frequency:g} and {highest:g}."
        )
    return mel_to_hz(np.linspace(hz_to_mel(min_frequency), hz_to_mel(highest), features + 2))


def mel_resonators(
    features: int, sample_rate: int, min_frequency: float = 50.0, max_frequency: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns log δ and 2π f / sample_rate, [k]: f evenly spaced in mel, bandwidths half the way between neighbours.

    Arguments and Raises as `mel_edges`.

    >>> log_decay, phase = mel_resonators(2, 8000)
    >>> (phase * 8000 / (2 * np.pi)).round().tolist(), (np.exp(log_decay) * 8000 / np.pi).round().tolist()
    ([683.0, 1849.0], [900.0, 1659.0])
    """
    edges = mel_edges(features, sample_rate, min_frequency, max_frequency)
    bandwidth = (edges[2:] - edges[:-2]) / 2
    return np.log(np.pi * bandwidth / sample_rate), 2 * np.pi * edges[1:-1] / sample_rate


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
    hops, frames, pending, count = _take_hops(x, stride, state, lengths)
    batch, most, _ = hops.shape
    size, features = stride // reads, log_decay.shape[0]
    real = jnp.promote_types(hops.dtype, jnp.result_type(phase))
    one = jnp.ones((1, features), jnp.result_type(real, jnp.complex64))
    bank = core.widened(ResonatorBank(log_decay[None], phase[None], one), real)
    gain = -jnp.expm1(-core.decay_rate(bank))
    weights = core.real_columns(gain[..., None] * core.powers(bank, np.arange(size)[::-1]))
    drive = product(hops.reshape(1, -1, size).astype(real), jnp.swapaxes(weights, 1, 2))
    drive = jax.lax.complex(*jnp.split(drive.reshape(batch, -1, 2 * features), 2, axis=-1))
    start = jnp.zeros_like(drive[:, 0]) if state is None else state.memory
    check_shape("the state's memory", start, (batch, features))
    readings = _recur(core.powers(bank, np.array([size]))[0, :, 0], drive, start)
    power = jnp.square(readings.real) + jnp.square(readings.imag)
    power = power.reshape(batch, most, reads, features).mean(axis=2)
    seen = jnp.concatenate([start[:, None], readings], axis=1)
    memory = jnp.take_along_axis(seen, reads * frames[:, None, None], axis=1)[:, 0]
    ends = readings.reshape(batch, most, reads, features)[:, :, -1]
    return power, ends, frames, FilterBankState(pending, count, memory)


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
        filters: [f, k], of `mel_filters` for an FFT of 2 (f − 1) samples.
        window: w, real, at least S samples; before the sound's begin they are 0.
    Returns:
        Power [b, m, k] in float32 or wider; how many frames of each row are whole; the state.
    Raises:
        ValueError: as `resonator_power`; if the window is shorter than a frame or longer than the FFT.

    >>> import jax, jax.numpy as jnp
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


def mel_filters(
    features: int,
    fft_size: int,
    sample_rate: int,
    min_frequency: float = 50.0,
    max_frequency: float | None = None,
) -> np.ndarray:
    """Returns triangles over the bins of an FFT, 1 at each band's centre and 0 at its neighbours', [fft_size/2 + 1, k].

    Arguments and Raises as `mel_edges`; raises also if a band has no bin.

    >>> mel_filters(3, 256, 8000).shape
    (129, 3)
    """
    edges = mel_edges(features, sample_rate, min_frequency, max_frequency)
    bins = (np.arange(fft_size // 2 + 1) * sample_rate / fft_size)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    filters = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    filters = np.maximum(filters, 0.0)
    if not np.all(np.any(filters > 0, axis=0)):
        empty = int(np.argmin(np.any(filters > 0, axis=0)))
        raise ValueError(
            f"band {empty}, around {centre[empty]:.0f} Hz, has no bin of an FFT of {fft_size} samples: take fewer "
            "bands or a longer FFT."
        )
    return filters


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


def _recur(factor, drive, start):
    """h_m = factor h_{m−1} + drive_m for complex drive [b, m, k], all m.

    On a CPU a scan takes a quarter of the time of an associative scan with its gradient, and a tenth to compile.
    """

    def advance(h, added):
        h = factor * h + added
        return h, h

    return jnp.moveaxis(jax.lax.scan(advance, start, jnp.moveaxis(drive, 1, 0))[1], 0, 1)
