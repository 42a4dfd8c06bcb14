"""Resonance of images: both methods and a slow twin agree; what it is not given is not heard."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops.resonance_2d import (
    choose_method_2d,
    resonate_2d,
    resonate_2d_at,
    select_image_bins,
)

HEIGHT, WIDTH, FEATURES = 6, 8, 2


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)

    def complex_normal(*shape):
        return rng.normal(size=shape) + 1j * rng.normal(size=shape)

    x = rng.normal(size=(3, HEIGHT, WIDTH, FEATURES))
    rows, columns = np.array([-2, 0, 2, 3]), np.array([0, 1, 4])
    weights = complex_normal(4, 3, FEATURES)
    interference = 0.3 * complex_normal(4, 4), 0.3 * complex_normal(3, 3)
    return x, weights, rows, columns, interference


def twin(x, weights, f, g, count, area, interference, unselected):
    """One image [h, w, d], frequency by frequency."""
    y, z = np.mgrid[: x.shape[0], : x.shape[1]]
    wave = np.exp(-2j * np.pi * (f[:, None, None, None] * y + g[:, None, None] * z))
    spectrum = np.einsum("jkyx,yxd->jkd", wave, x)
    selected = weights * spectrum
    if interference is not None:
        a, b = interference
        selected = (
            selected + np.einsum("ij,jkd->ikd", a, selected) + np.einsum("lk,jkd->jld", b, selected)
        )
    change = selected if unselected == "drop" else selected - spectrum
    made = np.einsum("jkyx,jkd,k->yxd", wave.conj(), change, count).real / area
    return made if unselected == "drop" else x + made


@pytest.mark.parametrize("unselected", ["drop", "pass"])
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("fft_shape", [None, (7, 9)])
def test_both_methods_are_the_slow_twin(given, x64, unselected, mixed, fft_shape):
    x, weights, rows, columns, interference = given
    interference = interference if mixed else None
    h, w = fft_shape or (HEIGHT, WIDTH)
    count = np.where((columns == 0) | (2 * columns == w), 1, 2)
    options: Any = dict(interference=interference, unselected=unselected)
    wanted = np.stack(
        [twin(image, weights, rows / h, columns / w, count, h * w, **options) for image in x]
    )
    for method in ("fft", "matrix"):
        found = resonate_2d(
            x, weights, rows, columns, fft_shape=fft_shape, method=method, **options
        )
        np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_it_is_the_real_transform_of_the_weighted_spectrum(given, x64):
    x = given[0]
    rows, columns = select_image_bins((HEIGHT, WIDTH), HEIGHT, WIDTH // 2 + 1)
    every = np.random.default_rng(1).normal(size=(len(rows), len(columns), FEATURES)) + 0j
    spectrum = np.fft.rfft2(x, axes=(1, 2))
    spectrum[:, rows[:, None] % HEIGHT, columns] *= every
    wanted = np.fft.irfft2(spectrum, s=(HEIGHT, WIDTH), axes=(1, 2))
    np.testing.assert_allclose(resonate_2d(x, every, rows, columns), wanted, atol=1e-12)


@pytest.mark.parametrize("method", ["fft", "matrix"])
def test_gradients_agree_with_differences(given, x64, method):
    x, weights, rows, columns, interference = given

    def loss(x, weights, interference):
        y = resonate_2d(x, weights, rows, columns, interference=interference, method=method)
        return jnp.sum(jnp.sin(y))

    arguments = x, weights, interference
    rng = np.random.default_rng(2)

    def direction(leaf):
        found = rng.normal(size=leaf.shape)
        return found + 1j * rng.normal(size=leaf.shape) if np.iscomplexobj(leaf) else found

    step = jax.tree.map(direction, arguments)
    gradient = jax.grad(loss, argnums=(0, 1, 2))(*arguments)
    # JAX's gradient of a real function at a complex argument is the conjugate of the steepest ascent.
    slope = sum(
        np.sum(np.real(g * s))
        for g, s in zip(jax.tree.leaves(gradient), jax.tree.leaves(step), strict=True)
    )
    ahead = jax.tree.map(lambda a, s: a + 1e-6 * s, arguments, step)
    behind = jax.tree.map(lambda a, s: a - 1e-6 * s, arguments, step)
    numeric = (loss(*ahead) - loss(*behind)) / 2e-6
    np.testing.assert_allclose(slope, numeric, rtol=1e-6)


def test_frequencies_on_the_grid_give_what_bins_give(given, x64):
    x, weights, rows, columns, interference = given
    wanted = resonate_2d(x, weights, rows, columns, interference=interference)
    found = resonate_2d_at(x, weights, rows / HEIGHT, columns / WIDTH, interference=interference)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_a_wave_keeps_its_frequency_at_another_size(x64):
    """The same wave on a larger image passes a filter of frequencies, and not one of the small image's indices."""
    f, g = np.array([-0.25, 0.25]), np.array([0.125])
    weights = np.full((2, 1, 1), 2.0 + 0j)
    for height, width in ((8, 8), (16, 24)):
        y, z = np.mgrid[:height, :width]
        wave = np.cos(2 * np.pi * (0.25 * y + 0.125 * z))[..., None]
        np.testing.assert_allclose(resonate_2d_at(wave, weights, f, g), 2 * wave, atol=1e-12)


