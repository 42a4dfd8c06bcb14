"""R8: phases add, arg R = arg P + arg X.

Source: R (attention as a frequency-domain resonator).
Decided by: the distance between arg R(X) and arg P + arg X, as numbers and around the circle, for one pattern; and
around the circle where the patterns' weights are complex, or several patterns are mixed.
"""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import EXACT, largest, smallest
from resonance_jax.ops.resonator import resonator

BINS = {"quick": 1000, "full": 100_000}


def on_the_circle(angle: np.ndarray) -> np.ndarray:
    """The same angles in (−π, π]."""
    return np.angle(np.exp(1j * angle))


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    x, layer, *pool = rng.standard_normal((5, BINS[size])) + 1j * rng.standard_normal(
        (5, BINS[size])
    )
    pool = np.stack(pool) / BINS[size]
    with jax.enable_x64(True):

        def difference(patterns, complex_weights=False):
            run = jax.jit(partial(resonator, complex_weights=complex_weights))
            y = np.asarray(run(x[None], patterns, layer[None]))[0]
            return np.angle(y) - (np.angle(pool[0]) + np.angle(x))

        one, turned, mixed = difference(pool[:1]), difference(pool[:1], True), difference(pool)
    return {
        "largest_difference": float(np.max(np.abs(one))),
        "largest_on_the_circle": float(np.max(np.abs(on_the_circle(one)))),
        "largest_with_complex_weights": float(np.max(np.abs(on_the_circle(turned)))),
        "largest_in_a_mixture": float(np.max(np.abs(on_the_circle(mixed)))),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    plain, circle = largest(runs, "largest_difference"), largest(runs, "largest_on_the_circle")
    number = (
        f"largest difference {plain:.2f} rad as numbers, {circle:.1g} rad modulo 2π, "
        f"{smallest(runs, 'largest_with_complex_weights'):.2f} rad with complex weights, "
        f"{smallest(runs, 'largest_in_a_mixture'):.2f} rad against one of three mixed patterns"
    )
    if circle > EXACT:
        return Decision("fails", number, "Phases differ modulo 2π too.")
    others = ("largest_with_complex_weights", "largest_in_a_mixture")
    if plain <= EXACT and max(largest(runs, name) for name in others) <= EXACT:
        return Decision("holds", number)
    return Decision(
        "holds when",
        number,
        "Phases are compared modulo 2π, P is the whole filter Σ_p w_p P_p, and weights are positive: a complex weight "
        "adds its own phase.",
    )
