"""R1: correlation scores are the same in the time domain and in the frequency domain.

Source: R (attention as a frequency-domain resonator).
Decided by: Σ_i q_i k_i against Σ_f Q[f] K[f], with and without the conjugate of K and the factor 1/n.
"""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import EXACT, largest, relative_error, smallest

LENGTHS = {"quick": (8, 31, 256), "full": (8, 31, 256, 4096, 65_537)}
PAIRS = 16


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    errors = {"plain": [], "scaled": [], "conjugate": [], "scaled_conjugate": []}
    for n in LENGTHS[size]:
        queries, keys = rng.standard_normal((2, PAIRS, n))
        scores = np.array([np.sum(q * k) for q, k in zip(queries, keys, strict=True)])
        q, k = np.fft.fft(queries), np.fft.fft(keys)
        plain, conjugate = np.sum(q * k, axis=1), np.sum(q * np.conj(k), axis=1)
        for name, sums in (("plain", plain), ("conjugate", conjugate)):
            errors[name].append(relative_error(sums, scores))
            scaled = "scaled" if name == "plain" else "scaled_conjugate"
            errors[scaled].append(relative_error(sums / n, scores))
    return {f"error_{name}": values for name, values in errors.items()}


def decide(runs: Sequence[Numbers]) -> Decision:
    literal, right = largest(runs, "error_plain"), largest(runs, "error_scaled_conjugate")
    number = (
        f"relative error {smallest(runs, 'error_plain'):.2g} as written, "
        f"{smallest(runs, 'error_scaled'):.2g} with 1/n alone, "
        f"{smallest(runs, 'error_conjugate'):.2g} with the conjugate alone, {right:.1g} with both"
    )
    if literal <= EXACT:
        return Decision("holds", number)
    if right <= EXACT:
        return Decision(
            "holds when",
            number,
            "The product takes the conjugate of K and the sum the factor 1/n: Σ_i q_i k_i = (1/n) Σ_f Q[f] conj K[f] "
            "(Parseval); a unitary transform carries the 1/n itself.",
        )
    return Decision("fails", number, "The sums differ with the 1/n and the conjugate too.")
