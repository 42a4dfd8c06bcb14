"""A forecaster through the same `train_and_evaluate`: errors in the place of accuracy, and a picture of forecasts."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from resonance_jax.data.dataset import load_dataset
from resonance_jax.data.forecasting import forecast_splits
from resonance_jax.data.split import Dataset
from resonance_jax.models.time_series import TimeSeriesConfig
from resonance_jax.training import loop, plots
from resonance_jax.training.compare import train_all
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.losses import middle_quantile
from resonance_jax.training.metrics_log import read_metrics
from resonance_jax.training.report import format_table
from resonance_jax.training.result import RunResult
from resonance_jax.training.tune import tune

pytestmark = pytest.mark.end_to_end
MODEL = TimeSeriesConfig(
    pred_horizon=4, context_length=12, input_dim=2, num_layers=0, normalization="none"
)
CONFIG = TrainConfig(
    experiment="toy",
    dataset="Waves",
    model=MODEL,
    num_epochs=4,
    batch_size=16,
    learning_rate=1e-2,
    validation_fraction=0.3,
    checkpoint_every=4,
    log_every=2,
)


@pytest.fixture(scope="module")
def waves():
    """Two noisy waves of 6 and 12 steps; some steps are missing."""
    rng = np.random.default_rng(0)
    time = np.arange(160)[:, None]
    series = np.sin(2 * np.pi * time / np.array([6, 12])) + 0.1 * rng.normal(size=(160, 2))
    series[rng.choice(160, 8)] = np.nan
    return Dataset("Waves", *forecast_splits(series, horizon=4, history=12), ())


@pytest.fixture(autouse=True)
def _data(monkeypatch, waves):
    monkeypatch.setattr(loop, "load_dataset", lambda name, folder: waves)


def test_a_run_leaves_its_errors_and_its_forecasts(tmp_path, waves, capsys):
    result = loop.train_and_evaluate(CONFIG, tmp_path)
    assert RunResult.from_json((tmp_path / "result.json").read_text()) == result
    assert (result.test_accuracy, result.confusion, result.class_names) == (None, [], [])
    assert set(result.scores) == set(result.validation_scores) == {"mse", "mae"}
    assert result.test_loss == result.scores["mse"]
    _, model, variables = loop.load_run(tmp_path)
    outputs = np.asarray(model.apply(variables, waves.test.inputs, waves.test.mask))
    error = outputs - waves.test.labels  # of every row, whatever the size of a batch
    np.testing.assert_allclose(result.scores["mse"], np.nanmean(error**2), rtol=1e-5)
    np.testing.assert_allclose(result.scores["mae"], np.nanmean(np.abs(error)), rtol=1e-5)
    examples = json.loads((tmp_path / "examples.json").read_text())
    assert len(examples) == 3 and len(examples[0]["inputs"]) == 12
    np.testing.assert_allclose(examples[-1]["forecast"], outputs[-1, :, 0], atol=1e-4)
    assert any(value is None for example in examples for value in example["inputs"])
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert {"loss", "mse", "mae"} <= set(records[0]) and "accuracy" not in records[0]
    evaluations = [record["mse"] for record in records if record["kind"] == "eval"]
    assert evaluations[0] > evaluations[-2]  # it learns
    assert (
        f"test loss {result.test_loss:.4f}, mse {result.scores['mse']:.4f}, mae"
        in capsys.readouterr().out
    )
    again = loop.evaluate_run(tmp_path)
    for name, score in result.scores.items():
        np.testing.assert_allclose(again[name], score, rtol=1e-6)


def test_quantiles_are_trained_by_their_own_loss_and_reported(tmp_path):
    model = dataclasses.replace(MODEL, quantiles=(0.1, 0.5, 0.9))
    configs = [dataclasses.replace(CONFIG, model=model, seed=seed) for seed in (0, 1)]
    results, report = train_all(
        configs, tmp_path, results=tmp_path / "results.json", progress=False, max_steps=2
    )
    assert 0 < results[0].test_loss < results[0].scores["mae"]
    summary = json.loads((tmp_path / "results.json").read_text())["summary"]["time_series"]
    scores = [result.scores["mse"] for result in results]
    np.testing.assert_allclose(summary["test_mse_mean"], np.mean(scores))
    np.testing.assert_allclose(
        summary["test_mae_std"], np.std([r.scores["mae"] for r in results], ddof=1)
    )
    text = report.read_text()
    for expected in (
        "Examples of",
        "test MSE",
        "test MAE",
        f"{np.mean(scores):.4f} ±",
        "Best test MSE",
    ):
        assert expected in text
    assert "Confusion" not in text and "accuracy" not in text
    console = Console(width=150, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(format_table(results))
    assert "MSE" in captured.get() and f"{np.mean(scores):.4f}" in captured.get()


def test_what_is_known_in_advance_is_learned_and_read(tmp_path, monkeypatch):
    """Noise that the covariates tell: without them there is nothing to learn."""
    series = np.random.default_rng(0).normal(size=(200, 2))
    known = (3 * series).astype(np.float32)
    splits = forecast_splits(series, horizon=4, history=12, covariates=known)
    data = Dataset("Told", *splits, ())
    monkeypatch.setattr(loop, "load_dataset", lambda name, folder: data)
    with pytest.raises(ValueError, match="a step of Told has 2 covariates: expected a model"):
        loop.train_and_evaluate(CONFIG, tmp_path / "none")
    model = dataclasses.replace(MODEL, covariate_dim=2)
    config = dataclasses.replace(CONFIG, model=model, num_epochs=20, learning_rate=3e-2)
    result = loop.train_and_evaluate(config, tmp_path / "told")
    assert result.scores["mse"] < 0.1 * np.var(data.test.labels)


def test_the_quantile_that_is_scored_is_the_one_drawn():
    forecast = [[0.0, 1.0, 5.0], [1.0, 2.0, 6.0]]
    example = {"inputs": [0.0, 1.0], "targets": [2.0, 3.0], "forecast": forecast}
    middle = middle_quantile((0.01, 0.05, 0.5))
    line = plots.forecasts([example], middle).axes[0].get_lines()[-1]
    np.testing.assert_array_equal(line.get_ydata(), [5.0, 6.0])
    assert middle_quantile((0.1, 0.5, 0.9)) == 1


def test_trials_are_ranked_by_their_error(tmp_path):
    trials = [
        (name, dataclasses.replace(CONFIG, learning_rate=r))
        for name, r in (("a", 1e-2), ("b", 1e-6))
    ]
    record = tune(trials, tmp_path, tmp_path / "t.json", progress=False, max_steps=6)
    first, second = (trial["validation_mse"] for trial in record["trials"])
    assert first < second and record["best"] == {"time_series": "a"}


@pytest.mark.error_message
def test_a_forecaster_must_fit_the_targets(tmp_path, waves):
    for changes, message in (
        (
            {"pred_horizon": 5},
            "Waves has 4 steps to forecast: expected model.pred_horizon 4, got 5",
        ),
        ({"input_dim": 1}, r"an example of Waves is \[12, 2\]: expected model.input_dim 2"),
        (
            {
                "head": "classify",
                "num_classes": 2,
                "num_layers": 1,
                "patch_size": 4,
                "patch_stride": 4,
            },
            "Waves is a forecast: expected model.head 'forecast'",
        ),
    ):
        model = dataclasses.replace(MODEL, **changes)
        with pytest.raises(ValueError, match=message):
            loop.train_and_evaluate(dataclasses.replace(CONFIG, model=model), tmp_path)


def test_results_of_earlier_runs_are_read(tmp_path):
    result = loop.train_and_evaluate(CONFIG, tmp_path, progress=False, max_steps=1)
    old = json.loads(result.to_json())
    del old["scores"], old["validation_scores"]
    old |= {"test_accuracy": 0.9, "confusion": [[1]], "class_names": ["a"]}
    found = RunResult.from_json(json.dumps(old))
    assert (found.test_accuracy, found.scores) == (0.9, {})


def test_the_same_model_classifies(toy_config, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "load_dataset", load_dataset)
    changes = dict(input_dim=1, head="classify", num_classes=2, num_layers=1, hidden_dim=4)
    patches = dict(patch_size=4, patch_stride=4, block_frequencies=2, mlp_dim=0)
    model = dataclasses.replace(MODEL, **changes, **patches)
    config = dataclasses.replace(toy_config, model=model)
    result = loop.train_and_evaluate(config, tmp_path, progress=False, max_steps=2)
    assert np.sum(result.confusion) == 18 and result.test_accuracy is not None
    assert result.scores == {} and not (tmp_path / "examples.json").exists()
