"""The straight line through a log-log plot, with the error of its slope."""

import jax
import jax.numpy as jnp

from resonance_jax.array_typing import Array


def fit_slope(
    x: Array, y: Array, weights: Array, nuisance: Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Fits y ≈ a + slope·x + c·nuisance by weighted least squares along the last axis.

        slope = Σ w x̃ ỹ / Σ w x̃²,    error² = Σ w (ỹ − slope·x̃)² / (q − p) / Σ w x̃²

    x̃ and ỹ are what is left of x and y after the regression on the constant and the nuisance, q the number of weights
    that are not 0, p the number of coefficients: 2, or 3 with a nuisance.

    Args:
        x: [..., k].
        y: [..., k], finite, also where the weight is 0.
        weights: w ≥ 0, [..., k]; 0 leaves a value out.
        nuisance: [..., k], or None.
    Returns:
        (slope, error), each [...]. With q < p the slope is 0; with q ≤ p the error is infinite.
    """
    coefficients = 2 if nuisance is None else 3
    values = jnp.sum(weights > 0, -1)
    x, y = _residual(x, weights), _residual(y, weights)
    if nuisance is not None:
        z = _residual(nuisance, weights)
        x, y = _residual(x, weights, z), _residual(y, weights, z)
    spread = jnp.sum(weights * x * x, -1)
    determined = (values >= coefficients) & (spread > 0)
    spread = jnp.where(determined, spread, 1)
    slope = jnp.where(determined, jnp.sum(weights * x * y, -1) / spread, 0)
    squares = jnp.sum(weights * (y - slope[..., None] * x) ** 2, -1)
    free = values - coefficients
    variance = squares / jnp.maximum(free, 1) / spread
    # The gradient of sqrt at 0 is infinite: an exact line takes the other branch.
    error = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
    return slope, jnp.where(determined & (free > 0), error, jnp.inf)


def _residual(v, weights, direction=None):
    """What is left of v after its weighted projection on a direction; None is the constant."""
    if direction is None:
        total = jnp.sum(weights, -1, keepdims=True)
        return v - jnp.sum(weights * v, -1, keepdims=True) / jnp.where(total > 0, total, 1)
    norm = jnp.sum(weights * direction**2, -1, keepdims=True)
    share = jnp.sum(weights * direction * v, -1, keepdims=True) / jnp.where(norm > 0, norm, 1)
    return v - share * direction
