"""The layer for images: the op with its weights, at the size it was made for and at others."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers.resonance_2d import LocalMixer, ResonanceLayer2D
from resonance_jax.ops.resonance_2d import resonate_2d, resonate_2d_at

pytestmark = pytest.mark.usefixtures("quick_compile")

FEATURES, K = 3, 3
ROWS, COLUMNS = np.arange(-2, 3), np.arange(3)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 6, 8, FEATURES)).astype(np.float32)


def make_layer(**changes) -> Any:
    options: dict[str, Any] = {"post_norm": False} | changes
    return ResonanceLayer2D(FEATURES, K, **options)


def parts_of(variables):
    p = variables["params"]
    weights = np.exp(p["log_magnitude"] + 1j * p["phase"])
    matrices = [
        p[name][0] + 1j * p[name][1] for name in ("row_interference", "column_interference")
    ]
    return weights, tuple(matrices)


def test_it_is_the_op(images, random_variables):
    layer = make_layer()
    variables = random_variables(layer, images)
    weights, matrices = parts_of(variables)
    assert weights.shape == (2 * K - 1, K, FEATURES)
    wanted = resonate_2d(images, weights, ROWS, COLUMNS, interference=matrices)
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, images), wanted, atol=1e-5)


def test_per_image_a_larger_one_has_the_same_bins_and_a_smaller_one_fewer(images, random_variables):
    layer = make_layer()
    variables = random_variables(layer, images)
    weights, (a, b) = parts_of(variables)
    large = np.pad(images, [(0, 0), (0, 4), (0, 3), (0, 0)])
    wanted = resonate_2d(large, weights, ROWS, COLUMNS, interference=(a, b))
    np.testing.assert_allclose(layer.apply(variables, large), wanted, atol=1e-5)
    small = images[:, :3, :2]
    inner = slice(1, 4)
    wanted = resonate_2d(
        small,
        weights[inner, :2],
        ROWS[inner],
        COLUMNS[:2],
        interference=(a[inner, inner], b[:2, :2]),
    )
    np.testing.assert_allclose(layer.apply(variables, small), wanted, atol=1e-5)


def test_per_pixel_frequencies_are_those_of_the_reference(images, random_variables):
    layer = make_layer(reference_shape=(6, 8))
    variables = random_variables(layer, images)
    weights, matrices = parts_of(variables)
    same = make_layer().apply(variables, images)
    np.testing.assert_allclose(layer.apply(variables, images), same, atol=1e-5)
    large = np.pad(images, [(0, 0), (0, 4), (0, 3), (0, 0)])
    wanted = resonate_2d_at(large, weights, ROWS / 6, COLUMNS / 8, interference=matrices)
    np.testing.assert_allclose(layer.apply(variables, large), wanted, atol=1e-5)


def test_every_parameter_is_learned(images, random_variables):
    mixer: Any = LocalMixer(make_layer(post_norm=True))
    variables = random_variables(mixer, images)
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(jnp.sin(mixer.apply(v, images)))))(variables)
    assert set(gradient["params"]) == {"kernel", "resonance"}
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize(
    "changes",
    [{"use_interference": False}, {"unselected": "pass"}, {"post_norm": True}],
)
def test_every_option_changes_the_output(images, random_variables, changes):
    usual = make_layer()
    variables = random_variables(make_layer(**changes), images)
    both = {"params": random_variables(usual, images)["params"] | variables["params"]}
    changed = make_layer(**changes).apply(both, images)
    assert np.abs(changed - usual.apply(both, images)).max() > 1e-2


def test_dropout_and_dtype(images, random_variables):
    layer = make_layer(dropout=0.5, dtype=jnp.bfloat16)
    variables = random_variables(layer, images)
    exact = make_layer().apply(variables, images)
    y = layer.apply(variables, images)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), exact, atol=0.03 * np.abs(exact).max())
    dropped = layer.apply(
        variables, images, deterministic=False, rngs={"dropout": jax.random.key(0)}
    )
    assert 0.3 < np.mean(np.asarray(dropped) == 0) < 0.7


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("changes", "shape", "mask", "message"),
    [
        ({}, (2, 6, 8, 4), None, r"expected images \[b, h, w, 3\], got shape \(2, 6, 8, 4\)"),
        ({}, (6, 8, 3), None, "expected images"),
        ({}, (2, 6, 8, 3), np.ones((2, 6, 8), bool), "images take no mask"),
        ({"method": "slow"}, (2, 6, 8, 3), None, "unknown method"),
        ({"unselected": "keep"}, (2, 6, 8, 3), None, "unknown unselected"),
        ({"num_frequencies": 0}, (2, 6, 8, 3), None, "num_frequencies must be at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes, shape, mask, message):
    layer = ResonanceLayer2D(**({"features": FEATURES, "num_frequencies": K} | changes))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            lambda x: layer.init(jax.random.key(0), x, mask), jnp.zeros(shape, jnp.float32)
        )
