"""R2: the transform of the score matrix Q Kᵀ is the product of the spectra of Q and K.

Source: R (attention as a frequency-domain resonator).
Decided by: the two-sided transform F S Fᴴ of S = Q Kᵀ against the product Σ_d Q[f] conj K[f], which can only fill its
diagonal; and that product against the transform of the mean of S along its circular diagonals.
"""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import EXACT, largest, relative_error, smallest

LENGTHS = {"quick": (8, 31, 64), "full": (8, 31, 64, 512)}
FEATURES = 8


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    whole, diagonals = [], []
    for n in LENGTHS[size]:
        queries, keys = rng.standard_normal((2, n, FEATURES))
        product = np.sum(np.fft.fft(queries, axis=0) * np.conj(np.fft.fft(keys, axis=0)), axis=1)
        scores = queries @ keys.T
        transform = np.fft.fft(np.fft.ifft(scores, axis=1) * n, axis=0)  # F S Fᴴ
        whole.append(relative_error(np.diag(product), transform))
        rows = np.arange(n)
        means = np.array([np.mean(scores[rows, (rows - lag) % n]) for lag in range(n)])
        diagonals.append(relative_error(n * np.fft.fft(means), product))
    return {"error_whole": whole, "error_diagonals": diagonals}


def decide(runs: Sequence[Numbers]) -> Decision:
    diagonals = largest(runs, "error_diagonals")
    number = (
        f"relative error {smallest(runs, 'error_whole'):.2f} or more for the whole matrix, "
        f"{diagonals:.1g} for the transform of its mean circular diagonals"
    )
    if largest(runs, "error_whole") <= EXACT:
        return Decision("holds", number)
    if diagonals <= EXACT:
        return Decision(
            "fails",
            number,
            "The cross-spectrum knows the scores only through their mean at each lag: Σ_d Q[f] conj K[f] = n · "
            "DFT_τ[(1/n) Σ_i S(i, i − τ)], the diagonal of F S Fᴴ; all else in S is lost.",
        )
    return Decision(
        "fails", number, "The product is not the transform of the mean circular diagonals either."
    )
