"""Generation: state against the whole text, batches against single rows, streams, filters against a twin, errors."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.models import generation
from resonance_jax.models.generation import decode_step, generate, prefill, sample_logits, stream
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig

VOCAB, STEPS = 11, 2000
SMALL: dict[str, Any] = dict(
    vocab_size=VOCAB, hidden_dim=16, num_layers=1, mlp_dim=8, num_heads=2, num_resonators=4
)
MODELS: dict[str, dict[str, Any]] = {
    "resonance": {},
    "attention": {"mixer": "attention", "max_length": 2048},
    "memory": {"memory_layers": (0,)},
    "bfloat16": {"dtype": "bfloat16"},
}
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8, 9, 10], [0]]


@functools.cache
def trained(name) -> Any:
    """A model and variables drawn at random, large enough that its choices differ."""
    model = LanguageModel(LanguageModelConfig(**(SMALL | MODELS[name])))
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 2), np.int32))
    rng = np.random.default_rng(0)
    draw = lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), leaf.dtype)  # noqa: E731
    return model, jax.tree.map(draw, shapes)


def whole(model, variables, ids):
    return np.asarray(jax.jit(model.apply)(variables, np.asarray(ids)))


@pytest.mark.parametrize("name", ["resonance", "attention", "memory"])
def test_a_prompt_and_2000_steps_give_what_the_whole_text_gives(name):
    model, variables = trained(name)
    ids = np.random.default_rng(1).integers(0, VOCAB, (1, 16 + STEPS))
    expected = whole(model, variables, ids)
    first, state = prefill(model, variables, ids[:, :16])

    @jax.jit
    def steps(state):
        def read(state, now):
            logits, state = decode_step(model, variables, now, state)
            return state, logits

        return jax.lax.scan(read, state, ids[:, 16:].T)[1][:, 0]

    found = np.concatenate([first, steps(state)])
    error = np.linalg.norm(found - expected[0, 15:], axis=-1)
    assert np.max(error / np.linalg.norm(expected[0, 15:], axis=-1)) < 1e-4


@pytest.mark.end_to_end
def test_a_long_prompt_is_read_in_pieces(monkeypatch):
    model, variables = trained("resonance")
    ids = np.random.default_rng(2).integers(0, VOCAB, (3, 37))
    lengths = np.array([37, 5, 16], np.uint32)  # which must not wrap below 0 behind its end
    padded = np.where(np.arange(37) < lengths[:, None], ids, -7)
    once, at_once = prefill(model, variables, padded, lengths)
    monkeypatch.setattr(generation, "PIECE", 16)
    found, state = prefill(model, variables, padded, lengths)
    expected = whole(model, variables, ids)[np.arange(3), lengths - 1]
    np.testing.assert_allclose(once, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for part, other in zip(jax.tree.leaves(state), jax.tree.leaves(at_once), strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-4, atol=1e-5)


@pytest.mark.end_to_end
@pytest.mark.parametrize("name", list(MODELS))
def test_greedy_rows_are_those_of_the_whole_text_and_of_rows_alone(name):
    model, variables = trained(name)
    found = generate(model, variables, PROMPTS, 12, temperature=0)
    assert found.ids.shape == (3, 12)
    np.testing.assert_array_equal(found.lengths, [12, 12, 12])
    for prompt, row in zip(PROMPTS, np.asarray(found.ids), strict=True):
        alone = np.concatenate(list(stream(model, variables, prompt, 12, temperature=0)))
        np.testing.assert_array_equal(alone, row)
        if name == "resonance":
            # One length for all rows, so that the whole text compiles once: what follows does not reach back.
            text = np.zeros((1, 24), np.int32)
            text[0, : len(prompt) + 12] = [*prompt, *row]
            logits = whole(model, variables, text)[0]
            np.testing.assert_array_equal(logits.argmax(-1)[len(prompt) - 1 :][:12], row)


@pytest.mark.end_to_end
def test_streams_seeds_and_stops():
    model, variables = trained("resonance")
    options: dict[str, Any] = dict(temperature=1.5, top_k=9, top_p=0.95, min_p=0.01)
    found = generate(model, variables, PROMPTS, 12, seed=3, **options)
    pieces = list(stream(model, variables, PROMPTS[0], 12, seed=3, **options))
    assert [len(piece) for piece in pieces] == [8, 4]
    np.testing.assert_array_equal(np.concatenate(pieces), found.ids[0])
    again = generate(model, variables, PROMPTS, 12, seed=jax.random.key(3), **options)
    np.testing.assert_array_equal(again.ids, found.ids)
    other = generate(model, variables, PROMPTS, 12, seed=4, **options)
    assert not np.array_equal(other.ids, found.ids)

    stop = int(found.ids[0, 5])
    ended = generate(model, variables, PROMPTS, 12, seed=3, stop=[stop], **options)
    for row, free in enumerate(np.asarray(found.ids)):
        stopped = stop in free
        length = list(free).index(stop) + 1 if stopped else 12
        assert (ended.lengths[row], ended.stopped[row]) == (length, stopped)
        np.testing.assert_array_equal(ended.ids[row, :length], free[:length])
        assert np.all(ended.ids[row, length:] == generation.PADDING)
    pieces = list(stream(model, variables, PROMPTS[0], 12, seed=3, stop=[stop], **options))
    np.testing.assert_array_equal(np.concatenate(pieces), ended.ids[0, : ended.lengths[0]])


def kept_by_twin(logits, temperature, top_k, top_p, min_p):
    """Probabilities of what the filters leave, one id at a time, in float64."""
    p = np.exp(np.asarray(logits, float) / temperature)
    order = sorted(range(len(p)), key=lambda i: (-p[i], i))[:top_k]
    if top_p is not None:
        total, mass, count = sum(p[i] for i in order), 0.0, 0
        while mass < top_p * total * (1 - 1e-9):
            mass, count = mass + p[order[count]], count + 1
        order = order[:count]
    best = p[order[0]]
    order = [i for i in order if min_p is None or p[i] >= min_p * best * (1 - 1e-9)]
    kept = np.zeros(len(p))
    kept[order] = p[order]
    return kept / kept.sum()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p"),
    [
        (1.0, None, None, None), (0.5, 3, None, None), (2.0, None, 0.7, None), (1.0, None, None, 0.3),
        (0.8, 4, 0.8, 0.2), (1.0, 99, 1.0, 1.0), (1e-30, None, 0.5, None),
    ],
)  # fmt: skip
def test_filters_against_the_twin(temperature, top_k, top_p, min_p):
    logits = np.array([0.3, 1.7, 1.7, -0.4, 1.7, 0.9, 1.2], np.float32)  # with ties
    expected = kept_by_twin(logits - 1.7, temperature, top_k, top_p, min_p)
    draws = np.asarray(
        sample_logits(
            np.tile(logits, (20000, 1)), jax.random.key(0), temperature, top_k, top_p, min_p
        )
    )
    found = np.bincount(draws, minlength=len(logits)) / len(draws)
    assert set(np.flatnonzero(found)) == set(np.flatnonzero(expected))
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_temperature_0_takes_the_first_of_the_most_probable():
    assert sample_logits(jnp.array([0.0, 2.0, 2.0]), jax.random.key(0), temperature=0) == 1


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("message", "prompts", "count", "options"),
    [
        ("prompts hold no row", [], 4, {}),
        ("prompt 1 must be integers .* empty prompt", [[1], np.zeros(0, int)], 4, {}),
        ("ids must lie in 0 .. 10, got 3 .. 11", [[3, 11]], 4, {}),
        ("ids must lie in 0 .. 10, got -1 .. 3", [[3, -1]], 4, {}),
        ("prompt 0 must be integers, got float", [[0.5]], 4, {}),
        ("attention holds max_length = 2048", [[1] * 2000], 49, {}),
        ("lengths must have shape", np.ones((2, 3), int), 4, {"lengths": [3]}),
        ("lengths must be integers in 1 .. 3", np.ones((1, 3), int), 4, {"lengths": [4]}),
        ("lengths must be integers in 1 .. 3", np.ones((1, 3), int), 4, {"lengths": [-2]}),
        ("lengths go with prompts", [[1]], 4, {"lengths": [1]}),
        ("max_new_tokens must be at least 1", [[1]], 0, {}),
        ("temperature must be finite and not neg", [[1]], 4, {"temperature": -1.0}),
        ("top_k must be at least 1", [[1]], 4, {"top_k": 0}),
        ("top_p must lie in", [[1]], 4, {"top_p": 0.0}),
        ("min_p must lie in", [[1]], 4, {"min_p": 1.5}),
        ("ids must lie in 0 .. 10", [[1]], 4, {"stop": [11]}),
    ],
)
def test_errors_of_generate(message, prompts, count, options):
    model, variables = trained("attention")
    with pytest.raises(ValueError, match=message):
        generate(model, variables, prompts, count, **options)


@pytest.mark.error_message
def test_errors_of_prefill_step_and_stream():
    model, variables = trained("resonance")
    with pytest.raises(ValueError, match="lengths must be 1 or more: leave empty"):
        prefill(model, variables, np.ones((2, 3), int), np.array([0, 2]))
    with pytest.raises(ValueError, match="ids must be integers"):
        prefill(model, variables, np.ones((2, 0), int))
    with pytest.raises(ValueError, match="another model or batch"):
        decode_step(model, variables, np.ones(3, int), model.initial_state(2))
    with pytest.raises(ValueError, match="one of each row"):
        decode_step(model, variables, np.ones((2, 1), int), model.initial_state(2))
    with pytest.raises(ValueError, match="top_k must be"):
        stream(model, variables, [1], 4, top_k=0)  # before the first id is asked for
