"""What a run ends in: `RunResult`, the files it lies in, and the surroundings it was made in."""

import dataclasses
import datetime
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax")


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The outcome of one run, as `result.json` holds it."""

    experiment: str
    """Name of the experiment."""
    model: str
    """"resonance", "transformer" or "fnet"."""
    dataset: str
    """Name of the data set."""
    seed: int
    """Seed of the run."""
    test_accuracy: float | None
    """Accuracy on the test split after the last step (never selected), in [0, 1]; None of a forecast."""
    test_loss: float
    """Mean loss on the test split after the last step."""
    validation_accuracy: float | None
    """Accuracy on the validation split after the last step; None without such a split, and of a forecast."""
    parameters: int
    """Number of trained real parameters."""
    seconds_per_epoch: float
    """Training time of an epoch, without compilation and evaluation."""
    compile_seconds: float
    """Time to trace and compile the training step."""
    peak_memory_bytes: int | None
    """XLA's figure for the step: arguments + outputs + temporaries − aliased; None if not known."""
    train_seconds: float
    """Training time of all epochs, over all resumptions."""
    steps: int
    """Steps taken."""
    epochs: float
    """Passes over the training split that these steps are."""
    confusion: list[list[int]]
    """Test examples by class: rows true, columns predicted; empty of a forecast."""
    class_names: list[str]
    """Names of the classes, in order."""
    date: str
    """When the run ended, UTC, ISO 8601."""
    commit: str | None
    """Commit of the source ("+" appended where files had changed); None outside a repository."""
    device: str
    """Platform and kind of the device."""
    versions: dict[str, str]
    """Versions of Python and of the packages that compute."""
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    """Of a forecast, {"mse", "mae"} on the test split after the last step; else empty."""
    validation_scores: dict[str, float] = dataclasses.field(default_factory=dict)
    """The same on the validation split."""

    def to_json(self) -> str:
        """Returns the result as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "RunResult":
        """Builds the result from what `to_json` wrote."""
        return cls(**json.loads(text))


def surroundings() -> dict[str, Any]:
    """Returns date, commit, device and versions, as `RunResult` takes them."""
    device = jax.devices()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "device": f"{device.platform}: {device.device_kind}",
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in PACKAGES},
    }


def write_atomically(path: str | os.PathLike, content: str | bytes) -> None:
    """Writes a file so that a reader, or a crash, sees the old or the new content and nothing between."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _commit() -> str | None:
    folder = Path(__file__).parent
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return None
    return head + "+" if _git(folder, "status", "--porcelain", "-uno") else head


def _git(folder: Path, *arguments: str) -> str | None:
    """Runs git; None where it is absent or the folder is not in a repository that has the package."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        tracked = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "--error-unmatch", Path(__file__).name],
            capture_output=True,
            timeout=10,
        )
        if tracked.returncode:
            return None
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
