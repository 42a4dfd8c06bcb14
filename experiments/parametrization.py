"""Polar against real and imaginary parameters, one learning rate against three, in a network of two layers on FordA.

Claim: N4, ordinary backpropagation fails on frequency parameters; polar ones with their own learning rates fix it.
Command: python -m experiments.parametrization, and python -m experiments.parametrization --plot
Time: 16 minutes of CPU on one core, 29 beside other work
Score: mean test accuracies of 0.945 to 0.946, no arm told from another (results/parametrization.json)

Four arms: W as log-magnitude and phase or as real and imaginary part, each with one rate for all parameters or with
rates of their own for magnitudes (real parts), phases (imaginary parts) and the rest. Each arm has nine trials over the
same range, one seed, judged on a fifth of the training split; the best is trained with each seed and tested. All by
Adam, which rescales gradients: plain gradient descent is not tried here. The budget is that of experiments/scaling.py.
The training loss, without dropout and augmentation, tells whether an arm trains from whether it generalises. Near
W = 1, where training starts, log-magnitude and phase are nearly Re W − 1 and Im W: how far W went is written down too.
"""

import argparse
import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict
from matplotlib.figure import Figure
from scipy.special import stdtrit

from experiments import scaling
from experiments.result_file import ResultFile, open_results, work
from resonance_jax.training import plots
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.evaluation import evaluate
from resonance_jax.training.monitor import NonFiniteGradientError

RESULTS = Path(__file__).parent / "results" / "parametrization.json"
DATA, WIDTH = "forda", 16
ARMS = {
    f"{form}, {rates}": (form, rates)
    for form in ("polar", "cartesian")
    for rates in ("one rate", "own rates")
}
LEVELS = tuple(float(f"{rate:.3g}") for rate in np.geomspace(3e-4, 3e-2, 9))
GROUPS = ("learning_rate", "learning_rate_magnitude", "learning_rate_phase")
SEARCH_SEED = 0
SEEDS = (0, 1, 2)
SCORES = ("test_accuracy", "training_loss", "distance_from_identity")
REMEDY, ORDINARY = "polar, own rates", "cartesian, one rate"
CONTRASTS = (
    (REMEDY, ORDINARY),
    ("polar, one rate", "cartesian, one rate"),
    ("polar, own rates", "cartesian, own rates"),
    ("polar, own rates", "polar, one rate"),
    ("cartesian, own rates", "cartesian, one rate"),
)


def trials(arm: str) -> list[dict[str, float]]:
    """Returns the rates an arm tries: every level for all groups, or a Latin hypercube of as many triples."""
    columns = [list(LEVELS)] * len(GROUPS)
    if ARMS[arm][1] == "own rates":
        rng = np.random.default_rng(0)
        columns[1:] = [rng.permutation(LEVELS).tolist() for _ in GROUPS[1:]]
    return [dict(zip(GROUPS, row, strict=True)) for row in zip(*columns, strict=True)]


def make_config(arm: str, rates: Mapping[str, float], seed: int) -> TrainConfig:
    """Returns the curve's configuration on FordA with the arm's form of W and these rates."""
    config = scaling.make_config(DATA, "resonance", WIDTH, LEVELS[0], seed)
    form: dict[str, Any] = dict(parametrization=ARMS[arm][0])
    model = dataclasses.replace(config.model, **form)
    return dataclasses.replace(config, model=model, **rates)


def distance_from_identity(params: Mapping[str, Any]) -> float:
    """Returns the root mean square of |W − 1| over all weights W of all layers, in either form."""
    leaves = {path: np.asarray(leaf) for path, leaf in flatten_dict(params).items()}
    weights = []
    for (*layer, name), leaf in leaves.items():
        if name == "log_magnitude":
            weights.append(np.exp(leaf + 1j * leaves[*layer, "phase"]))
        elif name == "real":
            weights.append(leaf + 1j * leaves[*layer, "imag"])
    return float(np.sqrt(np.mean(np.abs(np.stack(weights) - 1) ** 2)))


def train(config: TrainConfig) -> dict[str, Any]:
    """Trains a model and returns what it scores on each split, with the averaged parameters that are tested."""
    dataset = scaling.load(DATA)
    run, result = scaling.train_run(config, dataset)
    variables, size = run.state.eval_variables, config.batch_size

    def loss(split: Any) -> float:
        return evaluate(run.state.apply_fn, variables, split, size, dataset.num_classes).loss

    if run.validation is None:
        scores = {"test_accuracy": result.test_accuracy, "test_loss": result.test_loss}
    else:
        accuracy = result.validation_accuracy
        scores = {"validation_accuracy": accuracy, "validation_loss": loss(run.validation)}
    return scores | {
        "training_loss": loss(run.train_split),
        "distance_from_identity": distance_from_identity(variables["params"]),
        "parameters": result.parameters,
        "steps": result.steps,
    }


