"""Laws and values of ops/fractal.py."""

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops.fractal import (
    SlopeEstimate,
    alpha_from_dimension,
    dimension_from_alpha,
    dimension_from_slope,
    higuchi,
)
from resonance_jax.ops.fractal_sets import fractional_brownian_motion, weierstrass

HURST = (0.1, 0.3, 0.5, 0.7, 0.9)


def walks(seed: int, *shape: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).standard_normal(shape), -1)


def higuchi_twin(x, lags):
    """The curve lengths of Higuchi's paper, one series of every k-th value at a time, in float64."""
    n, logs = len(x), []
    for k in lags:
        lengths = []
        for start in range(k):
            series = x[start::k]
            steps = len(series) - 1
            length = sum(abs(series[i + 1] - series[i]) for i in range(steps))
            lengths.append(length * (n - 1) / (steps * k) / k)
        logs.append((np.log(1 / k), np.log(np.mean(lengths))))
    x, y = np.transpose(logs)
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return slope, np.sqrt(covariance[0, 0])


@pytest.mark.parametrize(("max_lag", "lags"), [(None, [1, 2, 3, 4]), (12, [1, 2, 3, 4, 6, 8, 11])])
def test_curve_lengths_are_those_of_the_paper(x64, max_lag, lags):
    x = walks(0, 4, 40)
    estimate = higuchi(x, max_lag=max_lag)
    assert estimate.dimension.dtype == jnp.float64
    for row in range(4):
        dimension, error = higuchi_twin(x[row], lags)
        np.testing.assert_allclose(estimate.dimension[row], dimension, rtol=1e-12)
        np.testing.assert_allclose(estimate.standard_error[row], error, rtol=1e-10)


def test_higuchi_finds_the_dimension_of_curves_of_known_dimension():
    """Within 0.05 at 4096 steps, in the mean of 20 seeds."""

    @jax.jit
    def estimate(keys):
        def curves(key):
            brownian = [fractional_brownian_motion(key, 4096, hurst=h) for h in HURST]
            waves = [weierstrass(4096, hurst=0.5, base=b, key=key) for b in (1.5, 2)]
            return jnp.stack(brownian + waves)

        return higuchi(jax.vmap(curves)(keys))

    dimension, error = estimate(jax.random.split(jax.random.key(0), 20))
    expected = [2 - h for h in HURST] + [1.5, 1.5]
    np.testing.assert_allclose(dimension.mean(0), expected, atol=0.05)
    # Brownian curves are without bias: the mean is off by what 20 seeds leave, and no more.
    spread = dimension.std(0, ddof=1) / np.sqrt(20)
    np.testing.assert_array_less(np.abs(dimension.mean(0) - np.array(expected))[:5], 3 * spread[:5])
    assert np.all(error < 0.05)


def test_curves_whose_dimension_is_exact():
    t = np.arange(40.0)
    # A line; a zigzag, of length 0 at even lags; constants, one that division would round.
    curves = np.stack([3 * t - 7, (-1) ** t, np.full(40, -2.5), np.zeros(40)])
    dimension, error = higuchi(curves.astype(np.float32))
    np.testing.assert_allclose(dimension, [1, 2, 1, 1], atol=1e-5)
    np.testing.assert_allclose(error[0], 0, atol=1e-5)
    assert error[2] == error[3] == 0


@hypothesis.given(seed=st.integers(0, 2**16))
def test_scale_and_offset_do_not_count(seed):
    x = walks(seed, 40).astype(np.float32)
    x = x / np.abs(x).max()
    moved = np.stack([x, -np.float32(1e-30) * x, np.float32(3e38) * x, (x + 3) / 4])
    dimension, error = higuchi(moved)
    np.testing.assert_allclose(dimension, dimension[0], atol=2e-3)
    np.testing.assert_allclose(error, error[0], atol=2e-3)


def test_batch_axes_and_rows_apart():
    x = walks(1, 4, 40).astype(np.float32)
    estimate = higuchi(x)
    stacked = jax.vmap(higuchi)(jnp.asarray(x))
    chex.assert_trees_all_close(stacked, estimate, rtol=1e-5)
    batched = higuchi(x.reshape(2, 1, 2, 40))
    chex.assert_trees_all_close(batched, jax.tree.map(lambda v: v.reshape(2, 1, 2), estimate))
    for bad in (np.nan, np.inf):
        changed = higuchi(jnp.asarray(x).at[1, 7].set(bad))
        assert np.isnan(changed.dimension[1]) and np.isnan(changed.standard_error[1])
        for before, after in zip(estimate, changed, strict=True):
            np.testing.assert_array_equal(after[2:], before[2:])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_narrow_dtypes_are_widened(dtype):
    estimate = jax.eval_shape(higuchi, jax.ShapeDtypeStruct((3, 40), dtype))
    assert {(v.shape, v.dtype) for v in estimate} == {((3,), jnp.dtype("float32"))}


def test_the_shortest_curves():
    x = jnp.asarray(walks(2, 40), jnp.float32)
    dimension, error = higuchi(x[:7])
    assert np.isfinite(dimension) and 0 < error < np.inf
    for t in range(8, 48, 4):  # every length has lags that fit
        jax.eval_shape(higuchi, jax.ShapeDtypeStruct((t,), jnp.float32))


