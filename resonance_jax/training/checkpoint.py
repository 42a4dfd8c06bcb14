"""Checkpoints of a run: asynchronous, the last n and the best; the only file that imports orbax."""

import dataclasses
import errno
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from resonance_jax.training.config import RESUMABLE_FIELDS, TrainConfig, config_differences
from resonance_jax.training.processes import is_first, on_first
from resonance_jax.training.seal import check_seal, seal
from resonance_jax.training.state_arrays import (
    CheckpointError,
    CheckpointMismatchError,
    allocate,
    checksum,
    describe,
    drop_empty,
    restore_empty,
    to_arrays,
)
from resonance_jax.training.step import TrainState

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint held."""

    step: int
    """Step of the checkpoint that was read."""
    arrays: dict[str, Any]
    """NumPy arrays: "params", "ema_params" and "collections" (where kept) and the "rest" of the state."""
    host: dict[str, Any]
    """What the loop saved beside the arrays."""
    config: Any
    """Configuration of the run, a `TrainConfig` or of the type that the store was told."""
    best: int | None
    """Step of the best checkpoint so far, where there is one."""
    unreadable: tuple[int, ...] = ()
    """Later checkpoints that could not be read."""


class CheckpointStore:
    """Checkpoints of one run in one folder.

    Of several processes that train together all call `save`, `restore` and `close`; the first one writes and reads, and
    sends the others what it has read. A store that only reads is each process's own.

    Args:
        directory: folder of the checkpoints, made if absent.
        config: configuration of the run, a `TrainConfig` or `LanguageTrainConfig`; None takes whatever was saved.
        read_only: never writes, moves or deletes anything.
        config_type: the type of what was saved, where no configuration is given.
    """

    def __init__(
        self,
        directory: str | Path,
        config: Any = None,
        *,
        read_only: bool = False,
        config_type: type = TrainConfig,
    ) -> None:
        self.directory = Path(directory).resolve()
        self._config = config
        self._config_type = config_type if config is None else type(config)
        self._read_only = read_only
        self._best: int | None = None
        self._saving: int | None = None
        # Its threads log a failed save with pages of traceback; here it is raised, and said once.
        logging.getLogger("absl").addFilter(_is_no_orbax_error)
        self._works = read_only or is_first()
        if self._works:
            self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        # Which checkpoints are kept is decided here, not by orbax: its policies skip a save while
        # another is in progress, and want a metric with every checkpoint to keep the best.
        if not self._read_only:
            for unfinished in self.directory.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(unfinished, ignore_errors=True)
            self.directory.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None, create=False, multiprocessing_options=_alone()
        )
        return ocp.CheckpointManager(self.directory, options=options)

    def steps(self) -> list[int]:
        """Returns the steps of the checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def save(
        self,
        state: TrainState,
        host: dict[str, Any],
        *,
        best: int | None = None,
        wait: bool = False,
    ) -> None:
        """Saves the state in the background, after the save before has ended.

        Args:
            state: copied before this returns, so it may be donated.
            host: JSON values to save with it; copied likewise.
            best: step of the best checkpoint, which is kept besides the latest.
            wait: return only when the checkpoint is safely written.
        Raises:
            CheckpointError: if this save, or the one before, failed; earlier ones are intact.
        """
        assert self._config is not None, "a store without a configuration only reads"
        on_first(lambda: self._save(state, host, best, wait))

    def _save(self, state: TrainState, host: dict[str, Any], best: int | None, wait: bool) -> None:
        step = int(state.step)
        self.wait()
        self._best = best
        self._prune()
        if step not in self.steps():
            arrays = to_arrays(state)
            meta = {
                "config": self._config.to_dict(),
                "leaves": describe(arrays),
                "checksum": checksum(arrays),
                "best": best,
                "host": host,
            }
            # JSON is written in the background: what the caller changes meanwhile must not get in.
            meta = json.loads(json.dumps(meta))
            with self._explained(step):
                items = ocp.args.Composite(
                    arrays=ocp.args.StandardSave(drop_empty(arrays)), host=ocp.args.JsonSave(meta)
                )
                self._manager.save(step, args=items, force=True)
            self._saving = step
        if wait:
            self.wait()

    def wait(self) -> None:
        """Waits for a save in progress; raises its error."""
        with self._explained(None):
            self._manager.wait_until_finished()
            if self._saving is not None:
                seal(self.directory / str(self._saving))
        self._saving = None

    def close(self) -> None:
        """Waits, deletes what need not be kept, and releases the folder."""
        if not self._works:
            return
        try:
            self.wait()
            self._prune()
        finally:
            self._manager.close()

    def restore(self) -> Restored | None:
        """Reads the latest checkpoint that can be read.

        A checkpoint that cannot be read (half deleted, or its checksum does not match) is reported
        as a warning, set aside in the folder "unreadable" beside the checkpoints, and the one
        before it is taken.

        Returns:
            The checkpoint, or None where there is none yet.
        Raises:
            CheckpointMismatchError: if it is of another configuration, naming the fields.
            CheckpointError: if there are checkpoints and none can be read.
        """
        return self._restore() if self._read_only else on_first(self._restore)

    def _restore(self) -> Restored | None:
        failures: dict[int, str] = {}
        for step in reversed(self.steps()):
            try:
                restored = self._read(step)
            except CheckpointMismatchError:
                raise
            except Exception as error:  # Whatever a damaged file makes of orbax or JSON.
                reason = str(error).strip() or type(error).__name__
                failures[step] = reason.splitlines()[0][:200]
                logger.warning(
                    "checkpoint of step %d cannot be read, trying the one before it: %s",
                    *(step, failures[step]),
                )
                continue
            self._set_aside(list(failures))
            self._best = restored.best
            return dataclasses.replace(restored, unreadable=tuple(failures))
        if failures:
            listed = "; ".join(f"step {step}: {reason}" for step, reason in failures.items())
            raise CheckpointError(
                f"none of the checkpoints in {self.directory} can be read ({listed}). "
                "Train afresh with resume=False, or in another folder."
            )
        return None

    def _read(self, step: int) -> Restored:
        check_seal(self.directory / str(step))
        saved = self._manager.restore(step, args=ocp.args.Composite(host=ocp.args.JsonRestore()))
        meta = saved["host"]
        config = self._config_type.from_dict(meta["config"])
        if self._config is not None:
            check_same_run(self._config, config, self.directory)
        target = allocate(meta["leaves"])
        items = ocp.args.Composite(arrays=ocp.args.StandardRestore(drop_empty(target)))
        arrays = restore_empty(self._manager.restore(step, args=items)["arrays"], target)
        if checksum(arrays) != meta["checksum"]:
            raise ValueError("the arrays are not those that were saved (their checksum differs)")
        return Restored(step, arrays, meta["host"], config, meta["best"])

    def _prune(self) -> None:
        if self._read_only or self._config is None:
            return
        steps = self.steps()
        for step in steps[: -self._config.keep_checkpoints]:
            if step != self._best:
                self._manager.delete(step)

    def _set_aside(self, steps: list[int]) -> None:
        """Moves checkpoints that cannot be read out of the way of new ones of the same steps."""
        if self._read_only or not steps:
            return
        self._manager.close()
        for step in steps:
            source = self.directory / str(step)
            target = self.directory.parent / "unreadable" / str(step)
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            if source.exists():
                source.rename(target)
        self._manager = self._open()

    @contextmanager
    def _explained(self, step: int | None) -> Iterator[None]:
        """Turns a failed save into a CheckpointError that says what is left and what to do."""
        try:
            yield
        except Exception as error:
            self._discard_unfinished()
            steps = self.steps()
            what = "a checkpoint" if step is None else f"the checkpoint of step {step}"
            why = "the disk is full" if is_disk_full(error) else str(error).strip()
            left = f"the latest good one is of step {steps[-1]}" if steps else "there is none yet"
            raise CheckpointError(
                f"could not save {what} in {self.directory}: {why}. Checkpoints saved before are "
                f"intact; {left}. Make room (or correct the cause) and run the same command again: "
                "it continues from there."
            ) from error

    def _discard_unfinished(self) -> None:
        """Drops what a failed save left behind, and starts with a manager that knows nothing of it."""
        try:
            self._manager.close()
        except Exception as error:  # Closing waits for the failed save, and raises its error again.
            logger.debug("closing after a failed save: %s", error)
        self._saving = None
        self._manager = self._open()


def _alone() -> Any:
    """Orbax's options for a manager that waits for no other process."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
    )


def check_same_run(config: Any, saved: Any, place: Path) -> None:
    """Raises CheckpointMismatchError, naming the fields, if a run cannot continue with `config`."""
    names = [n for n in config_differences(config, saved) if n not in RESUMABLE_FIELDS]
    if names:
        changes = ", ".join(
            f"{name} (saved {_field(saved, name)!r}, now {_field(config, name)!r})"
            for name in names
        )
        raise CheckpointMismatchError(
            f"{place} holds a checkpoint of another configuration; it differs in {changes}. Set these "
            "back, use another folder, or train afresh with resume=False."
        )


def _is_no_orbax_error(record: logging.LogRecord) -> bool:
    return record.levelno < logging.ERROR or "orbax" not in record.pathname


def _field(config: Any, name: str) -> Any:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def is_disk_full(error: BaseException) -> bool:
    """Says whether an error means that there is no room left."""
    # Where tensorstore writes, the error number survives in the text only.
    code = getattr(error, "errno", None)
    return code in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error)
