import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resonance_jax.models.baselines import FNetConfig, TransformerConfig, make_model
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training.config import DTYPES, TrainConfig
from resonance_jax.training.monitor import NonFiniteGradientError, check_finite
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.program import Program
from resonance_jax.training.state_arrays import from_arrays, to_arrays
from resonance_jax.training.step import eval_step, init_state, train_step

CONFIG = TrainConfig(learning_rate=0.05, warmup_fraction=0.0, schedule="constant")


@pytest.fixture
def optimizer():
    return make_optimizer(CONFIG, 50)


def host(tree):
    return jax.tree.map(np.array, tree)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_step_lowers_the_loss_and_reports_it(tiny_net, optimizer, batch, toy_key):
    state = init_state(tiny_net, optimizer, toy_key, batch)
    found = eval_step(state.eval_variables, batch, apply_fn=tiny_net.apply, loss_fn=state.loss_fn)
    losses = []
    for _ in range(30):
        state, metrics = train_step(state, batch)
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(losses[0], found["loss"], rtol=1e-6)
    assert losses[-1] < 0.7 * losses[0]
    assert int(state.step) == 30
    assert set(metrics) == {
        *("loss", "accuracy", "skipped", "consecutive_skipped", "grad_norm"),
        *("grad_norm_magnitude", "grad_norm_phase", "grad_norm_other"),
    }
    parts = [float(metrics[f"grad_norm_{g}"]) for g in ("magnitude", "phase", "other")]
    np.testing.assert_allclose(metrics["grad_norm"], np.linalg.norm(parts), rtol=1e-6)


def test_gradient_norms_are_those_of_the_gradient(tiny_net, optimizer, batch, toy_key):
    state = init_state(tiny_net, optimizer, toy_key, batch)
    gradient = jax.grad(
        lambda p: state.loss_fn(tiny_net.apply({"params": p}, batch["inputs"]), batch)[0]
    )(state.params)
    expected = {
        "grad_norm": optax.tree.norm(gradient),
        "grad_norm_magnitude": jnp.linalg.norm(gradient["log_magnitude"]),
        "grad_norm_phase": jnp.linalg.norm(gradient["phase"]),
        "grad_norm_other": optax.tree.norm([gradient["dense"], gradient["head"]]),
    }
    _, metrics = train_step(state, batch)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


def test_the_state_is_donated(tiny_net, optimizer, batch, toy_key):
    state = init_state(tiny_net, optimizer, toy_key, batch, ema_decay=0.9)
    train_step(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves((state.params, state.ema_params)))


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_moving_average(tiny_net, batch, toy_key, accumulation_steps):
    config = dataclasses.replace(CONFIG, accumulation_steps=accumulation_steps)
    state = init_state(
        tiny_net,
        make_optimizer(config, 50),
        toy_key,
        batch,
        ema_decay=0.25,
        accumulation_steps=accumulation_steps,
    )
    average, update = host(state.params), 0
    for step in range(6):
        state, _ = train_step(state, batch)
        if (step + 1) % accumulation_steps == 0:
            update += 1
            decay = min(0.25, (1 + update) / (10 + update))
            average = jax.tree.map(
                lambda a, p, d=decay: d * a + (1 - d) * p, average, host(state.params)
            )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7),
            host(state.ema_params),
            average,
        )
    assert state.eval_variables == {"params": state.ema_params}


class _Counting(nn.Module):
    """Counts its training steps, and adds the count to the output."""

    @nn.compact
    def __call__(self, inputs, *, deterministic):
        count = self.variable("counts", "steps", jnp.zeros, ())
        if not deterministic:
            count.value += 1
        return nn.Dense(2)(inputs.mean(axis=(1, 2))[:, None]) + count.value * jnp.arange(2)


def test_collections_follow_the_steps_but_not_the_skipped_ones(optimizer, batch, toy_key):
    model = _Counting()
    state = init_state(model, optimizer, toy_key, batch)
    for factor, count in ((1, 1), (np.inf, 1), (1, 2)):
        state, _ = train_step(state, {**batch, "inputs": factor * batch["inputs"]})
        assert float(state.collections["counts"]["steps"]) == count
    arrays = to_arrays(state)
    assert arrays["collections"]["counts"]["steps"] == 2
    restored = from_arrays(init_state(model, optimizer, toy_key, batch), arrays)
    assert_equal(restored.collections, state.collections)
    outputs = eval_step(
        restored.eval_variables, batch, apply_fn=model.apply, loss_fn=state.loss_fn
    )["outputs"]
    bare = nn.Dense(2).apply(
        {"params": state.params["Dense_0"]}, batch["inputs"].mean((1, 2))[:, None]
    )
    np.testing.assert_allclose(outputs, bare + np.array([0.0, 2.0]), rtol=1e-6)


def test_a_bad_step_is_skipped_and_counted(tiny_net, optimizer, batch, toy_key):
    bad = batch | {"inputs": np.full_like(batch["inputs"], np.nan)}
    state = init_state(tiny_net, optimizer, toy_key, batch, ema_decay=0.9)
    state, _ = train_step(state, batch)
    kept = host((state.params, state.opt_state, state.ema_params))
    for count in (1, 2):
        state, metrics = train_step(state, bad)
        assert_equal(host((state.params, state.opt_state, state.ema_params)), kept)
        assert (int(metrics["skipped"]), int(metrics["consecutive_skipped"])) == (count, count)
    state, metrics = train_step(state, batch)
    assert (int(metrics["skipped"]), int(metrics["consecutive_skipped"])) == (2, 0)
    assert int(state.step) == 4
    assert not np.array_equal(state.params["dense"]["kernel"], kept[0]["dense"]["kernel"])


