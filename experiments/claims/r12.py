"""R12: ReLU does not commute with the Fourier transform.

Source: R (attention as a frequency-domain resonator).
Decided by: F(relu(x)) against three rectifiers of the spectrum (real and imaginary parts, the first quadrant, moduli);
and the energy that relu puts into bins where a cosine has none, where no rule for each bin can.
"""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import DIFFERENT, largest, relative_error, smallest

LENGTHS = {"quick": (8, 31, 64), "full": (8, 31, 64, 4096)}


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    errors = {"parts": [], "quadrant": [], "moduli": []}
    new_energy = []
    for n in LENGTHS[size]:
        x = rng.standard_normal(n)
        spectrum, expected = np.fft.fft(x), np.fft.fft(relu(x))
        quadrant = (spectrum.real >= 0) & (spectrum.imag >= 0)
        modulus = np.abs(spectrum)
        shrunk = relu(modulus - np.median(modulus)) / modulus
        readings = {
            "parts": relu(spectrum.real) + 1j * relu(spectrum.imag),
            "quadrant": np.where(quadrant, spectrum, 0),
            "moduli": shrunk * spectrum,
        }
        for name, reading in readings.items():
            errors[name].append(relative_error(reading, expected))
        wave = relu(np.cos(2 * np.pi * np.arange(n) / n))
        energy = np.abs(np.fft.fft(wave)) ** 2
        new_energy.append(float(1 - (energy[1] + energy[n - 1]) / energy.sum()))
    return {f"error_{name}": values for name, values in errors.items()} | {"new_energy": new_energy}


def decide(runs: Sequence[Numbers]) -> Decision:
    names = ("parts", "quadrant", "moduli")
    least = min(smallest(runs, f"error_{name}") for name in names)
    nearest = min(largest(runs, f"error_{name}") for name in names)
    new = smallest(runs, "new_energy")
    number = f"relative error {least:.2g} or more; {new:.0%} of the energy of relu(cos) in new bins"
    if new > DIFFERENT and nearest > DIFFERENT:
        return Decision(
            "holds",
            number,
            "relu makes harmonics: it fills bins that are empty, so no rule for each bin commutes with it.",
        )
    return Decision(
        "fails",
        number,
        "A rectifier of the spectrum gives the transform, or no bin is filled anew.",
    )
