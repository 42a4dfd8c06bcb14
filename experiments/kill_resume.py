"""A training that is killed at random moments ends in the same bits as one that is left alone.

Claim: kill −9 at 10 random moments, resumed each time: parameters, optimizer, moving average and metrics are identical.
    With --processes 2 a random one of two processes, each of two devices, is killed.
Command: python -m experiments.kill_resume [--processes 2]
Hardware: 2 CPU cores
Time: 2.5 minutes beside other work; with two processes 6 minutes
Score: 10 kills between steps 39 and 438 of 480, no bit differs (results/kill_resume.json); with two processes between
    steps 42 and 438, no bit differs, the other one ends within 11 s (results/kill_resume_processes.json)
"""

import argparse
import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training.checkpoint import CheckpointStore
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.loop import run_directory
from resonance_jax.training.metrics_log import read_metrics
from resonance_jax.training.result import surroundings, write_atomically

MODELS = ("resonance",)

WORKER = """
import sys
from pathlib import Path
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.loop import train_and_evaluate
train_and_evaluate(TrainConfig.from_json(Path(sys.argv[1]).read_text()), sys.argv[2], progress=False)
"""


EXPERIMENT = """
from pathlib import Path
from resonance_jax.training.config import TrainConfig

MODELS = ("given",)

def get_config(model):
    return TrainConfig.from_json(Path(__file__).with_suffix(".json").read_text())
"""
DEVICES = 2  # of each of several processes


def get_config(model: str = "resonance") -> TrainConfig:
    """A short training with a moving average, dropout, augmentation and a validation split."""
    if model not in MODELS:
        raise ValueError(f"this experiment trains {', '.join(MODELS)}, not {model!r}")
    return TrainConfig(
        experiment="kill_resume",
        dataset="ECG200",
        model=ResonanceNetConfig(1, 2, hidden_dim=16, num_layers=1, num_frequencies=4),
        num_epochs=60,
        batch_size=10,
        ema_decay=0.99,
        augment=("jitter",),
        validation_fraction=0.2,
        checkpoint_every=20,
        log_every=3,
        eval_every=10,
    )


def kill_and_resume(
    config: TrainConfig,
    folder: Path,
    *,
    kills: int,
    seed: int,
    whole: Path | None = None,
    processes: int = 1,
) -> dict[str, Any]:
    """Trains in processes that are killed at random moments, and compares with a whole run.

    Args:
        config: what to train.
        folder: where the runs go.
        kills: how often to kill.
        seed: chooses the moments.
        whole: folder of a finished, uninterrupted run of `config`; None trains one.
        processes: how many train together; of several a random one is killed each time.
    Returns:
        {"kills", "steps" (the last one logged at each kill), "victims" (which process was killed), "seconds_to_end"
        (from a kill to the end of all processes), "unreadable" (checkpoints that could not be read), "differences"
        (names of what differs)}.
    """
    given = folder / "given.json"
    given.write_text(config.to_json())
    given.with_suffix(".py").write_text(EXPERIMENT)
    if whole is None:
        whole = run_directory(config, folder / "whole")
        if _start(given, whole, processes).wait() != 0:
            raise RuntimeError("the uninterrupted training failed")
    result = json.loads((whole / "result.json").read_text())
    # After a line of the log the kill waits for up to two more, to strike between lines as well.
    pause = 2 * config.log_every * result["train_seconds"] / result["steps"]
    moments = random.Random(seed)
    killed = run_directory(config, folder / "killed")
    steps, victims, seconds = [], [], []
    while len(steps) < kills:
        # Each kill has an equal part of the training to strike in, at a random step.
        target = (len(steps) + moments.random()) * result["steps"] / (kills + 1)
        process = _start(given, killed, processes)
        _wait_for_step(process, killed, target)
        time.sleep(moments.uniform(0, pause))
        victim = moments.randrange(processes) if processes > 1 else 0
        struck = time.perf_counter()
        _strike(process, victim, processes)
        if process.wait() in (-signal.SIGKILL, 128 + signal.SIGKILL):
            steps.append(_last_step(killed))
            victims.append(victim)
            seconds.append(round(time.perf_counter() - struck, 1))
        elif process.returncode:
            raise RuntimeError(f"the training failed with exit status {process.returncode}")
        else:  # It had ended before the kill, on a machine that had got faster: from the start.
            shutil.rmtree(killed)
            steps, victims, seconds, pause = [], [], [], pause / 4
    if _start(given, killed, processes).wait() != 0:
        raise RuntimeError("the last resumption failed")
    unreadable = [path.name for path in (killed / "unreadable").glob("*")]
    found = {"kills": kills, "steps": steps, "victims": victims, "seconds_to_end": seconds}
    return found | {"unreadable": unreadable, "differences": differences(whole, killed)}


