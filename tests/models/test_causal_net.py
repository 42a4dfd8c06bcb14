"""CausalNet: reads the past alone, learns everywhere, feels every option."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.models.baselines import make_model
from resonance_jax.models.causal_net import CausalNetConfig, LRUNetConfig

pytestmark = pytest.mark.usefixtures("quick_compile")

SHAPE: dict[str, Any] = dict(
    input_dim=2, output_dim=3, hidden_dim=4, num_layers=1, mlp_dim=4, dropout=0.0
)
X = np.random.default_rng(0).normal(size=(2, 11, 2)).astype(np.float32)


def make_config(**changes):
    options: dict[str, Any] = SHAPE | dict(num_heads=2, num_resonators=3) | changes
    return CausalNetConfig(**options)


def test_a_step_hears_nothing_after_it_and_pads_are_not_heard(random_variables):
    model = make_model(make_config(head="per_token"))
    variables = random_variables(model, X)
    apply = jax.jit(model.apply)
    outputs = apply(variables, X)
    changed = X.copy()
    changed[:, 6:] += 1
    found = apply(variables, changed)
    np.testing.assert_allclose(found[:, :6], outputs[:, :6], atol=1e-6)
    assert np.abs(found[:, 6:] - outputs[:, 6:]).max(axis=(0, 2)).min() > 1e-3
    pooled = make_model(make_config())
    mask = np.arange(11) < np.array([[6], [11]])
    spoilt = np.where(mask[..., None], X, 9)
    logits = [jax.jit(pooled.apply)(variables, x, mask) for x in (X, spoilt)]
    np.testing.assert_allclose(*logits, atol=1e-6)
    alone = jax.jit(pooled.apply)(variables, X[:1, :6])
    np.testing.assert_allclose(logits[0][:1], alone, atol=1e-5)


@pytest.mark.end_to_end
def test_every_parameter_is_learned_and_every_option_felt(random_variables):
    usual = make_model(make_config())
    variables = random_variables(usual, X)

    def loss(variables):
        logits: Any = usual.apply(variables, X)
        return jnp.sum(jnp.sin(logits)), logits

    gradient, logits = jax.jit(jax.grad(loss, has_aux=True))(variables)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))
    for changes in (
        {"num_heads": 1},
        {"num_resonators": 2},
        {"conv_size": 0},
        {"gate": False},
    ):
        model = make_model(make_config(**changes))
        other = jax.jit(model.apply)(random_variables(model, X), X)
        assert np.abs(other - logits).max() > 1e-3, changes
    # The radius is where poles start.
    poles = [
        jax.jit(make_model(make_config(max_radius=radius)).init)(jax.random.key(0), X)
        for radius in (0.6, 0.99)
    ]
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, poles), strict=True))


def test_the_form_of_the_lru_has_neither_gate_nor_convolution():
    config = LRUNetConfig(**SHAPE, num_heads=4)
    shapes = jax.eval_shape(make_model(config).init, jax.random.key(0), X)["params"]
    mixer = shapes["layer_0"]["mixer"]["resonance"]
    assert set(mixer) == {"in_proj", "bank", "skip", "out_proj"}
    assert mixer["in_proj"]["kernel"].shape == (4, 4)
    assert mixer["bank"]["poles"]["phase"].shape == (4, 16)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "num_heads = 3 must divide hidden_dim = 4"),
        ({"num_resonators": 0}, "num_resonators = 0 be at least 1"),
        ({"max_radius": 1.0}, r"max_radius in \(0.5, 1\)"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_config(**changes)


@pytest.mark.error_message
def test_what_is_no_lru_is_not_called_one():
    with pytest.raises(ValueError, match="num_heads = hidden_dim = 4"):
        LRUNetConfig(**SHAPE)
