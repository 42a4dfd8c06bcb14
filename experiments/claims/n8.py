"""N8: the hologram H = |P + R|² is read back by R.

Source: N (resonance networks with holographic memory).
Decided by: the relative error of H R against P for a reference R of modulus 1; with the DC terms |P|² + |R|²
subtracted; with the best gain; and with four recordings whose references are shifted by a quarter turn each.
"""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import EXACT, largest, relative_error, smallest

DIMENSION = {"quick": 512, "full": 65_536}


def complex_normal(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draws circular complex normal numbers with E|z|² = 1."""
    return (rng.standard_normal(size) + 1j * rng.standard_normal(size)) / np.sqrt(2)


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    pattern = complex_normal(rng, DIMENSION[size])
    reference = np.exp(2j * np.pi * rng.random(DIMENSION[size]))

    def record(turn):
        return np.abs(pattern + reference * turn) ** 2

    read = record(1) * reference
    twins = (record(1) - np.abs(pattern) ** 2 - 1) * reference
    gain = np.vdot(twins, pattern) / np.vdot(twins, twins)
    turns = np.exp(0.5j * np.pi * np.arange(4))
    stepped = sum(record(turn) * reference * turn for turn in turns) / 4
    return {
        "error_read": relative_error(read, pattern),
        "error_without_dc": relative_error(twins, pattern),
        "error_best_gain": relative_error(gain * twins, pattern),
        "error_twin": relative_error(twins - pattern, np.conj(pattern) * reference**2),
        "error_four_steps": relative_error(stepped, pattern),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    stepped = largest(runs, "error_four_steps")
    number = (
        f"relative error {smallest(runs, 'error_read'):.2f} as written, "
        f"{smallest(runs, 'error_without_dc'):.2f} without the DC terms, "
        f"{smallest(runs, 'error_best_gain'):.2f} with the best gain, {stepped:.1g} with four phase steps"
    )
    if largest(runs, "error_read") <= EXACT:
        return Decision("holds", number)
    if stepped > EXACT:
        return Decision("fails", number, "The pattern does not come back by phase steps either.")
    rest = (
        "one recording gives P (|R|² = 1) beside (|P|² + 1) R and the twin image P̄ R²"
        if largest(runs, "error_twin") <= EXACT
        else "one recording does not give P"
    )
    return Decision(
        "holds when",
        number,
        f"Four recordings with R, iR, −R, −iR are combined, which leaves the cross term P R̄; {rest}.",
    )
