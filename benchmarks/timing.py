"""Timing of compiled functions side by side, in interleaved rounds."""

import dataclasses
import datetime
import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np


@dataclasses.dataclass
class Case:
    """One timed function. `call` blocks until its result is there; `info` holds what the compiler says."""

    name: str
    call: Callable[[], object]
    repeats: int
    info: dict = dataclasses.field(default_factory=dict)
    seconds: list[float] = dataclasses.field(default_factory=list)

    def row(self) -> dict:
        lower, median, upper = np.percentile(self.seconds, [25, 50, 75]) * 1e3
        return {
            "median_ms": round(median, 3),
            "min_ms": round(min(self.seconds) * 1e3, 3),
            "quartiles_ms": [round(lower, 3), round(upper, 3)],
            "repeats": len(self.seconds),
            **self.info,
        }


def compiled_case(name: str, function: Callable, args: tuple, repeats: int, **info) -> Case:
    """Compiles a function of these arguments ahead of time; compile time, memory and cost go into `info`."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    info["compile_s"] = round(time.perf_counter() - start, 3)
    memory = program.memory_analysis()
    info["temp_bytes"] = getattr(memory, "temp_size_in_bytes", None)
    cost = program.cost_analysis() or {}
    info["flops"] = cost.get("flops")
    info["bytes"] = cost.get("bytes accessed")
    return Case(name, lambda: jax.block_until_ready(program(*args)), repeats, info)


def time_interleaved(cases: list[Case]) -> None:
    """Runs A, B, C, A, B, C, … so that a busy moment hits all of them alike, after one warm-up each.

    What is run once, because it takes so long, is run without a warm-up.
    """
    for case in cases:
        if case.repeats > 1:
            case.call()
    for round_number in range(max(case.repeats for case in cases)):
        for case in cases:
            if round_number < case.repeats:
                start = time.perf_counter()
                case.call()
                case.seconds.append(time.perf_counter() - start)


def ratio(numerator: Case, *denominators: Case) -> float:
    """Median over rounds of numerator / fastest denominator inside the same round."""
    rounds = min(len(case.seconds) for case in (numerator, *denominators))
    fastest = np.min([case.seconds[:rounds] for case in denominators], axis=0)
    return float(np.median(np.array(numerator.seconds[:rounds]) / fastest))


def environment() -> dict:
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
    changed = git("status", "--porcelain", "--", "../resonance_jax", ".")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": git("rev-parse", "--short", "HEAD") + (" and changes" if changed else ""),
        "platform": device.platform,
        "device": name,
        "cores": len(os.sched_getaffinity(0)),
        "load_average_before": round(os.getloadavg()[0], 2),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "versions": {
            "python": platform.python_version(),
            **{p: importlib.metadata.version(p) for p in ("jax", "jaxlib", "numpy", "scipy")},
        },
    }
