"""The text experiment shrunk: a few steps, the score of every byte, rows that are not lost."""

import dataclasses
import json
from functools import partial

import jax
import numpy as np
import pytest

from experiments import long_range_recall, text
from resonance_jax.data.corpus import Corpus
from resonance_jax.data.packing import encode_corpus
from resonance_jax.data.tokenizer import ByteTokenizer

TEXT = b"the quick brown fox jumps over the lazy dog " * 8
SMALL = dict(hidden_dim=8, num_layers=1, mlp_dim=8, num_heads=2, num_resonators=2)


@pytest.mark.parametrize("job", [text.RESONANCE, text.TRANSFORMER], ids=["resonance", "attention"])
def test_a_run_trains_and_scores_every_byte(job, quick_compile):
    model = dataclasses.replace(job.model, **SMALL)
    small = dataclasses.replace(job, model=model, context=16, batch=2, budget=0.2)
    tokens = encode_corpus([TEXT], ByteTokenizer(), "small")
    network, params, taken = text.train(small, tokens)
    assert taken["steps"] >= 1 and taken["cpu_seconds"] >= 0.2
    found = text.bits_per_byte(network, params, tokens, 16)
    ids = np.asarray(tokens.ids[None], np.int32)
    score = jax.jit(partial(network.apply, method="losses"))
    losses, _ = score({"params": params}, ids[:, :-1], ids[:, 1:])
    whole = float(np.sum(losses)) / np.log(2) / len(TEXT)
    # Attention has less to read in windows; at this size, with a few steps, that changes little.
    np.testing.assert_allclose(found, whole, rtol=2e-2 if job is text.RESONANCE else 0.2)


def test_a_long_text_is_cut_to_its_first_bytes():
    corpus = Corpus("two", [b"train"], [b"abc", b"def"], [b"gh"], "")
    found = text.cut(corpus, 4)
    assert (found.train, found.validation, found.test) == ([b"train"], [b"abc", b"d"], [b"gh"])
    assert text.cut(corpus, 3).validation == [b"abc"]


def test_rows_are_added(tmp_path):
    path = tmp_path / "text.json"
    text.add(path, "runs", "a", {"x": 1})
    text.add(path, "runs", "b", {"x": 2})
    assert json.loads(path.read_text())["runs"] == {"a": {"x": 1}, "b": {"x": 2}}


def test_rows_of_other_settings_are_refused(tmp_path, monkeypatch, capsys):
    path = tmp_path / "text.json"
    text.add(path, "runs", "short-resonance", {"job": {"rate": 1.0}})
    monkeypatch.setattr("sys.argv", ["text", "--only", "short-resonance", "--results", str(path)])
    with pytest.raises(SystemExit):
        text.main()
    assert "trained with other settings" in capsys.readouterr().err
    recall = tmp_path / "recall.json"
    recall.write_text(json.dumps({"runs": [], "budget": {"stages": []}}))
    with pytest.raises(ValueError, match="another file"):
        long_range_recall.Results(recall)


@pytest.mark.parametrize("task", long_range_recall.TASKS)
def test_answers_are_in_the_sequence(task):
    batch = long_range_recall.make_batch(task, np.random.default_rng(0), 64, 3)
    for tokens, steps, labels in zip(*batch.values(), strict=True):
        assert np.all(steps < len(tokens)) and np.all(np.isin(labels, tokens))
        if task == "recall":
            keys = tokens[: 2 * long_range_recall.PAIRS : 2].tolist()
            places = [2 * keys.index(key) + 1 for key in tokens[steps]]
            np.testing.assert_array_equal(tokens[places], labels)
        if task in ("copy", "selective"):
            shown = tokens[: steps[0]]
            np.testing.assert_array_equal(shown[shown != long_range_recall.BLANK], labels)
        if task == "induction":
            first = np.flatnonzero(tokens == long_range_recall.SIGN)[0]
            assert tokens[first + 1] == labels[0]
