"""Layers and models whose sequences lie in parts along an axis of devices: vmap's named axis stands for them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers.block import ResonanceBlock
from resonance_jax.layers.recurrence import CausalResonance
from resonance_jax.models.baselines import MODELS, FNet, FNetConfig
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig
from resonance_jax.models.long_context import LongContextConfig, LongContextResonanceNet
from resonance_jax.models.resonance_net import ResonanceNet, ResonanceNetConfig
from resonance_jax.models.sequence_model import pool
from resonance_jax.training.padding import pad_steps

pytestmark = [pytest.mark.usefixtures("quick_compile"), pytest.mark.end_to_end]

PARTS = 3


def cut(x):
    return jnp.moveaxis(jnp.reshape(x, (x.shape[0], PARTS, -1, *x.shape[2:])), 1, 0)


def joined(parts):
    return jnp.moveaxis(parts, 0, 1).reshape(parts.shape[1], -1, *parts.shape[3:])


def assert_agree(make, x, random_variables, mask=None, pooled=False):
    """Outputs and gradients of the module in parts are those of the whole."""
    whole, part = make(None), make("parts")
    variables = random_variables(part, x)  # initialises without the axis
    arguments = (x,) if mask is None else (x, mask)

    def of_parts(variables):
        def apply(*arguments):
            return part.apply(variables, *arguments)

        parts = jax.vmap(apply, axis_name="parts")(*map(cut, arguments))
        return parts[PARTS - 1] if pooled else joined(parts)

    found, to_found = jax.vjp(jax.jit(of_parts), variables)
    wanted, to_wanted = jax.vjp(
        jax.jit(lambda variables: whole.apply(variables, *arguments)), variables
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    cotangent = np.random.default_rng(2).normal(size=wanted.shape).astype(np.float32)
    for a, b in zip(
        jax.tree.leaves(to_found(cotangent)), jax.tree.leaves(to_wanted(cotangent)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.max(np.abs(b)))


@pytest.mark.parametrize("options", [{}, {"selection": "continuous"}])
def test_resonance_blocks(options, random_variables):
    x = np.random.default_rng(0).normal(size=(2, 30, 4)).astype(np.float32)
    assert_agree(
        lambda axis: ResonanceBlock(4, 3, mlp_dim=4, axis_name=axis, **options), x, random_variables
    )


def test_language_model(random_variables):
    config = LanguageModelConfig(
        vocab_size=11, hidden_dim=8, num_layers=1, mlp_dim=8, num_heads=2, num_resonators=3
    )
    ids = np.random.default_rng(0).integers(0, 11, (2, 30))
    assert_agree(lambda axis: LanguageModel(config, axis_name=axis), ids, random_variables)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("resonance", {"pooling": "mean_max", "position": "learned", "patch_size": 2}),
        ("resonance", {"head": "per_token", "position": "sinusoidal", "reference_length": 12}),
        ("long_context", {"pooling": "max"}),
    ],
)
def test_sequence_models(kind, options, random_variables):
    """The second row's last part is hidden as a whole."""
    make_config, model = MODELS[kind]
    sizes: dict[str, Any] = dict(hidden_dim=4, num_layers=1, mlp_dim=4, num_frequencies=3)
    if kind == "long_context":
        sizes |= dict(
            num_heads=2,
            chunk_size=4,
            overlap=1,
            max_context_length=32,
            local_frequencies=2,
            bridge_frequencies=2,
        )
    config = make_config(input_dim=2, output_dim=3, **sizes, **options)
    x = np.random.default_rng(0).normal(size=(2, 24, 2)).astype(np.float32)
    mask = np.arange(24) < np.array([[22], [13]])
    assert_agree(
        lambda axis: model(config, axis_name=axis),
        x,
        random_variables,
        mask,
        pooled=config.head != "per_token",
    )


