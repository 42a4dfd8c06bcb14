"""Starts processes that train together on this host, passes on signals and output, and says which one died of what.

It imports no JAX, which only what it starts needs.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from resonance_jax.training.signals import WATCHED

OTHER_DIED = 3  # exit status
LAUNCHER = "RESONANCE_JAX_LAUNCHER"  # environment: the process whose end is a SIGTERM to the ones it starts
GRACE = 10.0  # seconds that the others have to end by themselves after the first failure


def launch(words: Sequence[str], num_processes: int, devices_per_process: int = 1) -> int:
    """Runs a command line of `resonance-jax` in several processes on this host, and waits for them.

    The first one writes to this process's output; the lines of the others go to standard error, behind their number.
    SIGINT and SIGTERM are passed on to all, SIGHUP as SIGTERM; if this process is killed, they save and end as well.

    Args:
        words: "train" and what follows it.
        num_processes: how many, ≥ 1.
        devices_per_process: devices of each, ≥ 1: so many parts that a CPU is made into, or so many GPUs.
    Returns:
        The exit status: 0, or that of the first process that failed (128 + n after signal n).
    Raises:
        ValueError: if an argument is out of range or the command is not "train".
    """
    if num_processes < 1 or devices_per_process < 1:
        raise ValueError(
            f"launch takes 1 or more processes of 1 or more devices, got {num_processes} and {devices_per_process}."
        )
    if list(words[:1]) != ["train"]:
        raise ValueError(
            f"launch runs 'train': expected -- train EXPERIMENT ..., got {' '.join(words) or 'nothing'!r}."
        )
    flags = ["--distributed", "--coordinator", f"127.0.0.1:{_free_port()}"]
    flags += ["--num-processes", str(num_processes), "--process-id"]
    command = [sys.executable, "-m", "resonance_jax.cli", *words, *flags]
    processes = []
    with _passed_on(processes):
        for index in range(num_processes):
            processes.append(_start([*command, str(index)], index, devices_per_process))
        try:
            failed = _first_failure(processes)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    if failed is None:
        return 0
    return _explain(failed, processes[failed].returncode, num_processes)


def _start(command: list[str], index: int, devices: int) -> subprocess.Popen:
    forced = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {forced}",
        LAUNCHER: str(os.getpid()),
        "JAX_LOCAL_DEVICE_IDS": ",".join(str(index * devices + i) for i in range(devices)),
        # Fewer threads, and devices that a CPU is made into wait for each other for ever.
        "PJRT_NPROC": os.environ.get("PJRT_NPROC", str(max(2 * devices, os.cpu_count() or 1))),
    }
    # In a session of its own: Ctrl-C reaches it through this process alone, once.
    if index == 0:
        return subprocess.Popen(command, env=environment, start_new_session=True)
    process = subprocess.Popen(
        command,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    threading.Thread(target=_relay, args=(process, index), daemon=True).start()
    return process


def _relay(process: subprocess.Popen, index: int) -> None:
    assert process.stdout is not None  # a pipe
    for line in process.stdout:
        if not line.startswith(b"[Gloo]"):  # which connections it has
            text = line.decode(errors="replace").rstrip()
            print(f"[{index}] {text}", file=sys.stderr, flush=True)


def _first_failure(processes: Sequence[subprocess.Popen]) -> int | None:
    """Waits for the processes; after a failure the others have `GRACE` to end, and which was first is returned."""
    failed: list[int] = []
    end = float("inf")
    while None in [process.poll() for process in processes] and time.monotonic() < end:
        time.sleep(0.05)
        fresh = [i for i, p in enumerate(processes) if p.returncode and i not in failed]
        if fresh and not failed:
            end = time.monotonic() + GRACE
        failed += fresh
    failed += [i for i, p in enumerate(processes) if p.poll() and i not in failed]
    # A process that ended because another had died is not the one to name, whichever was seen first.
    causes = [i for i in failed if processes[i].returncode != OTHER_DIED]
    return next(iter(causes or failed), None)


def _explain(index: int, code: int, count: int) -> int:
    """Says which process failed, and returns the exit status."""
    who = f"resonance-jax: process {index} of {count}"
    if code < 0:
        print(
            f"{who} was ended by {signal.Signals(-code).name}, and the others with it. Checkpoints are intact: run "
            "the same command again to continue from the last one.",
            file=sys.stderr,
        )
        return 128 - code
    if code - 128 not in WATCHED:  # after these all have said what is saved
        print(f"{who} ended with status {code}, and the others with it.", file=sys.stderr)
    return code


@contextmanager
def _passed_on(processes: list[subprocess.Popen]) -> Iterator[None]:
    """Passes on SIGINT and SIGTERM; a terminal that is closed, unless that is ignored (nohup), is a SIGTERM."""

    def send(number: int, _: object) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number if number in WATCHED else signal.SIGTERM)

    watched = [*WATCHED, signal.SIGHUP]
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        watched.remove(signal.SIGHUP)
    previous = {number: signal.signal(number, send) for number in watched}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
