"""Laws and values of ops/fractal_spectrum.py."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import digamma

from resonance_jax.ops.fourier import fast_length
from resonance_jax.ops.fractal import dimension_from_slope
from resonance_jax.ops.fractal_sets import (
    cantor_set,
    fractional_brownian_motion,
    koch_curve,
    sierpinski_triangle,
)
from resonance_jax.ops.fractal_spectrum import spectral_slope, spectral_slope_points

pytestmark = pytest.mark.usefixtures("quick_compile")

HURST = (0.1, 0.3, 0.5, 0.7, 0.9)


def walks(seed: int, *shape: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).standard_normal(shape), -1)


def slope_twin(x, length):
    """One frequency k/length and one taper at a time, by the sums of the definition."""
    steps = np.diff(x) - np.mean(np.diff(x))
    n, t = len(steps), np.arange(len(steps))
    bins = {}
    for f in np.arange(length // 2) / length:
        if not 1 / n <= f <= 1 / 16:
            continue
        power = 0.0
        for taper in range(1, 6):
            window = np.sin(np.pi * taper * (t + 1) / (n + 1))
            power += abs(np.sum(window * steps * np.exp(-2j * np.pi * f * t))) ** 2
        bins.setdefault(math.floor(2 * math.log2(f * n) + 1e-9), []).append(
            (math.log(f), power / (4 * math.sin(math.pi * f) ** 2))
        )
    logs = [np.mean([f for f, _ in members]) for members in bins.values()]
    count = np.array([len(members) for members in bins.values()])
    power = np.log([np.mean([p for _, p in members]) for members in bins.values()])
    power -= digamma(count + 4) - np.log(count + 4)
    return -np.polyfit(logs, power, 1, w=count**0.25)[0]  # polyfit squares its weights


@pytest.mark.parametrize("t", [226, 230])  # 225 steps: a fast length; 229: a prime
def test_slope_matches_direct_sums(x64, t):
    signals = walks(0, 4, t)
    beta, _ = spectral_slope(signals)
    assert beta.dtype == jnp.float64
    expected = [slope_twin(x, fast_length(t - 1)) for x in signals]
    np.testing.assert_allclose(beta, expected, atol=1e-3)  # ψ(ν) to 1e-4


def test_dimension_of_brownian_graphs():
    """Within 0.05 at 4096 samples, in the mean of 20 seeds."""

    @jax.jit
    def estimate(keys):
        def signals(key):
            return jnp.stack([fractional_brownian_motion(key, 4096, hurst=h) for h in HURST])

        return dimension_from_slope(spectral_slope(jax.vmap(signals)(keys)), "brownian_graph")

    dimension, error = estimate(jax.random.split(jax.random.key(0), 20))
    np.testing.assert_allclose(dimension.mean(0), [2 - h for h in HURST], atol=0.05)
    ratio = dimension.std(0) / error.mean(0)
    assert np.all((0.5 < ratio) & (ratio < 3))  # the error says how far the estimates spread


def test_offset_trend_and_scale_do_not_count_and_a_line_has_no_slope():
    signal = walks(2, 256).astype(np.float32)
    t = np.linspace(0, 1, 256, dtype=np.float32)
    beta, error = spectral_slope(
        np.stack([signal, 1e30 * signal, signal + 40 * t - 7, 3 * t, 0 * t])
    )
    np.testing.assert_allclose(beta[1:3], beta[0], atol=1e-3)
    np.testing.assert_array_equal(beta[3:], 0)
    np.testing.assert_array_equal(error[3:], np.inf)
    assert 1 < beta[0] < 3


def test_batch_axes_and_rows_apart():
    signal = walks(3, 5, 256).astype(np.float32)
    estimate = spectral_slope(signal)
    stacked = jax.vmap(spectral_slope)(jnp.asarray(signal))
    chex.assert_trees_all_close(stacked, estimate, rtol=1e-4)
    changed = spectral_slope(jnp.asarray(signal).at[1, 7].set(jnp.inf))
    assert np.isnan(changed.beta[1]) and np.isnan(changed.standard_error[1])
    np.testing.assert_array_equal(changed.beta[2:], estimate.beta[2:])
    narrow = jax.eval_shape(spectral_slope, jax.ShapeDtypeStruct((2, 1, 128), jnp.bfloat16))
    assert {(v.shape, v.dtype) for v in narrow} == {((2, 1), jnp.dtype("float32"))}


def test_gradients(x64):
    signals = walks(4, 4, 226)
    check_grads(lambda x: tuple(spectral_slope(x)), (signals,), order=1, modes=["rev"], rtol=1e-5)
    signals[0], signals[1] = 0, np.arange(226)
    estimate, backward = jax.vjp(spectral_slope, signals)
    gradient = backward(jax.tree.map(jnp.ones_like, estimate))[0]
    chex.assert_tree_all_finite(gradient)
    assert np.all(np.any(gradient[2:] != 0, -1))


def ball_twin(points, side):
    """|μ̂|² of the masses on the grid by direct sums over all wave numbers, in float64."""
    n, m = points.shape
    unit = (points - points.min(0)) / np.ptp(points, axis=0).max()
    cells = np.rint(unit * (side // 2 - 1))
    most = side // 8
    waves = np.stack(np.meshgrid(*[np.arange(-most, most + 1)] * m, indexing="ij"), -1)
    waves = waves.reshape(-1, m)
    radius = np.linalg.norm(waves, axis=1)
    power = np.abs(np.exp(-2j * np.pi * (waves @ cells.T) / side).mean(1)) ** 2
    power = (n * power / np.prod(np.sinc(waves / side) ** 2, 1) - 1) / (n - 1)
    logs = []
    for quarter in range(8, int(4 * math.log2(most)) + 1):
        mean = power[radius <= 2 ** (quarter / 4) + 1e-9].mean()
        if mean <= 10 / n:
            break
        logs.append((quarter / 4 * math.log(2), math.log(mean)))
    x, y = np.array(logs).T
    return -np.polyfit(x, y, 1)[0]


@pytest.mark.parametrize(("m", "side"), [(2, 2**10), (3, 2**7)])
def test_ball_means_match_direct_sums(x64, m, side):
    rng = np.random.default_rng(5)  # about a line: power at every k
    points = rng.random((64, 1)) * np.arange(1, m + 1) + 0.1 * rng.random((64, m))
    np.testing.assert_allclose(
        spectral_slope_points(points).beta, ball_twin(points, side), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("points", "dimension"),
    [
        (cantor_set(12), math.log(2, 3)),
        (cantor_set(12, gap=0.5), 0.5),
        (sierpinski_triangle(8), math.log(3, 2)),
        (koch_curve(6), math.log(4, 3)),
    ],
)
def test_dimension_of_self_similar_sets(points, dimension):
    """Within 0.05 at 4096 points, in the mean of turns of the grid, and nearly the same in each."""
    turns = np.exp(1j * np.linspace(0, np.pi / 2, 5))
    if points.shape[1] == 2:
        z = np.asarray(points) @ [1, 1j] * turns[:, None]
        points = np.stack([np.real(z), np.imag(z)], -1).astype(np.float32)
    estimate = dimension_from_slope(spectral_slope_points(points), "self_similar_set")
    assert abs(estimate.dimension.mean() - dimension) < 0.05
    assert estimate.dimension.std() < 0.02
    assert np.all(estimate.standard_error < 0.03)


def test_sets_apart_equal_points_and_missing_values():
    points = np.random.default_rng(6).random((3, 128, 1)).astype(np.float32)
    points[1] = 0.25
    beta, error = spectral_slope_points(points)
    np.testing.assert_allclose([beta[1], error[1]], 0, atol=0.01)
    assert 0.5 < beta[0] < 1.5
    single = jax.vmap(spectral_slope_points)(jnp.asarray(points))
    np.testing.assert_allclose(single.beta, beta, atol=1e-5)
    points[0, 3] = np.nan
    changed = spectral_slope_points(jnp.asarray(points))
    assert np.isnan(changed.beta[0]) and np.isnan(changed.standard_error[0])
    np.testing.assert_array_equal(changed.beta[1:], beta[1:])


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectral_slope(np.ones(127)), "needs at least 128 samples .* got 127; pass"),
        (
            lambda: spectral_slope(np.ones(128, int)),
            "signal must be real floating point, got int64",
        ),
        (lambda: spectral_slope(np.full(128, np.nan)), "signal must be finite, got 128 values"),
        (lambda: spectral_slope_points(np.ones((9, 2))), "needs at least 64 points .* got 9"),
        (lambda: spectral_slope_points(np.ones((64, 5))), "1, 2 or 3 coordinates .* got 5"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
