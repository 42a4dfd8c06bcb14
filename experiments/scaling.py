"""Accuracy over parameters: the smallest model of each kind that reaches a given accuracy, on four data sets.

Claim: at matched accuracy resonance has fewer parameters than a Transformer, is faster and needs less memory.
Found, Transformer over resonance in parameters at the lower of the two best accuracies: FordA 11.5 (both curves are
flat there), EthanolLevel 2.9, Fashion-MNIST 4.0, Reuters R8 1.0 with the Transformer ahead at most sizes.
Command: python -m experiments.scaling, and python -m experiments.scaling --plot
Data: FordA, Reuters R8 (the first 64 words), Fashion-MNIST (the first 10,000 training images), EthanolLevel.

Each model kind gets the same search for its learning rate first, on a fifth of the training split. Every run is written
to experiments/results/scaling.json when it ends, and a run that is there is not repeated. Times are the process's CPU
time, which on one core is the time of a machine that does nothing else; --retime measures them anew.
"""

import argparse
import contextlib
import dataclasses
import functools
import importlib
import json
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from experiments.result_file import ResultFile, open_results, work
from resonance_jax.claims.matched import curve, matched_accuracy, ratios, smallest_at
from resonance_jax.claims.trials import median_milliseconds
from resonance_jax.data.dataset import Dataset, Split, load_dataset
from resonance_jax.training import plots
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.devices import OneDevice
from resonance_jax.training.loop import check_fit
from resonance_jax.training.program import get_program
from resonance_jax.training.result import RunResult
from resonance_jax.training.run import Run
from resonance_jax.training.signals import noticed_signals

RESULTS = Path(__file__).parent / "results" / "scaling.json"
KINDS = ("resonance", "transformer", "fnet")
# What the phase and the magnitude of the weights are worth: without interference, which would put back the other.
ABLATION = tuple(f"resonance-{component}" for component in ("complex", "magnitude", "phase"))
ABLATION_WIDTH = 16
SEARCH_WIDTH = 16
RATES = (1e-3, 3e-3, 1e-2)
SEEDS = (0, 1, 2)
REPEATS = 10


@dataclasses.dataclass(frozen=True)
class Task:
    """A data set's budget: what differs from the configuration of its own experiment."""

    num_epochs: int
    batch_size: int = 64
    widths: tuple[int, ...] = (4, 8, 16, 32, 64)
    frequencies: int = 16
    """Largest number of frequencies; a layer narrower than that has as many as it is wide."""
    model: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: int | None = None
    """Training examples kept, the first ones."""
    length: int | None = None
    """Tokens kept of each example, the first ones."""


TASKS = {
    "forda": Task(12, model=dict(patch_size=32, patch_stride=16)),
    "r8": Task(10, widths=(4, 8, 16, 32), length=64),
    "fashion_mnist": Task(
        16, batch_size=128, rows=10_000, frequencies=8, model=dict(patch_size=7, patch_stride=7)
    ),
    "ethanol_level": Task(100, batch_size=32, widths=(4, 8, 16, 32)),
}


def make_config(name: str, model: str, width: int, rate: float, seed: int) -> TrainConfig:
    """Shortens and narrows the configuration of an experiment."""
    task, (kind, _, component) = TASKS[name], model.partition("-")
    config = importlib.import_module(f"experiments.{name}").get_config(kind)
    mlp_dim = config.model.mlp_dim * width // config.model.hidden_dim
    changes: dict[str, Any] = dict(hidden_dim=width, mlp_dim=mlp_dim, num_layers=2, **task.model)
    if kind == "resonance":
        changes["num_frequencies"] = min(width, task.frequencies)
    if component:
        changes |= dict(component=component, interference=False)
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **changes),
        seed=seed,
        num_epochs=task.num_epochs,
        batch_size=task.batch_size,
        eval_every=task.num_epochs,
        learning_rate=rate,
        learning_rate_magnitude=rate,
        learning_rate_phase=rate,
        checkpoint_every=10**6,
    )


