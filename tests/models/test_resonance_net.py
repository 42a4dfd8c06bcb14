"""ResonanceNet: its options, and the ways in which people use it: apply, a loop of one's own, NNX."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from resonance_jax.layers.block import ResonanceBlock
from resonance_jax.models.resonance_net import ResonanceNet, ResonanceNetConfig
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.step import init_state, train_step

CONFIG = ResonanceNetConfig(
    input_dim=1, output_dim=2, hidden_dim=4, num_layers=1, mlp_dim=0, num_frequencies=3, dropout=0.0
)


def series(length=12, rows=4, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, length, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def trained(quick_compile):
    """Two steps of a loop of one's own, at one length, with padding."""
    model = ResonanceNet(CONFIG)
    mask = np.arange(12) < np.array([[12], [9], [12], [5]])
    batch = {"inputs": series(), "labels": np.array([0, 1, 0, 1], np.int32), "mask": mask}
    optimizer = make_optimizer(TrainConfig(model=CONFIG, learning_rate=0.03), num_steps=2)
    state = init_state(model, optimizer, jax.random.key(0), batch)
    start = jax.device_get(state.params)
    losses = []
    for _ in range(2):
        state, metrics = train_step(state, batch)
        losses.append(float(metrics["loss"]))
    return model, start, jax.device_get(state.params), losses


def test_a_loop_of_ones_own_trains_every_parameter(trained):
    _, start, params, losses = trained
    assert losses[1] < losses[0]
    for (path, before), after in zip(
        jax.tree.leaves_with_path(start), jax.tree.leaves(params), strict=True
    ):
        assert np.any(before != after), jax.tree_util.keystr(path)


@pytest.mark.parametrize("length", [7, 12, 25])
def test_what_was_trained_at_one_length_runs_at_others(trained, length):
    model, start, params, _ = trained
    x = series(length)
    run = jax.jit(model.apply)
    found, untrained = run({"params": params}, x), run({"params": start}, x)
    assert found.shape == (4, 2) and np.all(np.isfinite(found))
    assert not np.allclose(found, untrained, atol=1e-4)


def test_jit_vmap_and_pmap_agree(trained):
    model, _, params, _ = trained
    x = series()
    variables = {"params": params}
    expected = jax.jit(model.apply)(variables, x)
    rows = jax.jit(jax.vmap(lambda row: model.apply(variables, row[None])[0]))(x)
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)
    mapped = jax.pmap(model.apply, in_axes=(None, 0))(variables, x[None])  # one device
    np.testing.assert_allclose(mapped[0], expected, rtol=1e-5, atol=1e-6)


