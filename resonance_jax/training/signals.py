"""Ctrl-C and SIGTERM: noticed, so that a run can end between two steps."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

WATCHED = (signal.SIGINT, signal.SIGTERM)
ONE_WISH = 1.0  # seconds within which a signal that comes again is the same one


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
    """Notes SIGINT and SIGTERM instead of ending the process; a second one, a second later or more, ends it as ever.

    Within that second it is taken for the first one: a service manager signals a launcher and its processes, and the
    launcher passes its own on to them. Outside the main thread, where Python allows no handlers, nothing is noticed.
    """
    flag = SignalFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    previous = {number: signal.getsignal(number) for number in WATCHED}
    last = 0.0

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def note(number: int, _: FrameType | None) -> None:
        nonlocal last
        if flag.received is None:
            flag.received, last = number, time.monotonic()
        elif time.monotonic() - last > ONE_WISH:
            restore()
            os.kill(os.getpid(), number)

    for number in WATCHED:
        signal.signal(number, note)
    try:
        yield flag
    finally:
        restore()