def differences(whole: Path, other: Path) -> list[str]:
    """Names the arrays and metrics that differ between the last checkpoints of two runs."""
    first, second = (dict(_leaves(_arrays(run))) for run in (whole, other))
    names = sorted(first.keys() | second.keys())
    wrong = [
        name
        for name in names
        if name not in first or name not in second or not _same(first[name], second[name])
    ]
    return wrong + ["metrics"] * (_metrics(whole) != _metrics(other))


def _start(given: Path, folder: Path, processes: int) -> subprocess.Popen:
    if processes == 1:
        command = [sys.executable, "-c", WORKER, str(given), str(folder)]
        return subprocess.Popen(command, env=os.environ)
    command = [sys.executable, "-m", "resonance_jax.cli", "launch", "-n", str(processes)]
    command += ["--devices-per-process", str(DEVICES), "--", "train"]
    command += [str(given.with_suffix(".py")), "--out", str(folder.parents[1]), "--quiet"]
    return subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL)


def _strike(process: subprocess.Popen, victim: int, processes: int) -> None:
    """Kills a process, or one of those that it has launched; nothing where they have ended."""
    if processes == 1:
        process.send_signal(signal.SIGKILL)
        return
    try:
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(listed[victim]), signal.SIGKILL)
    except (OSError, IndexError) as error:
        print(f"nothing was left to kill ({error})", file=sys.stderr)


def _wait_for_step(process: subprocess.Popen, folder: Path, target: float) -> None:
    """Waits until the process has logged a step of its own beyond the target, or ended."""
    path = folder / "metrics.jsonl"
    before = path.stat().st_mtime_ns if path.exists() else 0
    trimmed: int | None = None
    while process.poll() is None:
        time.sleep(0.001)
        if not path.exists() or path.stat().st_mtime_ns == before:
            continue
        # The first change is the trimming, whatever comes later is new.
        size = path.stat().st_size
        trimmed = size if trimmed is None else trimmed
        if size > trimmed and _last_step(folder) >= target:
            return


def _last_step(folder: Path) -> int:
    return max((record["step"] for record in read_metrics(folder / "metrics.jsonl")), default=0)


def _arrays(run: Path) -> dict[str, Any]:
    store = CheckpointStore(run / "checkpoints", read_only=True)
    restored = store.restore()
    store.close()
    if restored is None:
        raise ValueError(f"{run} holds no checkpoint")
    return restored.arrays


def _leaves(tree: Any, path: str = "") -> list[tuple[str, np.ndarray]]:
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in _leaves(value, f"{path}/{key}")]
    return [(path, tree)]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _metrics(run: Path) -> list[dict[str, Any]]:
    """The metrics without the speed, the only figure that a clock decides."""
    records = read_metrics(run / "metrics.jsonl")
    return [{k: v for k, v in r.items() if k != "examples_per_second"} for r in records]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    config = dataclasses.replace(get_config(), data_dir=options.data_dir)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        given: Any = dict(kills=options.kills, seed=options.seed, processes=options.processes)
        found = kill_and_resume(config, Path(folder), **given)
    found = {"identical": not found["differences"], "processes": options.processes, **found}
    found |= {"seconds": round(time.perf_counter() - started), **surroundings()}
    name = "kill_resume.json" if options.processes == 1 else "kill_resume_processes.json"
    path = Path(__file__).parent / "results" / name
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(found, indent=2) + "\n")
    print(f"killed at steps {found['steps']}; identical: {found['identical']}; {path}")
    if found["differences"] or found["unreadable"]:
        raise SystemExit("a bit differs, or a checkpoint could not be read")


if __name__ == "__main__":
    main()
