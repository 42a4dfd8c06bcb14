"""R11: LayerNorm has a closed form in frequency, a rule for each bin.

Source: R (attention as a frequency-domain resonator).
Decided by: the spectrum of LayerNorm(x) against the normalisation of each bin over features, and against the best
factor for each bin that could be chosen knowing the result; for a deviation σ_t that changes over time, and one that
does not.
"""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import EXACT, largest, relative_error, smallest

SHAPES = {"quick": ((32, 16),), "full": ((32, 16), (255, 16), (1024, 64))}


def centre(x: np.ndarray) -> np.ndarray:
    """Subtracts the mean over features."""
    return x - x.mean(axis=1, keepdims=True)


def best_factors(spectrum: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Multiplies each bin by the complex factor that brings it nearest to what is wanted."""
    along = np.sum(wanted * np.conj(spectrum), axis=1) / np.sum(np.abs(spectrum) ** 2, axis=1)
    return along[:, None] * spectrum


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    names = ("error_each_bin", "error_best_factors", "error_even", "error_centre", "error_mixing")
    numbers: dict[str, list[float]] = {name: [] for name in names}
    for n, d in SHAPES[size]:
        x = rng.standard_normal((n, d))
        centred = centre(x)
        sigma = centred.std(axis=1, keepdims=True)
        spectrum, wanted = np.fft.fft(centred, axis=0), np.fft.fft(centred / sigma, axis=0)
        spread = np.sqrt(np.mean(np.abs(spectrum) ** 2, axis=1, keepdims=True))
        numbers["error_each_bin"].append(relative_error(spectrum / spread, wanted))
        numbers["error_best_factors"].append(relative_error(best_factors(spectrum, wanted), wanted))
        even = np.fft.fft(2.5 * centred / sigma, axis=0)  # the same deviation at every t
        numbers["error_even"].append(relative_error(best_factors(even, wanted), wanted))
        numbers["error_centre"].append(relative_error(centre(np.fft.fft(x, axis=0)), spectrum))
        kernel, bins = np.fft.fft(1 / sigma[:, 0]) / n, np.arange(n)
        circulant = kernel[(bins[:, None] - bins[None, :]) % n]  # a convolution over bins
        numbers["error_mixing"].append(relative_error(circulant @ spectrum, wanted))
    return {name: values for name, values in numbers.items()}


def decide(runs: Sequence[Numbers]) -> Decision:
    even, mixing = largest(runs, "error_even"), largest(runs, "error_mixing")
    number = (
        f"relative error {smallest(runs, 'error_each_bin'):.2g} for each bin normalised, "
        f"{smallest(runs, 'error_best_factors'):.2g} with the best factor a bin, "
        f"{even:.1g} where σ_t is constant, {mixing:.1g} as a convolution over all bins"
    )
    if largest(runs, "error_each_bin") <= EXACT:
        return Decision("holds", number)
    if largest(runs, "error_best_factors") <= EXACT:
        return Decision(
            "holds when",
            number,
            "The factor of each bin is fitted to the result, not to the bin.",
        )
    if max(even, mixing, largest(runs, "error_centre")) <= EXACT:
        return Decision(
            "fails",
            number,
            "Only the centring acts on each bin by itself. The division by σ_t is a product over time, hence a "
            "convolution of the spectrum with F(1/σ)/n, which the input determines through all bins at once; it is a "
            "factor only where σ_t is the same at every t.",
        )
    return Decision("fails", number, "No rule for each bin gives the spectrum of the result.")
