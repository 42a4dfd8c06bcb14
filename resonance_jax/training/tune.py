"""The same small search for every model: trials chosen on a validation split, never on the test split."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resonance_jax.training.compare import plain_differences
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.loop import train_and_evaluate
from resonance_jax.training.result import surroundings, write_atomically


def tune(
    trials: Sequence[tuple[str, TrainConfig]],
    root: str | Path,
    results: str | Path,
    *,
    validation_fraction: float = 0.2,
    command: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Trains each trial on a part of the training split and ranks them, model by model, on the rest.

    Args:
        trials: (name, configuration) pairs; a name is used once per model.
        root: parent of the run folders `<root>/<experiment>-tuning/<model>-<name>`.
        results: JSON file, written anew after each trial.
        validation_fraction: part of the training split that trials are judged on, in (0, 1).
        command: command line to note.
        **options: `resume`, `progress`, `max_steps` of `train_and_evaluate`.
    Returns:
        What the file holds: {…, "best": {model: name}, "trials": [{model, name, validation_accuracy, …}, …]}, with
        validation_mse in the place of validation_accuracy for forecasts. The test scores of a trial are not written.
    Raises:
        ValueError: if validation_fraction is not in (0, 1), or two trials share a model and a name.
    """
    if not 0 < validation_fraction < 1:
        raise ValueError(f"validation_fraction must be in (0, 1), got {validation_fraction}.")
    keys = [(config.model_name, name) for name, config in trials]
    if len(set(keys)) != len(keys):
        raise ValueError(f"each trial needs a name of its own, got {sorted(keys)}.")
    record: dict[str, Any] = {"command": command, **surroundings(), "best": {}, "trials": []}
    for name, config in trials:
        config = dataclasses.replace(config, validation_fraction=validation_fraction)
        folder = Path(root) / f"{config.experiment}-tuning" / f"{config.model_name}-{name}"
        result = train_and_evaluate(config, folder, **options)
        score, value = "accuracy", result.validation_accuracy
        if value is None:
            score, value = "mse", result.validation_scores["mse"]
        record["trials"].append(
            {
                "model": result.model,
                "name": name,
                f"validation_{score}": value,
                "parameters": result.parameters,
                "train_seconds": result.train_seconds,
                "config": plain_differences(config),
            }
        )
        ranked = sorted(record["trials"], key=_quality)
        record["best"] = {trial["model"]: trial["name"] for trial in ranked}
        write_atomically(results, json.dumps(record, indent=1) + "\n")
    return record


def _quality(trial: dict[str, Any]) -> float:
    """Higher is better."""
    return (
        trial["validation_accuracy"] if "validation_accuracy" in trial else -trial["validation_mse"]
    )
