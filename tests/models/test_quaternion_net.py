"""QRHNet in training: its heads, its options, and an α that follows the data."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from resonance_jax.models.baselines import make_model, model_name
from resonance_jax.models.quaternion_net import QRHNet, QRHNetConfig
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.step import init_state, train_step

pytestmark = pytest.mark.usefixtures("quick_compile")

CONFIG = QRHNetConfig(
    input_dim=1,
    output_dim=2,
    hidden_dim=8,
    num_layers=1,
    mlp_dim=8,
    alpha_mode="fractal",
    dropout=0.0,
)


def series(length=24, rows=4, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, length, 1)).astype(np.float32)


@pytest.mark.end_to_end
def test_it_trains_and_its_alpha_follows_the_data():
    batch = {"inputs": series(), "labels": np.array([0, 1, 0, 1], np.int32)}
    model = make_model(CONFIG)
    assert isinstance(model, QRHNet) and model_name(CONFIG) == "qrh"
    optimizer = make_optimizer(TrainConfig(model=CONFIG, learning_rate=0.03), num_steps=5)
    state = init_state(model, optimizer, jax.random.key(0), batch)
    losses, dimensions = [], []
    for _ in range(5):
        state, metrics = train_step(state, batch)
        losses.append(float(metrics["loss"]))
        dimensions.append(
            float(state.collections["fractal"]["layer_0"]["qrh"]["filter"]["dimension"])
        )
    assert losses[-1] < losses[0] and metrics["grad_norm_phase"] > 0
    assert dimensions[0] != 2 and len(set(dimensions)) == 5
    outputs: Any = jax.jit(model.apply)(state.eval_variables, series(31))
    assert outputs.shape == (4, 2)


@pytest.mark.parametrize(("head", "shape"), [("per_token", (4, 24, 2)), ("regress", (4, 2))])
def test_heads(head, shape):
    config = dataclasses.replace(CONFIG, head=head)
    outputs = jax.eval_shape(
        lambda x: make_model(config).init_with_output(jax.random.key(0), x)[0], series()
    )
    assert outputs.shape == shape


def test_a_configuration_survives_json():
    config = TrainConfig(model=dataclasses.replace(CONFIG, symmetry="even", use_quaternion=False))
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(hidden_dim=4), "at least 8, two quaternions"),
        (dict(hidden_dim=6), "hidden_dim must be a multiple of 4"),
        (dict(mlp_dim=10), "mlp_dim must be a multiple of 4"),
        (dict(alpha=np.inf), "alpha must be finite"),
        (dict(alpha_mode="free"), "unknown alpha_mode"),
        (dict(rotation="free"), "unknown rotation"),
        (dict(amplitude="free"), "unknown amplitude"),
        (dict(per_feature=True), "per_feature needs"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **options)
