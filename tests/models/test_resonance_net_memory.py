"""ResonanceNet's memory: documents in pieces, in a loop of one's own and in `train_step`; what it leaves alone."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resonance_jax.models import resonance_net
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.ops.capacity import max_pairs
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.state_arrays import from_arrays, to_arrays
from resonance_jax.training.step import eval_step, init_state, train_step

# As Any: to a type checker the result of a module's `apply` is a union.
ResonanceNet: Any = resonance_net.ResonanceNet

pytestmark = pytest.mark.usefixtures("quick_compile")

CONFIG = ResonanceNetConfig(
    input_dim=1, output_dim=2, hidden_dim=6, num_layers=1, mlp_dim=0, num_frequencies=3, dropout=0.0,
    holographic_capacity=3,
)  # fmt: skip
WITHOUT = dataclasses.replace(CONFIG, holographic_capacity=0)


def series(length=12, rows=2, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, length, 1)).astype(np.float32)


@partial(jax.jit, static_argnames=("model", "use", "store"))
def run(model, variables, x, mask=None, use=True, store=True):
    """Returns the outputs and the variables after."""
    y, state = model.apply(
        variables, x, mask, use_memory=use, store_to_memory=store, mutable=["hologram"]
    )
    return y, {**variables, **state}


def empty(model, rows=2):
    """The collection of a memory that holds nothing."""
    pages, features = model.config.holographic_capacity, model.config.hidden_dim
    memory = {
        "trace": jnp.zeros((rows, pages, features)),
        "pairs": jnp.zeros(rows, jnp.int32),
    }
    return {"hologram": {"memory": {"memory": memory}}}


@pytest.mark.end_to_end
def test_without_memory_the_model_is_bit_for_bit_what_it_was():
    model, without = ResonanceNet(CONFIG), ResonanceNet(WITHOUT)
    x = series()
    variables = jax.jit(model.init)(jax.random.key(0), x)
    expected = jax.jit(without.init)(jax.random.key(0), x)
    assert set(variables) == {"params"}
    shared = {name: leaf for name, leaf in variables["params"].items() if name != "memory"}
    jax.tree.map(np.testing.assert_array_equal, shared, expected["params"])
    outputs = jax.jit(without.apply)(expected, x)
    np.testing.assert_array_equal(jax.jit(model.apply)(variables, x), outputs)
    np.testing.assert_array_equal(run(model, variables, x)[0], outputs)  # nothing stored yet


def test_a_piece_reads_the_pieces_before_it_in_its_own_row(random_variables):
    model, x = ResonanceNet(CONFIG), series()
    variables = {**random_variables(model, x), **empty(model)}
    _, after = run(model, variables, x)
    second, _ = run(model, after, series(seed=1))
    unread = jax.jit(model.apply)(after, series(seed=1))  # by default no memory
    assert np.all(np.abs(second - unread) > 1e-3)
    np.testing.assert_array_equal(run(model, variables, series(seed=1))[0], unread)
    other = x.copy()
    other[1] += 1
    _, after_other = run(model, variables, other)
    second_other, _ = run(model, after_other, series(seed=1))
    np.testing.assert_array_equal(second_other[0], second[0])
    assert np.all(second_other[1] != second[1])


def test_hidden_tokens_are_neither_stored_nor_read(random_variables):
    model = ResonanceNet(dataclasses.replace(CONFIG, patch_size=3))
    x, mask = series(), np.arange(12) < np.array([[12], [4]])
    variables = random_variables(model, x)
    found, after = run(model, variables, x, mask)
    memory = after["hologram"]["memory"]["memory"]
    assert memory["trace"].shape == (2, 3, 6)  # the first call makes the memory
    np.testing.assert_array_equal(memory["pairs"], [4, 2])
    spoilt, after_spoilt = run(model, variables, np.where(mask[..., None], x, np.nan), mask)
    np.testing.assert_array_equal(spoilt, found)
    jax.tree.map(np.testing.assert_array_equal, after_spoilt, after)


def test_every_parameter_has_a_gradient_and_writes_have_one_too(random_variables):
    model, pieces = ResonanceNet(CONFIG), (series(), series(seed=1))
    variables = random_variables(model, pieces[0])

    @jax.jit
    @jax.grad
    def gradient(params, through_writes):
        _, after = run(model, {"params": params, **empty(model)}, pieces[0])
        kept = jax.lax.stop_gradient(after["hologram"])
        after["hologram"] = jax.tree.map(
            lambda a, b: jnp.where(through_writes, a, b), after["hologram"], kept
        )
        return jnp.sum(jnp.sin(run(model, after | {"params": params}, pieces[1])[0]))

    kept, through = (gradient(variables["params"], which) for which in (False, True))
    for path, leaf in jax.tree.leaves_with_path(kept):
        assert np.any(leaf != 0), jax.tree_util.keystr(path)
    del kept["memory"]["out"], kept["head"], kept["norm"]  # all else shapes what is stored
    for path, leaf in jax.tree.leaves_with_path(kept):
        other = through
        for part in path:
            other = other[part.key]
        assert np.abs(leaf - other).max() > 1e-6, jax.tree_util.keystr(path)


@pytest.mark.end_to_end
def test_options_change_the_output(random_variables):
    x = series()
    base = ResonanceNet(dataclasses.replace(CONFIG, memory_decay=0.9))
    found = []
    for options in (
        {},
        {"memory_decay": 0.5},
        {"memory_rule": "delta"},
        {"holographic_capacity": 4},
    ):
        model = ResonanceNet(dataclasses.replace(base.config, **options))
        variables = {**random_variables(model, x), **empty(model)}
        found.append(run(model, run(model, variables, x)[1], x)[0])
    for one in range(4):
        for two in range(one):
            assert np.abs(found[one] - found[two]).max() > 1e-3
    low = ResonanceNet(CONFIG, dtype=jnp.bfloat16)
    variables = random_variables(low, x)
    found, after = jax.eval_shape(partial(run, low), variables, x)
    assert found.dtype == jnp.float32  # the head's
    assert after["hologram"]["memory"]["memory"]["trace"].dtype == jnp.float32


def test_memory_can_be_cleared_and_says_how_full_it_is():
    model = ResonanceNet(dataclasses.replace(CONFIG, holographic_capacity=40))
    apply = partial(model.apply, mutable=["hologram"])
    _, made = apply({}, np.ones(2, bool), method="clear_memory")
    jax.tree.map(np.testing.assert_array_equal, made, empty(model))
    made["hologram"]["memory"]["memory"]["pairs"] = jnp.array([5, 7])
    used = model.apply(made, method="memory_utilization")
    np.testing.assert_allclose(used, np.array([5, 7]) / max_pairs(40 * 6, 1000))
    _, state = apply(made, np.array([True, False]), method="clear_memory")
    np.testing.assert_array_equal(state["hologram"]["memory"]["memory"]["pairs"], [0, 7])


@pytest.mark.end_to_end
def test_train_step_uses_it_if_told_and_checkpoints_keep_it():
    model = ResonanceNet(CONFIG)
    batch: Any = {"inputs": series(), "labels": np.array([0, 1], np.int32)}
    state = init_state(model, optax.sgd(0.1), jax.random.key(0), batch)
    assert state.collections == {}
    after, _ = jax.eval_shape(train_step, state, batch)  # by default without memory
    assert after.collections == {}
    with_memory = partial(model.apply, use_memory=True, store_to_memory=True)
    state = state.replace(apply_fn=with_memory, collections=empty(model))
    template = jax.tree.map(jnp.zeros_like, state.replace(rng=None)).replace(rng=state.rng)
    template = jax.tree.map(jnp.copy, template)
    start = jax.device_get(state.params)["memory"]
    for piece in range(2):
        state, metrics = train_step(state, {**batch, "inputs": series(seed=piece)})
    assert np.isfinite(metrics["loss"])
    kept = state.collections["hologram"]["memory"]["memory"]
    np.testing.assert_array_equal(kept["pairs"], [24, 24])
    moved = jax.device_get(state.params)["memory"]
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: np.any(a != b), start, moved)))

    restored = from_arrays(template, to_arrays(state))
    jax.tree.map(np.testing.assert_array_equal, restored.collections, state.collections)
    reading: Any = dict(apply_fn=partial(model.apply, use_memory=True), loss_fn=state.loss_fn)
    outputs, unread = (
        eval_step(variables, batch, **reading)["outputs"]
        for variables in (restored.eval_variables, {**restored.eval_variables, **empty(model)})
    )
    assert np.all(outputs != unread)


def test_a_configuration_survives_json():
    config = TrainConfig(model=dataclasses.replace(CONFIG, memory_rule="delta", memory_decay=0.5))
    assert TrainConfig.from_json(config.to_json()) == config


SYMBOLS = 4


def pieces(seed, steps, rows=32):
    """Pairs of a key and a value, then the keys alone in another order, and the values they had."""
    rng = np.random.default_rng(seed)
    shape = (steps, rows, SYMBOLS)
    values = rng.integers(SYMBOLS, size=shape)
    order = rng.permuted(np.broadcast_to(np.arange(SYMBOLS), shape), axis=-1)
    hot = np.eye(SYMBOLS, dtype=np.float32)
    first = np.concatenate([hot + 0 * hot[values], hot[values]], axis=-1)
    second = np.concatenate([hot[order], 0 * hot[order]], axis=-1)
    return first, second, np.take_along_axis(values, order, axis=-1)


@pytest.mark.end_to_end
def test_a_value_shown_in_one_piece_is_read_in_the_next():
    config = ResonanceNetConfig(
        input_dim=2 * SYMBOLS, output_dim=SYMBOLS, hidden_dim=12, num_layers=1, mlp_dim=0, num_frequencies=2,
        dropout=0.0, head="per_token", holographic_capacity=8,
    )  # fmt: skip
    model, optimizer = ResonanceNet(config), optax.adam(3e-2)

    def logits(params, first, second, use):
        options: Any = dict(store_to_memory=True, mutable=["hologram"])
        _, state = model.apply({"params": params}, first, **options)
        state = jax.tree.map(lambda leaf: use * leaf, state)  # an empty memory adds nothing
        return model.apply({"params": params, **state}, second, use_memory=True)

    @jax.jit
    def accuracy(use):
        """Trains, and counts on pieces that were not trained on."""

        def step(state, batch):
            def loss(params):
                first, second, values = batch
                found = logits(params, first, second, use)
                return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(found, values))

            params, moments = state
            updates, moments = optimizer.update(jax.grad(loss)(params), moments)
            return (optax.apply_updates(params, updates), moments), None

        batches = jax.tree.map(jnp.asarray, pieces(0, 100))
        params = model.init(jax.random.key(0), batches[0][0])["params"]
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), batches)
        first, second, values = (part[0] for part in pieces(1, 1, rows=256))
        return jnp.mean(jnp.argmax(logits(params, first, second, use), axis=-1) == values)

    assert accuracy(1) > 0.95
    assert accuracy(0) < 0.35  # chance is a quarter


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(holographic_capacity=-1), "holographic_capacity must be 0 .no memory. or more pages, got -1"),
        (dict(memory_rule="replace"), "unknown memory_rule 'replace'; choose one of add, delta"),
        (dict(memory_decay=1.5), r"memory_decay must be in \[0, 1\], got 1.5"),
        (dict(memory_rule="delta", holographic_capacity=1), "at least 2 pages"),
        (dict(hidden_dim=2), "a memory needs hidden_dim of at least 3, got 2"),
    ],
)  # fmt: skip
def test_configurations_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **options)


@pytest.mark.error_message
def test_errors_say_what_to_do(random_variables):
    without, x = ResonanceNet(WITHOUT), series()
    for call in (
        lambda: without.apply({}, x, use_memory=True),
        lambda: without.apply({}, x, store_to_memory=True),
        lambda: without.apply({}, np.ones(2, bool), method="clear_memory"),
        lambda: without.apply({}, method="memory_utilization"),
    ):
        with pytest.raises(ValueError, match="has no memory; set holographic_capacity"):
            call()
    model = ResonanceNet(CONFIG)
    variables = random_variables(model, x)
    store = partial(model.apply, store_to_memory=True)
    with pytest.raises(ValueError, match=r"call apply\(..., mutable=\['hologram'\]\)"):
        jax.eval_shape(store, variables, x)
    _, after = run(model, variables, x)
    with pytest.raises(ValueError, match=r"shape \(1, 3, 6\) .* got \(2, 3, 6\); leave the coll"):
        run(model, after, x[:1])
