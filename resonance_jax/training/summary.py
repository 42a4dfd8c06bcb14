"""What the files of finished and unfinished runs say: records, and one summary row a model."""

import json
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from resonance_jax.training.plots import GROUPS, Curve, GroupTrace, bin_means

_COSTS = ("parameters", "s/epoch", "compile s", "peak memory")
COLUMNS = ("model", "runs", "test accuracy", "test loss", *_COSTS)
FORECAST_COLUMNS = ("model", "runs", "test MSE", "test MAE", *_COSTS)
# Fields in which runs of one row may differ: the seed, and where the data lies on this machine.
_FREE_FIELDS = ("seed", "data_dir")
_MIN_BINS, _MAX_BINS = 20, 80  # points of a training curve


@dataclass
class Run:
    """One run folder as read; `result` is None while the run is unfinished."""

    path: Path
    config: dict[str, Any]
    result: dict[str, Any] | None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    examples: list[dict[str, Any]] = field(default_factory=list)  # as an `Evaluation` has them
    label: str = ""  # what tables and legends call the run's model; set by `label_runs`

    @property
    def model(self) -> str:
        """Returns the model's short name, from the result, the configuration or the folder."""
        model = self.config.get("model")
        known = (self.result or {}).get("model") or (
            model.get("kind") if isinstance(model, dict) else model
        )
        return str(known or re.sub(r"-seed\d+$", "", self.path.name))

    @property
    def title(self) -> str:
        """Returns the label and the seed."""
        seed = self.get("seed")
        return self.label if seed is None else f"{self.label}, seed {seed}"

    def get(self, name: str) -> Any:
        """Returns a field of the result, else of the configuration, else None."""
        value = (self.result or {}).get(name)
        return self.config.get(name) if value is None else value

    def number(self, name: str) -> float:
        """Returns a number or a score of the result; NaN where there is none."""
        value = (self.result or {}).get(name, _scores(self).get(name))
        return math.nan if value is None else float(value)

    def records(self, kind: str, split: str | None = None) -> list[dict[str, Any]]:
        """Returns the metrics of one kind, ordered by step."""
        found = [m for m in self.metrics if m.get("kind") == kind and m.get("split") == split]
        return sorted(found, key=lambda record: record["step"])

    def steps_per_epoch(self) -> float:
        """Returns the number of steps in an epoch; NaN if the files do not tell yet."""
        steps, epochs = self.number("steps"), self.number("epochs")
        if epochs > 0:
            return steps / epochs
        points = [(m["step"], m["epoch"]) for m in self.metrics if m.get("kind") == "eval"]
        first, last = min(points, default=(0, 0)), max(points, default=(0, 0))
        return (last[0] - first[0]) / (last[1] - first[1]) if last[1] > first[1] else math.nan


@dataclass(frozen=True)
class Row:
    """One line of the headline table."""

    cells: tuple[str, ...]  # as `columns`
    best: bool  # highest mean test accuracy; without accuracies, lowest mean squared error or else test loss


def read_run(path: Path) -> Run:
    """Reads a run folder; without `result.json` the run counts as unfinished.

    Raises:
        FileNotFoundError: if there is no `config.json`.
        ValueError: if a file is not valid JSON; the last line of `metrics.jsonl` may be torn.
    """
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"{path} is not a run folder: it holds no config.json")
    result, examples = path / "result.json", path / "examples.json"
    return Run(
        path,
        config=_read_json(path / "config.json"),
        result=_read_json(result) if result.exists() else None,
        metrics=_read_metrics(path / "metrics.jsonl"),
        examples=_read_json(examples) if examples.exists() else [],
    )


def label_runs(runs: Sequence[Run]) -> None:
    """Names each run by its model, and adds the folder where two settings would share a name.

    Runs that differ in the seed alone share a label, hence a colour and a row.
    """
    settings: dict[str, list[str]] = {}
    for run in runs:
        settings.setdefault(run.model, [])
        if _setting(run) not in settings[run.model]:
            settings[run.model].append(_setting(run))
    for run in runs:
        alone = len(settings[run.model]) == 1
        stem = re.sub(r"-seed\d+$", "", run.path.name)
        where = f"{run.path.parent.name}/{stem}".strip("/")
        number = settings[run.model].index(_setting(run)) + 1
        run.label = run.model if alone else f"{run.model} {number} ({where})"


