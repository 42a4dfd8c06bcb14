"""R5: multi-head attention and the multi-head resonator are equivalent head by head.

Source: R (attention as a frequency-domain resonator).
Decided by: the resonator with several heads against its heads one at a time; and for each head of a multi-head
attention the error of the best fixed filter, with softmax weights and with circulant ones.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.filters import best_filter_errors, softmax_weights
from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import EXACT, largest, relative_error, smallest
from resonance_jax.ops.resonator import circulant_projection, resonator

SHAPES = {"quick": (200, 32, 16), "full": (1000, 64, 64)}  # examples, n, d
HEADS = 4


def heads_of(x: np.ndarray, projection: np.ndarray) -> list[np.ndarray]:
    return np.split(x @ projection, HEADS, axis=-1)


@jax.jit
def resonate_heads(spectrum, patterns, layers):
    """All heads at once, and one at a time side by side."""
    parts = jnp.split(spectrum, HEADS, axis=-2)
    alone = [resonator(part, patterns[h], layers[:, h]) for h, part in enumerate(parts)]
    return resonator(spectrum, patterns, layers), jnp.concatenate(alone, axis=-2)


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(SHAPES[size])
    _, n, d = x.shape
    projections = rng.standard_normal((3, d, d)) / np.sqrt(d)
    queries, keys, values = (heads_of(x, p) for p in projections)
    offset = softmax_weights(*rng.standard_normal((2, HEADS, n, d)))
    with jax.enable_x64(True):
        offset = np.asarray(jax.jit(circulant_projection)(offset))
        spectrum, patterns, layers = (
            rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
            for shape in ((d, n), (HEADS, 3, n), (2, HEADS, n))
        )
        together, alone = (np.asarray(y) for y in resonate_heads(spectrum, patterns, layers))
    softmax, circulant = [], []
    for q, k, v, weights in zip(queries, keys, values, offset, strict=True):
        softmax.append(best_filter_errors(v, softmax_weights(q, k) @ v)[0])
        circulant.append(best_filter_errors(v, weights @ v)[0])
    return {
        "error_heads_apart": relative_error(together, alone),
        "error_softmax": softmax,
        "error_circulant": circulant,
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    apart, circulant = largest(runs, "error_heads_apart"), largest(runs, "error_circulant")
    softmax = smallest(runs, "error_softmax")
    number = (
        f"heads together or apart {apart:.1g}; best fixed filter a head: relative error {softmax:.2f} or more with "
        f"softmax weights, {circulant:.1g} with circulant ones"
    )
    if apart <= EXACT and circulant <= EXACT:
        if largest(runs, "error_softmax") <= EXACT:
            return Decision("holds", number)
        return Decision(
            "holds when",
            number,
            "Each head's weights are circulant. Both forms do split into heads that know nothing of each other, so the "
            "heads are equivalent exactly where a single attention is a filter (R3).",
        )
    return Decision(
        "fails", number, "A head is not equivalent even where its weights are circulant."
    )
