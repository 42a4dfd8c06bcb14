"""One run of a benchmark: what it measures, what was asked, and the JSON file and picture that it leaves."""

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from matplotlib.figure import Figure

from benchmarks.timing import Case, environment, limits, ratio, time_interleaved
from resonance_jax.training.plots import png_bytes
from resonance_jax.training.result import write_atomically

RESULTS = Path(__file__).parent / "results"
SAME = ("platform", "device", "cores")
TOLERANCE = 2.0
"""How many times worse than the committed one a ratio may be: of 18 ratios of `resonance` the furthest came out 1.52
times worse in a quick run beside other work (78 % of the machine), and 1.28 times better."""


class Record:
    """Rows and targets of one benchmark, in a file that is written as they come.

    Until `finish` the file's name ends in ".partial". What a run of the same clean commit, versions and flags on the
    same device measured before it was interrupted is not measured again: rows of `measure`, and of `time` where all
    cases of a key have one ("calls_s", the seconds of each call, are in the partial file alone).

    Attributes:
        quick: measure fewer sizes, with fewer repeats.
        path: the JSON file.
        values: what goes into it: the environment, "limits", "rows", "targets", and what the benchmark adds.
    """

    def __init__(self, path: Path, quick: bool) -> None:
        self.quick = quick
        self.path = path
        self._partial = path.with_name(path.name + ".partial")
        self.values: dict[str, Any] = {
            **environment(),
            "limits": limits(),
            "rows": [],
            "targets": [],
        }
        self._earlier: list[dict[str, Any]] = []
        if self._partial.exists():
            earlier = json.loads(self._partial.read_text())
            keys = ("commit", "versions", "xla_flags", *SAME)
            same = all(earlier[key] == self.values[key] for key in keys)
            if same and earlier["commit"] and "changes" not in earlier["commit"]:
                self._earlier = earlier["rows"]
                for name in ("date", "limits"):
                    self.values[name] = earlier[name]

    def measure(
        self, key: dict[str, Any], function: Callable[[], list[dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        """Adds key | row for each row of function(), or those with this key that an interrupted run left."""
        if rows := [row for row in self._earlier if row.items() >= key.items()]:
            self.values["rows"] += rows
            return rows
        rows = [key | row for row in function()]
        self.values["rows"] += rows
        self._write(self._partial)
        return rows

    def time(self, key: dict[str, Any], cases: list[Case], reference: str) -> dict[str, Case]:
        """Times cases side by side, adds a row of each, and prints them as multiples of one of them.

        Returns:
            The cases by name.
        """
        earlier = {row["name"]: row for row in self._earlier if row.items() >= key.items()}
        known = all(case.left_out or _was_timed(case, earlier.get(case.name, {})) for case in cases)
        for case in (case for case in cases if known and not case.left_out):
            case.seconds = earlier[case.name]["calls_s"]
            if "resident_bytes" in earlier[case.name]:
                case.info["resident_bytes"] = earlier[case.name]["resident_bytes"]
        if not known:
            time_interleaved(cases)
        by_name = {case.name: case for case in cases}
        title = ", ".join(f"{name} {value}" for name, value in key.items())
        print(
            f"\n{title:<44}{'median':>10}{'quartiles ms':>20}{'× ' + reference:>22}{'XLA':>9}{'RSS MB':>9}"
        )
        for case in cases:
            row = {**key, "name": case.name, **case.row()}
            times = ratio(case, by_name[reference])
            if times is not None:
                row["times_reference"] = round(times, 3)
            if case.seconds:
                row["calls_s"] = case.seconds
            self.values["rows"].append(row)
            print(_line(row), flush=True)
        if not known:  # else what an earlier run measured after it would be lost
            self._write(self._partial)
        return by_name

    def target(
        self,
        what: str,
        measured: float | None,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        better: str | None = None,
    ) -> None:
        """Adds a target, and prints it: a ratio that should be at most, or at least, a number.

        What has no limit is compared with an earlier run's only if `better` says which way, "lower" or "higher"; a
        measured None was not measured.
        """
        limit, missed = "", False
        if at_most is not None:
            limit, better = f" ≤ {at_most:g}", "lower"
            missed = measured is not None and measured > at_most
        elif at_least is not None:
            limit, better = f" ≥ {at_least:g}", "higher"
            missed = measured is not None and measured < at_least
        result = "MISS" if missed else "PASS" if limit else "-"
        result = "unmeasured" if measured is None else result
        entry = {
            "target": what + limit,
            "measured": None if measured is None else round(measured, 4),
            "result": result,
            "better": better,
        }
        self.values["targets"].append(entry)
        shown = "" if measured is None else f"{measured:.3g}"
        print(f"  {result:<11}{entry['target']:<84}{shown:>9}", flush=True)

    def finish(self, draw: Callable[[dict[str, Any]], Figure] | None) -> None:
        """Writes the whole file, removes the partial one, and draws the picture beside it."""
        for row in self.values["rows"]:
            row.pop("calls_s", None)
        self._write(self.path)
        self._partial.unlink(missing_ok=True)
        if draw is not None:
            write_atomically(self.path.with_suffix(".png"), png_bytes(draw(self.values)))

    def _write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.values, indent=1, ensure_ascii=False, allow_nan=False)
        write_atomically(path, text + "\n")


def _was_timed(case: Case, row: dict[str, Any]) -> bool:
    """Whether an earlier run timed this case, of the same version if it is a peer."""
    return "calls_s" in row and row.get("version") == case.info.get("version")


def _line(row: dict[str, Any]) -> str:
    if "left_out" in row:
        return f"{row['name']:<44}  {row['left_out']}"
    lower, upper = row["quartiles_ms"]
    times = f"{row['times_reference']:.2f}" if "times_reference" in row else ""
    sizes = (row.get(name) for name in ("temp_bytes", "resident_bytes"))
    memory = "".join(f"{'' if size is None else f'{size / 2**20:.1f}':>9}" for size in sizes)
    return (
        f"{row['name']:<44}{row['median_ms']:>10.2f}{lower:>11.2f}{upper:>9.2f}{times:>22}{memory} "
        f"{row.get('note', '')}"
    )


def run(name: str, folder: Path, quick: bool) -> Path:
    """Runs one benchmark in this process and returns its file."""
    module = importlib.import_module(f"benchmarks.{name}")
    suffix = "-quick" if quick else ""
    record = Record(folder / f"{name}-{jax.default_backend()}{suffix}.json", quick)
    about = record.values
    print(f"\n== {name}: {(module.__doc__ or '').splitlines()[0]}")
    print(f"{about['device']}, {about['cores']} cores, commit {about['commit']}", flush=True)
    if (about["busy_before"] or 0) > 0.1:
        print(f"Other work takes {about['busy_before']:.0%} of the machine.", flush=True)
    module.run(record)
    if record.values["rows"]:
        record.finish(getattr(module, "draw", None))
        print(f"written to {os.path.relpath(record.path)}")
    return record.path


def compare(committed: dict[str, Any], found: dict[str, Any], tolerance: float) -> list[str]:
    """Returns a line for each ratio that is worse than the committed one by more than the tolerance.

    Raises:
        ValueError: if the two are of different devices, or share no ratio.
    """
    require_same_device(committed, found)
    before = {entry["target"]: entry for entry in committed.get("targets", [])}
    both = [
        (before[entry["target"]], entry)
        for entry in found["targets"]
        if entry["better"] and before.get(entry["target"], {}).get("measured")
    ]
    if not both:
        raise ValueError("the two files share no measured ratio.")
    worse = []
    for old, new in both:
        if new["measured"] is None:
            worse.append(f"{new['target']}: committed {old['measured']:g}, not measured now")
            continue
        factor = new["measured"] / old["measured"]
        if new["better"] == "higher":
            factor = 1 / factor
        if factor > tolerance:
            worse.append(
                f"{new['target']}: {new['measured']:g}, committed {old['measured']:g}: {factor:.2f} times worse"
            )
    return worse


def require_same_device(committed: dict[str, Any], found: dict[str, Any]) -> None:
    """Raises ValueError if the figures are not of one kind of device."""
    for key in SAME:
        if committed[key] != found[key]:
            raise ValueError(
                f"the committed figures are of {key} {committed[key]!r}, these of {found[key]!r}: ratios of different "
                "machines say nothing of the code. Measure the committed version here first."
            )


def check(name: str, folder: Path, tolerance: float) -> int:
    """Compares a fresh quick run with the committed one, prints what is worse, and returns an exit status."""
    path = RESULTS / f"{name}-{jax.default_backend()}.json"
    if not path.exists():
        print(f"{name}: nothing is committed for {jax.default_backend()}.", file=sys.stderr)
        return 0
    committed = json.loads(path.read_text())
    try:
        require_same_device(committed, environment())
        found = json.loads(run(name, folder, quick=True).read_text())
        worse = compare(committed, found, tolerance)
    except ValueError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    for line in worse:
        print(f"{name}: {line}", file=sys.stderr)
    print(f"{name}: {'worse' if worse else 'no ratio is worse'} by more than {tolerance:g} times")
    return int(bool(worse))