def test_without_the_guard_a_bad_step_goes_through(tiny_net, optimizer, batch, toy_key):
    state = init_state(tiny_net, optimizer, toy_key, batch, monitor_stability=False)
    state, metrics = train_step(state, batch | {"inputs": batch["inputs"] * np.nan})
    assert np.isnan(state.params["dense"]["kernel"]).all()
    assert int(metrics["skipped"]) == 0


def record(consecutive, **norms):
    finite = {f"grad_norm_{group}": 1.0 for group in ("magnitude", "phase", "other")}
    return {"consecutive_skipped": consecutive, "loss": 0.5, **finite, **norms}


@pytest.mark.error_message
def test_too_many_bad_steps_say_where_and_what_to_do():
    records = [record(0), record(1), record(2, grad_norm_phase=np.nan), record(0)]
    check_finite(records, 3, 13)
    with pytest.raises(NonFiniteGradientError) as caught:
        check_finite(records, 2, 13)
    message = str(caught.value)
    assert message.startswith("2 steps in a row had to be skipped, the last at step 12")
    assert "the gradients of group phase not finite" in message
    assert "Lower learning_rate_phase" in message


@pytest.mark.end_to_end
def test_dropout_follows_the_step(toy_key, batch):
    model = make_model(FNetConfig(2, 2, hidden_dim=4, num_layers=1, mlp_dim=4, dropout=0.5))
    still = make_optimizer(
        dataclasses.replace(
            CONFIG, learning_rate=0.0, learning_rate_magnitude=0.0, learning_rate_phase=0.0
        ),
        9,
    )
    state = init_state(model, still, toy_key, batch)
    losses = []
    for _ in range(2):
        state, metrics = train_step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[0] != losses[1]
    again = init_state(model, still, toy_key, batch)
    assert float(train_step(again, batch)[1]["loss"]) == losses[0]


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "config",
    [
        ResonanceNetConfig(2, 2, hidden_dim=4, num_layers=1, mlp_dim=4, num_frequencies=2),
        TransformerConfig(2, 2, hidden_dim=4, num_layers=1, mlp_dim=4, num_heads=2),
        FNetConfig(2, 2, hidden_dim=4, num_layers=1, mlp_dim=4),
    ],
    ids=["resonance", "transformer", "fnet"],
)
def test_every_parameter_moves(config, optimizer, batch, toy_key):
    state = init_state(make_model(config), optimizer, toy_key, batch)
    before = host(state.params)
    state, _ = train_step(state, batch)
    still = [
        jax.tree_util.keystr(path)
        for (path, old), new in zip(
            jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(state.params), strict=True
        )
        if np.array_equal(old, new)
    ]
    # A softmax does not see a bias that is common to all keys.
    assert [name for name in still if "['key']['bias']" not in name] == []


def test_masks_reach_the_model(tiny_net, optimizer, batch, toy_key):
    mask = np.ones(batch["inputs"].shape[:2], bool)
    mask[:, 3:] = False
    other = np.where(mask[..., None], batch["inputs"], 7.0).astype(np.float32)
    losses = []
    for inputs in (batch["inputs"], other):
        masked = batch | {"inputs": inputs, "mask": mask}
        state = init_state(tiny_net, optimizer, toy_key, masked)
        losses.append(float(train_step(state, masked)[1]["loss"]))
    assert losses[0] == losses[1]


@pytest.mark.error_message
def test_unknown_loss(tiny_net, optimizer, batch, toy_key):
    with pytest.raises(ValueError, match="loss must be one of classify, regress, per_token"):
        init_state(tiny_net, optimizer, toy_key, batch, loss="hinge")


@pytest.mark.end_to_end
def test_bfloat16_is_of_the_activations_alone(quick_compile):
    """The loss is float32's to 16-bit rounding, and is not the same; the state stays float32."""
    model = ResonanceNetConfig(
        2, 2, dropout=0.0, hidden_dim=4, num_layers=1, mlp_dim=4, num_frequencies=2
    )
    rng = np.random.default_rng(0)
    batch = {
        "inputs": rng.normal(size=(4, 16, 2)).astype(np.float32),
        "labels": np.array([0, 1, 1, 0]),
    }
    losses = []
    for dtype in DTYPES:
        program = Program(TrainConfig(model=model, dtype=dtype), 10)
        state = program.init_state(0, batch)
        given = {"params": state.params}, batch["inputs"]
        _, found = jax.eval_shape(partial(state.apply_fn, capture_intermediates=True), *given)
        assert found["intermediates"]["norm"]["__call__"][0].dtype == jnp.dtype(dtype)
        state, metrics = train_step(state, batch)
        floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
        assert {leaf.dtype for leaf in floats} == {jnp.dtype("float32")}
        losses.append(float(metrics["loss"]))
    assert 0 < abs(losses[0] - losses[1]) < 0.02 * losses[0]
