import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from experiments.kill_resume import differences, kill_and_resume
from resonance_jax.data.iterator import BatchIterator
from resonance_jax.training import run as run_module
from resonance_jax.training.loop import (
    evaluate_run,
    load_run,
    run_directory,
    train_and_evaluate,
)
from resonance_jax.training.metrics_log import MetricsLog, read_metrics
from resonance_jax.training.monitor import NonFiniteGradientError
from resonance_jax.training.result import RunResult
from resonance_jax.training.signals import TrainingInterrupted
from resonance_jax.training.state_arrays import CheckpointError, CheckpointMismatchError


@pytest.fixture
def at_batch(monkeypatch):
    """Calls a function when the n-th batch from now is taken."""
    original = BatchIterator.__next__

    def install(number, action):
        count = 0

        def take(self):
            nonlocal count
            count += 1
            batch = original(self)
            return (action(batch) or batch) if count == number else batch

        monkeypatch.setattr(BatchIterator, "__next__", take)

    return install


def test_a_run_leaves_its_result(toy_config, whole_run):
    folder, result = whole_run
    assert RunResult.from_json((folder / "result.json").read_text()) == result
    assert (result.model, result.steps, result.epochs) == ("resonance", 15, 3.0)
    confusion = np.array(result.confusion)
    assert confusion.sum(axis=1).tolist() == [9, 9]
    assert result.test_accuracy == confusion.trace() / 18
    assert result.peak_memory_bytes > 4 * result.parameters
    assert result.class_names == ["1", "2"]
    assert {"python", "jax", "jaxlib", "flax", "optax"} == set(result.versions)
    again = evaluate_run(folder)
    assert (again["step"], again["accuracy"]) == (15, result.test_accuracy)
    assert again["confusion"] == result.confusion
    np.testing.assert_allclose(again["loss"], result.test_loss, rtol=1e-6)
    config, model, variables = load_run(folder)
    assert dataclasses.replace(config, keep_checkpoints=2) == toy_config
    outputs: Any = model.apply(variables, np.zeros((3, 12, 1), np.float32))
    assert outputs.shape == (3, 2)


def test_metrics_are_complete(whole_run):
    records = read_metrics(whole_run[0] / "metrics.jsonl")
    train = [r for r in records if r["kind"] == "train"]
    assert [r["step"] for r in train] == [3, 6, 9, 12, 15]
    assert set(train[0]) == {
        *("kind", "step", "epoch", "loss", "accuracy", "examples_per_second", "skipped"),
        *("grad_norm", "grad_norm_magnitude", "grad_norm_phase", "grad_norm_other"),
        *("learning_rate", "learning_rate_magnitude", "learning_rate_phase"),
    }
    evaluations = [(r["split"], r["step"]) for r in records if r["kind"] == "eval"]
    assert evaluations == [*(("validation", step) for step in (5, 10, 15)), ("test", 15)]


@pytest.mark.parametrize("number", [2, 5, 11])
def test_an_interrupted_run_continues_bit_for_bit(
    toy_config, whole_run, tmp_path, at_batch, number
):
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.MonkeyPatch.context() as patch:
        at_batch(number, lambda _: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterrupted, match="run the same command again") as caught:
            train_and_evaluate(toy_config, tmp_path, progress=False)
        patch.undo()
    assert (caught.value.step, caught.value.signal_number) == (number, signal.SIGINT)
    assert caught.value.run_dir == tmp_path
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert not (tmp_path / "result.json").exists()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "step": 14}\n{"kind": "tr')
    result = train_and_evaluate(toy_config, tmp_path, progress=False)
    assert differences(whole_run[0], tmp_path) == []
    assert result.confusion == whole_run[1].confusion
    assert result.train_seconds > 0


def test_a_finished_run_is_not_trained_again(toy_config, whole_run, monkeypatch):
    monkeypatch.setattr(run_module, "get_program", None)
    config = dataclasses.replace(toy_config, log_every=7)
    assert train_and_evaluate(config, whole_run[0], progress=False) == whole_run[1]


def test_a_crash_before_the_result_is_written(toy_config, whole_run, tmp_path, monkeypatch):
    def fail(self, *_):
        raise KeyError("crash")

    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "_result", fail)
        with pytest.raises(KeyError):
            train_and_evaluate(toy_config, tmp_path, progress=False)
    train_and_evaluate(toy_config, tmp_path, progress=False)
    assert differences(whole_run[0], tmp_path) == []


def test_fewer_steps_then_the_rest(toy_config, whole_run, tmp_path):
    short = train_and_evaluate(toy_config, tmp_path, progress=False, max_steps=2)
    assert (short.steps, short.epochs) == (2, 0.4)
    full = train_and_evaluate(toy_config, tmp_path, progress=False)
    assert (full.steps, full.confusion) == (15, whole_run[1].confusion)


