"""The vision model: any size of image, positions that matter, gradients everywhere, mistakes named."""

import dataclasses
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.models.vision import ResonanceVisionNet, VisionConfig

pytestmark = pytest.mark.usefixtures("quick_compile")


def make_config(**changes):
    options: dict[str, Any] = dict(
        num_classes=3,
        input_channels=2,
        image_shape=(13, 12),
        hidden_dim=4,
        stages=(1, 1),
        patch_size=3,
        patch_stride=2,
        num_frequencies=3,
        dropout=0.0,
    )
    return VisionConfig(**(options | changes))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(2, 13, 12, 2)).astype(np.float32)


def draw(model, images):
    """Variables by which nothing is hidden; a parameter's are the same in every model that has it."""

    def leaf(path, shape):
        rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
        return jnp.asarray(0.6 * rng.normal(size=shape.shape), shape.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree_util.tree_map_with_path(leaf, shapes)


@pytest.fixture(scope="module")
def usual(images):
    model = ResonanceVisionNet(make_config())
    return jax.jit(model.apply), draw(model, images)


@pytest.mark.end_to_end
def test_every_parameter_is_learned(images, usual):
    apply, variables = usual
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(jnp.sin(apply(v, images)))))(variables)
    silent = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree.leaves_with_path(gradient)
        if not np.any(leaf)
    ]
    assert silent == []


def test_rolled_and_turned_images_give_something_else(images, usual):
    apply, variables = usual
    logits = apply(variables, images)
    assert logits.shape == (2, 3)
    for other in (np.roll(images, 4, axis=1), np.roll(images, 4, axis=2), images[:, ::-1, ::-1]):
        assert np.abs(apply(variables, other) - logits).max() > 1e-2


@pytest.mark.end_to_end
@pytest.mark.parametrize("frequencies", ["per_image", "per_pixel"])
@pytest.mark.parametrize("shape", [(7, 9), (20, 17)])
def test_other_sizes_are_read_without_other_parameters(usual, frequencies, shape):
    model = ResonanceVisionNet(make_config(frequencies=frequencies))
    x = np.random.default_rng(2).normal(size=(2, *shape, 2)).astype(np.float32)
    logits = jax.jit(model.apply)(usual[1], x)
    assert logits.shape == (2, 3) and np.all(np.isfinite(logits))


@pytest.mark.end_to_end
def test_a_smooth_picture_drawn_larger_is_seen_as_the_same_per_image_alone():
    """But for what lies beyond the small one's highest frequency after the first norm."""

    def see(frequencies, side):
        config = make_config(frequencies=frequencies, patch_size=1, patch_stride=1, local=False)
        config = dataclasses.replace(config, stages=(1,), position="none", image_shape=(12, 12))
        angle = 2 * np.pi * np.arange(side) / side
        picture = np.sin(angle)[:, None] + np.cos(2 * angle)
        picture = np.stack([picture, picture.T], axis=-1)[None].astype(np.float32)
        model = ResonanceVisionNet(config)
        variables = draw(model, np.zeros((1, 12, 12, 2), np.float32))
        return jax.jit(model.apply)(variables, picture)

    small = see("per_image", 12)
    np.testing.assert_allclose(see("per_pixel", 12), small, atol=1e-4)
    apart = [np.abs(see(kept, 24) - small).max() for kept in ("per_image", "per_pixel")]
    assert 5 * apart[0] < apart[1]


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "changes",
    [
        {"local": False},
        {"num_frequencies": 2},
        {"num_frequencies": 0},
        {"patch_stride": 3},
        {"image_shape": (15, 15)},
        {"interference": False},
        {"position": "none"},
        {"mlp_ratio": 0},
        {"pooling": "max"},
    ],
)
def test_every_option_changes_the_output(images, usual, changes):
    apply, variables = usual
    model = ResonanceVisionNet(make_config(**changes))
    changed = jax.jit(model.apply)(draw(model, images), images)
    assert np.abs(changed - apply(variables, images)).max() > 1e-3


@pytest.mark.end_to_end
def test_dropout_and_dtype(images, usual):
    apply, variables = usual
    model = ResonanceVisionNet(make_config(dropout=0.5), dtype=jnp.bfloat16)
    call = jax.jit(model.apply, static_argnames="deterministic")
    exact = apply(variables, images)
    np.testing.assert_allclose(call(variables, images), exact, atol=0.05 * np.abs(exact).max())
    first, second = (
        call(variables, images, deterministic=False, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 1)
    )
    assert np.abs(first - second).max() > 1e-2


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"stages": ()}, "stages must be numbers of blocks"),
        ({"patch_stride": 4}, "would skip pixels"),
        ({"image_shape": (2, 12)}, "of at least patch_size = 3"),
        ({"dropout": 1.0}, "dropout in"),
        ({"num_frequencies": 0, "local": False}, "0 with local=True"),
        ({"frequencies": "per_mile"}, "per_image, per_pixel"),
        ({"position": "sinusoidal"}, "learned, none"),
        ({"pooling": "sum"}, "mean, max, mean_max"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_config(**changes)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("inputs", "mask", "message"),
    [
        (np.zeros((1, 13, 12, 3), np.float32), None, "expected 2 channels"),
        (np.zeros((13, 12, 2), np.float32), None, r"real images \[b, h, w, c\]"),
        (np.zeros((1, 13, 12, 2), np.uint8), None, "scale bytes"),
        (np.zeros((1, 2, 12, 2), np.float32), None, "at least patch_size = 3 pixels a side"),
        (np.zeros((1, 13, 12, 2), np.float32), np.ones((1, 13, 12), bool), "take no mask"),
    ],
)
def test_what_is_no_image_is_refused(inputs, mask, message):
    model = ResonanceVisionNet(make_config())
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: model.init(jax.random.key(0), inputs, mask))
