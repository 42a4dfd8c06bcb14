"""R6: the resonator R is linear.

Source: R (attention as a frequency-domain resonator).
Decided by: R(a X + b Z) against a R(X) + b R(Z), with scores from the parameters and with scores from the input.
"""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import DIFFERENT, EXACT, largest, relative_error, smallest
from resonance_jax.ops.resonator import SCORES, resonator

SHAPES = {"quick": (16, 17), "full": (64, 513)}  # examples, bins
PATTERNS, LAYERS = 4, 2


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    examples, bins = SHAPES[size]

    def draw(*shape):
        return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

    x, z = draw(2, examples, 1, bins)
    pool, layers = draw(PATTERNS, bins) / np.sqrt(bins), draw(LAYERS, bins)
    errors = {}
    with jax.enable_x64(True):
        for scores in SCORES:
            run = jax.jit(partial(resonator, scores=scores))
            apart = 2 * np.asarray(run(x, pool, layers)) - 0.5 * np.asarray(run(z, pool, layers))
            together = np.asarray(run(2 * x - 0.5 * z, pool, layers))
            errors[f"error_scores_from_{scores}"] = relative_error(together, apart)
    return errors


def decide(runs: Sequence[Numbers]) -> Decision:
    fixed, adaptive = (f"error_scores_from_{name}" for name in SCORES)
    number = (
        f"R(aX + bZ) is off by {largest(runs, fixed):.1g} with scores from the parameters, by "
        f"{smallest(runs, adaptive):.2g} or more with scores from the input"
    )
    if largest(runs, fixed) > EXACT:
        return Decision("fails", number, "R was not linear even with fixed scores.")
    if smallest(runs, adaptive) < DIFFERENT:
        return Decision("holds", number)
    return Decision(
        "holds when",
        number,
        "The weights of the patterns do not depend on the input: R is then one fixed filter, and T layers are the "
        "product of theirs. The useful form, whose input chooses the filter, is not linear.",
    )
