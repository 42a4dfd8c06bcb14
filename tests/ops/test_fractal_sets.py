"""The sets and curves of ops/fractal_sets.py are what they are said to be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops.fractal_sets import (
    cantor_set,
    fractional_brownian_motion,
    koch_curve,
    sierpinski_triangle,
    weierstrass,
)


def test_cantor_points_have_only_the_digits_0_and_2_in_base_3(x64):
    points = np.asarray(cantor_set(6)[:, 0])
    digits = np.rint(points * 3**6).astype(int)
    expected = [k for k in range(3**6) if "1" not in np.base_repr(k, 3)]
    np.testing.assert_array_equal(digits, expected)
    np.testing.assert_allclose(points, digits / 3**6, atol=1e-15)


@pytest.mark.parametrize("gap", [0.2, 1 / 3, 0.7])
def test_a_cantor_set_is_two_copies_of_itself(x64, gap):
    ratio = (1 - gap) / 2
    whole, part = cantor_set(5, gap=gap), ratio * cantor_set(4, gap=gap)
    np.testing.assert_allclose(whole, np.concatenate([part, part + 1 - ratio]), atol=1e-15)


def test_sierpinski_corners_are_those_of_pascals_triangle_mod_2(x64):
    points = np.asarray(sierpinski_triangle(4))
    rows = points[:, 1] / (np.sqrt(3) / 2) * 16
    columns = points[:, 0] * 16 - rows / 2
    found = {(int(i), int(j)) for i, j in zip(np.rint(rows), np.rint(columns), strict=True)}
    assert found == {(i, j) for i in range(16) for j in range(16) if i & j == 0 and i + j < 16}
    np.testing.assert_allclose(rows, np.rint(rows), atol=1e-12)


def test_a_koch_curve_is_made_of_equal_steps_and_four_copies(x64):
    points = np.asarray(koch_curve(3))
    assert points.shape == (65, 2)
    np.testing.assert_allclose(points[[0, -1]], [[0, 0], [1, 0]], atol=1e-15)
    steps = np.diff(points, axis=0) @ [1, 1j]
    np.testing.assert_allclose(np.abs(steps), 3.0**-3)
    turns = np.rint(np.degrees(np.angle(steps[1:] / steps[:-1])))
    assert set(turns) == {60, -120}
    np.testing.assert_allclose(points[:17], koch_curve(2) / 3, atol=1e-15)
    assert points[:, 1].min() > -1e-15  # the bump is on the left of the way


@pytest.mark.parametrize("base", [1.5, 3])
def test_weierstrass_is_the_sum_of_its_waves(x64, base):
    hurst, n = 0.4, 9
    expected = np.zeros(n)
    for i in range(n):
        j = 0
        while base**j <= 2**40:
            expected[i] += base ** (-hurst * j) * np.cos(2 * np.pi * (base**j * i / (n - 1) % 1))
            j += 1
    np.testing.assert_allclose(weierstrass(n, hurst=hurst, base=base), expected, atol=1e-7)


def test_weierstrass_repeats_itself_at_a_smaller_scale(x64):
    """W(x) = cos 2πx + a W(2x), but for the waves left out."""
    w = np.asarray(weierstrass(129, hurst=0.5, base=2))
    x = np.arange(65) / 128
    np.testing.assert_allclose(w[:65], np.cos(2 * np.pi * x) + w[::2] / np.sqrt(2), atol=1e-5)


def test_phases_are_drawn_with_the_key():
    draw = functools.partial(weierstrass, 16, hurst=0.5)
    one, two = draw(key=jax.random.key(1)), draw(key=jax.random.key(2))
    assert min(np.abs(one - two).max(), np.abs(one - draw()).max()) > 0.1
    np.testing.assert_array_equal(one, draw(key=jax.random.key(1)))


@pytest.mark.parametrize("hurst", [0.2, 0.8])
def test_brownian_motion_has_the_covariance_of_its_definition(hurst):
    draw = jax.jit(jax.vmap(lambda key: fractional_brownian_motion(key, 8, hurst=hurst)))
    paths = np.asarray(draw(jax.random.split(jax.random.key(0), 40_000)), float)
    np.testing.assert_array_equal(paths[:, 0], 0)
    t = np.arange(8.0)
    power = t ** (2 * hurst)
    lags = np.abs(t[:, None] - t) ** (2 * hurst)
    expected = (power[:, None] + power - lags) / 2
    # The error of a sample covariance is √((c_ss c_tt + c_st²)/N).
    error = np.sqrt((power[:, None] * power + expected**2) / len(paths))
    np.testing.assert_array_less(np.abs(paths.T @ paths / len(paths) - expected), 5 * error + 1e-9)


def test_dtypes_are_the_default_ones(x64):
    for made in (
        cantor_set(2),
        koch_curve(1),
        weierstrass(4, hurst=0.5),
        fractional_brownian_motion(jax.random.key(0), 4, hurst=0.5),
    ):
        assert made.dtype == jnp.float64


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cantor_set(-1), r"levels must be an integer in 0 .. 24 \(2\^24 points\), got -1"),
        (lambda: sierpinski_triangle(16), "levels must be an integer in 0 .. 15 .* got 16"),
        (lambda: koch_curve(True), "levels must be an integer .* got True"),
        (lambda: cantor_set(1, gap=1), "gap must lie strictly between 0 and 1, got 1"),
        (lambda: weierstrass(1, hurst=0.5), "n must be an integer of at least 2 samples, got 1"),
        (lambda: weierstrass(4, hurst=1.0), "hurst must lie strictly between 0 and 1, got 1.0"),
        (lambda: weierstrass(4, hurst=0.5, base=1), "base must be a number greater than 1, got 1"),
        (
            lambda: fractional_brownian_motion(jax.random.key(0), 4, hurst=float("nan")),
            "hurst must lie strictly between 0 and 1, got nan",
        ),
        (lambda: fractional_brownian_motion(jax.random.key(0), 0, hurst=0.5), "n must be an int"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
