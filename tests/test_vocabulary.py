"""The comparison of vocabularies, shrunk: its models, its losses and its file."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import vocabulary
from experiments.vocabulary import Budget, Model, Results, Text

pytestmark = pytest.mark.usefixtures("quick_compile")
V = 40
SMALL = Budget(8, 6, num_layers=1, taps=2, window=4, batch_size=2, steps=3, search_steps=2)
KINDS = ("two levels", "full")


def make_text():
    train, validation, test = np.random.default_rng(0).integers(V, size=(3, 60))
    return Text(train, validation, test, np.sort(np.bincount(train, minlength=V))[::-1])


def test_windows_are_pieces_of_the_text_and_follow_the_seed():
    draws = [vocabulary.draw_windows(np.arange(60), SMALL, seed) for seed in (0, 0, 1)]
    first, again, other = ([next(draw) for _ in range(3)] for draw in draws)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.shape(first) == (3, 2, 5)
    assert np.all(np.diff(first) == 1)


def test_means_are_apart_for_frequent_ids_and_the_tail():
    found = vocabulary.summarize(np.array([1.0, 2.0, 6.0]), np.array([0, 5, 6]), 6)
    expected = dict(
        loss=3.0, perplexity=np.exp(3), loss_frequent=1.5, loss_tail=6, tail_share=1 / 3
    )
    assert found == pytest.approx(expected)


def test_analysis_averages_seeds():
    rows = [{"model": "a", "seed": s, "loss": loss} for s, loss in ((0, 1.0), (1, 3.0))]
    rows.append({"model": "b", "seed": 0, "loss": 5.0})
    found = vocabulary.analyse(rows)
    assert found["a"] == {"loss": 2.0, "loss_std": pytest.approx(2**0.5), "seeds": 2}
    assert found["b"] == {"loss": 5.0, "loss_std": None, "seeds": 1}


def test_models_differ_in_their_tables_alone_and_are_causal(random_variables):
    windows = next(vocabulary.draw_windows(make_text().train, SMALL, 0))
    bodies = []
    for kind in KINDS:
        model = Model(kind, V, SMALL)
        variables = random_variables(model, windows)
        body = {k: v for k, v in variables["params"].items() if k not in ("embedding", "head")}
        bodies.append(jax.tree.map(jnp.shape, body))
        run = jax.jit(model.apply)
        changed = windows.copy()
        changed[:, 3:] = (changed[:, 3:] + 1) % V
        before, after = (np.asarray(run(variables, w)) for w in (windows, changed))
        np.testing.assert_array_equal(before[:, :2], after[:, :2])
        assert np.all(before[:, 2:] != after[:, 2:])
        # Of all ids in a place the probabilities sum to 1.
        last = [
            run(variables, np.concatenate([windows[:, :-1], np.full((2, 1), i)], 1))
            for i in range(V)
        ]
        np.testing.assert_allclose(np.sum(np.exp(np.array(last)[..., -1]), axis=0), 1, rtol=1e-5)
    assert bodies[0] == bodies[1]


def test_losses_are_of_each_token_in_order(random_variables):
    model, ids = Model("full", V, SMALL), make_text().test
    params = random_variables(model, np.zeros((2, 5), np.int32))["params"]
    loss, of = vocabulary.losses(model, params, ids, 16)
    np.testing.assert_array_equal(of, ids[1:17])
    windows = np.array([ids[4:9], ids[8:13]], np.int32)
    expected = jax.jit(model.apply)({"params": params}, windows)
    np.testing.assert_allclose(loss[4:12], -np.asarray(expected).ravel(), rtol=1e-5)


def test_runs_take_the_better_rate_and_are_written_once(tmp_path, monkeypatch):
    text, small = make_text(), dataclasses.replace(SMALL, validation_tokens=16, test_tokens=16)
    monkeypatch.setattr(vocabulary, "load", lambda: text)
    monkeypatch.setattr(vocabulary, "Budget", lambda: small)
    results = Results(tmp_path / "results.json")
    for rate, loss in ((0.1, 2.0), (0.01, 1.0)):
        results.add("search", {"kind": "two levels", "rate": rate}, {"validation_loss": loss})
    results.add("search", {"kind": "full", "rate": 0.2}, {"validation_loss": 0.5})
    vocabulary.run(results, "two levels", "small", 3, 0)
    monkeypatch.setattr(vocabulary, "train", None)  # nothing is trained again
    vocabulary.run(results, "two levels", "small", 3, 0)
    vocabulary.search(results, "full", 0.2)
    (row,) = Results(tmp_path / "results.json").record["runs"]
    assert (row["rate"], row["steps"], row["model"]) == (0.01, 3, "small")
    assert 0 < row["parameters_of_tables"] < row["parameters"]
    assert np.isfinite(row["loss"])
    vocabulary.count(results)
    assert results.record["counts"][0]["ids"] == V


def test_distinct_vectors_are_counted(tmp_path):
    results = Results(tmp_path / "results.json")
    vocabulary.count_distinct(results, 20_000, 8)
    assert results.record["distinct"] == [{"ids": 20_000, "features": 8, "distinct": 20_000}]
