"""experiments/forecasting.py: closed forms by hand, trainings of one budget, and what its table says."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from experiments import forecasting
from resonance_jax.data import dataset as datasets
from resonance_jax.data.forecasting import HISTORY, HORIZONS, SERIES, forecast_splits
from resonance_jax.data.split import Dataset


@pytest.fixture
def waves(monkeypatch):
    """A day's wave and noise, in the place of every series."""
    rng = np.random.default_rng(0)
    time = np.arange(1400)[:, None]
    series = np.sin(2 * np.pi * time / 24) + 0.1 * rng.normal(size=(1400, 1))
    series[700:703] = np.nan
    dataset = Dataset("waves", *forecast_splits(series, 96, HISTORY), ())
    monkeypatch.setattr(forecasting, "load_dataset", lambda name, folder: dataset)
    return dataset


@pytest.mark.parametrize("center", [True, False])
def test_ridge_is_least_squares_with_a_penalty(waves, center):
    train = waves.train
    x, y = (np.array(a, float)[..., 0] for a in (train.inputs, train.labels))
    whole = np.isfinite(y).all(axis=1)
    x, y = x[whole], y[whole]
    mean = x.mean(axis=1, keepdims=True) if center else 0
    design = np.c_[x - mean, np.ones(len(x))]
    rows = np.concatenate([design, np.sqrt(3.0) * np.eye(design.shape[1])])
    targets = np.concatenate([y - mean, np.zeros((design.shape[1], y.shape[1]))])
    weights = np.linalg.lstsq(rows, targets, rcond=None)[0]
    forecast = forecasting.ridge(3.0, center, forecasting.normal_equations(train, center))
    np.testing.assert_allclose(forecast(x[:5]), (design @ weights + mean)[:5], atol=1e-6)


def test_closed_forms_are_scored_over_what_was_observed(waves):
    day = forecasting.fit_closed("wind", 96, "naive_day", None)
    expected = np.tile(waves.test.inputs[:, -24:], (1, 4, 1)) - waves.test.labels
    np.testing.assert_allclose(day["mse"], np.nanmean(expected**2), rtol=1e-5)
    np.testing.assert_allclose(day["mae"], np.nanmean(np.abs(expected)), rtol=1e-5)
    ridge = forecasting.fit_closed("wind", 96, "ridge", None)
    assert ridge["mse"] < 0.7 * day["mse"] and ridge["parameters"] == 337 * 96


def test_trainings_have_one_budget():
    assert {len(trials) for trials in forecasting.TRIALS.values()} == {4}
    for data in SERIES:
        for horizon in HORIZONS:
            configs: list[Any] = [
                forecasting.make_config(data, horizon, model, settings, 0)
                for model, trials in forecasting.TRIALS.items()
                for settings in trials.values()
            ]
            assert len({(c.num_epochs, c.batch_size, c.weight_decay) for c in configs}) == 1
            name = f"forecast_{data}_{horizon}"
            assert {c.dataset for c in configs} == {name, f"{name}_calendar"}
            assert {c.model.output_dim for c in configs} == {horizon}
    assert set(forecasting.TRIALS) == set(forecasting.KINDS)
    assert all(f"forecast_{name}_96" in datasets.available_datasets() for name in SERIES)


def test_the_best_trial_is_run_once_and_the_table_marks_the_lowest(tmp_path, monkeypatch, capsys):
    results = forecasting.Results(tmp_path / "forecasting.json")
    for trial, error in (("small", 0.3), ("large", 0.2)):
        key = {"data": "wind", "model": "resonance", "trial": trial}
        results.add("search", key, {"validation_mse": error})
    assert results.best("wind", "resonance") == "large"
    for model, error in (("resonance", 0.5), ("ridge", 0.25)):
        key = {"data": "wind", "horizon": 96, "model": model, "seed": 0}
        results.add("runs", key, {"mse": error, "mae": 1 - error})
    monkeypatch.setattr(forecasting, "train", None)
    forecasting.search(results, None, "wind", "resonance", "small")
    forecasting.run(results, None, "wind", 96, "resonance", 0)
    assert len(results.record["runs"]) == 2
    forecasting.print_table(results.record)
    squared, absolute = (
        line for line in capsys.readouterr().out.splitlines() if line.startswith("wind")
    )
    assert "0.2500*" in squared and "0.5000*" in absolute
    assert len(forecasting.draw(results.record).axes) == len(SERIES)
    with pytest.raises(ValueError, match="was measured with the budget"):
        other = dataclasses.replace(forecasting.BUDGET, steps=1)
        monkeypatch.setattr(forecasting.Results, "BUDGET", other)
        forecasting.Results(results.path)