def test_nnx_wraps_it(trained):
    model, _, params, _ = trained
    x = series()

    @nnx.jit
    def wrap(x):
        return nnx.bridge.ToNNX(model, rngs=nnx.Rngs(0)).lazy_init(x)

    wrapped = wrap(x)
    assert jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(wrapped, nnx.Param))) == jax.tree.map(
        jnp.shape, params
    )
    state = nnx.state(wrapped, nnx.Param)
    nnx.replace_by_pure_dict(state, params)
    nnx.update(wrapped, state)
    found = nnx.jit(lambda wrapped, x: wrapped(x))(wrapped, x)
    expected = jax.jit(model.apply)({"params": params}, x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("head", ["classify", "per_token"])
def test_padding_steps_never_leak(trained, random_variables, head):
    model = ResonanceNet(dataclasses.replace(CONFIG, head=head, num_layers=2, mlp_dim=3))
    x = series()
    mask = np.arange(12) < np.array([[12], [9], [12], [5]])
    variables = random_variables(model, x)
    run = jax.jit(model.apply)
    found = np.asarray(run(variables, x, mask))
    spoilt = np.asarray(run(variables, np.where(mask[..., None], x, np.nan), mask))
    np.testing.assert_array_equal(spoilt, found)  # hidden samples are not read at all
    if head == "per_token":
        assert found.shape == (4, 12, 2)


def test_options_change_the_output(random_variables):
    model = ResonanceNet(CONFIG)
    x = series()
    variables = random_variables(model, x)
    expected = np.asarray(model.apply(variables, x))
    for change in (
        {"selection": "log"},
        {"selection": "uniform"},
        {"reference_length": 18},
        {"unselected": "pass"},
        {"interference": False},
        {"component": "magnitude"},
        {"component": "phase"},
        {"gate": False},
    ):
        other = ResonanceNet(dataclasses.replace(CONFIG, **change))
        found: Any = other.apply(variables, x)
        assert not np.allclose(found, expected, atol=1e-4), change


def test_every_option_reaches_the_block():
    seen = []

    def note(call, args, kwargs, context):
        seen.append(context.module)
        return call(*args, **kwargs)

    def block_of(**options):
        seen.clear()
        model = ResonanceNet(dataclasses.replace(CONFIG, **options), dtype=jnp.bfloat16)
        with nn.intercept_methods(note):
            jax.eval_shape(model.init, jax.random.key(0), series(24))
        return next(module for module in seen if isinstance(module, ResonanceBlock))

    block = block_of(
        selection="learned", num_candidates=5, unselected="pass", dropout=0.3, gate=False, mlp_dim=7
    )
    assert (block.features, block.num_frequencies, block.selection) == (4, 3, "learned")
    assert (block.num_candidates, block.unselected, block.dropout) == (5, "pass", 0.3)
    assert (block.gate, block.mlp_dim, block.use_interference) == (False, 7, True)
    assert (block.component, block.parametrization, block.initial_spread) == (
        *("complex", "polar"),
        0.02,
    )
    assert (block.num_scales, block.reference_length, block.dtype) == (1, None, jnp.bfloat16)
    block = block_of(component="phase", initial_spread=0.4)
    assert (block.component, block.initial_spread) == ("phase", 0.4)
    assert block_of(parametrization="cartesian").parametrization == "cartesian"
    block = block_of(num_scales=3, reference_length=30, interference=False)
    assert (block.num_scales, block.reference_length) == (3, 30)
    assert (block.use_interference, block.gate, block.num_candidates) == (False, True, None)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frequencies": 0}, "num_frequencies >= 1, num_scales >= 1 .* got 0, 1 and 0"),
        ({"num_scales": 0}, "num_scales >= 1"),
        ({"reference_length": -1}, "reference_length >= 0"),
        ({"num_scales": 2}, "num_frequencies = 3 must be a multiple of num_scales = 2"),
        ({"selection": "best"}, "unknown selection 'best'; choose one of low, log, uniform"),
        ({"unselected": "keep"}, "unknown unselected 'keep'; choose one of drop, pass"),
        ({"num_scales": 3, "unselected": "pass"}, "need num_scales=1"),
        ({"num_scales": 3, "num_candidates": 9}, "need num_scales=1"),
        ({"num_candidates": 9}, "num_candidates is for selection='learned'"),
        ({"num_candidates": 2, "selection": "learned"}, "at least num_frequencies, got 2"),
        ({"num_candidates": -1, "selection": "learned"}, "at least num_frequencies, got -1"),
        (
            {"component": "real"},
            "unknown component 'real'; choose one of complex, magnitude, phase",
        ),
        ({"parametrization": "log"}, "unknown parametrization 'log'; choose one of polar, cart"),
        (
            {"component": "magnitude", "parametrization": "cartesian"},
            "component = 'magnitude' needs parametrization='polar'",
        ),
        ({"initial_spread": float("inf")}, "initial_spread must be finite and at least 0, got inf"),
        ({"hidden_dim": 0}, "hidden_dim must be at least 1"),
    ],
)
def test_configurations_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **options)


@pytest.mark.error_message
def test_too_many_frequencies_for_the_tokens():
    model = ResonanceNet(dataclasses.replace(CONFIG, patch_size=4))
    with pytest.raises(
        ValueError, match="num_frequencies = 3 is more than the 2 bins that length 3"
    ):
        jax.eval_shape(model.init, jax.random.key(0), series())
