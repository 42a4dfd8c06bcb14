"""R3: for every attention layer A there is a resonator R with F(A(x)) = R(F(x)), to within 1e-6.

Source: R (attention as a frequency-domain resonator).
Decided by: the error of the best fixed filter, fitted by least squares on half of a set of inputs to softmax attention
and tested on the other half; the same for attention whose weights are circulant; and the distance between A V and the
nearest convolution Π(A) V against its bound.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.filters import best_filter_errors, softmax_weights
from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import largest, relative_error, smallest
from resonance_jax.ops.resonator import circulant_projection, resonator

SHAPES = {"quick": (400, 32, 8), "full": (2000, 64, 16)}  # examples, n, d
CLAIMED = 1e-6


@jax.jit
def convolve(weights, values):
    """Circulant attention by a resonator of one pattern, the transform of the first column of its weights."""
    n = values.shape[0]
    pattern = jnp.fft.rfft(weights[:, 0])[None]
    return jnp.fft.irfft(resonator(jnp.fft.rfft(values.T), pattern, pattern), n=n).T


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(SHAPES[size])
    queries, keys = (x @ rng.standard_normal((x.shape[-1],) * 2) / x.shape[-1] ** 0.5 for _ in "qk")
    weights = softmax_weights(queries, keys)
    by_factor, by_matrix = best_filter_errors(x, weights @ x)
    with jax.enable_x64(True):
        projected = np.asarray(jax.jit(circulant_projection)(weights[:50]))
        circulant = projected[0]  # softmax weights that depend on i − j alone
        filtered = np.asarray(convolve(circulant, x[0]))
    gap = weights[:50] - projected
    distance = np.linalg.norm(gap @ x[:50], axis=(1, 2))
    bound = np.linalg.norm(gap, 2, axis=(1, 2)) * np.linalg.norm(x[:50], axis=(1, 2))
    return {
        "error_softmax": by_factor,
        "error_softmax_mixing_features": by_matrix,
        "error_circulant": relative_error(filtered, circulant @ x[0]),
        "largest_share_of_bound": float(np.max(distance / bound)),
        "distance_to_circulants": relative_error(projected, weights[:50]),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    softmax = smallest(runs, "error_softmax_mixing_features")
    circulant, share = largest(runs, "error_circulant"), largest(runs, "largest_share_of_bound")
    number = (
        f"relative error of the best fixed filter {smallest(runs, 'error_softmax'):.2f} for softmax attention "
        f"({softmax:.2f} where it may mix features), {circulant:.1g} for circulant weights"
    )
    if largest(runs, "error_softmax_mixing_features") <= CLAIMED and circulant <= CLAIMED:
        return Decision("holds", number)
    if circulant <= CLAIMED and share <= 1:
        return Decision(
            "holds when",
            number,
            "The weights depend on (i − j) mod n only: then F(A V) = â ⊙ F(V). Other weights are no filter, but near "
            "one as far as they are near a circulant: ‖A V − Π(A) V‖ ≤ ‖A − Π(A)‖₂ ‖V‖ (measured: at most "
            f"{share:.2f} of the bound, with A off by {smallest(runs, 'distance_to_circulants'):.0%} of its norm).",
        )
    return Decision(
        "fails", number, "Neither softmax attention nor circulant attention was a resonator."
    )
