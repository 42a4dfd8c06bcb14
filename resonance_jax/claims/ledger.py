"""The ledger: loads the claims of experiments/claims, measures and decides each.

A claim is a module named by its id in lower case (`r3.py`, `n10.py`). Its docstring begins `R3: the claim`, and has the
lines `Source: …` and `Decided by: …`. It defines

    measure(seed: int, size: str) -> Numbers      size is "quick" or "full"
    decide(runs: Sequence[Numbers]) -> Decision   from the numbers of all seeds, never from anything else
    draw(runs: Sequence[Numbers]) -> Plot         optional
    SEEDS = {"quick": 1, "full": 3}               optional
"""

import dataclasses
import importlib.util
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from resonance_jax.training.result import surroundings, write_atomically

Numbers = dict[str, Any]  # finite Python numbers or lists of them; `run_claim` checks

SIZES = ("quick", "full")
VERDICTS = ("holds", "holds when", "fails")
SEEDS = {"quick": 1, "full": 3}
_DOCSTRING = re.compile(
    r"(?P<id>[A-Z]\d+): (?P<claim>.+?)\n\s*\nSource: (?P<source>.+?)\nDecided by: (?P<test>.+?)\s*$",
    re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Decision:
    """What the numbers say of a claim."""

    verdict: str
    """"holds", "holds when" or "fails"."""
    number: str
    """The deciding figures with their meaning, in a line: "relative error 0.78 (softmax), 2e-7 (circulant)"."""
    statement: str = ""
    """The condition of a "holds when", the right statement where it fails, a remark where it holds; a sentence."""

    def __post_init__(self) -> None:
        """Checks the verdict, and that a claim that does not simply hold says what does."""
        if self.verdict not in VERDICTS:
            raise ValueError(
                f"unknown verdict {self.verdict!r}; choose one of {', '.join(VERDICTS)}."
            )
        if not self.number or (self.verdict != "holds" and not self.statement):
            raise ValueError(
                f"a verdict needs its number, and {self.verdict!r} a statement; got {self}."
            )


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a plot."""

    label: str
    x: Sequence[float | int]
    y: Sequence[float | int]
    style: str = "line"
    """"line", "points", or "reference" (dashed, in grey)."""


@dataclasses.dataclass(frozen=True)
class Plot:
    """A picture of a measurement, drawn by the page."""

    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim and how it is decided."""

    id: str
    text: str
    source: str
    decided_by: str
    measure: Callable[[int, str], Numbers]
    decide: Callable[[Sequence[Numbers]], Decision]
    draw: Callable[[Sequence[Numbers]], Plot] | None
    seeds: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Pending:
    """A claim that no measurement exists for yet."""

    id: str
    text: str
    waits_for: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """A row of the ledger: a claim with its measurement, or with the reason why there is none."""

    claim: Claim
    size: str
    seconds: float
    runs: list[Numbers]
    decision: Decision | None
    error: str | None = None


def load_claims(folder: str | Path) -> dict[str, Claim]:
    """Loads every claim of a folder, by id, in the order of the ids.

    Raises:
        ValueError: if a module does not have the form that this module's docstring states.
    """
    paths = [path for path in Path(folder).glob("*.py") if not path.stem.startswith("_")]
    claims = [_load_claim(path) for path in sorted(paths, key=lambda path: _order(path.stem))]
    return {claim.id: claim for claim in claims}


def load_pending(folder: str | Path) -> list[Pending]:
    """Loads the claims that are listed in the folder's `_pending.py` as PENDING: id -> (claim, what it waits for)."""
    module = _import(Path(folder) / "_pending.py")
    return [Pending(name, *values) for name, values in module.PENDING.items()]


def select_claims(
    ids: Sequence[str], claims: Mapping[str, Claim], pending: Sequence[Pending] = ()
) -> list[Claim]:
    """Returns the claims that were asked for, in the order of the ledger; all if none were.

    Raises:
        ValueError: if an id is unknown (the message suggests the nearest), or pending.
    """
    wanted = [name.upper() for name in ids] or list(claims)
    waiting = {claim.id: claim.waits_for for claim in pending}
    for name in wanted:
        if name in waiting:
            raise ValueError(f"claim {name} cannot be measured yet: it waits for {waiting[name]}.")
        if name not in claims:
            known = [*claims, *waiting]
            alike = [other for other in known if other[0] == name[:1]] or known
            close = get_close_matches(name, alike, n=1, cutoff=0.3)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ValueError(f"unknown claim {name!r}.{hint} Known: {', '.join(known)}.")
    return [claim for name, claim in claims.items() if name in wanted]


def run_claim(claim: Claim, size: str) -> Entry:
    """Measures a claim at a size, once a seed, and decides it.

    Missing data is an entry without a decision, so that the rest of the ledger can be measured.

    Raises:
        ValueError: if the size is unknown, or a measured number is not finite.
    """
    if size not in SIZES:
        raise ValueError(f"unknown size {size!r}; choose one of {', '.join(SIZES)}.")
    start = time.perf_counter()
    try:
        runs = [claim.measure(seed, size) for seed in range(claim.seeds[size])]
    except FileNotFoundError as absent:
        return Entry(claim, size, time.perf_counter() - start, [], None, str(absent))
    for run in runs:
        _check_numbers(claim.id, run)
    return Entry(claim, size, time.perf_counter() - start, runs, claim.decide(runs))


def measure_ledger(
    claims: Sequence[Claim],
    path: str | Path,
    size: str = "quick",
    *,
    report: Callable[[str | None, dict[str, Any]], None] = lambda running, records: None,
) -> dict[str, Any]:
    """Measures claims one after another and writes `claims.json` after each.

    Claims that the file holds already and that are not measured now stay in it; each has its own date and commit.

    Args:
        claims: what to measure; at least one.
        path: the JSON file.
        size: "quick" or "full".
        report: called with the id of the claim about to be measured (None at the end) and all records by id so far.
    Returns:
        The ledger as written: {date, commit, device, versions, claims}.
    Raises:
        ValueError: if there is no claim, the size is unknown, a measured number is not finite, or the file is no
            ledger.
    """
    if not claims:
        raise ValueError("there is no claim to measure.")
    path, measured = Path(path), {}
    kept, here = _read_ledger(path), surroundings()
    when = {name: here[name] for name in ("date", "commit")}
    for claim in claims:
        report(claim.id, measured)
        measured[claim.id] = {**entry_record(run_claim(claim, size)), **when}
        records = kept | measured
        ordered = [records[name] for name in sorted(records, key=_order)]
        text = json.dumps({**here, "claims": ordered}, indent=1, allow_nan=False)
        write_atomically(path, text + "\n")
    report(None, measured)
    return json.loads(path.read_text("utf-8"))


def entry_record(entry: Entry) -> dict[str, Any]:
    """Returns an entry, with its plot, as JSON values."""
    claim, decision = entry.claim, entry.decision
    full = " --full" if entry.size == "full" else ""
    plot = claim.draw(entry.runs) if claim.draw and entry.runs else None
    return {
        "id": claim.id,
        "claim": claim.text,
        "source": claim.source,
        "decided_by": claim.decided_by,
        "verdict": decision.verdict if decision else None,
        "number": decision.number if decision else None,
        "statement": decision.statement if decision else None,
        "error": entry.error,
        "size": entry.size,
        "seconds": round(entry.seconds, 2),
        "command": f"resonance-jax claims {claim.id}{full}",
        "runs": entry.runs,
        "plot": dataclasses.asdict(plot) if plot else None,
    }


def _read_ledger(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        return {record["id"]: record for record in json.loads(path.read_text("utf-8"))["claims"]}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no ledger of claims ({error}); move it away.") from error


def _order(stem: str) -> tuple[int, int]:
    letter, digits = stem[:1].lower(), stem[1:]
    return "rnq".find(letter), int(digits) if digits.isdigit() else -1


def _load_claim(path: Path) -> Claim:
    module = _import(path)
    found = _DOCSTRING.match((module.__doc__ or "").strip())
    if not found or found["id"].lower() != path.stem:
        raise ValueError(
            f"{path} must begin with a docstring '{path.stem.upper()}: the claim', a blank line, 'Source: …' and "
            "'Decided by: …'."
        )
    for name in ("measure", "decide"):
        if not callable(getattr(module, name, None)):
            raise ValueError(f"{path} must define {name}; see resonance_jax.claims.ledger.")
    text, source, test = (" ".join(found[key].split()) for key in ("claim", "source", "test"))
    seeds = SEEDS | getattr(module, "SEEDS", {})
    draw = getattr(module, "draw", None)
    return Claim(found["id"], text, source, test, module.measure, module.decide, draw, seeds)


def _import(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"experiments.claims.{path.stem}", path)
    assert spec is not None and spec.loader is not None  # a .py file always has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _check_numbers(name: str, numbers: Numbers) -> None:
    for key, value in numbers.items():
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            raise ValueError(
                f"{name} measured {key} = {value!r}; expected finite Python numbers or a list of them."
            )
