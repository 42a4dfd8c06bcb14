"""experiments/associative_recall.py: what a sequence asks for, a training in small, and what the tables say."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import associative_recall
from experiments.associative_recall import LENGTHS, MIXERS, PAIRS, Results, Stage

VOCABULARY = 40
SMALL = dataclasses.replace(
    associative_recall.BUDGET,
    vocabulary=VOCABULARY,
    stages=(Stage(24, (4, 8), 2, 2),),
    test_batches=1,
)


def batch(seed=0, length=50, pairs=(2, 7, 16)):
    return associative_recall.make_batch(np.random.default_rng(seed), length, pairs, VOCABULARY)


def test_every_query_asks_for_what_was_shown_with_its_key():
    for seed in range(20):
        made = batch(seed)
        for (row, step), label, pairs in zip(
            made["positions"], made["labels"], made["pairs"], strict=True
        ):
            tokens = made["inputs"][row].tolist()
            shown = dict(zip(tokens[: 2 * pairs : 2], tokens[1 : 2 * pairs : 2], strict=True))
            assert step >= 2 * pairs
            assert shown[tokens[step]] == label


def test_every_key_is_shown_once_and_asked_for_once():
    made = batch()
    np.testing.assert_array_equal(np.bincount(made["positions"][:, 0]), [2, 7, 16])
    np.testing.assert_array_equal(made["pairs"], [2] * 2 + [7] * 7 + [16] * 16)
    half = VOCABULARY // 2
    for row, pairs in enumerate((2, 7, 16)):
        keys, counts = np.unique(
            made["inputs"][row][made["inputs"][row] < half], return_counts=True
        )
        assert len(keys) == pairs
        np.testing.assert_array_equal(counts, 2)
    assert np.all((made["labels"] >= half) & (made["labels"] < VOCABULARY))
    assert np.all((made["inputs"] >= 0) & (made["inputs"] < VOCABULARY))


def test_a_seed_gives_the_same_sequences_and_another_others():
    first, again, other = batch(3), batch(3), batch(4)
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert np.any(first["inputs"] != other["inputs"])
    assert np.any(first["positions"] != other["positions"])


def test_queries_lie_anywhere_after_the_pairs():
    steps = np.concatenate([batch(seed, 10, (2,))["positions"][:, 1] for seed in range(60)])
    np.testing.assert_array_equal(np.unique(steps), np.arange(4, 10))


@pytest.mark.parametrize(("length", "pairs"), [(11, 4), (80, 21)])
def test_pairs_that_do_not_fit_are_refused(length, pairs):
    with pytest.raises(ValueError, match=f"{pairs} pairs need a length of {3 * pairs} and"):
        batch(0, length, (pairs,))


def test_a_training_in_small(tmp_path, monkeypatch, quick_compile):
    """The experiment's own functions, two steps and a test."""
    monkeypatch.setattr(associative_recall, "BUDGET", SMALL)
    monkeypatch.setattr(associative_recall, "LENGTHS", (24,))
    monkeypatch.setattr(associative_recall, "PAIRS", (4, 8))
    results = Results(tmp_path / "recall.json")
    for _ in range(2):  # the second time it is there
        associative_recall.run(results, "delta", VOCABULARY, 0)
    record = Results(results.path).record
    (row,) = record["runs"]
    assert set(row["accuracy"]["24"]) == {"4", "8"}
    assert all(0 <= accuracy <= 1 for accuracy in row["accuracy"]["24"].values())
    assert record["scores"] == associative_recall.analyse(record)
    assert record["device"]


@pytest.mark.parametrize("kind", MIXERS)
def test_every_mixer_makes_features_of_every_token(kind):
    model = associative_recall.RecallNet(kind, VOCABULARY)
    tokens = batch()["inputs"]
    (features, embedding), _ = jax.eval_shape(model.init_with_output, jax.random.key(0), tokens)
    assert features.shape == (*tokens.shape, associative_recall.WIDTH)
    assert embedding.shape == (VOCABULARY, associative_recall.WIDTH)


def rows(kind, seed, vocabulary, accuracy):
    table = {str(length): {str(count): accuracy for count in PAIRS} for length in LENGTHS}
    return {"model": kind, "seed": seed, "vocabulary": vocabulary, "accuracy": table}


def test_tables_group_by_model_and_vocabulary():
    usual = associative_recall.BUDGET.vocabulary
    runs = [rows("fnet", 0, usual, 0.1), rows("delta", 0, usual, 1.0), rows("delta", 1, usual, 0.5)]
    runs.append(rows("delta", 0, 99, 0.25))
    found = associative_recall.analyse({"runs": runs})
    assert list(found) == ["delta, 99 tokens", "delta", "fnet"]
    assert found["delta"]["seeds"] == 2
    assert found["delta"]["mean"]["256, 8"] == 0.75
    assert found["delta"]["least"]["1024, 64"] == 0.5
    assert found["delta, 99 tokens"]["mean"]["512, 16"] == 0.25
    written = associative_recall.table({"runs": runs})
    assert len(written.splitlines()) == 1 + 3 * len(LENGTHS)
    assert "75.00" in written
    assert len(associative_recall.draw({"runs": runs}).axes) == len(LENGTHS)
