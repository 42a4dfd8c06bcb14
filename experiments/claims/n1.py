"""N1: the gradient of the magnitude is ∂L/∂|w| = Re(∂L/∂w · w/|w|).

Source: N (resonance networks with holographic memory).
Decided by: the formula against central differences of a loss through the library's filter, with ∂L/∂w as JAX gives it
(∂L/∂x − i ∂L/∂y) and as PyTorch gives it (the conjugate).
"""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.gradients import filter_gradients
from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import largest, relative_error, smallest

SHAPES = {"quick": (16, 5), "full": (256, 64)}
EXACT = 1e-7  # what central differences resolve


def measure(seed: int, size: str) -> Numbers:
    gradients = filter_gradients(seed, *SHAPES[size])
    w, g, truth = gradients.weights, gradients.complex_gradient, gradients.by_magnitude
    return {
        "error_jax": relative_error(np.real(g * w / np.abs(w)), truth),
        "error_conjugate": relative_error(np.real(np.conj(g) * w / np.abs(w)), truth),
        "error_library": relative_error(gradients.polar_magnitude, truth),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    jax, conjugate = largest(runs, "error_jax"), largest(runs, "error_conjugate")
    number = (
        f"relative error {jax:.1g} in JAX's convention, {smallest(runs, 'error_conjugate'):.2g} in PyTorch's, "
        f"{largest(runs, 'error_library'):.1g} for polar_gradient"
    )
    if max(jax, conjugate) <= EXACT:
        return Decision("holds", number)
    if jax <= EXACT:
        return Decision(
            "holds when",
            number,
            "∂L/∂w is JAX's, ∂L/∂x − i ∂L/∂y; PyTorch's gradient is the conjugate and needs w̄ in place of w.",
        )
    if conjugate <= EXACT:
        return Decision("holds when", number, "∂L/∂w is PyTorch's, ∂L/∂x + i ∂L/∂y.")
    return Decision("fails", number, "The formula differs from central differences either way.")