@pytest.mark.end_to_end
def test_afresh(toy_config, tmp_path):
    other = dataclasses.replace(toy_config, seed=1, validation_fraction=0.0)
    train_and_evaluate(other, tmp_path, progress=False, max_steps=1)
    with pytest.raises(CheckpointMismatchError, match=r"seed \(saved 1, now 0\)"):
        train_and_evaluate(toy_config, tmp_path, progress=False, max_steps=1)
    result = train_and_evaluate(toy_config, tmp_path, progress=False, max_steps=1, resume=False)
    assert result.seed == 0
    assert [r["step"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [1, 1, 1]


@pytest.mark.error_message
def test_bad_steps_stop_the_run(toy_config, tmp_path, monkeypatch):
    original = BatchIterator.__next__

    def spoil(self):
        batch = original(self)
        return batch | {"inputs": batch["inputs"] * np.float32("nan")}

    monkeypatch.setattr(BatchIterator, "__next__", spoil)
    config = dataclasses.replace(toy_config, max_skipped_steps=2)
    with pytest.raises(
        NonFiniteGradientError, match=r"2 steps in a row had to be skipped, .*step 2"
    ):
        train_and_evaluate(config, tmp_path, progress=False)


def test_a_skipped_step_leaves_the_mean_of_the_others(toy_config, tmp_path, monkeypatch):
    original, given = BatchIterator.__next__, []

    def spoil_the_first(self):
        batch = original(self)
        given.append(batch)
        return batch | {"inputs": batch["inputs"] * np.float32("nan")} if len(given) == 1 else batch

    monkeypatch.setattr(BatchIterator, "__next__", spoil_the_first)
    config = dataclasses.replace(toy_config, log_every=2)
    train_and_evaluate(config, tmp_path, progress=False, max_steps=2)
    line = read_metrics(tmp_path / "metrics.jsonl")[0]
    assert line["step"] == 2 and line["skipped"] == 1
    assert np.isfinite(line["loss"]) and line["accuracy"] <= 1


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output_dim": 3}, "Toy has 2 classes: expected model.output_dim 2, got 3"),
        ({"input_dim": 4}, r"an example of Toy is \[12, 1\]: expected model.input_dim 1, got 4"),
        (
            {"head": "regress"},
            "Toy is a classification: expected model.head 'classify', got 'regress'",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_data(toy_config, tmp_path, change, message):
    model = dataclasses.replace(toy_config.model, **change)
    with pytest.raises(ValueError, match=message):
        train_and_evaluate(dataclasses.replace(toy_config, model=model), tmp_path)


@pytest.mark.error_message
def test_a_disk_full_of_metrics(toy_config, whole_run, tmp_path, monkeypatch):
    def fail(self, record):
        if record["step"] >= 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, record)

    write = MetricsLog.write
    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", fail)
        with pytest.raises(CheckpointError, match=r"disk is full: .* checkpoints are intact"):
            train_and_evaluate(toy_config, tmp_path, progress=False)
    train_and_evaluate(toy_config, tmp_path, progress=False)
    assert differences(whole_run[0], tmp_path) == []


@pytest.mark.error_message
def test_folders_without_a_run(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match="holds no checkpoint: train it first"):
            load_run(folder)


@pytest.mark.error_message
def test_max_steps_of_none(toy_config, tmp_path):
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        train_and_evaluate(toy_config, tmp_path, max_steps=0)


def test_plain_lines_and_folder(toy_config, tmp_path, capsys):
    folder = run_directory(toy_config, tmp_path)
    assert folder == tmp_path / "toy" / "resonance-seed0"
    config = dataclasses.replace(toy_config, tensorboard=True)
    train_and_evaluate(config, folder, max_steps=5)
    lines = capsys.readouterr().out.splitlines()
    assert [line[: line.index(" loss")] for line in lines] == [
        "toy resonance: epoch 1, validation",
        "toy resonance: epoch 1, test",
    ]
    assert list((folder / "tensorboard").glob("events*"))


@pytest.mark.slow_process
def test_sigterm_saves_and_ends_the_process(toy_config, tmp_path):
    config = dataclasses.replace(toy_config, num_epochs=100_000)
    code = (
        "import sys; from resonance_jax.training.loop import *; from pathlib import Path\n"
        "try: train_and_evaluate(TrainConfig.from_json(Path(sys.argv[1]).read_text()), sys.argv[2])\n"
        "except Exception as error: print(error); sys.exit(128 + error.signal_number)\n"
    )
    path, folder = tmp_path / "given.json", tmp_path / "run"
    path.write_text(config.to_json())
    command = [sys.executable, "-c", code, str(path), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    while process.poll() is None and not read_metrics(folder / "metrics.jsonl"):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step" in output
    newest = max(int(entry.name) for entry in (folder / "checkpoints").iterdir())
    assert f"after step {newest};" in output
    assert json.loads((folder / "config.json").read_text())["num_epochs"] == 100_000


@pytest.mark.slow_process
def test_kill_and_resume(toy_config, whole_run, tmp_path):
    found = kill_and_resume(toy_config, tmp_path, whole=whole_run[0], kills=1, seed=0)
    assert found["kills"] == 1
    assert found["differences"] == []
