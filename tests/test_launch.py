"""Training from the command line in several processes: started, interrupted, killed, and mistakes named."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from resonance_jax import cli
from resonance_jax.training.metrics_log import read_metrics

EXPERIMENT = """
from resonance_jax.models.baselines import FNetConfig
from resonance_jax.training.config import TrainConfig

MODELS = ("fnet",)

def get_config(model="fnet"):
    model = FNetConfig(input_dim=1, output_dim=2, hidden_dim=4, num_layers=1, mlp_dim=0)
    return TrainConfig(
        experiment="small", dataset="Small", model=model, batch_size=4, num_epochs=100_000,
        log_every=1, checkpoint_every=5, eval_every=1000,
    )
"""


def children(process: subprocess.Popen) -> list[int]:
    """The processes that a launcher has started, in order."""
    return list(
        map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    )


def start(folder: Path) -> subprocess.Popen:
    """Launches the training, and waits until it has logged two steps of its own."""
    command = [sys.executable, "-m", "resonance_jax.cli", "launch", "-n", "2"]
    command += ["--devices-per-process", "2", "--", "train", str(folder / "small.py"), "--quiet"]
    command += ["--data-dir", str(folder), "--out", str(folder / "runs")]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    log = folder / "runs" / "small" / "fnet-seed0" / "metrics.jsonl"
    before = log.stat().st_mtime_ns if log.exists() else 0
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (log.exists() and log.stat().st_mtime_ns > before):
        time.sleep(0.02)
    size = len(read_metrics(log))
    while process.poll() is None and len(read_metrics(log)) < size + 2:
        time.sleep(0.02)
    return process


def end(process: subprocess.Popen) -> tuple[int, str]:
    """Waits for a launcher: its status and what it and the processes have said."""
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


@pytest.mark.slow_process
def test_a_training_is_interrupted_killed_and_continued(tmp_path, quick_compile):
    (tmp_path / "small.py").write_text(EXPERIMENT)
    rng = np.random.default_rng(0)
    for part, rows in (("TRAIN", 8), ("TEST", 6)):
        table = np.column_stack([np.arange(rows) % 2, rng.normal(size=(rows, 12))])
        np.savetxt(tmp_path / f"Small_{part}.tsv", table, delimiter="\t", fmt="%.5f")
    run = tmp_path / "runs" / "small" / "fnet-seed0"
    process = start(tmp_path)
    process.send_signal(signal.SIGTERM)
    status, said = end(process)
    assert status == 128 + signal.SIGTERM, said
    saved = max(int(entry.name) for entry in (run / "checkpoints").iterdir())
    assert said.count(f"stopped by SIGTERM after step {saved};") == 2
    assert json.loads((run / "config.json").read_text())["num_devices"] == 0
    process = start(tmp_path)
    os.kill(children(process)[0], signal.SIGKILL)  # the coordinator
    status, said = end(process)
    assert status == 128 + signal.SIGKILL, said
    assert "process 0 of 2 was ended by SIGKILL" in said
    assert "[1] resonance-jax: another process of this training, or its coordinator" in said
    steps = [record["step"] for record in read_metrics(run / "metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1)) and steps[-1] > saved


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--process-id", "0"], "need --distributed as well"),
        (["--distributed", "--process-id", "0"], "got no --coordinator and no --num-processes."),
        (["AT", "here", "2", "0"], "--coordinator must be HOST:PORT, got 'here'."),
        (["AT", "localhost:1", "2", "2"], "--process-id must be in 0 .. 1, "),
        (["AT", "localhost:1", "2", "1", "--timeout", "0"], "cannot be reached within 0 s"),
        (["AT", "localhost:TAKEN", "2", "0"], "cannot be opened"),
    ],
)
def test_mistakes_in_distributed_are_named(capsys, words, message):
    with socket.create_server(("", 0)) as server:
        if words[0] == "AT":
            at = words[1].replace("TAKEN", str(server.getsockname()[1]))
            words = ["--distributed", "--coordinator", at, "--num-processes", *words[2:]]
            words.insert(5, "--process-id")
        assert cli.main(["train", "quickstart", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-n", "0", "--", "train", "quickstart"], "launch takes 1 or more processes of 1 or more"),
        (["-n", "2"], "expected -- train EXPERIMENT ..., got 'nothing'"),
        (["-n", "2", "--", "tune", "quickstart"], "launch runs 'train': expected"),
        (["-n", "2", "train", "quickstart"], "unrecognized arguments: train quickstart"),
    ],
)
def test_mistakes_in_launch_are_named(capsys, words, message):
    assert cli.main(["launch", *words]) == 2
    assert message in capsys.readouterr().err
