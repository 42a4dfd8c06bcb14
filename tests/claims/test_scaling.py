"""Slopes, intervals and laws of claims/scaling.py on data whose answer is known."""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from resonance_jax.claims import scaling
from resonance_jax.claims.scaling import LAWS, aic, fastest_seconds, fit_slope

SIZES = [2**j for j in range(6, 15)]


def noisy(law, seed=0, scatter=0.05):
    n = np.array(SIZES, float)
    return (1e-6 * LAWS[law](n) * np.exp(scatter * normal(seed, len(n)))).tolist()


def normal(seed, count):
    return np.random.default_rng(seed).standard_normal(count)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_slope_of_a_power_law_is_its_exponent(exponent):
    fit = fit_slope(SIZES, [3e-5 * n**exponent for n in SIZES])
    np.testing.assert_allclose(fit, exponent, rtol=1e-10)


def test_slope_and_interval_are_those_of_linear_regression():
    seconds = noisy("n log n")
    expected: Any = scipy.stats.linregress(np.log(SIZES), np.log(seconds))
    half = scipy.stats.t.ppf(0.975, len(SIZES) - 2) * expected.stderr
    fit = fit_slope(SIZES, seconds)
    np.testing.assert_allclose(
        fit, [expected.slope, expected.slope - half, expected.slope + half], rtol=1e-6
    )


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 30, 200])
def test_quantiles_of_student_t(degrees):
    expected = scipy.stats.t.ppf(0.975, degrees)
    np.testing.assert_allclose(scaling._student_t(degrees), expected, rtol=1e-6)


def test_the_interval_covers_the_exponent_19_times_in_20():
    fits = [fit_slope(SIZES, noisy("n", seed, 0.3)) for seed in range(400)]
    covered = np.mean([fit.low <= 1 <= fit.high for fit in fits])
    assert 0.92 < covered < 0.98  # 0.95 ± 3 standard errors


@pytest.mark.parametrize("law", LAWS)
def test_aic_is_lowest_for_the_law_that_made_the_data(law):
    values = {name: aic(SIZES, noisy(law), name) for name in LAWS}
    assert min(values, key=lambda name: values[name]) == law
    assert sorted(values.values())[1] - values[law] > 2


def test_aic_is_minus_twice_the_likelihood_and_finite_for_a_perfect_fit():
    seconds = noisy("n")
    residual = np.log(seconds) - np.log(SIZES)
    fitted = scipy.stats.norm.logpdf(residual, residual.mean(), residual.std()).sum()
    constant = len(SIZES) * (np.log(2 * np.pi) + 1)  # the same for every law
    np.testing.assert_allclose(aic(SIZES, seconds, "n"), -2 * fitted + 4 - constant)
    assert -np.inf < aic(SIZES, [1e-6 * n * n for n in SIZES], "n^2") < aic(SIZES, seconds, "n")


def test_fastest_leaves_the_first_call_out(monkeypatch):
    """With a clock that counts, call j takes a made-up time; the first, which compiles, is never timed."""
    calls, ticks = itertools.count(), iter([0.0, 5.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(scaling.time, "perf_counter", lambda: next(ticks))

    def function(x):
        next(calls)
        return {"y": x + 1}

    assert fastest_seconds(function, jnp.ones(2), repeats=3) == 1.0  # of 5, 1 and 2
    assert next(calls) == 4


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fastest_seconds(len, [], repeats=0), "repeats must be at least 1, got 0"),
        (lambda: fit_slope([1, 2], [1, 2]), r"needs 3 points of different n, got n = \[1, 2\]"),
        (lambda: fit_slope([2, 2, 2], [1, 2, 3]), "needs 3 points of different n"),
        (lambda: fit_slope([1, 2, 3], [1, 2]), "expected a time for each size, got 3 and 2"),
        (lambda: fit_slope([], []), "expected a time for each size, got 0 and 0"),
        (lambda: fit_slope([1, 2, 3], [1, 0, 2]), "must be positive and finite"),
        (lambda: aic([2, 3], [1, float("nan")], "n"), "must be positive and finite"),
        (lambda: aic([2, 3], [1, 2], "n^3"), r"unknown law 'n\^3'; choose one of n, n log n, n\^2"),
        (lambda: aic([1, 2], [1, 2], "n"), r"sizes must be above 1, .*, got n = \[1, 2\]"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_operations_of_a_matrix_product():
    a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
    assert scaling.count_operations(jnp.matmul, a, b) == 2 * 3 * 5 * 7
