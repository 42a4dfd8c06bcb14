"""The forecaster: units given back, what is missing never heard, every option felt, mistakes named."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.models.time_series import ResonanceTimeSeriesNet, TimeSeriesConfig
from resonance_jax.ops.forecast import interpolate_spectrum

pytestmark = pytest.mark.usefixtures("quick_compile")

ROWS, LENGTH, HORIZON, CHANNELS = 2, 24, 6, 2


def make_config(**changes):
    options: dict[str, Any] = dict(
        pred_horizon=HORIZON,
        context_length=LENGTH,
        input_dim=CHANNELS,
        num_layers=1,
        hidden_dim=4,
        mlp_dim=4,
        block_frequencies=3,
        patch_size=6,
        patch_stride=4,
        dropout=0.0,
    )
    return TimeSeriesConfig(**(options | changes))


@pytest.fixture(scope="module")
def windows():
    return 3 + np.random.default_rng(0).normal(size=(ROWS, LENGTH, CHANNELS)).astype(np.float32)


@pytest.fixture(scope="module")
def covariates():
    steps = LENGTH + HORIZON
    return np.random.default_rng(1).normal(size=(ROWS, steps, 3)).astype(np.float32)


def draw(model, *inputs):
    """Variables by which nothing is hidden; a parameter's are the same in every model that has it."""

    def leaf(path, shape):
        rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
        return jnp.asarray(0.4 * rng.normal(size=shape.shape), shape.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return jax.tree_util.tree_map_with_path(leaf, shapes)


@pytest.fixture(scope="module")
def usual(windows):
    model = ResonanceTimeSeriesNet(make_config())
    return jax.jit(model.apply), draw(model, windows)


def test_the_linear_path_is_the_op(windows):
    config = make_config(num_layers=0, num_frequencies=5)
    model = ResonanceTimeSeriesNet(config)
    variables = draw(model, windows)
    real, imaginary = variables["params"]["interpolation"]
    assert real.shape == (6, 5)  # bin 4 of 24 is bin 5 of 30
    mean, deviation = (f(windows, axis=1, keepdims=True) for f in (np.mean, np.std))
    y = interpolate_spectrum((windows - mean) / deviation, real + 1j * imaginary, HORIZON)
    y = y[:, LENGTH:] + variables["params"]["bias"]
    found = jax.jit(model.apply)(variables, windows)
    np.testing.assert_allclose(found, y * deviation + mean, rtol=1e-4, atol=1e-4)


def test_forecasts_are_in_the_units_of_each_channel(windows, usual):
    apply, variables = usual
    scale, shift = np.array([10.0, 0.1], np.float32), np.array([-50.0, 3.0], np.float32)
    y = apply(variables, windows)
    assert y.shape == (ROWS, HORIZON, CHANNELS) and y.dtype == jnp.float32
    moved = apply(variables, scale * windows + shift)
    np.testing.assert_allclose(moved, scale * y + shift, rtol=1e-3, atol=1e-3)
    swapped = apply(variables, windows[..., ::-1])  # one set of weights for all channels
    np.testing.assert_allclose(swapped, y[..., ::-1], rtol=1e-4, atol=1e-4)


def test_it_starts_with_the_mean_of_the_window(windows):
    model = ResonanceTimeSeriesNet(make_config())
    y = jax.jit(model.apply)(jax.jit(model.init)(jax.random.key(0), windows), windows)
    mean = windows.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(y, np.broadcast_to(mean, y.shape), rtol=1e-5)


def test_what_is_missing_is_not_heard(windows, usual):
    apply, variables = usual
    mask = np.random.default_rng(2).random(windows.shape) < 0.6
    mask[0, :, 1] = False
    expected = apply(variables, windows, mask)
    for hidden in (1e6, np.nan):
        spoiled = np.where(mask, windows, np.float32(hidden))
        np.testing.assert_array_equal(apply(variables, spoiled, mask), expected)
    np.testing.assert_array_equal(apply(variables, np.where(mask, windows, np.nan)), expected)
    assert np.isfinite(expected).all()
    assert np.abs(expected - apply(variables, windows)).max() > 1e-2
    steps = mask[..., 0]
    both = np.stack([steps, steps], axis=-1)
    np.testing.assert_allclose(
        apply(variables, windows, steps), apply(variables, windows, both), rtol=1e-5, atol=1e-5
    )


def differentiate(model):
    """A compiled function (variables, windows) → outputs, and the parameters without a gradient."""

    def look(variables, windows):
        y = model.apply(variables, windows)
        return jnp.sum(jnp.sin(y)), y

    compiled = jax.jit(jax.grad(look, has_aux=True))

    def call(variables, windows):
        gradient, y = compiled(variables, windows)
        leaves = jax.tree.leaves_with_path(gradient)
        return y, [jax.tree_util.keystr(path) for path, leaf in leaves if not np.any(leaf)]

    return call


@pytest.mark.end_to_end
def test_every_option_of_the_linear_path_is_felt_and_learns_everywhere(windows):
    """With quantiles too, whose middle one is compared."""

    def look(**changes):
        model = ResonanceTimeSeriesNet(make_config(num_layers=0, **changes))
        y, silent = differentiate(model)(draw(model, windows), windows)
        assert silent == [], changes
        return y

    usual = look()
    for changes in (
        {"normalization": "mean"},
        {"normalization": "none"},
        {"affine": True},
        {"interpolation": "polar"},
        {"interpolation": "none"},
        {"num_frequencies": 4},
    ):
        assert np.abs(look(**changes) - usual).max() > 1e-3, changes
    y = look(quantiles=(0.1, 0.5, 0.9))
    assert y.shape == (ROWS, HORIZON, CHANNELS, 3) and (np.diff(y, axis=-1) > 0).all()


@pytest.mark.end_to_end
def test_the_blocks_learn_everywhere_and_hear_other_channels_if_joint(windows, usual):
    changed = windows.copy()
    changed[..., 1] = np.roll(changed[..., 1], 3, axis=1)
    moved = {}
    for channels, mlp_dim in (("independent", 4), ("joint", 0)):
        model = ResonanceTimeSeriesNet(make_config(channels=channels, mlp_dim=mlp_dim))
        call, variables = differentiate(model), draw(model, windows)
        y, silent = call(variables, windows)
        assert silent == [] and y.shape == (ROWS, HORIZON, CHANNELS)
        moved[channels] = np.abs(call(variables, changed)[0] - y).max(axis=(0, 1))
    assert moved["independent"][0] < 1e-4 < 1e-2 < moved["independent"][1]
    assert moved["joint"].min() > 1e-3


@pytest.mark.end_to_end
def test_covariates_are_taken_out_and_given_back(windows, covariates):
    """Those of the window, and of each step of the forecast alone."""
    model = ResonanceTimeSeriesNet(make_config(covariate_dim=3, num_layers=0))
    variables = draw(model, windows, None, covariates)
    apply = jax.jit(model.apply)
    y = apply(variables, windows, None, covariates)
    later = covariates.copy()
    later[:, LENGTH + 2] += 1
    change = np.abs(apply(variables, windows, None, later) - y).max(axis=(0, 2))
    assert change[2] > 1e-2 and change[[0, 1, 3, 4, 5]].max() < 1e-5
    earlier = covariates.copy()
    earlier[:, 3] += 1
    assert np.abs(apply(variables, windows, None, earlier) - y).max() > 1e-3
    hidden = np.ones((ROWS, LENGTH), bool)
    hidden[:, 3] = False  # nor are covariates heard where nothing was observed
    np.testing.assert_array_equal(
        apply(variables, windows, hidden, earlier), apply(variables, windows, hidden, covariates)
    )


@pytest.mark.end_to_end
def test_a_window_is_classified(windows):
    model = ResonanceTimeSeriesNet(make_config(head="classify", num_classes=5, dropout=0.5))
    assert (model.config.output_dim, model.config.vocab_size) == (5, 0)
    variables = draw(model, windows)
    call = jax.jit(model.apply, static_argnames="deterministic")
    logits = call(variables, windows)
    assert logits.shape == (ROWS, 5)
    np.testing.assert_allclose(call(variables, 7 * windows + 1), logits, rtol=1e-3, atol=1e-3)
    mask = np.ones(windows.shape, bool)
    mask[..., 1] = False  # a channel without any observation does not count
    hidden = call(variables, np.where(mask, windows, np.nan), mask)
    twice = np.repeat(windows[..., :1], 2, axis=-1)
    np.testing.assert_allclose(hidden, call(variables, twice, mask | True), rtol=1e-4, atol=1e-4)
    first, second = (
        call(variables, windows, deterministic=False, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 1)
    )
    assert np.abs(first - second).max() > 1e-2


@pytest.mark.end_to_end
def test_half_precision_is_near(windows, usual):
    apply, variables = usual
    exact = apply(variables, windows)
    model = ResonanceTimeSeriesNet(make_config(), dtype=jnp.bfloat16)
    found = jax.jit(model.apply)(variables, windows)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, atol=0.05 * np.abs(exact).max())


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pred_horizon": 0}, "pred_horizon must be at least 1"),
        ({"num_layers": -1}, "num_layers must not be negative"),
        ({"dropout": 1.0}, "dropout in"),
        ({"head": "regress"}, "choose one of forecast, classify"),
        ({"normalization": "std"}, "mean_deviation, mean, none"),
        ({"interpolation": "linear"}, "dense, polar, none"),
        ({"channels": "mixed"}, "independent, joint"),
        ({"num_frequencies": 14}, "24 steps has 13 bins"),
        ({"patch_stride": 7}, "patch_stride <= patch_size"),
        ({"num_classes": 2}, "needs num_classes, and no other head"),
        ({"head": "classify"}, "needs num_classes"),
        ({"head": "classify", "num_classes": 2, "num_layers": 0}, "num_layers of at least 1"),
        ({"quantiles": (0.5, 0.1)}, "must rise inside"),
        ({"quantiles": (0.5, 1.0)}, "must rise inside"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(changes, message):
    message = message.replace("dropout in", "dropout must be in")
    with pytest.raises(ValueError, match=message):
        make_config(**changes)


@pytest.mark.error_message
def test_what_is_no_window_is_refused(windows, covariates):
    def start(config, *inputs):
        jax.eval_shape(ResonanceTimeSeriesNet(config).init, jax.random.key(0), *inputs)

    with pytest.raises(
        ValueError, match=r"t = 24 steps .* c = 2 channels .* got shape \(2, 23, 2\)"
    ):
        start(make_config(), windows[:, 1:])
    with pytest.raises(ValueError, match="expected covariates if and only if it is positive"):
        start(make_config(), windows, None, covariates)
    with pytest.raises(ValueError, match=r"covariates must have shape \(2, 30, 3\)"):
        start(make_config(covariate_dim=3), windows, None, covariates[:, 1:])
    with pytest.raises(ValueError, match="mask must be boolean"):
        start(make_config(), windows, np.ones((ROWS, 3), bool))