def test_rolling_commutes_and_turning_does_not(given, x64):
    x, weights, rows, columns, _ = given

    def apply(x):
        return np.asarray(resonate_2d(x, weights, rows, columns))

    rolled = np.roll(x, (2, 3), axis=(1, 2))
    np.testing.assert_allclose(apply(rolled), np.roll(apply(x), (2, 3), axis=(1, 2)), atol=1e-12)
    turned = x[:, ::-1, ::-1]
    assert np.abs(apply(turned)[:, ::-1, ::-1] - apply(x)).max() > 0.1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes_are_kept(given, dtype):
    x, weights, rows, columns, _ = given
    exact = resonate_2d(x.astype(np.float32), weights.astype(np.complex64), rows, columns)
    y = resonate_2d(jnp.asarray(x, dtype), weights.astype(np.complex64), rows, columns)
    assert y.dtype == dtype
    error = {jnp.float32: 1e-6, jnp.bfloat16: 0.02}[dtype]
    np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=error * np.abs(exact).max())


def test_the_method_is_that_of_fewer_operations():
    assert choose_method_2d((14, 14), 3, 2) == "matrix"
    assert choose_method_2d((512, 512), 511, 257) == "fft"


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=np.zeros((4, 4))), r"images must be real floating point \[\.\.\., h, w, d\]"),
        (dict(x=np.zeros((1, 0, 4, 2))), "none of them empty"),
        (dict(rows=np.array([4])), "rows must be distinct and in -2 .. 3"),
        (dict(columns=np.array([-1])), "columns must be distinct and in 0 .. 4"),
        (dict(columns=np.array([1, 1])), r"distinct .* got \[1, 1\]"),
        (dict(rows=np.array([0.5])), "rows must be integers"),
        (dict(rows=jnp.array([0])), "rows must be known at trace time"),
        (dict(weights=np.zeros((1, 1, 2))), "weights must be complex"),
        (dict(weights=np.zeros((2, 1, 2), complex)), r"weights must have shape \(1, 1, 2\)"),
        (dict(fft_shape=(5, 8)), r"at least the image's \(6, 8\), got \(5, 8\)"),
        (dict(method="slow"), "unknown method 'slow'"),
        (dict(unselected="keep"), "unknown unselected 'keep'"),
        (dict(interference=(np.zeros((2, 2), complex),) * 2), "interference A must have shape"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = dict(
        x=np.zeros((1, HEIGHT, WIDTH, 2)),
        weights=np.zeros((1, 1, 2), complex),
        rows=np.array([0]),
        columns=np.array([0]),
    )
    with pytest.raises(ValueError, match=message):
        resonate_2d(**(arguments | change))


@pytest.mark.error_message
def test_frequencies_must_be_of_the_right_half(given):
    x, weights, rows, columns, _ = given
    with pytest.raises(ValueError, match="must not be negative"):
        resonate_2d_at(x, weights, rows / 8, -columns / 8)
    with pytest.raises(ValueError, match="finite"):
        resonate_2d_at(x, weights, np.full(4, np.nan), columns / 8)
    with pytest.raises(ValueError, match="9 x 2 frequencies were asked for"):
        select_image_bins((8, 8), 9, 2)
