"""A loss through the library's filter, differentiated in three ways, for the claims about polar gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.ops.polar import polar_gradient
from resonance_jax.ops.resonance import resonate


class FilterGradients(NamedTuple):
    """The gradient of one loss with respect to the weights w = r e^{iφ} of a filter, all [k, d].

    Attributes:
        weights: w, complex128.
        complex_gradient: g = jax.grad(loss)(w), complex128.
        by_magnitude: ∂L/∂r by central differences.
        by_phase: ∂L/∂φ by central differences.
        polar_magnitude: ∂L/∂r by `polar_gradient`.
        polar_phase: ∂L/∂φ by `polar_gradient`.
    """

    weights: np.ndarray
    complex_gradient: np.ndarray
    by_magnitude: np.ndarray
    by_phase: np.ndarray
    polar_magnitude: np.ndarray
    polar_phase: np.ndarray


def filter_gradients(seed: int, length: int, k: int, step: float = 1e-5) -> FilterGradients:
    """Differentiates Σ c · tanh(resonate(x)) in float64, with x, c and w drawn at random.

    The k frequencies leave out DC and Nyquist, where only Re w counts. Central differences are off by about step² of
    the third derivative, plus 1e-16/step.

    Raises:
        ValueError: if there are not k frequencies between DC and Nyquist.
    """
    if not 1 <= k <= (length - 1) // 2:
        raise ValueError(f"length {length} has {(length - 1) // 2} bins inside, got k = {k}.")
    rng = np.random.default_rng(seed)
    x, readout = rng.standard_normal((2, length, 2))
    magnitude, phase = rng.uniform(0.5, 2, (k, 2)), rng.uniform(-np.pi, np.pi, (k, 2))
    weights = magnitude * np.exp(1j * phase)
    bins = np.arange(1, k + 1)

    steps = step * np.eye(2 * k).reshape(2 * k, k, 2)
    turn, small_turn = np.exp(1j * phase), np.exp(1j * steps)
    moved = [(magnitude + steps) * turn, (magnitude - steps) * turn]
    moved += [weights * small_turn, weights / small_turn]

    def loss(w):
        return jnp.sum(readout * jnp.tanh(resonate(x, w, bins, method="fft")))

    @jax.jit
    def differentiate(w, moved):
        gradient = jax.grad(loss)(w)
        return gradient, polar_gradient(w, gradient), jax.vmap(loss)(moved)

    with jax.enable_x64(True):
        gradient, polar, values = jax.device_get(differentiate(weights, np.concatenate(moved)))
    more, less, ahead, behind = values.reshape(4, k, 2)
    differences = (more - less) / (2 * step), (ahead - behind) / (2 * step)
    return FilterGradients(weights, gradient, *differences, *polar)
