"""How a process joins others that train together, and how it leaves: at the end, after an error, when another died.

JAX ends a process by abort() when another one, or their coordinator, is gone; here that becomes a line and a status.
"""

import ctypes
import os
import re
import signal
import socket
import sys
import threading
import time
from typing import Any

import jax

from resonance_jax.training.launch import LAUNCHER, OTHER_DIED
from resonance_jax.training.processes import connect

HEARTBEAT = 45  # seconds without a sign of life after which a process is taken for dead
GRACE = 2  # seconds that the first process waits after an error, for the others to say theirs
_LOST = (
    "another process of this training, or its coordinator, has died; checkpoints are intact: run the same command "
    "again to continue from the last one."
)
_SIGNS_OF_LOSS = re.compile(
    "gloo|nccl|connection|peer|heartbeat|coordination|barrier|unavailable|deadline", re.I
)
_handler: Any = None  # kept, as C calls it


def join(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: int = 60,
) -> None:
    """Joins the processes that train together; to be called before anything else of JAX.

    Args:
        coordinator: HOST:PORT of the first process. This and the next two are given together, or none of them: then
            they are taken from the environment of SLURM, Kubernetes or Open MPI.
        num_processes: how many there are.
        process_id: this one's number, from 0.
        timeout: seconds to wait for the others.
    Raises:
        ValueError: if an argument is missing or out of range, no such environment is found, or the processes have
            different numbers of devices.
        ConnectionError: if the coordinator cannot be reached, or its port is taken.
    """
    if LAUNCHER in os.environ:
        threading.Thread(target=_end_with, args=(int(os.environ[LAUNCHER]),), daemon=True).start()
    given = {"coordinator": coordinator, "num-processes": num_processes, "process-id": process_id}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if len(missing) in (1, 2):
        raise ValueError(
            "--coordinator, --num-processes and --process-id are given together, or none of them in a job of SLURM, "
            f"Kubernetes or Open MPI: got no {' and no '.join(missing)}."
        )
    if coordinator is not None and num_processes is not None and process_id is not None:
        _check(coordinator, num_processes, process_id)
        _reach(coordinator, process_id, timeout)
    # Signals are for Python's handlers, which end a run between two steps.
    jax.config.update("jax_enable_preemption_service", False)
    there = "the other processes" if num_processes is None else f"all {num_processes} processes"
    where = "" if coordinator is None else f" at {coordinator}"
    _explain_abort(
        f"{there} did not meet{where} within {timeout} s: check that each was started, with the same coordinator and "
        "number of processes and a number of its own (or raise --timeout)."
    )
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    except ValueError as error:
        if missing:
            raise ValueError(
                "no job of SLURM, Kubernetes or Open MPI was found in the environment: give --coordinator HOST:PORT, "
                "--num-processes N and --process-id I."
            ) from error
        raise
    _explain_abort(_LOST)
    own, count = jax.local_device_count(), jax.process_count()
    if own * count != jax.device_count():
        raise ValueError(
            f"expected the same number of devices in each of the {count} processes, got {own} of "
            f"{jax.device_count()} in process {jax.process_index()}: give each as many."
        )
    connect()


def leave(status: int, *, alone: bool = False) -> int:
    """Returns the exit status after the other processes have come as far; an error ends this process at once.

    Args:
        status: 0; 128 + n after signal n, which all have noticed; others are errors.
        alone: the others have not come as far, whatever the status.
    """
    if not jax.distributed.is_initialized():
        return status
    if status in (0, 128 + signal.SIGINT, 128 + signal.SIGTERM) and not alone:
        jax.distributed.shutdown()  # waits for the others
        return status
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_index() == 0 and status != OTHER_DIED:
        time.sleep(GRACE)
    os._exit(status)  # Python's own way would wait for the others.


def explain_lost(error: BaseException) -> str | None:
    """Returns what to tell the user of an error that came from the loss of another process; None if it did not."""
    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        return None
    text = str(error)
    if not isinstance(error, jax.errors.JaxRuntimeError) or not _SIGNS_OF_LOSS.search(text):
        return None
    return f"{_LOST} ({text.splitlines()[0][:200]})"


def _check(coordinator: str, num_processes: int, process_id: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(
            f"--coordinator must be HOST:PORT with a port of 1 .. 65535, got {coordinator!r}."
        )
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"--process-id must be in 0 .. {num_processes - 1}, the number of processes less one, got {process_id}."
        )


def _reach(coordinator: str, process_id: int, timeout: int) -> None:
    """Waits until the coordinator's port is open; the first process checks that it is free."""
    host, _, port = coordinator.rpartition(":")
    if process_id == 0:
        try:
            socket.create_server(("", int(port))).close()
        except OSError as error:
            raise ConnectionError(
                f"the coordinator's port {port} cannot be opened ({error}): name another one to all processes."
            ) from error
        return
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise ConnectionError(
                    f"the coordinator {coordinator} cannot be reached within {timeout} s ({error}): check that process "
                    "0 was started with the same --coordinator, and that no firewall closes the port."
                ) from error
        time.sleep(0.2)


def _end_with(parent: int) -> None:
    """Asks this process to save and end when its parent is gone: the same command would start others beside it."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _explain_abort(line: str) -> None:
    """Ends this process with a line and a status of its own where C++ calls abort()."""
    global _handler
    if os.name != "posix":
        return
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
    message = f"resonance-jax: {line}\n".encode()

    def end(_: int) -> None:
        os.write(2, message)
        os._exit(OTHER_DIED)

    handler = kind(end)
    call = ctypes.CDLL(None).signal
    call.argtypes, call.restype = (ctypes.c_int, kind), ctypes.c_void_p
    call(signal.SIGABRT, handler)
    _handler = handler  # only now: the one before was in use
