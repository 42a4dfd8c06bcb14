"""Timing of compiled functions side by side, in interleaved rounds, against what the machine can do."""

import ctypes
import dataclasses
import datetime
import functools
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_LIBC = ctypes.CDLL(None)
MEMORY_SHARE = 0.9
"""Of the free memory, at most, a program may plan to use."""


@dataclasses.dataclass
class Case:
    """One timed function.

    Attributes:
        name: what it is called in the table.
        call: blocks until its result is there.
        repeats: timed calls.
        info: what the compiler says: "compile_s", "flops", "bytes" read and written, "temp_bytes", "planned_bytes"
            (arguments, outputs and temporaries less what is aliased); "dtype" of the products if it is bfloat16.
        left_out: why it is not timed; then it has a row that says so, and no times.
        seconds: of each call.
    """

    name: str
    call: Callable[[], object]
    repeats: int
    info: dict[str, Any] = dataclasses.field(default_factory=dict)
    left_out: str = ""
    seconds: list[float] = dataclasses.field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Returns medians, quartiles and the compiler's figures, and what part they are of the machine's limits."""
        if self.left_out:
            return {"left_out": self.left_out, **self.info}
        lower, median, upper = np.percentile(self.seconds, [25, 50, 75])
        row = {
            "median_ms": round(median * 1e3, 3),
            "min_ms": round(min(self.seconds) * 1e3, 3),
            "quartiles_ms": [round(lower * 1e3, 3), round(upper * 1e3, 3)],
            "repeats": len(self.seconds),
            **self.info,
        }
        rate = "flops_per_s_bfloat16" if self.info.get("dtype") == "bfloat16" else "flops_per_s"
        for figure, limit, share in (
            ("bytes", "copy_bytes_per_s", "of_copy_bandwidth"),
            ("flops", rate, "of_matrix_peak"),
        ):
            if self.info.get(figure):
                row[share] = round(self.info[figure] / median / limits()[limit], 3)
        return row


def compiled_case(name: str, function: Callable, args: tuple, repeats: int, **info) -> Case:
    """Compiles a function of these arguments ahead of time.

    It is left out where its outputs and temporaries would not fit into the memory that is free.
    """
    start = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    info["compile_s"] = round(time.perf_counter() - start, 3)
    memory: Any = program.memory_analysis()
    cost = program.cost_analysis() or {}
    info["flops"] = cost.get("flops")
    info["bytes"] = cost.get("bytes accessed")
    info["temp_bytes"] = getattr(memory, "temp_size_in_bytes", None)
    new, left_out = 0, ""
    if memory is not None:
        new = memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        info["planned_bytes"] = new + memory.argument_size_in_bytes
    free = free_memory()
    if free is not None and new > MEMORY_SHARE * free:
        left_out = f"it needs {new / 2**30:.1f} GiB more, {free / 2**30:.1f} GiB are free"
    return Case(name, lambda: jax.block_until_ready(program(*args)), repeats, info, left_out)


def absent(name: str, package: str) -> Case:
    """The case of a peer that is not installed."""
    return Case(
        name,
        lambda: None,
        0,
        left_out=f"{package} is not installed (benchmarks/requirements-peers.txt)",
    )


def elsewhere(name: str) -> Case:
    """The case of a peer that runs on the CPU, beside what runs on a GPU."""
    return Case(name, lambda: None, 0, left_out="it runs on the CPU: compare it with --device cpu")


def installed(module: str) -> Any:
    """Imports a peer; None where it is not installed."""
    return importlib.import_module(module) if importlib.util.find_spec(module) else None


def time_interleaved(cases: list[Case]) -> None:
    """Runs A, B, C, A, B, C, … so that a busy moment hits all of them alike, after one warm-up each.

    The warm-up measures by how much the process grows, into "resident_bytes". What is run once, because it takes so
    long, is run without a warm-up.
    """
    cases = [case for case in cases if not case.left_out]
    for case in cases:
        if case.repeats > 1:
            case.info["resident_bytes"] = growth(case.call)
    for round_number in range(max((case.repeats for case in cases), default=0)):
        for case in cases:
            if round_number < case.repeats:
                start = time.perf_counter()
                case.call()
                case.seconds.append(time.perf_counter() - start)


def growth(call: Callable[[], object]) -> int | None:
    """Bytes by which the resident memory of this process peaks above what it was, during a call; None if not known."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)  # else what an earlier case gave back is there, and not counted again
    before = resident("VmRSS")
    if before is None:
        call()
        return None
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    except OSError:
        call()
        return None
    call()
    peak = resident("VmHWM")
    return None if peak is None else max(0, peak - before)