@functools.cache
def load(name: str) -> Dataset:
    """Reads a data set and cuts it to its budget."""
    task = TASKS[name]
    dataset = load_dataset(make_config(name, "fnet", 8, 1e-3, 0).dataset)

    def cut(split: Split) -> Split:
        mask = None if split.mask is None else split.mask[:, : task.length]
        return Split(split.inputs[:, : task.length], split.labels, mask)

    train, test = (cut(s) if task.length else s for s in (dataset.train, dataset.test))
    if task.rows:
        train = train.take(np.arange(task.rows))
    return dataclasses.replace(dataset, train=train, test=test)


def train_run(config: TrainConfig, dataset: Dataset) -> tuple[Run, RunResult]:
    """Trains and evaluates as `train_and_evaluate` does, on data that is at hand; no file is kept.

    The run is closed; what it has in memory is that of the last step.
    """
    check_fit(config, dataset)
    with tempfile.TemporaryDirectory() as folder, noticed_signals() as flag:
        with contextlib.closing(Run(config, Path(folder), dataset)) as run:
            return run, run.train(flag, progress=False, max_steps=None)


def train(config: TrainConfig, dataset: Dataset) -> RunResult:
    """Returns what a training ends in, and keeps nothing else of it."""
    return train_run(config, dataset)[1]


