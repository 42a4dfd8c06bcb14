"""Training of language models: pace, resumption, scores by hand, and what belongs to what."""

import dataclasses
import json
import signal
from functools import partial

import jax
import numpy as np
import pytest

from experiments import language_model
from resonance_jax.data.corpus import make_corpus
from resonance_jax.data.packing import PackedBatches, encode_corpus
from resonance_jax.data.tokenizer import ByteTokenizer
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig
from resonance_jax.training import language_run
from resonance_jax.training.language import (
    evaluate_language_model,
    load_language_model,
    train_language_model,
)
from resonance_jax.training.language_config import LanguageTrainConfig
from resonance_jax.training.language_evaluation import overlapping_windows
from resonance_jax.training.language_result import LanguageResult
from resonance_jax.training.metrics_log import read_metrics
from resonance_jax.training.signals import TrainingInterrupted
from resonance_jax.training.state_arrays import CheckpointMismatchError

MODEL = LanguageModelConfig(
    vocab_size=256, hidden_dim=16, num_layers=1, mlp_dim=16, num_heads=2, num_resonators=4
)
CONFIG = LanguageTrainConfig(
    num_steps=12,
    time_budget=None,
    model=MODEL,
    context_length=32,
    batch_size=2,
    learning_rate=0.03,
    warmup_steps=2,
    ema_decay=0.5,
    log_every=3,
    eval_every=5,
    eval_length=64,
    eval_rows=2,
)
TIMES = {"tokens_per_second"}


