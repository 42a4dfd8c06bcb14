"""`metrics.jsonl`, and TensorBoard where asked for."""

import json
import math
import os
from pathlib import Path
from typing import Any

from resonance_jax.training.result import write_atomically


class MetricsLog:
    """Appends one JSON object a line; on resuming, drops what lies beyond the restored step.

    Args:
        path: the file, made if absent; None writes nothing at all.
        step: step that the run continues from; lines of later steps are dropped.
        lines: how many lines there were at that step; later ones are dropped, with a last line
            that was not written to its end.
        tensorboard: folder for TensorBoard events; None writes none.
    Raises:
        ImportError: if TensorBoard is asked for and tensorboardX is not installed.
    """

    def __init__(
        self,
        path: str | Path | None,
        step: int,
        *,
        lines: int,
        tensorboard: str | Path | None = None,
    ) -> None:
        self._file, self._events, self.lines = None, None, lines
        if path is None:
            return
        self._events = None if tensorboard is None else _events(Path(tensorboard), step)
        path = Path(path)
        self.lines = _trim(path, step, lines)
        self._file = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Writes a record; numbers that are not finite, which JSON lacks, become null."""
        if self._file is None:
            return
        plain = {k: None if _is_bad(v) else v for k, v in record.items()}
        self._file.write(json.dumps(plain, allow_nan=False) + "\n")
        self._file.flush()
        self.lines += 1
        if self._events is not None:
            name = record["split"] if record["kind"] == "eval" else record["kind"]
            for key, value in plain.items():
                if isinstance(value, int | float) and key not in ("step", "epoch"):
                    self._events.add_scalar(f"{name}/{key}", value, record["step"])

    def sync(self) -> None:
        """Makes sure that what was written survives a loss of power."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the files."""
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Reads the records of a `metrics.jsonl`, without a last line that was not written to its end."""
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    # What follows the last newline is empty, or a line cut short by a crash.
    return [json.loads(line) for line in lines[:-1] if line]


def _trim(path: Path, step: int, lines: int) -> int:
    """Returns how many lines are left."""
    if not path.exists():
        return 0
    kept = [record for record in read_metrics(path)[:lines] if record["step"] <= step]
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in kept))
    return len(kept)


def _is_bad(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _events(folder: Path, step: int) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "tensorboard=True needs the package tensorboardX: pip install tensorboardX"
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1)
