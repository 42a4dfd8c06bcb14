"""Where parameters start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers import initializers


def test_normals_have_the_stated_spread():
    key = jax.random.key(0)
    small = initializers.small_normal(0.02)(key, (64, 64), jnp.float32)
    np.testing.assert_allclose([small.mean(), small.std()], [0, 0.02], atol=1e-3)
    mixing = initializers.small_interference(key, (2, 40, 40))
    np.testing.assert_allclose([mixing.mean(), mixing.std()], [0, 0.1 / 40], atol=1e-4)
    # A sum of k unit signals through it comes to 0.1 √2 / √k.
    np.testing.assert_allclose(np.sqrt(40) * mixing.std(), 0.1 / np.sqrt(40), rtol=0.05)


def test_exp_normal_is_the_exponential_of_one_draw():
    key = jax.random.key(0)
    real, imag = (
        np.asarray(start(jax.random.key(seed), (64, 64)))
        for seed, start in enumerate(initializers.exp_normal(0.3, key))
    )
    log_magnitude, phase = np.log(np.hypot(real, imag)), np.arctan2(imag, real)
    for part in (log_magnitude, phase):
        np.testing.assert_allclose([part.mean(), part.std()], [0, 0.3], atol=0.02)
    assert abs(np.corrcoef(log_magnitude.ravel(), phase.ravel())[0, 1]) < 0.05
    narrow, _ = initializers.exp_normal(0.3, key)
    assert narrow(key, (2, 2), jnp.bfloat16).dtype == jnp.bfloat16


def test_frequency_logit_is_the_inverse_of_half_a_sigmoid():
    frequencies = np.array([1e-5, 0.01, 0.25, 0.3, 0.4999])
    logit = initializers.frequency_logit(frequencies)(jax.random.key(0), (5,))
    assert logit.dtype == jnp.float32
    half = 0.5 / (1 + np.exp(-np.asarray(logit, np.float64)))
    np.testing.assert_allclose(half, frequencies, rtol=1e-6)


@pytest.mark.error_message
@pytest.mark.parametrize("frequencies", [[0.0, 0.1], [0.1, 0.5], [-0.1], [0.7]])
def test_frequencies_outside_the_open_interval_are_refused(frequencies):
    with pytest.raises(ValueError, match=r"strictly between 0 and 0\.5 cycles per sample"):
        initializers.frequency_logit(np.array(frequencies))
