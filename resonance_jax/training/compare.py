"""Several runs of one experiment: trained one after another, reported together, summed up as JSON."""

import dataclasses
import json
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp

from resonance_jax.data.dataset import load_dataset
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.image_plots import ImageSpectrum
from resonance_jax.training.loop import load_run, run_directory, train_and_evaluate
from resonance_jax.training.plots import LayerSpectrum
from resonance_jax.training.processes import is_first
from resonance_jax.training.report import collect_spectra, write_report
from resonance_jax.training.result import RunResult, surroundings, write_atomically


def train_all(
    configs: Sequence[TrainConfig],
    root: str | Path = "runs",
    *,
    command: str | None = None,
    results: str | Path | None = None,
    **options: Any,
) -> tuple[list[RunResult], Path]:
    """Trains every configuration, then writes the report that compares them.

    Args:
        configs: runs of one experiment; each has its folder `<root>/<experiment>/<model>-seed<seed>`.
        root: parent of the run folders.
        command: the command line to print in the report and in the results.
        results: JSON file of means, spreads and runs, written anew after each run; None writes none.
        **options: `resume`, `progress`, `max_steps` of `train_and_evaluate`.
    Returns:
        (the results in order, the path of report.html).
    Raises:
        ValueError: if there is no configuration, they are not of one experiment, or two share a folder.
    """
    folders = run_directories(configs, root)
    done = []
    for config, folder in zip(configs, folders, strict=True):
        done.append(train_and_evaluate(config, folder, **options))
        if results is not None and is_first():
            write_results(results, done, configs, command=command)
    report = Path(root) / configs[0].experiment / "report.html"
    if not is_first():
        return done, report
    spectra = {folder: read_spectra(folder) for folder in folders}
    return done, write_report(report, folders, spectra, command=command)


def run_directories(configs: Sequence[Any], root: str | Path) -> list[Path]:
    """Returns the folder of each run.

    Raises:
        ValueError: if there is no configuration, they are not of one experiment, or two share a folder.
    """
    experiments = sorted({config.experiment for config in configs})
    if len(experiments) != 1:
        raise ValueError(f"expected runs of one experiment, got {experiments or 'none'}.")
    folders = [run_directory(config, root) for config in configs]
    twice = [folder for folder, count in Counter(folders).items() if count > 1]
    if twice:
        raise ValueError(f"each run needs a model and a seed of its own; twice: {twice[0]}.")
    return folders


def read_spectra(
    run_dir: str | Path, data_dir: str | Path | None = None
) -> list[LayerSpectrum | ImageSpectrum]:
    """Reads the learned spectra of a run's latest checkpoint, at the length of its test series.

    Args:
        run_dir: folder of the run.
        data_dir: folder of the data; None takes the configuration's.
    Returns:
        One `LayerSpectrum`, or `ImageSpectrum`, a layer; empty for a model without resonance layers.
    """
    config, model, variables = load_run(run_dir)
    if config.model_name not in ("resonance", "vision"):
        return []
    row = load_dataset(config.dataset, data_dir or config.data_dir).test.inputs[:1]
    _, recorded = model.apply(variables, jnp.asarray(row), mutable=["intermediates"])
    return collect_spectra(variables["params"], recorded["intermediates"])


def write_results(
    path: str | Path,
    results: Sequence[RunResult],
    configs: Sequence[TrainConfig],
    *,
    command: str | None = None,
) -> None:
    """Writes {experiment, command, date, commit, device, versions, summary, configs, runs} as JSON.

    The summary has, for each model, the mean and the sample standard deviation over seeds of the test accuracy (of a
    forecast, of its errors), and the medians of the costs. Of each configuration only what differs from the defaults is
    written.
    """
    models = list(dict.fromkeys(result.model for result in results))
    groups = {model: [result for result in results if result.model == model] for model in models}
    shown = {config.model_name: plain_differences(config) for config in reversed(configs)}
    record = {
        "experiment": configs[0].experiment,
        "dataset": configs[0].dataset,
        "command": command,
        **surroundings(),
        "summary": {model: _summary(group) for model, group in groups.items()},
        "configs": {model: shown[model] for model in models},
        "runs": [dataclasses.asdict(result) for result in results],
    }
    write_atomically(path, json.dumps(record, indent=1, allow_nan=False) + "\n")


def _summary(group: Sequence[RunResult]) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for name in group[0].scores or ("accuracy",):
        values = [r.scores[name] if r.scores else cast(float, r.test_accuracy) for r in group]
        scores[f"test_{name}_mean"] = statistics.fmean(values)
        scores[f"test_{name}_std"] = statistics.stdev(values) if len(group) > 1 else None
    memory = [result.peak_memory_bytes for result in group if result.peak_memory_bytes is not None]
    return {
        "seeds": [result.seed for result in group],
        **scores,
        "parameters": group[0].parameters,
        "seconds_per_epoch": statistics.median(result.seconds_per_epoch for result in group),
        "train_seconds": statistics.median(result.train_seconds for result in group),
        "peak_memory_bytes": statistics.median(memory) if memory else None,
    }


def plain_differences(config: Any) -> dict[str, Any]:
    """Returns the fields that are not at their defaults, as JSON values; the model always as a whole."""
    defaults = type(config)().to_dict()
    values = config.to_dict()
    skip = {"seed", "data_dir"}
    return {
        name: value
        for name, value in values.items()
        if name == "model" or (name not in skip and value != defaults[name])
    }
