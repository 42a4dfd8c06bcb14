"""Several processes from the command line: signals passed on, a death that ends all, and mistakes named."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resonance_jax import cli

DRIVER = """
import subprocess, sys
from resonance_jax.training import launch

launch._start = lambda command, index, devices: subprocess.Popen([sys.executable, "-c", sys.argv[1]])
launch.GRACE = 0.2
sys.exit(launch.launch(["train", "forda"], 2))
"""
CHILD = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as a training does
os.write(1, b"ready\\n")
time.sleep(60)
"""


def children(process: subprocess.Popen) -> list[int]:
    """The processes that a launcher has started, in order."""
    return list(
        map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
    )


@pytest.mark.slow_process
@pytest.mark.parametrize("killed", [None, 0, 1])
def test_signals_are_passed_on_and_a_death_ends_all(killed):
    """A whole training that is launched and killed is in experiments/kill_resume.py."""
    command = [sys.executable, "-c", DRIVER, CHILD]
    pipes: Any = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process = subprocess.Popen(command, **pipes)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    started = children(process)
    if killed is None:
        process.send_signal(signal.SIGTERM)
    else:
        os.kill(started[killed], signal.SIGKILL)
    said = process.communicate(timeout=30)[1]  # half of the time that a child sleeps
    expected = signal.SIGTERM if killed is None else signal.SIGKILL
    assert process.returncode == 128 + expected, said
    assert (f"process {killed} of 2 was ended by SIGKILL" in said) == (killed is not None)
    assert not any(Path(f"/proc/{child}").exists() for child in started)


ORPHAN = """
import contextlib, os, time
from resonance_jax.training import cluster
os.environ[cluster.LAUNCHER] = "1"  # which is not the parent of this process
with contextlib.suppress(ValueError):
    cluster.join("here", 1, 0)
time.sleep(60)
"""


@pytest.mark.slow_process
def test_a_process_whose_launcher_is_gone_is_asked_to_end():
    process = subprocess.run([sys.executable, "-c", ORPHAN], timeout=120)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.error_message
def test_words_that_cannot_be_parsed_end_a_distributed_training_with_their_status(monkeypatch):
    left = []
    monkeypatch.setattr(cli.cluster, "join", lambda *_, **__: None)
    monkeypatch.setattr(cli.cluster, "leave", lambda status, **_: left.append(status) or status)
    with pytest.raises(SystemExit):
        cli.main(["train", "quickstart", "--distributed", "--num-epoch", "3"])
    assert left == [2]


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--process-id", "0"], "need --distributed as well"),
        (["--distributed", "--process-id", "0"], "got no --coordinator and no --num-processes."),
        (
            ["AT", "here", "2", "0"],
            "--coordinator must be HOST:PORT with a port of 1 .. 65535, got",
        ),
        (["AT", "localhost:99999", "2", "0"], "got 'localhost:99999'"),
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
