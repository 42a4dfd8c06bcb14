"""N2: the gradient of the phase is ∂L/∂φ = Im(∂L/∂w · (−iw)/|w|).

Source: N (resonance networks with holographic memory).
Decided by: the formula against central differences of a loss through the library's filter, with ∂L/∂w as JAX and as
PyTorch give it; and −Im(∂L/∂w · w) against the same.
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
    w, g, truth = gradients.weights, gradients.complex_gradient, gradients.by_phase
    claimed = np.imag(g * (-1j * w) / np.abs(w))
    return {
        "error_jax": relative_error(claimed, truth),
        "error_conjugate": relative_error(np.imag(np.conj(g) * (-1j * w) / np.abs(w)), truth),
        "error_minus_magnitude": relative_error(claimed, -gradients.by_magnitude),
        "error_right": relative_error(-np.imag(g * w), truth),
        "error_library": relative_error(gradients.polar_phase, truth),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    jax, conjugate = largest(runs, "error_jax"), largest(runs, "error_conjugate")
    same, right = largest(runs, "error_minus_magnitude"), largest(runs, "error_right")
    number = (
        f"relative error {smallest(runs, 'error_jax'):.2g} in JAX's convention, "
        f"{smallest(runs, 'error_conjugate'):.2g} in PyTorch's; {same:.1g} from −∂L/∂|w|; "
        f"{right:.1g} for −Im(∂L/∂w · w)"
    )
    if max(jax, conjugate) <= EXACT:
        return Decision("holds", number)
    if min(jax, conjugate) <= EXACT:
        whose = "JAX's, ∂L/∂x − i ∂L/∂y" if jax <= EXACT else "PyTorch's, ∂L/∂x + i ∂L/∂y"
        return Decision("holds when", number, f"∂L/∂w is {whose}.")
    what = "The formula is −∂L/∂|w|" if same <= EXACT else "The formula is not a phase gradient"
    instead = "the phase gradient is −Im(∂L/∂w · w)" if right <= EXACT else "no formula here is"
    return Decision("fails", number, f"{what}; {instead} in JAX's convention.")