def best(record: Mapping[str, Any], arm: str) -> dict[str, Any] | None:
    """Returns the arm's trial of highest validation accuracy, of equals that of lowest loss; None before its end."""
    tried = trials(arm)
    rows = [row for row in record["search"] if row["arm"] == arm and _rates(row) in tried]
    if len(rows) < len(tried) or all("diverged" in row for row in rows):
        return None
    return max(rows, key=lambda row: (row["validation_accuracy"], -row.get("validation_loss", 0)))


def welch(first: Sequence[float], second: Sequence[float]) -> dict[str, float]:
    """Returns mean(first) − mean(second) with Welch's 95 % interval; without any spread it has no width.

    With v = s²/n of each, the interval is ± t √(v₁ + v₂), t the 97.5 % quantile of Student's t with
    ν = (v₁ + v₂)² / (v₁²/(n₁ − 1) + v₂²/(n₂ − 1)) degrees of freedom.
    """
    groups = (first, second)
    parts = [statistics.variance(values) / len(values) for values in groups]
    difference, half = statistics.fmean(first) - statistics.fmean(second), 0.0
    if sum(parts):
        terms = (part**2 / (len(g) - 1) for part, g in zip(parts, groups, strict=True))
        degrees = sum(parts) ** 2 / sum(terms)
        half = float(stdtrit(degrees, 0.975)) * math.sqrt(sum(parts))
    return {"difference": difference, "low": difference - half, "high": difference + half}


def analyse(record: Mapping[str, Any]) -> dict[str, Any]:
    """Summarises each arm whose search ended, compares those with two seeds, and gives the verdict when all have."""
    arms, values = {}, {}
    for arm in ARMS:
        chosen = best(record, arm)
        if chosen is None:
            continue
        rates = _rates(chosen)
        rows = [row for row in record["runs"] if row["arm"] == arm and _rates(row) == rates]
        tried = [
            row for row in record["search"] if row["arm"] == arm and _rates(row) in trials(arm)
        ]
        found = sorted(row["validation_accuracy"] for row in tried)
        arms[arm] = {**rates, "seeds": len(rows), "validation_accuracies": found}
        if len(rows) >= 2:
            values[arm] = {name: [row[name] for row in rows] for name in SCORES}
            for name, scores in values[arm].items():
                arms[arm] |= {
                    name: statistics.fmean(scores),
                    f"{name}_std": statistics.stdev(scores),
                }
    contrasts = {
        f"{a} − {b}": {name: welch(values[a][name], values[b][name]) for name in SCORES[:2]}
        for a, b in CONTRASTS
        if a in values and b in values
    }
    found = {"arms": arms, "contrasts": contrasts}
    return found | ({"verdict": verdict(arms, contrasts)} if len(values) == len(ARMS) else {})


def verdict(arms: Mapping[str, Any], contrasts: Mapping[str, Any]) -> str:
    """Says what the numbers say about N4: the remedy against ordinary parameters, then every other contrast."""
    (claimed, *others) = contrasts
    accuracy, loss = (contrasts[claimed][name] for name in SCORES[:2])
    seeds = min(arm["seeds"] for arm in arms.values())
    gained = {"above": "is a gain", "below": "is a loss", "across": "is within the seeds' spread"}
    trained = {"above": "is higher", "below": "is lower", "across": "cannot be told apart"}
    apart = [
        f"{name} ({_points(contrasts[name]['test_accuracy'])})"
        for name in others
        if _side(contrasts[name]["test_accuracy"]) != "across"
    ]
    rest = ", ".join(apart) or "none"
    return (
        f"Polar parameters with their own rates reach {arms[REMEDY]['test_accuracy']:.2%} on the test split, real and "
        f"imaginary parts with one rate {arms[ORDINARY]['test_accuracy']:.2%}: the difference of {_points(accuracy)} "
        f"{gained[_side(accuracy)]} (Welch's 95 % interval, {seeds} seeds). The training loss of the former, "
        f"{arms[REMEDY]['training_loss']:.3f} against {arms[ORDINARY]['training_loss']:.3f}, "
        f"{trained[_side(loss)]}. Other contrasts of test accuracy beyond the spread: {rest}."
    )


