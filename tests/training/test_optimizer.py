import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resonance_jax.training.config import TrainConfig
from resonance_jax.training.optimizer import (
    GROUPS,
    label_parameters,
    learning_rates,
    make_optimizer,
    make_schedule,
)

RATES = {
    "magnitude": "learning_rate_magnitude",
    "phase": "learning_rate_phase",
    "other": "learning_rate",
}
PLAIN = TrainConfig(
    warmup_fraction=0.0, schedule="constant", weight_decay=0.0, gradient_clip=None, batch_size=1
)


@pytest.fixture
def params():
    rng = np.random.default_rng(1)
    make = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    return {
        "layer": {"log_magnitude": make(2, 3), "phase": make(2, 3), "interference": make(2, 2)},
        "head": {"kernel": make(3, 2), "bias": make(2)},
    }


def apply(config, params, gradients, num_steps=10) -> tuple[Any, Any]:
    """Parameters after a step for each of the gradients, and the optimizer's state."""
    optimizer = make_optimizer(config, num_steps)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def by_group(params):
    leaves, labels = jax.tree.leaves(params), jax.tree.leaves(label_parameters(params))
    return {g: [x for x, label in zip(leaves, labels, strict=True) if label == g] for g in GROUPS}


def test_cartesian_weights_train_like_the_polar_ones():
    leaves = {"layer": {"real": jnp.ones(2), "imag": jnp.zeros(2)}}
    assert label_parameters(leaves) == {"layer": {"real": "magnitude", "imag": "phase"}}


@pytest.mark.parametrize("group", GROUPS)
def test_a_rate_moves_its_group_only(params, group):
    rates = {name: 0.1 if g == group else 0.0 for g, name in RATES.items()}
    config = dataclasses.replace(PLAIN, **rates)
    after, _ = apply(config, params, [jax.tree.map(jnp.ones_like, params)])
    old, new = by_group(params), by_group(after)
    for other in GROUPS:
        for a, b in zip(old[other], new[other], strict=True):
            # Adam's first step is the rate, whatever the gradient's size.
            np.testing.assert_allclose(a - b, 0.1 if other == group else 0.0, atol=1e-6)


def test_each_group_is_clipped_to_its_own_norm(params):
    config = dataclasses.replace(PLAIN, gradient_clip=1.0, gradient_clip_phase=300.0)
    for size, norms in ((0.1, (0.1 * 6**0.5, 0.1 * 6**0.5, 0.1 * 12**0.5)), (1e3, (1, 300, 1))):
        gradient = jax.tree.map(lambda x, s=size: s * jnp.ones_like(x), params)
        _, state = apply(config, params, [gradient])
        for group, norm in zip(GROUPS, norms, strict=True):
            mean = optax.tree.get(state.inner_states[group], "mu")
            found = optax.tree.norm(mean) / (1 - 0.9)  # Adam's mean after a single step
            np.testing.assert_allclose(found, norm, rtol=1e-5, err_msg=group)


def test_decay_is_for_matrices_outside_magnitudes_and_phases(params):
    config = dataclasses.replace(PLAIN, weight_decay=0.5, **dict.fromkeys(RATES.values(), 0.1))
    after, _ = apply(config, params, [jax.tree.map(jnp.zeros_like, params)])
    expected = {
        "layer": params["layer"] | {"interference": 0.95 * params["layer"]["interference"]},
        "head": {"kernel": 0.95 * params["head"]["kernel"], "bias": params["head"]["bias"]},
    }
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after, expected)


def test_two_half_batches_accumulate_to_one(params):
    rng = np.random.default_rng(2)
    halves = [
        jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)
        for _ in range(4)
    ]
    wholes = [jax.tree.map(lambda a, b: (a + b) / 2, *halves[i : i + 2]) for i in (0, 2)]
    config = TrainConfig(gradient_clip=1.0, accumulation_steps=1)
    once, state = apply(config, params, wholes, num_steps=10)
    split = dataclasses.replace(config, accumulation_steps=2)
    twice, split_state = apply(split, params, halves, num_steps=20)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), once, twice)
    assert learning_rates(state) == learning_rates(split_state)


def test_schedule_rises_then_falls_along_a_cosine():
    rate = make_schedule(2.0, 20, warmup_fraction=0.2)
    np.testing.assert_allclose([rate(u) for u in range(5)], [0.4, 0.8, 1.2, 1.6, 2.0], rtol=1e-6)
    later = [1 + np.cos(np.pi * (u - 4) / 16) for u in range(4, 20)]
    np.testing.assert_allclose([rate(u) for u in range(4, 20)], later, rtol=1e-5)
    assert float(rate(20)) == float(rate(1000)) == 0.0
    constant = make_schedule(2.0, 20, warmup_fraction=0.2, schedule="constant")
    np.testing.assert_allclose([constant(u) for u in (0, 4, 19)], [0.4, 2.0, 2.0], rtol=1e-6)


def test_rates_are_readable_from_the_state(params):
    config = TrainConfig(
        learning_rate=1.0, learning_rate_magnitude=2.0, learning_rate_phase=3.0, schedule="constant"
    )
    gradient = jax.tree.map(jnp.ones_like, params)
    for steps in (1, 3):
        _, state = apply(config, params, [gradient] * steps, num_steps=40)
        rates = {group: float(rate) for group, rate in learning_rates(state).items()}
        assert rates == pytest.approx(
            {g: p * steps / 5 for g, p in (("magnitude", 2), ("phase", 3), ("other", 1))}
        )


def test_labels_of_ones_own():
    params = {"mine": {"damping": jnp.ones(2)}}
    assert label_parameters(params, {"damping": "phase"}) == {"mine": {"damping": "phase"}}
    optimizer = make_optimizer(TrainConfig(), 3, labels={"damping": "phase"})
    assert optimizer.init(params)


@pytest.mark.error_message
def test_unknown_leaves_and_groups_are_errors():
    params = {"layer": {"damping": jnp.ones(2)}}
    with pytest.raises(ValueError, match=r"parameter 'layer/damping'.*log_magnitude, phase, real"):
        label_parameters(params)
    with pytest.raises(ValueError, match="damping"):
        make_optimizer(TrainConfig(), 3).init(params)
    with pytest.raises(ValueError, match=r"one of .*got \{'damping': 'amplitude'\}"):
        label_parameters(params, {"damping": "amplitude"})
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        make_optimizer(TrainConfig(), 0)
    with pytest.raises(ValueError, match="schedule must be 'cosine' or 'constant', got 'step'"):
        make_schedule(1.0, 3, schedule="step")