def test_gradients_of_higuchi(x64):
    check_grads(lambda x: tuple(higuchi(x)), (walks(3, 4, 40),), order=1, modes=["rev"], rtol=1e-6)
    t = np.arange(40.0)
    singular = np.stack([np.zeros(40), np.ones(40), (-1) ** t, t])
    estimate, backward = jax.vjp(higuchi, singular)
    chex.assert_tree_all_finite(backward(jax.tree.map(jnp.ones_like, estimate)))


def test_a_slope_means_what_its_object_says():
    slope = SlopeEstimate(jnp.array([1.6, 2.0]), jnp.array([0.1, 0.2]))
    graph = dimension_from_slope(slope, "brownian_graph")
    np.testing.assert_allclose(graph.dimension, [1.7, 1.5])  # H = (β − 1)/2, D = 2 − H
    np.testing.assert_allclose(graph.standard_error, [0.05, 0.1])
    chex.assert_trees_all_equal(
        tuple(dimension_from_slope(slope, "self_similar_set")), tuple(slope)
    )


@hypothesis.given(
    dimension=st.floats(0.5, 3),
    n=st.sampled_from([1, 2, 3]),
    base=st.floats(0.5, 1.5),
    strength=st.floats(0.1, 1),
)
def test_alpha_and_dimension_invert_each_other_where_not_clipped(dimension, n, base, strength):
    options = {"euclidean_dimension": n, "base": base, "strength": strength}
    alpha = alpha_from_dimension(dimension, **options)
    expected = base * (1 + strength * (dimension - n) / n)
    np.testing.assert_allclose(alpha, np.clip(expected, 0.1, 3), rtol=1e-5)
    back = dimension_from_alpha(alpha, **options)
    if 0.11 < expected < 2.99:
        np.testing.assert_allclose(back, dimension, rtol=1e-4)
    else:  # the dimension at which the clipping begins
        np.testing.assert_allclose(
            alpha_from_dimension(back, bounds=(-99, 99), **options), alpha, rtol=1e-3
        )


def test_alpha_follows_every_argument_with_finite_gradients(x64):
    arguments = (np.array([1.2, 1.7]), np.array(0.9), np.array([0.8, 0.5]))

    def alpha(dimension, base, strength):
        return alpha_from_dimension(
            dimension, euclidean_dimension=2, base=base, strength=strength, bounds=(0.1, 0.8)
        )

    np.testing.assert_allclose(alpha(*arguments), [0.9 * 0.68, 0.8])
    check_grads(jax.jit(alpha), arguments, order=1, rtol=1e-6)
    gradients = jax.grad(lambda *a: jnp.sum(alpha(*a)), (0, 1, 2))(*arguments)
    assert np.all(np.abs(gradients[1]) > 0)
    assert [bool(g) for g in gradients[0] != 0] == [True, False]  # the second is clipped
    assert [bool(g) for g in gradients[2] != 0] == [True, False]
    at_bound = jax.grad(lambda d: alpha_from_dimension(d, euclidean_dimension=2.0, bounds=(0, 1)))
    assert np.isfinite(at_bound(2.0))
    assert alpha_from_dimension(1.0, euclidean_dimension=1) == 1
    assert alpha_from_dimension(1.0, euclidean_dimension=3) != 1


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: higuchi(np.ones(6)), "needs at least 7 steps .* got 6; pass a longer"),
        (lambda: higuchi(np.array(1.0)), r"curve must have shape \[..., t\], got \(\)"),
        (lambda: higuchi(np.ones(9, int)), "curve must be real floating point, got int64; cast"),
        (lambda: higuchi(np.array([0, np.nan] * 9)), "curve must be finite, got 9 values"),
        (lambda: higuchi(np.ones(9), max_lag=2), r"max_lag must lie in 3 .. 4 for 9 steps, got 2"),
        (lambda: higuchi(np.ones(9), max_lag=5), r"max_lag must lie in 3 .. 4 .* got 5; None"),
        (
            lambda: dimension_from_slope(SlopeEstimate(jnp.ones(1), jnp.ones(1)), "graph"),
            "unknown kind 'graph'; choose one of brownian_graph, self_similar_set",
        ),
        (
            lambda: alpha_from_dimension(np.nan, euclidean_dimension=1),
            "dimension must be finite, got nan",
        ),
        (
            lambda: alpha_from_dimension(1.0, euclidean_dimension=1, base=np.inf),
            "base must be finite, got inf",
        ),
        (
            lambda: alpha_from_dimension(1.0, euclidean_dimension=0),
            "euclidean_dimension must be a positive number, got 0",
        ),
        (
            lambda: alpha_from_dimension(1.0, euclidean_dimension=1, bounds=(2.0, 1.0)),
            r"bounds must be two finite numbers in rising order, got \(2.0, 1.0\)",
        ),
        (
            lambda: dimension_from_alpha(1.0, euclidean_dimension=1, strength=0),
            "strength must not be 0",
        ),
        (lambda: dimension_from_alpha(1.0, euclidean_dimension=1, base=0.0), "base must not be 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