def measure_speed(config: TrainConfig, dataset: Dataset) -> dict[str, float]:
    """Median CPU milliseconds of a training step and of the outputs of 64 examples, after two of each."""
    split = dataset.train
    first = split.take(np.arange(max(64, config.batch_size)))
    batch = {"inputs": first.inputs, "labels": first.labels}
    batch |= {} if first.mask is None else {"mask": first.mask}
    few = {key: value[: config.batch_size] for key, value in batch.items()}
    program = get_program(config, config.num_epochs * (len(split) // config.batch_size))
    state = program.init_state(0, few)
    params = jax.tree.map(np.asarray, state.params)
    call = program.compile(state, few, OneDevice()).call

    def step() -> Any:
        nonlocal state
        state, metrics = call(state, few)
        return metrics

    inputs = {key: value[:64] for key, value in batch.items() if key != "labels"}
    forward = jax.jit(
        lambda params, inputs, mask=None: _outputs(program.model, params, inputs, mask)
    )
    inference = functools.partial(forward, jax.device_put(params), **inputs)
    return {
        "step_ms": median_milliseconds(step, REPEATS),
        "inference_ms": median_milliseconds(inference, REPEATS),
    }


def _outputs(model: Any, params: Any, inputs: Any, mask: Any) -> Any:
    return model.apply({"params": params}, inputs, **({} if mask is None else {"mask": mask}))


class Results(ResultFile):
    """The JSON file of this experiment."""

    TABLES = ("search", "runs", "speed")

    def summary(self) -> dict[str, Any]:
        """Returns the budgets, and what is needed to match the best accuracy."""
        budgets = {name: dataclasses.asdict(task) for name, task in TASKS.items()}
        return {"tasks": budgets, "matched": analyse(self.record)}

    def rate(self, data: str, model: str) -> float:
        """Returns the learning rate that the search found best."""
        kind = model.partition("-")[0]
        rows = [r for r in self.record["search"] if (r["data"], r["model"]) == (data, kind)]
        return max(rows, key=lambda row: row["validation_accuracy"])["rate"]


def search(results: Results, name: str, model: str) -> None:
    """Tries each learning rate once, judged on a fifth of the training split."""
    for rate in RATES:
        key = {"data": name, "model": model, "rate": rate}
        if results.find("search", **key):
            continue
        config = make_config(name, model, SEARCH_WIDTH, rate, 0)
        result = train(dataclasses.replace(config, validation_fraction=0.2), load(name))
        results.add("search", key, {"validation_accuracy": result.validation_accuracy})


def run(results: Results, name: str, model: str, width: int, seed: int) -> None:
    """Trains one model, unless the file has it, and times it with its first seed."""
    key = {"data": name, "model": model, "width": width, "seed": seed}
    if results.find("runs", **key):
        return
    config = make_config(name, model, width, results.rate(name, model), seed)
    result = train(config, load(name))
    values = {
        "parameters": result.parameters,
        "accuracy": result.test_accuracy,
        "steps": result.steps,
        "peak_memory_bytes": result.peak_memory_bytes,
        "wall_seconds": result.train_seconds,
        "compile_seconds": result.compile_seconds,
    }
    results.add("runs", key, values)
    retime(results, name, model, width, again=False)


def retime(results: Results, name: str, model: str, width: int, *, again: bool = True) -> None:
    """Times a model, where it has not been timed or is to be timed again."""
    key = {"data": name, "model": model, "width": width}
    if again or not results.find("speed", **key):
        config = make_config(name, model, width, results.rate(name, model), 0)
        results.add("speed", key, measure_speed(config, load(name)))


def sizes(name: str) -> list[tuple[str, int]]:
    """Every (model, width) of a data set, the narrow ones first."""
    kinds = [(model, width) for width in TASKS[name].widths for model in KINDS]
    return kinds + [(model, ABLATION_WIDTH) for model in ABLATION]


def records(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Joins the runs of a data set with their times, as `resonance_jax.claims.matched` reads them."""
    speeds = {(s["data"], s["model"], s["width"]): s for s in record["speed"]}
    joined = []
    for row in record["runs"]:
        speed = speeds.get((row["data"], row["model"], row["width"]))
        if row["data"] == name and speed:
            seconds = row["steps"] * speed["step_ms"] / 1e3
            joined.append(row | {"train_seconds": seconds, "inference_ms": speed["inference_ms"]})
    return joined


def analyse(record: dict[str, Any]) -> dict[str, Any]:
    """For each data set whose kinds were all trained: the smallest models at matched accuracy, and the ratios."""
    found = {}
    for name in TASKS:
        rows = records(record, name)
        known = {row["model"] for row in rows}
        if not known.issuperset(KINDS):
            continue
        accuracy = matched_accuracy(rows, KINDS)
        found[name] = {
            "accuracy": accuracy,
            "smallest": {kind: smallest_at(rows, kind, accuracy) for kind in KINDS},
            "transformer_over_resonance": ratios(rows, "resonance", "transformer"),
            "ablation": {model: curve(rows, model)[0] for model in ABLATION if model in known},
        }
    return found


def draw(record: dict[str, Any]) -> Figure:
    """Draws accuracy over parameters, mean ± standard deviation over seeds, a panel a data set."""
    names = [name for name in TASKS if records(record, name)]
    figure = Figure(figsize=(3.2 * len(names), 3.4), layout="constrained")
    for panel, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        rows = records(record, name)
        known = {row["model"] for row in rows}
        for index, model in enumerate((*KINDS, *ABLATION)):
            if model not in known:
                continue
            line = curve(rows, model)
            panel.errorbar(
                [size["parameters"] for size in line],
                [size["accuracy"] for size in line],
                [size["accuracy_std"] or 0 for size in line],
                color=plots.PALETTE[index],
                marker="o" if model in KINDS else "x",
                markersize=4,
                linestyle="-" if model in KINDS else "none",
                capsize=2,
                label=model,
            )
        title = make_config(name, "fnet", 8, 1e-3, 0).dataset
        panel.set(xscale="log", xlabel="parameters", title=title)
        panel.xaxis.set_minor_formatter(NullFormatter())  # they overlap where a decade is not full
    figure.axes[0].set_ylabel("test accuracy")
    figure.axes[0].legend(fontsize=7)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--retime", action="store_true", help="time the trained models anew")
    options, results = open_results(parser, Results, RESULTS, draw)
    jobs: list[tuple[Any, ...]] = []
    for name in options.only:
        if options.retime:
            jobs += [
                (retime, name, *size)
                for size in sizes(name)
                if results.find("runs", data=name, model=size[0], width=size[1])
            ]
            continue
        jobs += [(search, name, kind) for kind in KINDS]
        jobs += [(run, name, *size, seed) for size in sizes(name) for seed in SEEDS]
    work(results, jobs)
    print(json.dumps(results.record.get("matched"), indent=1))


if __name__ == "__main__":
    main()
