"""experiments/quaternion.py: models of one size, and what its tables say."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import quaternion, scaling
from resonance_jax.data.dataset import DataNotFoundError
from resonance_jax.models.baselines import make_model
from resonance_jax.models.quaternion_net import QRHNetConfig


@pytest.mark.parametrize("name", quaternion.DATA)
def test_all_models_have_the_same_size(name):
    try:
        counts = {
            model: quaternion.count_parameters(quaternion.make_model_config(name, model), name)
            for model in quaternion.MODELS
        }
    except DataNotFoundError as absent:
        pytest.skip(str(absent))
    assert all(
        abs(n - counts["resonance"]) <= 0.02 * counts["resonance"] for n in counts.values()
    ), counts
    configs = {quaternion.make_model_config(name, model) for model in quaternion.MODELS}
    assert len(configs) == len(quaternion.MODELS)
    assert {config.hidden_dim for config in configs} == {quaternion.WIDTH}


def test_alpha_is_read_where_it_moves(quick_compile):
    base = QRHNetConfig(1, 2, hidden_dim=8, mlp_dim=4, num_layers=1, alpha=0.5)
    x = np.zeros((1, 16, 1), np.float32)
    for mode, expected in (("fixed", []), ("learned", [0.5]), ("fractal", [0.5])):
        config = dataclasses.replace(base, alpha_mode=mode)
        variables = jax.jit(make_model(config).init)(jax.random.key(0), x)
        np.testing.assert_allclose(quaternion.read_alpha(config, variables), expected, rtol=1e-6)
    variables["fractal"]["layer_0"]["qrh"]["filter"]["dimension"] = 1.5
    np.testing.assert_allclose(quaternion.read_alpha(config, variables), [0.5 * 0.8], rtol=1e-6)


def test_the_summary_follows_from_the_runs(tmp_path):
    results = quaternion.Results(tmp_path / "quaternion.json")
    for model, accuracies in {
        "qrh": (0.8, 0.82),
        "qrh-real": (0.9, 0.92),
        "resonance": (0.7,),
    }.items():
        for seed, accuracy in enumerate(accuracies):
            key = {"data": "forda", "model": model, "seed": seed}
            results.add("runs", key, {"accuracy": accuracy})
    scores = results.record["scores"]["forda"]
    np.testing.assert_allclose(scores["qrh"]["accuracy"], 0.81)
    assert scores["resonance"]["std"] is None and scores["resonance"]["seeds"] == 1
    contrasts = results.record["contrasts"]["forda"]
    assert set(contrasts) == {"qrh − qrh-real"}
    np.testing.assert_allclose(contrasts["qrh − qrh-real"]["difference"], -0.1)
    assert results.record["tasks"]["forda"]["num_epochs"] == scaling.TASKS["forda"].num_epochs
    again = quaternion.Results(tmp_path / "quaternion.json")
    assert again.find("runs", data="forda", model="qrh", seed=1) == results.record["runs"][1]


def test_a_run_is_written_once(tmp_path, monkeypatch, quick_compile):
    try:
        dataset = scaling.load("forda")
    except DataNotFoundError as absent:
        pytest.skip(str(absent))
    few = dataclasses.replace(
        dataset, train=dataset.train.take(np.arange(64)), test=dataset.test.take(np.arange(64))
    )
    monkeypatch.setattr(scaling, "load", lambda name: few)
    task = dataclasses.replace(scaling.TASKS["forda"], num_epochs=1)
    monkeypatch.setitem(scaling.TASKS, "forda", task)
    results = quaternion.Results(tmp_path / "quaternion.json")
    results.add(
        "search", {"data": "forda", "model": "qrh", "rate": 1e-3}, {"validation_accuracy": 0.9}
    )
    quaternion.run(results, "forda", "qrh-fractal", 0)
    (row,) = results.record["runs"]
    assert 0 <= row["accuracy"] <= 1 and row["rate"] == 1e-3
    assert len(row["alpha"]) == 2 and all(0.1 <= alpha <= 1.1 for alpha in row["alpha"])
    monkeypatch.setattr(scaling, "train_run", None)
    quaternion.run(results, "forda", "qrh-fractal", 0)
