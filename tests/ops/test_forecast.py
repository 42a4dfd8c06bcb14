"""Normalisation that is undone, and spectra that are continued, against slow twins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops.forecast import (
    continue_periodically,
    interpolate_spectrum,
    normalize_window,
    observed_steps,
    restore_window,
)

LENGTH, CHANNELS = 10, 3


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    x = 5 + 2 * rng.normal(size=(2, LENGTH, CHANNELS))
    mask = rng.random(x.shape) < 0.7
    mask[0, :, 1] = False  # a channel that nobody saw
    mask[1, :, 2] = np.arange(LENGTH) == 4  # and one seen once
    return x, mask


def test_moments_are_those_of_what_was_observed(given, x64):
    x, mask = given
    hidden = np.where(mask, x, np.nan)
    for y, (mean, deviation) in (
        jax.jit(normalize_window)(x, mask),
        jax.jit(normalize_window)(hidden),
    ):
        for row, channel in np.ndindex(2, CHANNELS):
            seen = x[row, mask[row, :, channel], channel]
            expected = (seen.mean(), seen.std() or 1.0) if len(seen) else (0.0, 1.0)
            found = mean[row, 0, channel], deviation[row, 0, channel]
            np.testing.assert_allclose(found, expected, rtol=1e-12)
            wanted = np.where(mask[row, :, channel], x[row, :, channel] - expected[0], 0)
            np.testing.assert_allclose(y[row, :, channel], wanted / expected[1], atol=1e-12)


def test_equal_values_have_no_deviation_that_is_their_rounding():
    x = np.repeat(np.array([[0.1, 0.2, 3.3, -20.7]], np.float32), 336, axis=0)
    y, (mean, deviation) = jax.jit(normalize_window)(x)
    np.testing.assert_array_equal(deviation, 1)
    np.testing.assert_allclose(mean, x[:1], rtol=1e-6)
    np.testing.assert_allclose(y, 0, atol=1e-4)


def test_hidden_values_change_nothing_and_give_finite_gradients(given):
    x, mask = given
    x = x.astype(np.float32)

    def total(x):
        y, statistics = normalize_window(x, mask)
        return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.sin(restore_window(y, statistics)))

    spoiled = np.where(mask, x, np.nan)
    look = jax.jit(jax.value_and_grad(total))
    value, gradient = look(x)
    again, spoiled_gradient = look(spoiled)
    assert value == again
    assert np.isfinite(gradient).all() and np.isfinite(spoiled_gradient).all()
    assert not np.any(np.asarray(gradient)[~mask])


@pytest.mark.parametrize("scale", [True, False])
def test_what_is_taken_out_is_given_back(given, x64, scale):
    x = given[0]
    y, statistics = normalize_window(x, scale=scale)
    np.testing.assert_allclose(np.mean(y, axis=1), 0, atol=1e-12)
    assert np.allclose(np.std(y, axis=1), 1) == scale
    np.testing.assert_allclose(restore_window(y, statistics), x, rtol=1e-12)
    after = restore_window(np.zeros((2, 4, CHANNELS)), statistics)  # of another length
    np.testing.assert_allclose(after, np.broadcast_to(x.mean(axis=1, keepdims=True), after.shape))


def test_a_mask_of_steps_is_for_all_channels(given):
    x, mask = given
    steps = mask[..., 0]
    np.testing.assert_array_equal(
        observed_steps(x, steps), np.broadcast_to(steps[..., None], x.shape)
    )


def twin(x, weights, horizon):
    """One window [t, d], term by term."""
    t, (j, k) = len(x), weights.shape
    whole = t + horizon
    time = np.arange(t)
    spectrum = np.stack([np.exp(-2j * np.pi * f * time / t) @ x for f in range(k)])
    y = np.zeros((whole, x.shape[1]))
    for out in range(j):
        wave = np.exp(2j * np.pi * out * np.arange(whole) / whole)[:, None]
        alone = out == 0 or 2 * out == whole
        z = weights[out] @ spectrum
        y += ((z.real if alone else z) * wave).real * (1 if alone else 2)
    return y / t


@pytest.mark.parametrize(("horizon", "shape"), [(4, (8, 6)), (5, (3, 4)), (0, (6, 6))])
def test_interpolation_is_the_slow_twin(given, x64, horizon, shape):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    found = jax.jit(interpolate_spectrum, static_argnums=2)(given[0], weights, horizon)
    expected = np.stack([twin(x, weights, horizon) for x in given[0]])
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_waves_run_on(given, x64):
    """Repeated where all weights are 1; moved by a phase, made louder by a magnitude."""
    x = given[0]
    ones = np.ones(LENGTH // 2 + 1, complex)
    expected = np.concatenate([x, x, x], axis=1)[:, :23]
    np.testing.assert_allclose(continue_periodically(x, ones, 23), expected, atol=1e-12)
    angle = 2 * np.pi * 2 * np.arange(2 * LENGTH) / LENGTH
    wave = np.cos(angle)[:LENGTH, None]
    weights = np.zeros(4, complex)
    weights[2] = 3 * np.exp(0.5j)
    found = continue_periodically(wave, weights, LENGTH)
    np.testing.assert_allclose(found[:, 0], 3 * np.cos(angle[LENGTH:] + 0.5), atol=1e-12)


def test_dtypes_are_kept(given):
    def look(x):
        y, statistics = normalize_window(x)
        waves = interpolate_spectrum(x, jnp.ones((2, 2), complex), 3)
        return (y, restore_window(y, statistics), waves), statistics

    outputs, statistics = jax.eval_shape(look, jnp.asarray(given[0], jnp.bfloat16))
    assert {leaf.dtype for leaf in outputs} == {jnp.dtype(jnp.bfloat16)}
    assert {leaf.dtype for leaf in statistics} == {jnp.dtype(jnp.float32)}


@pytest.mark.error_message
def test_what_does_not_fit_is_refused(given):
    x = given[0]
    with pytest.raises(ValueError, match=r"mask must be boolean .* \(2, 10\) or \(2, 10, 3\)"):
        observed_steps(x, np.ones((2, 3), bool))
    with pytest.raises(ValueError, match="got int"):
        observed_steps(x, np.ones((2, 10), int))
    with pytest.raises(ValueError, match=r"j <= 8 and k <= 6 for a window of 10"):
        interpolate_spectrum(x, np.ones((8, 7), complex), 4)
    with pytest.raises(ValueError, match="weights must be complex"):
        interpolate_spectrum(x, np.ones((8, 6)), 4)
    with pytest.raises(ValueError, match="horizon >= 1"):
        continue_periodically(x, np.ones(3, complex), 0)
