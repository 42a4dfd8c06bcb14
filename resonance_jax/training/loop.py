"""Trains a configuration to its end, from wherever its run folder says it was; evaluates and loads.

    result = train_and_evaluate(TrainConfig(...), "runs/forda/resonance-seed0")

The same call again continues an interrupted run bit for bit, and returns a finished one at once.
"""

import contextlib
import shutil
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resonance_jax.data.dataset import load_dataset
from resonance_jax.data.split import Dataset
from resonance_jax.training.checkpoint import CheckpointStore, check_same_run, is_disk_full
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.evaluation import evaluate
from resonance_jax.training.processes import on_first
from resonance_jax.training.program import model_loss, shared_model
from resonance_jax.training.result import RunResult, write_atomically
from resonance_jax.training.run import Run
from resonance_jax.training.signals import noticed_signals
from resonance_jax.training.state_arrays import CheckpointError


def run_directory(config: Any, root: str | Path = "runs") -> Path:
    """Returns the usual folder of a run: `<root>/<experiment>/<model>-seed<seed>`."""
    return Path(root) / config.experiment / f"{config.model_name}-seed{config.seed}"


def train_and_evaluate(
    config: TrainConfig,
    run_dir: str | Path,
    *,
    resume: bool = True,
    progress: bool = True,
    max_steps: int | None = None,
) -> RunResult:
    """Trains, evaluates on the test split after the last step, and writes `result.json`.

    The folder then holds config.json, metrics.jsonl, checkpoints/ and result.json, and examples.json of forecasts and
    images.

    Args:
        config: what to train.
        run_dir: folder of the run.
        resume: continue what the folder holds, and return its result if it is finished; False
            deletes these files of an earlier run and starts afresh.
        progress: show progress on standard output.
        max_steps: stop, and evaluate, after this many steps; the schedules stay those of the
            whole run.
    Returns:
        The result.
    Raises:
        ValueError: if model and data set do not fit together.
        CheckpointMismatchError: if the folder holds a run of another configuration.
        CheckpointError: if a checkpoint cannot be written, or none can be read.
        NonFiniteGradientError: after `max_skipped_steps` steps in a row that were not finite.
        TrainingInterrupted: after Ctrl-C or SIGTERM, when all is saved.
    """
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    run_dir = Path(run_dir)
    try:
        return _train_and_evaluate(config, run_dir, resume, progress, max_steps)
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise CheckpointError(
            f"the disk is full: nothing more can be written in {run_dir}. Its checkpoints are intact; "
            "make room and run the same command again: it continues from there."
        ) from error


def _train_and_evaluate(
    config: TrainConfig, run_dir: Path, resume: bool, progress: bool, max_steps: int | None
) -> RunResult:
    if not resume:
        on_first(lambda: _delete_run(run_dir))
    finished = on_first(lambda: _prepare_folder(config, run_dir, max_steps))
    if finished is not None:
        return finished
    dataset = load_dataset(config.dataset, config.data_dir)
    check_fit(config, dataset)
    with noticed_signals() as flag, contextlib.closing(Run(config, run_dir, dataset)) as run:
        return run.train(flag, progress=progress, max_steps=max_steps)


def evaluate_run(run_dir: str | Path, data_dir: str | Path | None = None) -> dict[str, Any]:
    """Evaluates the latest checkpoint of a run on the test split anew.

    Args:
        run_dir: folder of the run.
        data_dir: folder of the data; None takes the configuration's.
    Returns:
        {"step", "loss", "accuracy", "confusion", "class_names"}, or of a forecast {"step", "loss", "mse", "mae"}.
    Raises:
        CheckpointError: if the folder holds no checkpoint that can be read.
    """
    config, model, variables, step = _load(run_dir)
    dataset = load_dataset(config.dataset, data_dir or config.data_dir)
    size, classes = config.batch_size, dataset.num_classes
    loss = model_loss(config.model)
    found = evaluate(model.apply, variables, dataset.test, size, classes, loss)
    scores = {"step": step, "loss": found.loss, **found.scores}
    if not classes:
        return scores
    return {**scores, "confusion": found.confusion, "class_names": list(dataset.class_names)}


