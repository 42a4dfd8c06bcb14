"""Frequencies evenly spaced as the ear hears them, and bands of a spectrum around them."""

from typing import Any

import numpy as np


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