def resident(field: str) -> int | None:
    """A figure of this process in bytes ("VmRSS" now, "VmHWM" at most); None where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    for line in status.read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    return None


def free_memory() -> int | None:
    """Bytes that a program may still ask for on the device; None where the system does not say."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        known = device.memory_stats() or {}
        return known["bytes_limit"] - known["bytes_in_use"] if "bytes_limit" in known else None
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    for line in meminfo.read_text().splitlines():
        if line.startswith("MemAvailable"):
            return 1024 * int(line.split()[1])
    return None


def busy(seconds: float = 1.0) -> float | None:
    """Part of this machine's processor time that is used while this process sleeps; None where it is not known."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None

    def times() -> np.ndarray:
        return np.array(stat.read_text().splitlines()[0].split()[1:9], float)

    before = times()
    time.sleep(seconds)
    spent = times() - before
    idle = spent[3] + spent[4]
    return round(float(1 - idle / spent.sum()), 3) if spent.sum() else None


def ratio(numerator: Case, *denominators: Case) -> float | None:
    """Median over rounds of numerator / fastest denominator inside the same round; None if one was left out."""
    cases = (numerator, *denominators)
    if any(case.left_out for case in cases):
        return None
    rounds = min(len(case.seconds) for case in cases)
    fastest = np.min([case.seconds[:rounds] for case in denominators], axis=0)
    return float(np.median(np.array(numerator.seconds[:rounds]) / fastest))


@functools.cache
def limits() -> dict[str, float]:
    """What this machine reaches: bytes a second read and written by a copy, flops a second of a matrix product.

    Medians of 7, after a warm-up: a float32 array of 128 MiB (1 GiB on a GPU) times a number, two square float32
    matrices of 2,048 (8,192; on a GPU by JAX's default precision), and the same in bfloat16 with sums in float32.
    """
    on_cpu = jax.default_backend() == "cpu"
    x = jnp.ones(2 ** (25 if on_cpu else 28), jnp.float32)
    n = 2048 if on_cpu else 8192
    a = jnp.ones((n, n), jnp.float32)

    def product(a):
        return jnp.dot(a, a, preferred_element_type=jnp.float32)

    def seconds(function, *args):
        program = jax.jit(function).lower(*args).compile()
        jax.block_until_ready(program(*args))
        found = []
        for _ in range(7):
            start = time.perf_counter()
            jax.block_until_ready(program(*args))
            found.append(time.perf_counter() - start)
        return float(np.median(found))

    return {
        "copy_bytes_per_s": 2 * x.nbytes / seconds(lambda x: x * 1.0000001, x),
        "flops_per_s": 2 * n**3 / seconds(product, a),
        "flops_per_s_bfloat16": 2 * n**3 / seconds(product, a.astype(jnp.bfloat16)),
    }


def environment() -> dict[str, Any]:
    """Date, commit, device, cores, versions and XLA settings."""
    root = Path(__file__).parent

    def git(*command: str) -> str:
        done = subprocess.run(["git", *command], cwd=root, capture_output=True, text=True)
        return done.stdout.strip()

    device = jax.devices()[0]
    name = device.device_kind
    cpuinfo = Path("/proc/cpuinfo")
    if device.platform == "cpu" and cpuinfo.exists():
        fields = dict(
            (key.strip(), value.strip())
            for key, _, value in (line.partition(":") for line in cpuinfo.read_text().splitlines())
        )
        name = (
            f"{fields.get('model name', name)} (family {fields.get('cpu family')}, "
            f"model {fields.get('model')})"
        )
    changed = git("status", "--porcelain", "--", "../resonance_jax", ".", ":!results")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "--short", "HEAD") + (" and changes" if changed else ""),
        "platform": device.platform,
        "device": name,
        "cores": len(os.sched_getaffinity(0)),
        "busy_before": busy(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "versions": {
            "python": platform.python_version(),
            **{p: importlib.metadata.version(p) for p in ("jax", "jaxlib", "numpy", "scipy")},
        },
    }
