"""The long-context model: whole or streamed, any head; what does not fit is refused; memory is known beforehand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.models.baselines import make_model, model_name
from resonance_jax.models.long_context import (
    LongContextConfig,
    LongContextResonanceNet,
    estimate_memory,
)
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.step import init_state, train_step

SIZE, ROWS, LENGTH, LAYERS = 8, 2, 21, 2


def make_config(**changes):
    options: dict[str, Any] = dict(
        input_dim=1,
        output_dim=3,
        vocab_size=11,
        hidden_dim=4,
        num_layers=LAYERS,
        mlp_dim=4,
        max_context_length=64,
        chunk_size=SIZE,
        overlap=2,
        num_frequencies=4,
        local_frequencies=3,
        bridge_frequencies=2,
        num_heads=2,
    )
    return LongContextConfig(**(options | changes))


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "changes",
    [
        {"head": "per_token"},
        {"pooling": "mean_max", "vocab_size": 0, "input_dim": 2, "patch_size": 2},
    ],
)
def test_a_stream_of_chunks_ends_where_the_whole_does(changes, random_variables):
    config = make_config(bidirectional=False, **changes)
    model = LongContextResonanceNet(config)
    rng = np.random.default_rng(0)
    size = SIZE * config.patch_size
    length = LENGTH * config.patch_size
    if config.vocab_size:
        inputs = rng.integers(0, 11, (ROWS, length))
    else:
        inputs = rng.normal(size=(ROWS, length, 2)).astype(np.float32)
    variables = random_variables(model, inputs)
    whole = np.asarray(jax.jit(model.apply)(variables, inputs))

    chunks = -(-length // size)
    missing = (chunks + LAYERS) * size - length
    padded = np.pad(inputs, [(0, 0), (0, missing)] + [(0, 0)] * (inputs.ndim - 2))
    mask = np.broadcast_to(np.arange(padded.shape[1]) < length, padded.shape[:2])
    stream = jax.jit(lambda *chunk: model.apply(variables, *chunk, method="stream"))
    state, found = None, []
    for c in range(chunks + LAYERS):
        at = slice(c * size, (c + 1) * size)
        outputs, observed, state = stream(padded[:, at], mask[:, at], state)
        found.append((outputs, observed))
    if config.head == "per_token":
        tokens = np.concatenate([outputs for outputs, _ in found[LAYERS:]], axis=1)
        np.testing.assert_allclose(tokens[:, :LENGTH], whole, atol=1e-5)
        seen = np.concatenate([observed for _, observed in found], axis=1)
        assert seen.sum() == ROWS * LENGTH
    else:
        np.testing.assert_allclose(found[-1][0], whole, atol=1e-5)
        assert np.abs(found[-2][0] - whole).max() > 1e-4


@pytest.mark.end_to_end
def test_a_long_stream_in_bfloat16_ends_where_the_whole_does(random_variables):
    """Sums over so many chunks are beyond bfloat16."""
    chunks = 512
    config = make_config(bidirectional=False, num_layers=1, max_context_length=chunks * SIZE)
    model = LongContextResonanceNet(config, dtype=jnp.bfloat16)
    ids = np.random.default_rng(0).integers(0, 11, (1, chunks * SIZE))
    variables = random_variables(model, ids)
    variables["params"]["norm"]["bias"] += 1  # no mean of 0
    whole = jax.jit(model.apply)(variables, ids)

    def stream(state, chunk):
        *found, state = model.apply(variables, *chunk, state, method="stream")
        return state, found

    pieces = jnp.asarray(ids.reshape(chunks, 1, SIZE))
    seen = jnp.ones(pieces.shape, bool)

    @jax.jit
    def stream_all(pieces, seen):
        state, _ = stream(None, (pieces[0], seen[0]))
        seen = seen.at[-1].set(False)  # brings out the last one
        return jax.lax.scan(stream, state, (pieces[1:], seen[1:]))[1][0][-1]

    pieces, seen = (jnp.concatenate([array, array[:1]]) for array in (pieces, seen))
    streamed = stream_all(pieces, seen)
    np.testing.assert_allclose(streamed, whole, atol=0.01 * np.abs(whole).max())


def test_a_chunk_may_be_hidden_by_a_mask_of_numpy():
    model = LongContextResonanceNet(make_config(bidirectional=False, num_layers=1))
    hidden = np.zeros((1, SIZE), bool)

    def stream(key, ids):
        return model.init_with_output(key, ids, hidden, method="stream")[0]

    outputs, observed, _ = jax.eval_shape(stream, jax.random.key(0), np.ones((1, SIZE), int))
    assert outputs.shape == (1, 3) and observed.shape == (1, SIZE)


@pytest.mark.end_to_end
def test_it_goes_on_at_lengths_that_it_was_not_made_for(random_variables):
    model = LongContextResonanceNet(make_config(num_layers=1))
    variables = random_variables(model, np.ones((1, 5), int))
    ids = np.random.default_rng(1).integers(0, 11, (1, 64))
    apply = jax.jit(model.apply)
    short = apply(variables, ids[:, :5])
    mask = np.arange(64)[None] < 5
    np.testing.assert_allclose(apply(variables, ids, mask), short, atol=1e-5)
    assert np.abs(apply(variables, ids) - short).max() > 1e-3


def test_it_is_made_by_name():
    config = make_config()
    assert model_name(config) == "long_context"
    assert isinstance(make_model(config), LongContextResonanceNet)


def plan(state, batch, training):
    """What XLA plans for a training step or a forward pass."""
    if training:
        program = train_step.lower(state, batch).compile()
    else:
        program = jax.jit(state.apply_fn).lower(state.eval_variables, batch["inputs"]).compile()
    sizes: Any = program.memory_analysis()
    used = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return used - sizes.alias_size_in_bytes


@pytest.mark.end_to_end
def test_the_estimate_of_memory_is_the_plan_of_the_program():
    sizes: Any = dict(max_context_length=4096, chunk_size=512, chunks_at_once=0)
    config = make_config(num_layers=1, mlp_dim=0, dropout=0.0, rematerialize="none", **sizes)
    batch = {"inputs": np.zeros((2, 4096), np.int32), "labels": np.zeros(2, np.int32)}
    optimizer = make_optimizer(TrainConfig(), 10)
    model = LongContextResonanceNet(config)
    state = init_state(model, optimizer, jax.random.key(0), batch)
    for training in (True, False):
        found = estimate_memory(config, 4096, batch_size=2, training=training)
        wanted = plan(state, batch, training)
        assert 0.8 < found / wanted < 1.2, (found, wanted)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk_size": 24}, "chunk_size >= 3 that divides max_context_length"),
        ({"overlap": 9}, "0 <= overlap <= chunk_size"),
        ({"num_frequencies": 34}, "num_frequencies must be in 1 .. 33, the bins of 64 steps"),
        ({"local_frequencies": 7}, "local_frequencies must be in 1 .. 6, the bins of 10 steps"),
        ({"bridge_frequencies": 0}, "bridge_frequencies must be in 1 .. 5"),
        ({"num_heads": 3}, "must divide hidden_dim"),
        ({"chunks_at_once": -1}, "must not be negative"),
        ({"rematerialize": "some"}, "none, products, chunk"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_config(**changes)


@pytest.mark.error_message
def test_a_stream_refuses_positions():
    model = LongContextResonanceNet(make_config(bidirectional=False, position="sinusoidal"))
    with pytest.raises(ValueError, match="position='none'"):
        model.init(jax.random.key(0), np.ones((1, SIZE), int), method="stream")