def documents():
    rng = np.random.default_rng(0)
    words = ("and", "the", "light", "water", "day")
    return [(" ".join(rng.choice(words, 60)) + ".\n").encode() for _ in range(20)]


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch):
    corpus = make_corpus("kjv", documents())
    monkeypatch.setattr(language_run, "load_corpus", lambda name, folder: corpus)
    return corpus


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder and the result of an uninterrupted run of `CONFIG`."""
    folder = tmp_path_factory.mktemp("language") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        corpus = make_corpus("kjv", documents())
        patch.setattr(language_run, "load_corpus", lambda name, folder: corpus)
        return folder, train_language_model(CONFIG, folder, progress=False)


def untimed(folder):
    records = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in record.items() if k not in TIMES} for record in records]


@pytest.mark.end_to_end
def test_the_loss_falls_and_the_result_adds_up(whole, small_corpus):
    folder, result = whole
    assert LanguageResult.from_json((folder / "result.json").read_text()) == result
    train = [r for r in read_metrics(folder / "metrics.jsonl") if r["kind"] == "train"]
    assert [r["step"] for r in train] == [3, 6, 9, 12]
    assert train[-1]["loss"] < 0.9 * train[0]["loss"] and result.train_loss == train[-1]["loss"]
    evaluated = [
        (r["split"], r["step"])
        for r in read_metrics(folder / "metrics.jsonl")
        if r["kind"] == "eval"
    ]
    assert evaluated == [*(("validation", s) for s in (5, 10, 12)), ("test", 12)]
    # One token is one byte: both scores are the same number but for its unit.
    assert 2**result.test_bits_per_byte == pytest.approx(result.test_perplexity)
    assert (result.steps, result.tokens_seen) == (12, 12 * 2 * 32)
    assert result.tokens_per_second == pytest.approx(result.tokens_seen / result.train_seconds)
    assert result.corpus_sha256 == small_corpus.sha256
    # The rates rise over 2 steps and fall to 0 at the end: at step 12 a twelfth is left.
    assert train[-1]["learning_rate"] == pytest.approx(0.03 / 12)
    assert train[-1]["learning_rate_magnitude"] == pytest.approx(4e-3 / 12)


@pytest.mark.end_to_end
def test_the_score_is_that_of_the_whole_text_at_once(whole):
    folder, result = whole
    model, variables, tokenizer = load_language_model(folder)
    assert evaluate_language_model(folder).bits_per_byte == result.test_bits_per_byte
    # One part without padding, whole: nothing is forgotten between the windows of an evaluation.
    tokens = encode_corpus([b"the light and the day " * 6], tokenizer, "text")
    ids = tokens.ids.astype(np.int32)[None]
    whole_text = jax.jit(partial(model.apply, method="losses"))
    losses, _ = whole_text(variables, ids[:, :-1], ids[:, 1:])
    score = language_run.score_text(model, variables, tokens, length=64, batch_size=1, resets=False)
    assert (score.num_tokens, score.num_bytes) == (132, 132)
    assert score.bits == pytest.approx(float(np.sum(losses)) / np.log(2), rel=1e-5)


@pytest.mark.end_to_end
@pytest.mark.parametrize("number", [4, 6])
def test_an_interrupted_run_continues_bit_for_bit(whole, tmp_path, monkeypatch, number):
    original, count = PackedBatches.__next__, 0

    def take(self):
        nonlocal count
        count += 1
        if count == number:
            signal.raise_signal(signal.SIGINT)
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(PackedBatches, "__next__", take)
        with pytest.raises(TrainingInterrupted) as caught:
            train_language_model(CONFIG, tmp_path / "run", progress=False)
    assert caught.value.step == number and not (tmp_path / "run" / "result.json").exists()
    result = train_language_model(CONFIG, tmp_path / "run", progress=False)
    assert result.test_bits_per_byte == whole[1].test_bits_per_byte
    assert untimed(tmp_path / "run") == untimed(whole[0])
    ours, theirs = (load_language_model(f)[1] for f in (tmp_path / "run", whole[0]))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.end_to_end
def test_a_time_budget_ends_the_run(tmp_path):
    config = dataclasses.replace(CONFIG, num_steps=None, time_budget=1e-6, log_every=1)
    result = train_language_model(config, tmp_path / "run", progress=False)
    # Of the first step the time is known once the second has been started.
    assert result.steps in (1, 2) and result.train_seconds > 1e-6
    (record, *_) = [
        r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "train"
    ]
    assert record["progress"] == 1.0


@pytest.mark.end_to_end
@pytest.mark.error_message
def test_a_finished_run_is_returned_and_another_one_refused(whole, monkeypatch):
    monkeypatch.setattr("resonance_jax.training.language.LanguageRun", None)
    assert train_language_model(CONFIG, whole[0], progress=False) == whole[1]
    other = dataclasses.replace(CONFIG, adam_b2=0.9)
    with pytest.raises(CheckpointMismatchError, match=r"adam_b2 \(saved 0.98, now 0.9\)"):
        train_language_model(other, whole[0], progress=False)


@pytest.mark.end_to_end
@pytest.mark.error_message
def test_another_tokenizer_is_refused(whole, monkeypatch):
    monkeypatch.setattr(ByteTokenizer, "fingerprint", "0" * 64)
    with pytest.raises(ValueError, match="use the tokenizer that it was made with"):
        load_language_model(whole[0])


@pytest.mark.parametrize(("size", "length"), [(40, 8), (41, 8), (5, 8), (23, 7), (9, 2)])
def test_overlapping_windows_count_each_token_once_with_most_before_it(size, length):
    text = bytes(range(1, size + 1))
    tokens = encode_corpus([text], ByteTokenizer(), "text")
    seen: dict[int, int] = {}
    for batch in overlapping_windows(tokens, length, 3, length // 2):
        for row in range(3):
            for place in np.flatnonzero(batch["weight"][row]).tolist():
                label = int(batch["labels"][row, place])
                assert label not in seen and batch["inputs"][row, place] == label - 1
                seen[label] = place
    assert sorted(seen) == list(range(1, size + 1))
    assert all(place >= min(label - 1, length - length // 2) for label, place in seen.items())


def test_a_configuration_survives_json():
    model = dataclasses.replace(MODEL, memory_layers=(0,))
    config = dataclasses.replace(CONFIG, model=model, resets=False, gradient_clip=None)
    assert LanguageTrainConfig.from_json(config.to_json()) == config
    assert json.loads(config.to_json())["model"]["kind"] == "resonance"


def test_the_models_of_the_experiment_are_of_one_size():
    counts = []
    for name in language_model.MODELS:
        config = language_model.get_config(name)
        assert (config.model_name, config.experiment) == (name, "language_model")
        init = LanguageModel(config.model).init
        shapes = jax.eval_shape(init, jax.random.key(0), np.zeros((1, 8), np.int32))
        counts.append(sum(leaf.size for leaf in jax.tree.leaves(shapes)))
    assert max(counts) <= 1.1 * min(counts)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_budget": 3.0}, "set one of them and the other to None, got 12 and 3.0"),
        ({"num_steps": None}, "set one of them and the other to None, got None and None"),
        ({"num_steps": 0}, "LanguageTrainConfig.num_steps must be an integer of at least 1"),
        ({"model": 3}, "must be a LanguageModelConfig, got 3"),
        (
            {"model": dataclasses.replace(MODEL, memory_layers=(0,))},
            "memory_layers have no resets: set resets to False",
        ),
    ],
)
def test_configurations_that_make_no_sense(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


@pytest.mark.error_message
def test_a_vocabulary_that_is_not_the_tokenizers(tmp_path):
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(MODEL, vocab_size=300))
    with pytest.raises(ValueError, match=r"expected model\.vocab_size 256, got 300"):
        train_language_model(config, tmp_path)
