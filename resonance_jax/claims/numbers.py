"""The numbers that decide claims about identities."""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.ledger import Numbers

EXACT = 1e-9  # a float64 identity holds up to rounding
DIFFERENT = 1e-3  # and what is no identity misses by far more


def relative_error(actual, expected) -> float:
    """Returns ‖actual − expected‖/‖expected‖ over all entries, real or complex.

    >>> print(f"{relative_error([3.0, 4.5], [3.0, 4.0]):.3f}")
    0.100
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape:  # broadcasting would compare something else
        raise ValueError(f"expected shape {expected.shape}, got {actual.shape}.")
    return float(np.linalg.norm((actual - expected).ravel()) / np.linalg.norm(expected.ravel()))


def largest(runs: Sequence[Numbers], key: str) -> float:
    """Returns the largest value of a number, over all runs and the entries of lists.

    >>> largest([{"error": 1.0}, {"error": [0.5, 2.0]}], "error")
    2.0
    """
    return float(max(np.max(run[key]) for run in runs))


def smallest(runs: Sequence[Numbers], key: str) -> float:
    """Returns the smallest value of a number, over all runs and the entries of lists.

    >>> smallest([{"error": 1.0}, {"error": [0.5, 2.0]}], "error")
    0.5
    """
    return float(min(np.min(run[key]) for run in runs))