def _side(contrast: Mapping[str, float]) -> str:
    """Where the interval lies: above 0, below 0 or across it."""
    return "above" if contrast["low"] > 0 else "below" if contrast["high"] < 0 else "across"


def _points(contrast: Mapping[str, float]) -> str:
    difference, low, high = (100 * contrast[name] for name in ("difference", "low", "high"))
    return f"{difference:+.2f} points, {low:+.2f} to {high:+.2f},"


def _rates(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: row[name] for name in GROUPS}


class Results(ResultFile):
    """The JSON file of this experiment."""

    TABLES = ("search", "runs")

    def summary(self) -> dict[str, Any]:
        """Returns the budget and what the tables say."""
        budget = {"data": DATA, "width": WIDTH, **dataclasses.asdict(scaling.TASKS[DATA])}
        return {"budget": budget, "optimizer": "adam", **analyse(self.record)}


def search(results: Results, arm: str, index: int) -> None:
    """Makes one trial, unless the file has it; one that diverges counts as not having learned."""
    key = {"arm": arm, **trials(arm)[index]}
    if results.find("search", **key):
        return
    config = make_config(arm, _rates(key), SEARCH_SEED)
    try:
        found = train(dataclasses.replace(config, validation_fraction=0.2))
    except NonFiniteGradientError as error:
        found = {"validation_accuracy": 0.0, "diverged": str(error)}
    results.add("search", key, found)


def run(results: Results, arm: str, seed: int) -> None:
    """Trains the arm's best trial on the whole training split, unless the file has it.

    Raises:
        ValueError: if the arm's search has no trial that ended.
    """
    chosen = best(results.record, arm)
    if chosen is None:
        raise ValueError(
            f"expected {len(LEVELS)} trials of {arm!r}, not all diverged; search first."
        )
    key = {"arm": arm, **_rates(chosen), "seed": seed}
    if not results.find("runs", **key):
        results.add("runs", key, train(make_config(arm, _rates(chosen), seed)))


def table(found: Mapping[str, Any]) -> str:
    """Writes the arms as lines of columns, then the contrasts and the verdict."""
    tried = "trials: best, median, worst"
    lines = [
        f"{'arm':<20}  {'rates: other, W':<24}  {tried:<27}  {'test accuracy':<15}  {'training loss':<15}  |W − 1|"
    ]
    for name, arm in found["arms"].items():
        rates = ", ".join(f"{arm[group]:.2g}" for group in GROUPS)
        scores = arm["validation_accuracies"]
        tried = f"{scores[-1]:.3f}, {statistics.median(scores):.3f}, {scores[0]:.3f}"
        line = f"{name:<20}  {rates:<24}  {tried:<27}"
        if "test_accuracy" in arm:
            line += f"  {arm['test_accuracy']:.4f} ± {arm['test_accuracy_std']:.4f}"
            line += f"  {arm['training_loss']:.4f} ± {arm['training_loss_std']:.4f}"
            line += f"  {arm['distance_from_identity']:.3f}"
        lines.append(line)
    for name, contrast in found["contrasts"].items():
        lines.append(f"{name}: {_points(contrast['test_accuracy'])} of test accuracy")
    return "\n".join([*lines, found.get("verdict", "no verdict yet: runs are missing")])


def draw(record: Mapping[str, Any]) -> Figure:
    """Draws every trial's validation accuracy, each arm's sorted, and the test accuracy of each seed."""
    found, figure = analyse(record), Figure(figsize=(7, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, (name, arm) in enumerate(found["arms"].items()):
        color, tried = plots.PALETTE[index], arm["validation_accuracies"][::-1]
        left.plot(range(1, len(tried) + 1), tried, "o-", markersize=4, color=color, label=name)
        rates = _rates(arm)
        rows = [r for r in record["runs"] if r["arm"] == name and _rates(r) == rates]
        scores = [row["test_accuracy"] for row in rows]
        right.plot(scores, [index] * len(scores), "o", color=color, alpha=0.7)
    left.set(xlabel="trial, the best first", ylabel="validation accuracy")
    left.legend(fontsize=7)
    right.set(xlabel="test accuracy, a seed a point")
    right.set_yticks(range(len(found["arms"])), list(found["arms"]), fontsize=7)
    right.invert_yaxis()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    _, results = open_results(parser, Results, RESULTS, draw)
    jobs: list[tuple[Any, ...]] = [(search, a, i) for i in range(len(LEVELS)) for a in ARMS]
    jobs += [(run, arm, seed) for seed in SEEDS for arm in ARMS]
    work(results, jobs)
    print(table(analyse(results.record)))


if __name__ == "__main__":
    main()
