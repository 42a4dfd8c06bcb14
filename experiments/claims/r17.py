"""R17: summing a product of spectra over frequencies is a convolution.

Source: R (attention as a frequency-domain resonator).
Decided by: Σ_f P[f] L[f] against n times the circular convolution of p and l at lag 0, by a direct sum, and the same
with e^{2πifs/n} under the sum against every lag s.
"""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import EXACT, largest, relative_error

LENGTHS = {"quick": (8, 31, 64), "full": (8, 31, 64, 1024)}


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    zero_lag, every_lag = [], []
    for n in LENGTHS[size]:
        p, other = rng.standard_normal((2, n))
        t = np.arange(n)
        convolution = np.array([np.sum(p * other[(lag - t) % n]) for lag in t])
        product = np.fft.fft(p) * np.fft.fft(other)
        zero_lag.append(relative_error(product.sum(), n * convolution[0]))
        back = np.exp(2j * np.pi * (np.outer(t, t) % n) / n) @ product
        every_lag.append(relative_error(back, n * convolution))
    return {"error_zero_lag": zero_lag, "error_every_lag": every_lag}


def decide(runs: Sequence[Numbers]) -> Decision:
    zero, every = largest(runs, "error_zero_lag"), largest(runs, "error_every_lag")
    number = f"relative error {zero:.1g} at lag 0, {every:.1g} over all lags"
    if zero <= EXACT and every <= EXACT:
        return Decision(
            "holds",
            number,
            "The sum is one number of the convolution, n (p ⊛ l)[0]; the other lags need the factor e^{2πifs/n} under "
            "the sum, and a conjugate makes it a correlation.",
        )
    if zero <= EXACT:
        return Decision("holds when", number, "The lag is 0; the other lags come out otherwise.")
    return Decision("fails", number, "The sum is not the convolution at lag 0.")
