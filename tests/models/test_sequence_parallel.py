"""Layers and models whose sequences lie in parts along an axis of devices: vmap's named axis stands for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers.block import ResonanceBlock
from resonance_jax.layers.recurrence import CausalResonance
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig

pytestmark = pytest.mark.usefixtures("quick_compile")

PARTS = 3


def cut(x):
    return jnp.moveaxis(jnp.reshape(x, (x.shape[0], PARTS, -1, *x.shape[2:])), 1, 0)


def joined(parts):
    return jnp.moveaxis(parts, 0, 1).reshape(parts.shape[1], -1, *parts.shape[3:])


def assert_agree(make, x, random_variables):
    """Outputs and gradients of the module in parts are those of the whole."""
    whole, part = make(None), make("parts")
    variables = random_variables(part, x)  # initialises without the axis

    def of_parts(variables):
        return joined(jax.vmap(part.apply, in_axes=(None, 0), axis_name="parts")(variables, cut(x)))

    found, to_found = jax.vjp(jax.jit(of_parts), variables)
    wanted, to_wanted = jax.vjp(jax.jit(lambda variables: whole.apply(variables, x)), variables)
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


@pytest.mark.error_message
def test_errors():
    def initialise(module, x):
        return jax.eval_shape(module.init, jax.random.key(0), x)

    def read(layer, x):
        def of_part(x):
            return layer.apply(layer.init(jax.random.key(0), x), x)

        return jax.eval_shape(jax.vmap(of_part, axis_name="parts"), x)

    x = np.zeros((1, 16, 4), np.float32)
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