def load_run(run_dir: str | Path) -> tuple[TrainConfig, nn.Module, Any]:
    """Loads (config, model, variables) of a run's latest checkpoint, for `model.apply(variables, inputs)`.

    The parameters in them are those that are evaluated: their moving average where one is kept.

    Raises:
        CheckpointError: if the folder holds no checkpoint that can be read.
    """
    return _load(run_dir)[:3]


def check_fit(config: TrainConfig, dataset: Dataset) -> None:
    """Raises ValueError if the model cannot read the data set's inputs, name its classes or forecast its targets."""
    model, horizon = config.model, dataset.horizon
    head = "forecast" if horizon else "classify"
    if model.head != head:
        raise ValueError(
            f"{dataset.name} is {'a forecast' if horizon else 'a classification'}: expected model.head {head!r}, got "
            f"{model.head!r}; for other heads use init_state and train_step in a loop of your own"
        )
    wanted, name = dataset.num_classes, "output_dim"
    if horizon:
        wanted, name = horizon, "pred_horizon"
    if getattr(model, name) != wanted:
        raise ValueError(
            f"{dataset.name} has {wanted} {'steps to forecast' if horizon else 'classes'}: expected model.{name} "
            f"{wanted}, got {getattr(model, name)}"
        )
    if model.vocab_size != dataset.vocab_size:
        kind = "token ids" if dataset.vocab_size else "real numbers"
        raise ValueError(
            f"{dataset.name} holds {kind}: expected model.vocab_size {dataset.vocab_size}, got {model.vocab_size}"
        )
    if not dataset.vocab_size and model.input_dim != dataset.input_shape[-1]:
        raise ValueError(
            f"an example of {dataset.name} is {list(dataset.input_shape)}: expected model.input_dim "
            f"{dataset.input_shape[-1]}, got {model.input_dim}"
        )
    known = getattr(model, "covariate_dim", 0)
    if known != dataset.num_covariates:
        raise ValueError(
            f"a step of {dataset.name} has {dataset.num_covariates} covariates: expected a model with as many "
            f"(covariate_dim of kind 'time_series'), got {known}"
        )


def _load(run_dir: str | Path) -> tuple[TrainConfig, nn.Module, Any, int]:
    folder = Path(run_dir) / "checkpoints"
    missing = CheckpointError(f"{run_dir} holds no checkpoint: train it first")
    if not folder.is_dir():
        raise missing
    with contextlib.closing(CheckpointStore(folder, read_only=True)) as store:
        restored = store.restore()
    if restored is None:
        raise missing
    arrays = restored.arrays
    params = arrays.get("ema_params") or arrays["params"]
    variables = {"params": params, **arrays.get("collections", {})}
    model = shared_model(restored.config.model, restored.config.dtype)
    return restored.config, model, jax.tree.map(jnp.asarray, variables), restored.step


def _delete_run(run_dir: Path) -> None:
    for name in ("config.json", "metrics.jsonl", "result.json", "examples.json"):
        (run_dir / name).unlink(missing_ok=True)
    for name in ("checkpoints", "unreadable", "tensorboard"):
        shutil.rmtree(run_dir / name, ignore_errors=True)


def _prepare_folder(config: TrainConfig, run_dir: Path, max_steps: int | None) -> RunResult | None:
    """Checks what the folder holds, writes config.json, and returns the result of a finished run."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path, result = run_dir / "config.json", run_dir / "result.json"
    started = result.exists() or any((run_dir / "checkpoints").glob("[0-9]*"))
    if started and path.exists():
        check_same_run(config, TrainConfig.from_json(path.read_text()), run_dir)
    write_atomically(path, config.to_json())
    if not result.exists():
        return None
    found = RunResult.from_json(result.read_text())
    total = round(config.num_epochs * found.steps / found.epochs)
    wanted = total if max_steps is None else min(total, max_steps)
    return found if found.steps >= wanted else None
