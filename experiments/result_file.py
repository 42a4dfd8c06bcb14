"""The JSON file of an experiment that takes longer than a session: rows are written as they come, and none twice."""

import argparse
import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
from matplotlib.figure import Figure

from resonance_jax.training import plots
from resonance_jax.training.result import surroundings, write_atomically

MOST_MAPS = 16_000
"""Memory maps above which compiled programs are dropped: each holds hundreds, and Linux gives a process 65,530, beyond
which nothing more can be compiled: the 206th training of an experiment ended so."""


class ResultFile:
    """Tables of rows in a JSON file, which is written after each addition.

    Raises:
        ValueError: if the file was measured with another budget.
    """

    TABLES: tuple[str, ...] = ("runs",)
    BUDGET: Any = None
    """A dataclass of what all rows have in common, kept as "budget"; None keeps none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        empty: dict[str, Any] = {table: [] for table in self.TABLES}
        self.record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else empty
        if self.BUDGET is not None:
            budget = json.loads(json.dumps(dataclasses.asdict(self.BUDGET)))
            if self.record.setdefault("budget", budget) != budget:
                raise ValueError(
                    f"{path} was measured with the budget {self.record['budget']}, not {budget}: name another file."
                )

    def summary(self) -> dict[str, Any]:
        """Returns what the file says beside its tables."""
        return {}

    def find(self, table: str, **key: Any) -> dict[str, Any] | None:
        """Returns the row of a table with these values; None if there is none."""
        rows = self.record[table]
        return next((row for row in rows if all(row[k] == v for k, v in key.items())), None)

    def add(self, table: str, key: dict[str, Any], values: dict[str, Any]) -> None:
        """Adds a row, or replaces the one with the same key, and writes the file, with what others have added to it."""
        with _locked(self.path.parent):
            if self.path.exists():
                stored = json.loads(self.path.read_text())
                self.record |= {name: stored[name] for name in self.TABLES}
            rows = [r for r in self.record[table] if any(r[k] != v for k, v in key.items())]
            self.record[table] = [*rows, key | values]
            self.record |= {**surroundings(), **self.summary()}
            write_atomically(self.path, json.dumps(self.record, indent=1, allow_nan=False) + "\n")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time that asks for this folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


File = TypeVar("File", bound=ResultFile)


def open_results(
    parser: argparse.ArgumentParser,
    kind: type[File],
    path: Path,
    draw: Callable[[Any], Figure] | None = None,
) -> tuple[argparse.Namespace, File]:
    """Parses the command line and opens the file that it names; with --plot draws what the file holds, and exits."""
    parser.add_argument("--results", type=Path, default=path)
    if draw is not None:
        parser.add_argument(
            "--plot", action="store_true", help="draw what the file holds, beside it"
        )
    options = parser.parse_args()
    results = kind(options.results)
    if draw is not None and options.plot:
        picture = options.results.with_suffix(".png")
        write_atomically(picture, plots.png_bytes(draw(results.record)))
        parser.exit(message=f"{picture}\n")
    return options, results


def work(results: ResultFile, jobs: Sequence[tuple[Any, ...]]) -> None:
    """Calls function(results, *arguments) for each (function, *arguments), and says before each what is done."""
    started = time.perf_counter(), time.process_time()
    for index, (function, *arguments) in enumerate(jobs):
        wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
        done = f"{index} of {len(jobs)} done in {wall / 60:.1f} min ({cpu / 60:.1f} min of CPU)"
        print(f"{done}; next: {function.__name__} {' '.join(map(str, arguments))}", flush=True)
        function(results, *arguments)
        if _memory_maps() > MOST_MAPS:
            jax.clear_caches()


def _memory_maps() -> int:
    """Memory maps of this process; 0 where the system does not say."""
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0
