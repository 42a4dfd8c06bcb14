"""Q6: the logarithm compresses, arctan bounds the phase by απ/2.

Source: Q (quaternions and the log-phase filter).
Decided by: the phase of the filter over |k| = 0 … 10⁶ in every unit of the frequency, unwrapped from |k| = 1, against
α π/2; what it gains in each octave of k; and how much of the bound is reached where, with the logarithm and without it.
"""

from collections.abc import Sequence

import jax
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.numbers import EXACT, largest
from resonance_jax.ops.phase_filter import UNITS, log_phase_filter

ALPHAS = (0.1, 0.5, 1.0, 3.0)
OCTAVES = 20
WHOLE = 1024  # every k up to here, then eight an octave
NEAR = 0.9  # of the bound
SEEDS = {"quick": 1, "full": 1}  # nothing is random


def phases(frequencies: np.ndarray, alphas: Sequence[float], **options) -> np.ndarray:
    """Returns the phase of the even filter at rising frequencies, [α, k], exact where the first is within ±π."""
    with jax.enable_x64(True):
        response = log_phase_filter(frequencies, np.array(alphas), symmetry="even", **options)
    return np.unwrap(np.angle(np.asarray(response)))


def measure(seed: int, size: str) -> Numbers:
    above = np.round(WHOLE * 2 ** np.arange(1 / 8, OCTAVES - np.log2(WHOLE) + 1 / 16, 1 / 8))
    k = np.concatenate([np.arange(1, WHOLE + 1), above])
    n = int(2 * k[-1])
    powers = np.searchsorted(k, 2.0 ** np.arange(OCTAVES + 1))
    phase = phases(k / n, ALPHAS, length=n)
    bound = np.array(ALPHAS)[:, None] * np.pi / 2
    shares = [float(np.max(np.abs(phase) / bound))]
    for unit in UNITS:
        # For α > 2 the lowest frequency's phase, near −α π/2, could be known only up to a turn.
        other = phases(k / n, ALPHAS[:-1], length=n, unit=unit)
        shares.append(float(np.max(np.abs(other) / bound[:-1])))
    with jax.enable_x64(True):
        at_dc = np.asarray(
            log_phase_filter(np.zeros(1), np.array(ALPHAS), symmetry="even", length=n)
        )
    one = phase[ALPHAS.index(1.0)]
    plain = np.arctan(k)
    return {
        "largest_k": int(k[-1]),
        "largest_share_of_bound": shares,
        "error_at_dc": float(np.max(np.abs(at_dc[:, 0] - np.exp(-1j * bound[:, 0])))),
        "error_phase": float(np.max(np.abs(one - np.arctan(np.log(k))))),
        "octave_steps": np.diff(one[powers]).tolist(),
        "octave_phases": one[powers].tolist(),
        "at_50": float(one[49]),
        "from_50_to_256": float(one[255] - one[49]),
        "near_bound_from": int(k[np.argmax(one >= NEAR * np.pi / 2)]),
        "near_bound_from_without_log": int(k[np.argmax(plain >= NEAR * np.pi / 2)]),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    share, steps = largest(runs, "largest_share_of_bound"), runs[0]["octave_steps"]
    near, plain = runs[0]["near_bound_from"], runs[0]["near_bound_from_without_log"]
    at_50 = runs[0]["at_50"]
    number = (
        f"at most {share:.3f} of α π/2 up to k = {runs[0]['largest_k']:.1e}; α {at_50:.2f} rad at k = 50, "
        f"α {runs[0]['from_50_to_256']:.2f} more at 256; {NEAR:.0%} of the bound from k = {near} (without the "
        f"logarithm from {plain}); an octave adds α {steps[0]:.2f} rad at k = 1, α {steps[-1]:.4f} at the last"
    )
    bounded = share <= 1 + EXACT and largest(runs, "error_at_dc") <= EXACT
    compressed = near > plain and np.all(np.diff(steps) < 0)
    if not bounded:
        return Decision("fails", number, "The phase leaves the bound.")
    if not compressed:
        return Decision("holds when", number, "The bound holds; nothing is compressed.")
    return Decision(
        "holds",
        number,
        f"The bound is α π/2 itself at k = 0. The phase saturates: at k = 50 it has {at_50 / (np.pi / 2):.0%} of it, "
        f"and for all k above α {np.pi / 2 - at_50:.2f} rad are left.",
    )


def draw(runs: Sequence[Numbers]) -> Plot:
    phase = runs[0]["octave_phases"]
    k = [2**octave for octave in range(len(phase))]
    return Plot(
        "|k|",
        "phase / α (rad)",
        (
            Series("arctan(ln |k|)", k, phase),
            Series("arctan |k|, without the logarithm", k, np.arctan(k).tolist()),
            Series("π/2", k, [np.pi / 2] * len(k), "reference"),
        ),
        log_x=True,
    )
