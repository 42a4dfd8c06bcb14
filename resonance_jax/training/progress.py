"""What a run shows while it trains: a bar in a terminal, a few plain lines elsewhere."""

import math
import sys
from types import TracebackType
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from resonance_jax.training.losses import SCORES

PLAIN_LINES = 10


class ProgressReporter:
    """Shows steps, loss, rates, speed and evaluations.

    Args:
        total: steps of the run.
        num_epochs: epochs of the run.
        title: what is trained.
        enabled: False shows nothing.
    """

    def __init__(self, total: int, num_epochs: int, title: str, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._every = max(1, -(-num_epochs // PLAIN_LINES))
        self._title = title
        self._bar: Progress | None = None
        self._last: dict[str, Any] = {}
        if enabled and sys.stdout.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn())
            self._bar = Progress(
                *columns, TimeRemainingColumn(), TextColumn("{task.fields[shown]}")
            )
            self._task = self._bar.add_task(title, total=total, shown="")

    def __enter__(self) -> "ProgressReporter":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Shows one line of text."""
        if self._bar is not None:
            self._bar.console.print(text)
        elif self._enabled:
            print(text, flush=True)

    def train(self, record: dict[str, Any]) -> None:
        """Takes a "train" record of the metrics."""
        self._last = record
        if self._bar is not None:
            rates = "/".join(
                f"{record[name]:.1e}"
                for name in ("learning_rate", "learning_rate_magnitude", "learning_rate_phase")
            )
            speed = f"{record['examples_per_second']:.0f} examples/s"
            shown = f"loss {record['loss']:.3f}  rates {rates}  {speed}"
            self._bar.update(self._task, completed=record["step"], shown=shown)

    def evaluation(self, record: dict[str, Any]) -> None:
        """Takes an "eval" record; without a terminal, one line for about a tenth of the epochs."""
        epoch = round(record["epoch"])
        if self._bar is None and epoch % self._every:
            return
        speed = self._last.get("examples_per_second")
        tail = f", {speed:.0f} examples/s" if speed else ""
        names = ("loss", *(name for names in SCORES.values() for name in names if name in record))
        scores = ", ".join(f"{name} {record[name]:.4f}" for name in names)
        self.note(f"{self._title}: epoch {epoch}, {record['split']} {scores}{tail}")


class LanguageProgress(ProgressReporter):
    """Shows the run of a language model in percent, with bits a token, rates, speed and evaluations.

    Args:
        title: what is trained.
        enabled: False shows nothing.
    """

    def __init__(self, title: str, *, enabled: bool = True) -> None:
        super().__init__(100, PLAIN_LINES, title, enabled=enabled)
        self._shown = 0

    def train(self, record: dict[str, Any]) -> None:
        """Takes a "train" record of the metrics; without a terminal, one line for a tenth of the run."""
        bits, speed = record["loss"] / math.log(2), record["tokens_per_second"]
        shown = f"step {record['step']}, {bits:.3f} bits/token, {speed:,.0f} tokens/s"
        if self._bar is not None:
            percent = int(100 * record["progress"])
            self._bar.update(self._task, completed=percent, shown=shown)
        elif (tenth := int(PLAIN_LINES * record["progress"])) > self._shown:
            self._shown = tenth
            self.note(f"{self._title}: {record['progress']:.0%}, {shown}")

    def evaluation(self, record: dict[str, Any]) -> None:
        """Takes an "eval" record."""
        self.note(
            f"{self._title}: step {record['step']}, {record['split']} {record['bits_per_byte']:.4f} bits/byte, "
            f"perplexity {record['perplexity']:.3f}"
        )
