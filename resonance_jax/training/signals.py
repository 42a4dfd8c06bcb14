"""Ctrl-C and SIGTERM: noticed, so that a run can end between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

WATCHED = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(Exception):
    """A signal ended the run; its state is saved and the same command continues it.

    Attributes:
        run_dir: folder of the run.
        step: last step taken and saved.
        signal_number: the signal; a command line exits with 128 plus this.
    """

    def __init__(self, run_dir: Path, step: int, signal_number: int) -> None:
        self.run_dir, self.step, self.signal_number = run_dir, step, signal_number
        super().__init__(
            f"stopped by {signal.Signals(signal_number).name} after step {step}; everything is saved in "
            f"{run_dir}: run the same command again to continue from there."
        )


class SignalFlag:
    """The first signal that arrived, or None."""

    received: int | None = None


@contextmanager
def noticed_signals() -> Iterator[SignalFlag]:
    """Notes SIGINT and SIGTERM instead of ending the process; a second one ends it as ever.

    Outside the main thread, where Python allows no handlers, nothing is noticed.
    """
    flag = SignalFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = {number: signal.getsignal(number) for number in WATCHED}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def note(number: int, _: FrameType | None) -> None:
        flag.received = number
        restore()

    for number in WATCHED:
        signal.signal(number, note)
    try:
        yield flag
    finally:
        restore()
