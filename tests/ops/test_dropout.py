"""Laws and values of ops/dropout.py."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops.dropout import dropout

SHAPES = ((), (1,), (7,), (3, 1, 2), (2, 5, 3), (0, 5), (2, 0))


def twin(key, x, rate):
    """The same by NumPy: one half of a 32-bit word a number, the low one first."""
    x = np.atleast_1d(x)
    words = jax.random.bits(key, (*x.shape[:-1], (x.shape[-1] + 1) // 2), jnp.uint32)
    halves = np.stack([np.asarray(words) & 0xFFFF, np.asarray(words) >> 16], axis=-1)
    draws = halves.reshape(*x.shape[:-1], 2 * words.shape[-1])[..., : x.shape[-1]] / 2**16
    probability = round(rate * 2**16) / 2**16
    return np.where(draws < probability, 0, x / (1 - probability))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_equals_the_numpy_twin(shape, rate):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    key = jax.random.key(3)
    found = jax.jit(dropout, static_argnums=2)(key, x, rate)
    chex.assert_shape(found, shape)
    np.testing.assert_allclose(found, twin(key, x, rate).reshape(shape), rtol=1e-6)


@pytest.mark.parametrize("rate", [1e-3, 0.1, 0.5, 0.999])
def test_zeros_are_as_many_as_the_rate_says_and_the_mean_stays(rate):
    count = 1 << 20
    y = np.asarray(dropout(jax.random.key(1), jnp.ones((count // 256, 256)), rate))
    deviation = np.sqrt(rate * (1 - rate) / count)
    assert abs((y == 0).mean() - rate) < 5 * deviation + 2**-17
    assert abs(y.mean() - 1) < 5 * deviation / (1 - rate)
    # Neighbours, which share a word, and rows and columns, are drawn apart.
    zero = (y == 0) - rate
    for other in (np.roll(zero, 1, axis=1), np.roll(zero, 1, axis=0)):
        assert abs((zero * other).mean()) < 5 * rate * (1 - rate) / np.sqrt(count)


def test_gradient_is_the_mask_and_no_number_gets_through_a_zero():
    x = jnp.ones(64).at[::2].set(jnp.nan)
    run = jax.jit(lambda x: dropout(jax.random.key(2), x, 0.25))
    gradient = np.asarray(jax.jit(jax.grad(lambda x: run(x).sum()))(x))
    kept = np.asarray(run(jnp.ones(64)))
    np.testing.assert_array_equal(gradient, kept)
    assert 0 < (kept == 0).sum() < 64 and np.isnan(run(x)).sum() == (kept[::2] != 0).sum()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
def test_dtype_is_kept_and_the_mask_is_of_the_key_alone(dtype):
    key, x = jax.random.key(4), jnp.ones((4, 9), dtype)
    y = dropout(key, x, 0.5)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y == 0, dropout(key, jnp.ones((4, 9)), 0.5) == 0)
    assert 0 < int(jnp.sum(y == 0)) < y.size
    assert bool((dropout(jax.random.key(5), x, 0.5) != y).any())


def test_float64_and_its_gradient(x64):
    for dtype in (np.float64, np.complex128):
        assert dropout(jax.random.key(0), jnp.ones(3, dtype), 0.5).dtype == dtype
    x = np.random.default_rng(0).standard_normal((3, 5))
    check_grads(lambda x: dropout(jax.random.key(1), x, 0.3), (x,), order=2)


def test_narrow_numbers_are_divided_before_they_are_rounded():
    x = jnp.arange(1.0, 257.0)
    found = np.asarray(dropout(jax.random.key(0), x.astype(jnp.bfloat16), 0.1), np.float32)
    wide = np.asarray(dropout(jax.random.key(0), x, 0.1))
    np.testing.assert_array_equal(found, wide.astype(jnp.bfloat16).astype(np.float32))


def test_rows_mapped_draw_by_their_keys():
    keys, x = jax.random.split(jax.random.key(0), 4), jnp.ones((4, 6))
    mapped = jax.jit(jax.vmap(lambda key, row: dropout(key, row, 0.5)))(keys, x)
    for key, row in zip(keys, mapped, strict=True):
        np.testing.assert_array_equal(row, dropout(key, x[0], 0.5))
    same = jax.vmap(lambda row: dropout(keys[0], row, 0.5))(x)
    np.testing.assert_array_equal(same, jnp.broadcast_to(same[0], same.shape))


@pytest.mark.error_message
@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rate_outside_is_refused(rate):
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\), got"):
        dropout(jax.random.key(0), jnp.ones(3), rate)


@pytest.mark.error_message
def test_integers_are_refused():
    with pytest.raises(ValueError, match="must be real or complex floating point, got int32"):
        dropout(jax.random.key(0), jnp.arange(3, dtype=jnp.int32), 0.5)
