"""Laws and values of resonate_at in ops/resonance.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops.resonance import resonate, resonate_at


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def complex_normal(seed: int, *shape: int) -> np.ndarray:
    return normal(seed, *shape) + 1j * normal(seed + 1000, *shape)


def twin(x, weights, f, share, interference):
    """y_t = (1/t) Σ_k c_k Re(S_k e^{2πi f_k t}) by two direct sums."""
    wave = np.exp(2j * np.pi * np.outer(np.arange(len(x)), f))
    s = weights * (wave.conj().T @ x)
    return (wave @ (share[:, None] / len(x) * (s + interference @ s))).real


@pytest.mark.parametrize("unselected", ["drop", "pass"])
@pytest.mark.parametrize("masked", [False, True])
def test_on_the_grid_it_is_resonate(x64, unselected, masked):
    x, weights = normal(0, 2, 16, 2), complex_normal(1, 4, 2)
    bins, mask = np.array([8, 5, 1, 0]), normal(2, 2, 16) < 0.5
    options = {"interference": complex_normal(3, 4, 4), "unselected": unselected}
    options["mask"] = mask if masked else None
    y = jax.jit(lambda x: resonate_at(x, weights, bins / 16, **options))(x)
    expected = jax.jit(lambda x: resonate(x, weights, bins, method="fft", **options))(x)
    np.testing.assert_allclose(y, expected, atol=1e-12)


@pytest.mark.parametrize("traced", [False, True])
def test_off_the_grid_it_matches_direct_sums(x64, traced):
    f = np.array([0.0, 0.113, 0.5, 0.31])
    x, weights, interference = normal(4, 9, 2), complex_normal(5, 4, 2), complex_normal(6, 4, 4)
    share = np.full(4, 2) if traced else np.array([1, 2, 1, 2])
    given = jnp.asarray(f) if traced else f
    y = jax.jit(lambda x: resonate_at(x, weights, given, interference=interference))(x)
    np.testing.assert_allclose(y, twin(x, weights, f, share, interference), atol=1e-12)
    ones = np.ones((4, 2), complex)
    same = jax.jit(lambda x: resonate_at(x, ones, given, unselected="pass"))(x)
    np.testing.assert_allclose(same, x, atol=1e-12)


def test_gradients_reach_the_frequencies(x64):
    f = np.array([0.0, 0.113, 0.5, 0.31])
    run = jax.jit(lambda x, w, f: resonate_at(x, w, f, unselected="pass"))
    arguments = normal(7, 9, 2), complex_normal(8, 4, 2), f
    check_grads(run, arguments, order=1, rtol=1e-6, eps=1e-6)
    slope = jax.jit(jax.grad(lambda f: jnp.sum(run(*arguments[:2], f) ** 2)))(f)
    assert np.all(np.abs(slope) > 1e-2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_dtype_is_kept(x64, dtype):
    x = jnp.asarray(normal(9, 9, 2), dtype)
    weights, f = complex_normal(10, 2, 2), np.array([0.1, 0.2])
    y = jax.jit(lambda x: resonate_at(x, weights, f))(x)
    assert y.dtype == x.dtype
    traced = jax.jit(resonate_at)(x, weights, jnp.asarray(f, jnp.float32))
    tolerance = 0.03 if dtype == "bfloat16" else 1e-6  # bfloat16 may round the other way
    np.testing.assert_allclose(traced.astype(float), y.astype(float), rtol=tolerance, atol=1e-5)
