"""R4: softmax is preserved by the Fourier transform.

Source: R (attention as a frequency-domain resonator).
Decided by: the transform of softmax(s) against three softmaxes of the transform of s (complex exponential, moduli with
phases kept, real parts); and against F(exp s) divided by its value at DC.
"""

from collections.abc import Sequence

import jax
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import EXACT, largest, relative_error, smallest
from resonance_jax.ops.polar import complex_softmax

LENGTHS = {"quick": (31,), "full": (8, 31, 64, 1024)}
ROWS = 16


def softmax(scores: np.ndarray) -> np.ndarray:
    """Divides exponentials by their sum, with complex scores too."""
    powers = np.exp(scores - np.max(np.real(scores), axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    errors = {"exponential": [], "moduli": [], "real_part": [], "normalised": []}
    for n in LENGTHS[size]:
        scores = rng.standard_normal((ROWS, n))
        expected, spectrum = np.fft.fft(softmax(scores)), np.fft.fft(scores)
        powers = np.fft.fft(np.exp(scores))
        with jax.enable_x64(True):
            moduli = np.asarray(jax.jit(complex_softmax)(spectrum))
        readings = {
            "exponential": softmax(spectrum),
            "moduli": moduli,
            "real_part": softmax(np.real(spectrum)),
            "normalised": powers / powers[:, :1],
        }
        for name, reading in readings.items():
            errors[name].append(relative_error(reading, expected))
    return {f"error_{name}": values for name, values in errors.items()}


def decide(runs: Sequence[Numbers]) -> Decision:
    names = ("exponential", "moduli", "real_part")
    best = min(largest(runs, f"error_{name}") for name in names)
    least = min(smallest(runs, f"error_{name}") for name in names)
    right = largest(runs, "error_normalised")
    number = (
        f"relative error {least:.2g} or more for each softmax of the spectrum, "
        f"{right:.1g} for F(exp s) over its DC term"
    )
    if best <= EXACT:
        return Decision("holds", number)
    if right <= EXACT:
        return Decision(
            "fails",
            number,
            "F(softmax(s)) = F(eˢ)/F(eˢ)[0]: the exponential of a signal is a sum of repeated circular convolutions of "
            "its spectrum, so every frequency of the scores enters every frequency of the weights.",
        )
    return Decision("fails", number, "No softmax of the spectrum gives the transform.")