def columns(runs: Sequence[Run]) -> tuple[str, ...]:
    """Returns the headers of the rows: COLUMNS, or of forecasts FORECAST_COLUMNS."""
    return FORECAST_COLUMNS if any(map(_scores, runs)) else COLUMNS


def summarize(runs: Sequence[Run]) -> list[Row]:
    """Returns one row a label, in the order of the runs."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.label, []).append(run)
    scores = {label: _score(group) for label, group in groups.items()}
    finite = [score for score in scores.values() if math.isfinite(score[1])]
    top = max(finite, default=None)
    headline = (
        ("mse", "mae") if columns(runs) == FORECAST_COLUMNS else ("test_accuracy", "test_loss")
    )
    return [
        Row(_cells(label, group, headline), scores[label] == top) for label, group in groups.items()
    ]


def title(runs: Sequence[Run]) -> str:
    """Returns "experiment on data set" for the heading."""
    experiments, datasets = _distinct(runs, "experiment"), _distinct(runs, "dataset")
    return f"{experiments or 'Runs'} on {datasets}" if datasets else experiments or "Runs"


def facts(runs: Sequence[Run], command: str | None = None) -> dict[str, str]:
    """Returns what was trained, where and when; what the files do not say is left out."""
    tests = {sum(map(sum, run.get("confusion"))) for run in runs if run.get("confusion")}
    classes = {len(run.get("class_names")) for run in runs if run.get("class_names")}
    dates = sorted(run.get("date") for run in runs if run.get("date"))
    versions = {
        f"{name} {version}": None
        for run in runs
        for name, version in ((run.result or {}).get("versions") or {}).items()
    }
    found = {
        "Data set": _distinct(runs, "dataset"),
        "Training examples": _distinct(runs, "train_examples"),
        "Test examples": ", ".join(f"{n:,}" for n in sorted(tests)),
        "Classes": ", ".join(map(str, sorted(classes))),
        "Models": ", ".join(dict.fromkeys(run.label for run in runs)),
        "Epochs": _distinct(runs, "epochs") or _distinct(runs, "num_epochs"),
        "Batch size": _distinct(runs, "batch_size"),
        "Command": command or _distinct(runs, "command"),
        "Date": " to ".join(sorted({dates[0], dates[-1]})) if dates else "",
        "Commit": _distinct(runs, "commit"),
        "Device": _distinct(runs, "device"),
        "Versions": ", ".join(versions),
    }
    return {name: value for name, value in found.items() if value}


def curves(run: Run) -> list[Curve]:
    """Returns the curves of a run: training in bins of steps, evaluations as they are."""
    found = []
    train = run.records("train")
    if train:
        num_bins = max(_MIN_BINS, int(run.number("epochs")) if run.result else 0)
        columns = [_epochs(run, train), *(_column(train, name) for name in ("loss", "accuracy"))]
        found.append(
            Curve(run.label, "train", *(bin_means(column, num_bins) for column in columns))
        )
    for split in ("validation", "test"):
        records = run.records("eval", split)
        if records:
            values = (_column(records, name) for name in ("loss", "accuracy"))
            found.append(Curve(run.label, split, _epochs(run, records), *values))
    return found


def group_trace(run: Run) -> GroupTrace:
    """Returns gradient norms and rates of the parameter groups, in at most 80 bins of steps."""
    train = run.records("train")
    norms = {group: _column(train, f"grad_norm_{group}") for group in GROUPS}
    rates = {
        group: _column(train, "learning_rate" if group == "other" else f"learning_rate_{group}")
        for group in GROUPS
    }
    return GroupTrace(
        run.label,
        bin_means(_column(train, "step"), _MAX_BINS),
        {group: bin_means(column, _MAX_BINS) for group, column in norms.items()},
        {group: bin_means(column, _MAX_BINS) for group, column in rates.items()},
    )


def best_sentence(runs: Sequence[Run]) -> str:
    """Returns the result in one sentence; empty when no run is finished."""
    if not (best := [row for row in summarize(runs) if row.best]):
        return ""
    column = 2 if best[0].cells[2] != "–" else 3
    names = " and ".join(row.cells[0] for row in best)
    several = f" over {best[0].cells[1]} runs" if "±" in best[0].cells[column] else ""
    return f"Best {columns(runs)[column]}: {names}, {best[0].cells[column]}{several}."


def _cells(label: str, group: Sequence[Run], headline: tuple[str, str]) -> tuple[str, ...]:
    finished = [run for run in group if run.result is not None]
    count = f"{len(finished)} of {len(group)}" if len(finished) < len(group) else f"{len(group)}"
    if not finished:
        return (label, count, "unfinished", *["–"] * 5)
    return (
        label,
        count,
        *(_mean_and_spread(_numbers(finished, name), ".4f") for name in headline),
        _largest(_numbers(finished, "parameters"), lambda n: f"{n:,.0f}"),
        _mean_and_spread(_numbers(finished, "seconds_per_epoch"), ".2f"),
        _mean_and_spread(_numbers(finished, "compile_seconds"), ".1f"),
        _largest(_numbers(finished, "peak_memory_bytes"), _bytes),
    )


def _numbers(runs: Iterable[Run], name: str) -> list[float]:
    known = [
        run for run in runs if (run.result or {}).get(name) is not None or name in _scores(run)
    ]
    return [run.number(name) for run in known]


def _scores(run: Run) -> dict[str, float]:
    return (run.result or {}).get("scores") or {}


def _mean_and_spread(values: Sequence[float], style: str) -> str:
    """Formats the mean and, from two values on, the sample standard deviation (n − 1)."""
    if not values:
        return "–"
    mean = sum(values) / len(values)
    if len(values) == 1 or not math.isfinite(mean):
        return f"{mean:{style}}"
    return f"{mean:{style}} ± {statistics.stdev(values):{style}}"


def _largest(values: Sequence[float], show: Any) -> str:
    return show(max(values)) if values else "–"


def _bytes(value: float) -> str:
    mebibytes = value / 2**20
    return f"{mebibytes:.1f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.2f} GiB"


def _score(group: Sequence[Run]) -> tuple[bool, float]:
    """Orders rows: any accuracy before any loss, then the better mean; NaN if neither is finite."""
    finished = [run for run in group if run.result is not None]
    for name, sign in (("test_accuracy", 1), ("mse", -1), ("test_loss", -1)):
        values = _numbers(finished, name)
        mean = sum(values) / len(values) if values else math.nan
        if math.isfinite(mean):
            return name == "test_accuracy", sign * mean
    return False, math.nan


def _column(records: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    values = [record.get(name) for record in records]
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _epochs(run: Run, records: Sequence[dict[str, Any]]) -> np.ndarray:
    """Returns epochs completed, in fractions where the length of an epoch is known."""
    steps_per_epoch = run.steps_per_epoch()
    if math.isfinite(steps_per_epoch):
        return _column(records, "step") / steps_per_epoch
    return _column(records, "epoch")


def _setting(run: Run) -> str:
    fixed = {name: value for name, value in run.config.items() if name not in _FREE_FIELDS}
    return json.dumps([run.get("experiment"), run.get("dataset"), fixed], sort_keys=True)


def _distinct(runs: Iterable[Run], name: str) -> str:
    values = [run.get(name) for run in runs]
    shown = [f"{v:,.6g}" if isinstance(v, int | float) else str(v) for v in values if v is not None]
    return ", ".join(dict.fromkeys(shown))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    """Reads `metrics.jsonl`; of a step that a resumed run repeated, the last line counts."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    records: dict[tuple, dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines):  # the run was killed while it wrote this line
                break
            raise ValueError(f"{path}, line {number} is not valid JSON: {error}") from error
        records[record.get("kind"), record.get("split"), record.get("step")] = record
    return list(records.values())
