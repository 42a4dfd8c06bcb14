"""R7: the resonator R preserves inner products up to a constant.

Source: R (attention as a frequency-domain resonator).
Decided by: how far the inner products of many outputs are from a multiple of those of the inputs, for patterns of
constant magnitude, for a mixture of such patterns, and for patterns of any magnitude.
"""

from collections.abc import Sequence

import jax
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import DIFFERENT, EXACT, largest, smallest
from resonance_jax.ops.resonator import keep_component, resonator

SHAPES = {"quick": (24, 32), "full": (100, 512)}  # signals, bins


def distance_to_multiple(gram: np.ndarray, of: np.ndarray) -> float:
    """min over c of ‖gram − c · of‖ / ‖gram‖."""
    factor = np.vdot(of, gram) / np.vdot(of, of)
    return float(np.linalg.norm(gram - factor * of) / np.linalg.norm(gram))


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    signals, bins = SHAPES[size]
    x, pool = (
        rng.standard_normal((count, bins)) + 1j * rng.standard_normal((count, bins))
        for count in (signals, 3)
    )
    found = {}
    with jax.enable_x64(True):
        run = jax.jit(resonator)
        all_pass = np.asarray(keep_component(pool, "phase"))
        cases = {"constant": 2 * all_pass[:1], "mixture": all_pass, "any": pool[:1]}
        for name, patterns in cases.items():
            y = np.asarray(run(x, patterns, np.zeros((1, bins), complex)))
            found[f"distance_{name}"] = distance_to_multiple(y @ y.conj().T, x @ x.conj().T)
    return found


def decide(runs: Sequence[Numbers]) -> Decision:
    constant = largest(runs, "distance_constant")
    others = max(largest(runs, f"distance_{name}") for name in ("mixture", "any"))
    number = (
        f"inner products off a common multiple by {constant:.1g} where |P(f)| is constant, "
        f"{smallest(runs, 'distance_mixture'):.2f} for a mixture of such patterns, "
        f"{smallest(runs, 'distance_any'):.2f} for any pattern"
    )
    if constant > EXACT:
        return Decision("fails", number, "Not even a constant |P(f)| kept the inner products.")
    if others < DIFFERENT:
        return Decision("holds", number)
    return Decision(
        "holds when",
        number,
        "The magnitude of the whole filter Σ_p w_p P_p is the same at every frequency; patterns of constant magnitude "
        "are not enough where several are mixed, for their phases interfere.",
    )
