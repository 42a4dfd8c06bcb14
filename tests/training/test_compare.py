"""Several runs of one experiment: statistics by hand, and the files that are left behind."""

import dataclasses
import json
import shutil
import statistics

import numpy as np
import pytest

from resonance_jax.models.baselines import FNetConfig
from resonance_jax.training.compare import (
    plain_differences,
    read_spectra,
    train_all,
    write_results,
)
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.loop import load_run
from resonance_jax.training.result import RunResult

FNET = FNetConfig(input_dim=1, output_dim=2, hidden_dim=4, num_layers=1, mlp_dim=0)


def result_of(model, seed, accuracy, seconds, memory: int | None = 2**20):
    return RunResult(
        experiment="forda",
        model=model,
        dataset="FordA",
        seed=seed,
        test_accuracy=accuracy,
        test_loss=0.5,
        validation_accuracy=None,
        parameters=100,
        seconds_per_epoch=seconds,
        compile_seconds=1.0,
        peak_memory_bytes=memory,
        train_seconds=10 * seconds,
        steps=20,
        epochs=10.0,
        confusion=[[1, 0], [0, 1]],
        class_names=["a", "b"],
        date="2025-06-01T00:00:00+00:00",
        commit=None,
        device="cpu: cpu",
        versions={},
    )


def test_results_are_means_and_spreads_over_seeds(tmp_path):
    accuracies, seconds = (0.9, 0.93, 0.97), (1.0, 5.0, 2.0)
    results = [
        result_of("resonance", seed, *row)
        for seed, row in enumerate(zip(accuracies, seconds, strict=True))
    ]
    results.insert(1, result_of("fnet", 0, 0.7, 3.0, memory=None))
    configs = [TrainConfig(num_epochs=7), TrainConfig(model=FNET, data_dir="/data")]
    path = tmp_path / "deep" / "results.json"
    write_results(path, results, configs, command="train it")
    record = json.loads(path.read_text())
    assert (record["experiment"], record["dataset"]) == ("forda", "FordA")
    assert record["command"] == "train it" and "jax" in record["versions"]
    assert list(record["summary"]) == ["resonance", "fnet"]
    mean, summary = sum(accuracies) / 3, record["summary"]["resonance"]
    spread = np.sqrt(sum((a - mean) ** 2 for a in accuracies) / 2)
    np.testing.assert_allclose(summary["test_accuracy_mean"], mean)
    np.testing.assert_allclose(summary["test_accuracy_std"], spread)
    assert summary["seeds"] == [0, 1, 2] and summary["parameters"] == 100
    assert summary["seconds_per_epoch"] == statistics.median(seconds) == 2.0
    assert (summary["train_seconds"], summary["peak_memory_bytes"]) == (20.0, 2**20)
    alone = record["summary"]["fnet"]
    assert alone["test_accuracy_std"] is None and alone["peak_memory_bytes"] is None
    assert [run["test_accuracy"] for run in record["runs"]] == [0.9, 0.7, 0.93, 0.97]
    assert record["configs"]["resonance"]["num_epochs"] == 7


def test_differences_are_what_is_not_at_its_default():
    config = TrainConfig(seed=5, data_dir="/data", num_epochs=3, augment=("jitter",), model=FNET)
    found = plain_differences(config)
    assert set(found) == {"num_epochs", "augment", "model"}
    assert (found["num_epochs"], found["augment"]) == (3, ["jitter"])
    assert (found["model"]["kind"], found["model"]["hidden_dim"]) == ("fnet", 4)
    assert set(plain_differences(TrainConfig())) == {"model"}


@pytest.mark.end_to_end
def test_train_all_trains_what_is_missing(whole_run, toy_config, tmp_path):
    folder, finished = whole_run
    shutil.copytree(folder, tmp_path / "toy" / "resonance-seed0")
    configs = [toy_config, dataclasses.replace(toy_config, model=FNET)]
    results, page = train_all(
        configs,
        tmp_path,
        command="the command",
        results=tmp_path / "results.json",
        progress=False,
        max_steps=1,
    )
    assert results[0] == finished
    assert (results[1].model, results[1].steps) == ("fnet", 1)
    assert page == tmp_path / "toy" / "report.html"
    text = page.read_text()
    assert "the command" in text and "fnet" in text and "layer_0" in text
    record = json.loads((tmp_path / "results.json").read_text())
    assert [run["model"] for run in record["runs"]] == ["resonance", "fnet"]
    assert record["runs"][0] == dataclasses.asdict(finished)
    assert read_spectra(tmp_path / "toy" / "fnet-seed0") == []


@pytest.mark.end_to_end
def test_spectra_are_those_of_the_latest_checkpoint(whole_run, toy_folder):
    folder, _ = whole_run
    _, _, variables = load_run(folder)
    layer = variables["params"]["layer_0"]["resonance"]
    for spectra in (read_spectra(folder), read_spectra(folder, toy_folder)):
        (spectrum,) = spectra
        np.testing.assert_allclose(spectrum.frequencies, np.arange(2) / 12, rtol=1e-6)
        np.testing.assert_allclose(spectrum.magnitude, np.exp(layer["log_magnitude"]), rtol=1e-6)
        np.testing.assert_allclose(spectrum.phase, layer["phase"])


@pytest.mark.error_message
def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    config = TrainConfig()
    other = dataclasses.replace(config, experiment="other")
    for configs, message in (
        ([], "expected runs of one experiment, got none"),
        ([config, other], r"expected runs of one experiment, got \['forda', 'other'\]"),
        ([config, config], "a model and a seed of its own; twice: .*resonance-seed0"),
    ):
        with pytest.raises(ValueError, match=message):
            train_all(configs, tmp_path)
    assert not list(tmp_path.iterdir())
