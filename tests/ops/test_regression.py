"""The line fit of ops/_regression.py."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops._regression import fit_slope


def fit_twin(x, y, w, nuisance=None):
    """By the normal equations' covariance matrix, on the values with a weight."""
    kept = w > 0
    columns = [np.ones_like(x), x] + ([] if nuisance is None else [nuisance])
    design = np.stack(columns, -1)[kept]
    root = np.sqrt(w[kept])
    solution, *_ = np.linalg.lstsq(design * root[:, None], y[kept] * root, rcond=None)
    residual = (y[kept] - design @ solution) * root
    variance = residual @ residual / (kept.sum() - len(columns))
    covariance = variance * np.linalg.inv((design * root[:, None]).T @ (design * root[:, None]))
    return solution[1], np.sqrt(covariance[1, 1])


def values(seed=0, rows=3, k=9):
    rng = np.random.default_rng(seed)
    w = np.where(rng.random((rows, k)) < 0.7, rng.random((rows, k)), 0)
    return rng.normal(size=(rows, k)), rng.normal(size=(rows, k)), w, rng.normal(size=(rows, k))


@pytest.mark.parametrize("with_nuisance", [False, True])
def test_slope_and_error_match_the_normal_equations(x64, with_nuisance):
    x, y, w, z = values()
    arguments = (x, y, w, z) if with_nuisance else (x, y, w)
    slope, error = jax.jit(fit_slope)(*arguments)
    expected = np.array([fit_twin(*row) for row in zip(*arguments, strict=True)])
    np.testing.assert_allclose(slope, expected[:, 0], rtol=1e-10)
    np.testing.assert_allclose(error, expected[:, 1], rtol=1e-10)


def test_too_few_values_leave_slope_or_error_open():
    x, y, weights = jnp.arange(4.0), jnp.array([0.0, 2, 5, 6]), jnp.tri(4)
    slope, error = jax.jit(fit_slope)(x, y, weights)
    assert slope.tolist()[:2] == [0, 2]
    assert np.isinf(error).tolist() == [True, True, False, False]
    slope, error = jax.jit(fit_slope)(x, y, weights, x**2)
    assert slope.tolist()[:2] == [0, 0]
    assert np.isinf(error).tolist() == [True, True, True, False]


def test_gradients_are_finite_on_an_exact_line_and_without_values():
    x = jnp.arange(4.0)

    @jax.jit
    def gradients(y, w):
        _, backward = jax.vjp(lambda y, w: fit_slope(x, y, w, x**2), y, w)
        return backward((jnp.ones(3), jnp.ones(3)))

    y = jnp.stack([2 * x, jnp.ones(4), x])
    chex.assert_tree_all_finite(gradients(y, jnp.array([[1.0], [1], [0]]) * jnp.ones(4)))
