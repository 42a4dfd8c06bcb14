"""Several runs of language models: trained one after another, summed up as a table and as JSON."""

import dataclasses
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from resonance_jax.training.compare import plain_differences, run_directories
from resonance_jax.training.language import train_language_model
from resonance_jax.training.language_config import LanguageTrainConfig
from resonance_jax.training.language_result import LanguageResult
from resonance_jax.training.processes import is_first
from resonance_jax.training.result import surroundings, write_atomically

_COLUMNS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("test bits/byte", "test_bits_per_byte", "{:.4f}".format),
    ("validation bits/byte", "validation_bits_per_byte", "{:.4f}".format),
    ("test perplexity", "test_perplexity", "{:.3f}".format),
    ("parameters", "parameters", "{:,.0f}".format),
    ("tokens seen", "tokens_seen", "{:,.0f}".format),
    ("tokens/s", "tokens_per_second", "{:,.0f}".format),
    ("train s", "train_seconds", "{:.0f}".format),
    ("compile s", "compile_seconds", "{:.0f}".format),
)


def train_language_models(
    configs: Sequence[LanguageTrainConfig],
    root: str | Path = "runs",
    *,
    command: str | None = None,
    results: str | Path | None = None,
    **options: Any,
) -> list[LanguageResult]:
    """Trains every configuration; returns the results in order.

    Args:
        configs: runs of one experiment; each has its folder `<root>/<experiment>/<model>-seed<seed>`.
        root: parent of the run folders.
        command: the command line to note in the results.
        results: JSON file of means, spreads and runs, written anew after each run; None writes none.
        **options: `resume`, `progress` of `train_language_model`.
    Raises:
        ValueError: if there is no configuration, they are not of one experiment, or two share a folder.
    """
    done = []
    for config, folder in zip(configs, run_directories(configs, root), strict=True):
        done.append(train_language_model(config, folder, **options))
        if results is not None and is_first():
            write_language_results(results, done, configs, command=command)
    return done


def write_language_results(
    path: str | Path,
    results: Sequence[LanguageResult],
    configs: Sequence[LanguageTrainConfig],
    *,
    command: str | None = None,
) -> None:
    """Writes {experiment, command, date, commit, device, versions, summary, configs, runs} as JSON.

    The summary has, for each model, the mean and the sample standard deviation over seeds of the bits per byte, and the
    medians of the costs. Of each configuration only what differs from the defaults is written.
    """
    shown = {config.model_name: plain_differences(config) for config in reversed(configs)}
    groups = _by_model(results)
    record = {
        "experiment": configs[0].experiment,
        "corpus": configs[0].corpus,
        "command": command,
        **surroundings(),
        "summary": {model: _summary(group) for model, group in groups.items()},
        "configs": {model: shown[model] for model in groups},
        "runs": [dataclasses.asdict(result) for result in results],
    }
    write_atomically(path, json.dumps(record, indent=1, allow_nan=False) + "\n")


def format_language_table(results: Sequence[LanguageResult]) -> Table:
    """Returns one row a model for a terminal, the best in bold; several seeds as mean ± standard deviation."""
    groups = _by_model(results)
    means = {m: statistics.fmean(r.test_bits_per_byte for r in g) for m, g in groups.items()}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for header in ("model", "runs", *(header for header, _, _ in _COLUMNS)):
        justify = "left" if header == "model" else "right"
        table.add_column(header.replace(" ", "\n"), justify=justify, no_wrap=True)
    for model, group in groups.items():
        best = means[model] == min(means.values())
        cells = [_mean_and_spread([getattr(r, n) for r in group], show) for _, n, show in _COLUMNS]
        row = (f"{model} *" if best else model, str(len(group)), *cells)
        table.add_row(*map(Text, row), style="bold green" if best else None)
    return table


def _by_model(results: Sequence[LanguageResult]) -> dict[str, list[LanguageResult]]:
    groups: dict[str, list[LanguageResult]] = {}
    for result in results:
        groups.setdefault(result.model, []).append(result)
    return groups


def _summary(group: Sequence[LanguageResult]) -> dict[str, Any]:
    summary: dict[str, Any] = {"seeds": [result.seed for result in group]}
    for name in ("test_bits_per_byte", "validation_bits_per_byte"):
        values = [getattr(result, name) for result in group]
        summary[f"{name}_mean"] = statistics.fmean(values)
        summary[f"{name}_std"] = statistics.stdev(values) if len(values) > 1 else None
    for name in ("parameters", "tokens_seen", "tokens_per_second", "train_seconds"):
        summary[name] = statistics.median(getattr(result, name) for result in group)
    return summary


def _mean_and_spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    """Formats the mean, and the sample standard deviation where values differ."""
    mean = show(statistics.fmean(values))
    return f"{mean} ± {show(statistics.stdev(values))}" if len(set(values)) > 1 else mean
