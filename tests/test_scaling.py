"""The curve of accuracy over parameters: its configurations, its file, and what is read out of it."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
import pytest

from experiments import scaling
from resonance_jax.data.split import Dataset, Split
from resonance_jax.models.baselines import make_model


@pytest.mark.parametrize("name", scaling.TASKS)
def test_models_of_a_data_set_are_trained_alike(name):
    for model, width in scaling.sizes(name):
        config: Any = scaling.make_config(name, model, width, 1e-3, 2)
        assert (config.model.hidden_dim, config.seed) == (width, 2)
        other = scaling.make_config(name, "fnet", 8, 1e-3, 2)
        assert dataclasses.replace(config, model=other.model) == other


def test_ablations_differ_by_what_they_leave_out():
    def parameters(model):
        config = scaling.make_config("forda", model, scaling.ABLATION_WIDTH, 1e-3, 0).model
        row = np.zeros((1, 500, 1), np.float32)
        tree = jax.eval_shape(make_model(config).init, jax.random.key(0), row)["params"]
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    counts = [parameters(model) for model in scaling.ABLATION]
    weights = 2 * scaling.ABLATION_WIDTH * scaling.TASKS["forda"].frequencies  # of two layers
    assert counts == [counts[0], counts[0] - weights, counts[0] - weights]


@pytest.fixture
def small(monkeypatch, one_layer):
    """FordA's task on 64 noisy sines, with a search of two rates."""
    rng = np.random.default_rng(0)
    labels = (np.arange(64) % 2).astype(np.int32)
    wave = np.sin((1 + labels[:, None]) * np.arange(200) / 10) + 0.1 * rng.normal(size=(64, 200))
    split = Split(wave[..., None].astype(np.float32), labels)
    monkeypatch.setattr(scaling, "load", lambda name: Dataset("small", split, split, ("a", "b")))
    task = dataclasses.replace(scaling.TASKS["forda"], num_epochs=1, batch_size=16, widths=(4,))
    monkeypatch.setattr(scaling, "TASKS", {"forda": task})
    monkeypatch.setattr(scaling, "SEARCH_WIDTH", 4)
    one_layer(scaling)
    monkeypatch.setattr(scaling, "RATES", (0.0, 0.01))
    monkeypatch.setattr(scaling, "REPEATS", 1)


def test_a_run_is_searched_trained_timed_and_not_repeated(small, tmp_path, quick_compile):
    path = tmp_path / "scaling.json"
    results = scaling.Results(path)
    scaling.search(results, "forda", "fnet")
    scaling.run(results, "forda", "fnet", 4, 1)
    written = path.read_text()
    record = json.loads(written)
    assert [row["rate"] for row in record["search"]] == [0.0, 0.01]
    assert results.rate("forda", "fnet") in (0.0, 0.01)
    (row,) = scaling.records(record, "forda")
    assert (row["model"], row["width"], row["seed"], row["steps"]) == ("fnet", 4, 1, 4)
    assert row["train_seconds"] == 4 * record["speed"][0]["step_ms"] / 1e3
    again = scaling.Results(path)
    scaling.search(again, "forda", "fnet")
    scaling.run(again, "forda", "fnet", 4, 1)
    assert path.read_text() == written


def row_of(model, width, seed, accuracy):
    key = {"data": "forda", "model": model, "width": width}
    run = {"seed": seed, "parameters": 10 * width, "accuracy": accuracy, "steps": 100}
    return key | run | {"peak_memory_bytes": 1000 * width}


def test_analysis_and_picture_of_known_runs():
    accuracies = {"resonance": (0.8, 0.9), "transformer": (0.7, 0.8), "fnet": (0.5, 0.6)}
    runs = [
        row_of(model, width, seed, accuracy + 0.01 * seed)
        for model, pair in accuracies.items()
        for width, accuracy in zip((4, 8), pair, strict=True)
        for seed in (0, 1)
    ]
    key = {"data": "forda"}
    speed = [
        key | {"model": m, "width": w, "step_ms": 2.0 * w, "inference_ms": 1.0}
        for m in accuracies
        for w in (4, 8)
    ]
    record = {"runs": runs, "speed": speed}
    found = scaling.analyse(record)
    assert list(found) == ["forda"]
    assert found["forda"]["accuracy"] == pytest.approx(0.605)
    assert found["forda"]["smallest"]["transformer"]["parameters"] == 40
    ratio = found["forda"]["transformer_over_resonance"]
    assert (ratio["parameters"], ratio["train_seconds"], ratio["inference_ms"]) == (2, 2, 1)
    (panel,) = scaling.draw(record).axes
    assert (panel.get_title(), panel.get_xscale()) == ("FordA", "log")
    assert panel.get_legend_handles_labels()[1] == list(accuracies)
    assert scaling.analyse({"runs": runs[:4], "speed": speed}) == {}
