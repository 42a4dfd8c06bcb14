"""A training that is killed at random moments ends in the same bits as one that is left alone.

Claim: kill −9 at 10 random moments, resumed each time: parameters, optimizer, moving average and metrics are identical.
Command: python -m experiments.kill_resume
Hardware: 2 CPU cores
Time: 2.5 minutes beside other work
Score: 10 kills between steps 39 and 438 of 480, no bit differs (results/kill_resume.json)
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
    config: TrainConfig, folder: Path, *, kills: int, seed: int, whole: Path | None = None
) -> dict[str, Any]:
    """Trains in processes that are killed at random moments, and compares with a whole run.

    Args:
        config: what to train.
        folder: where the runs go.
        kills: how often to kill.
        seed: chooses the moments.
        whole: folder of a finished, uninterrupted run of `config`; None trains one.
    Returns:
        {"kills", "steps" (the last one logged at each kill), "differences" (names of what differs)}.
    """
    given = folder / "given.json"
    given.write_text(config.to_json())
    if whole is None:
        whole = folder / "whole"
        if _start(given, whole).wait() != 0:
            raise RuntimeError("the uninterrupted training failed")
    result = json.loads((whole / "result.json").read_text())
    # After a line of the log the kill waits for up to two more, to strike between lines as well.
    pause = 2 * config.log_every * result["train_seconds"] / result["steps"]
    moments = random.Random(seed)
    killed, steps = folder / "killed", []
    while len(steps) < kills:
        # Each kill has an equal part of the training to strike in, at a random step.
        target = (len(steps) + moments.random()) * result["steps"] / (kills + 1)
        process = _start(given, killed)
        _wait_for_step(process, killed, target)
        time.sleep(moments.uniform(0, pause))
        process.send_signal(signal.SIGKILL)
        if process.wait() == -signal.SIGKILL:
            steps.append(_last_step(killed))
        elif process.returncode:
            raise RuntimeError(f"the training failed with exit status {process.returncode}")
        else:  # It had ended before the kill, on a machine that had got faster: from the start.
            shutil.rmtree(killed)
            steps, pause = [], pause / 4
    if _start(given, killed).wait() != 0:
        raise RuntimeError("the last resumption failed")
    return {"kills": kills, "steps": steps, "differences": differences(whole, killed)}


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


def _start(given: Path, folder: Path) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(given), str(folder)], env=os.environ)


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
    options = parser.parse_args()
    config = dataclasses.replace(get_config(), data_dir=options.data_dir)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_and_resume(config, Path(folder), kills=options.kills, seed=options.seed)
    found = {"identical": not found["differences"], **found}
    found |= {"seconds": round(time.perf_counter() - started), **surroundings()}
    path = Path(__file__).parent / "results" / "kill_resume.json"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(found, indent=2) + "\n")
    print(f"killed at steps {found['steps']}; identical: {found['identical']}; {path}")


if __name__ == "__main__":
    main()