def test_a_length_that_parts_do_not_divide_is_padded_and_hidden(random_variables):
    config = LongContextConfig(
        *(2, 3, 4),
        num_layers=1,
        mlp_dim=4,
        num_frequencies=3,
        local_frequencies=2,
        bridge_frequencies=2,
        chunk_size=4,
        overlap=1,
        max_context_length=32,
    )
    x = np.random.default_rng(0).normal(size=(2, 21, 2)).astype(np.float32)
    batch = pad_steps({"inputs": x, "labels": np.zeros(2)}, 4 * PARTS)
    assert batch["inputs"].shape == (2, 24, 2) and batch["labels"].shape == (2,)
    assert batch["mask"].sum() == 2 * 21 and not batch["mask"][:, 21:].any()
    variables = random_variables(LongContextResonanceNet(config), x)
    apply = LongContextResonanceNet(config, axis_name="parts").apply
    parts = jax.jit(jax.vmap(apply, in_axes=(None, 0, 0), axis_name="parts"))
    found = parts(variables, cut(batch["inputs"]), cut(batch["mask"]))
    wanted = jax.jit(LongContextResonanceNet(config).apply)(variables, x)
    np.testing.assert_allclose(found, np.stack([wanted] * PARTS), rtol=1e-4, atol=1e-5)


def test_of_two_equal_maxima_the_first_has_the_gradient():
    x = np.array([1.0, 5.0, 0.0, 5.0, 2.0, 5.0], np.float32)

    def largest(x):
        def of_part(x):
            return pool(x, None, "max", axis_name="parts")

        return jax.vmap(of_part, axis_name="parts")(cut(x[None, :, None]))[0, 0, 0]

    value, gradient = jax.value_and_grad(largest)(jnp.asarray(x))
    assert value == 5 and gradient.tolist() == [0, 1, 0, 0, 0, 0]


@pytest.mark.error_message
def test_errors():
    def initialise(module, x):
        return jax.eval_shape(module.init, jax.random.key(0), x)

    def read(layer, x):
        def of_part(x):
            return layer.apply(layer.init(jax.random.key(0), x), x)

        return jax.eval_shape(jax.vmap(of_part, axis_name="parts"), x)

    def apply_in_parts(model, x):
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        of_parts = jax.vmap(model.apply, in_axes=(None, 0), axis_name="parts")
        return jax.eval_shape(of_parts, variables, cut(x))

    for batch, multiple in (({"labels": np.zeros(2)}, 4), ({"inputs": np.zeros((2, 3))}, 0)):
        with pytest.raises(ValueError, match=r"expected inputs \[b, t, \.\.\.\] and a multiple"):
            pad_steps(batch, multiple)
    x = np.zeros((1, 16, 4), np.float32)
    config = ResonanceNetConfig(
        input_dim=4, output_dim=1, num_frequencies=2, hidden_dim=4, num_layers=1, patch_size=2
    )
    for wrong in (config, dataclasses.replace(config, patch_stride=1)):
        with pytest.raises(ValueError, match="patches must not overlap and must divide"):
            apply_in_parts(ResonanceNet(wrong, axis_name="parts"), np.zeros((1, 15, 4), np.float32))
    with pytest.raises(ValueError, match="leave axis_name out, or set holographic"):
        remembering = dataclasses.replace(config, holographic_capacity=2)
        initialise(ResonanceNet(remembering, axis_name="parts"), x)
    with pytest.raises(ValueError, match="FNet does not take a sequence in parts"):
        model = FNet(FNetConfig(input_dim=4, output_dim=1), axis_name="parts")
        initialise(model, x)
    with pytest.raises(ValueError, match="axis_name needs mixer='resonance'"):
        config = LanguageModelConfig(mixer="attention", hidden_dim=16)
        initialise(LanguageModel(config, axis_name="parts"), np.zeros((1, 4), np.int32))
    with pytest.raises(ValueError, match="needs method='chunked'"):
        initialise(CausalResonance(4, 2, method="scan", axis_name="parts"), x)
    with pytest.raises(ValueError, match="take fewer parts"):
        read(CausalResonance(4, 2, axis_name="parts"), np.zeros((3, 1, 2, 4), np.float32))
    with pytest.raises(ValueError, match="neither segments nor lengths"):
        layer = CausalResonance(4, 2, axis_name="parts")
        jax.eval_shape(lambda: layer.init(jax.random.key(0), x, lengths=jnp.array([3])))
    with pytest.raises(ValueError, match="axis_name need num_scales=1"):
        initialise(ResonanceBlock(4, 4, num_scales=2, axis_name="parts"), x)
