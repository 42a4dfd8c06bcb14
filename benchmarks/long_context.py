"""Memory and time of the long-context model over the length of a sequence, beside attention.

One sequence of random bytes, 256 features, 6 layers, MLP of 512, float32 unless it says otherwise: a training step with
AdamW at 8K to 256K tokens, a forward pass to 1M. Each row is a process of its own. "peak_bytes" is what the process
grew by while it ran the program (its peak resident memory, less what was resident before), and what program it was
given (parameters, optimizer state, tokens); "planned_bytes" is `estimate_memory` for resonance, and XLA's plan of the
program for the others. A row is left out if its time, by the row before, would be over four minutes, or it fails for
memory.
Slopes are least-squares fits on logarithms with 95 % intervals.

XLA's scheduler for CPUs is set to care for memory. The one that it takes otherwise, for concurrency, begins the buffers
of all blocks at once: a forward pass then plans 8.3 arrays of the size of the activations in place of 4.3.
And it fuses nothing for the library YNN, whose own buffers no plan holds: with it a training step at 32K tokens took
1.6 times as long (19.5 in place of 12.0 s, JAX 0.10.2) and 6.5 more arrays.

A forward pass of attention with all its scores has the defaults, with which it is faster: 21 s at 8K tokens in place of
41. Its training step takes 166 s and 22 GiB with them, 115 s and 9 GiB with the options above, which it has.

The peers are `Transformer`s of the same width and depth: attention with all its scores, and attention whose scores are
made for 512 queries at a time and made again for the gradient (Rabe and Staats, arXiv:2112.05682, without the loop
over keys).
"""

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Record
from benchmarks.timing import resident
from resonance_jax.claims.scaling import fit_slope
from resonance_jax.models.baselines import Transformer, TransformerConfig
from resonance_jax.models.long_context import (
    LongContextConfig,
    LongContextResonanceNet,
    estimate_memory,
)
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.step import init_state, train_step

LIMIT = 240  # seconds of one run
MODELS = ("resonance", "resonance bfloat16", "attention", "attention in chunks")
LENGTHS = {
    "training": (8192, 32768, 131072, 262144),
    "forward": (8192, 32768, 131072, 262144, 1048576),
}
SHAPE: dict[str, Any] = dict(
    input_dim=1,
    output_dim=16,
    vocab_size=256,
    hidden_dim=256,
    num_layers=6,
    mlp_dim=512,
    dropout=0.0,
)
QUERIES = 512
FLAGS = (
    "--xla_cpu_enable_concurrency_optimized_scheduler=false --xla_cpu_experimental_ynn_fusion_type="
)
DEFAULTS = (("attention", "forward"),)  # of XLA are faster here


def make_model(name: str, length: int) -> Any:
    if not name.startswith("resonance"):
        at_once = 0 if name == "attention" else QUERIES
        return Transformer(TransformerConfig(**SHAPE, queries_at_once=at_once))
    config = LongContextConfig(**SHAPE, max_context_length=max(length, 262144))
    return LongContextResonanceNet(config, dtype=jnp.bfloat16 if "bfloat16" in name else None)


def measure_row(name: str, kind: str, length: int) -> dict[str, Any]:
    """Compiles and runs one row in this process."""
    model = make_model(name, length)
    ids = np.random.default_rng(0).integers(0, 256, (1, length)).astype(np.int32)
    batch = {"inputs": ids, "labels": np.zeros(1, np.int32)}
    optimizer = make_optimizer(TrainConfig(), 100)
    state = init_state(model, optimizer, jax.random.key(0), {"inputs": ids[:, :QUERIES]})
    started = time.perf_counter()
    if kind == "training":
        program = train_step.lower(state, batch).compile()
    else:
        program = jax.jit(model.apply).lower(state.eval_variables, ids).compile()
    compile_seconds = time.perf_counter() - started
    sizes: Any = program.memory_analysis()
    planned = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
    planned += sizes.temp_size_in_bytes - sizes.alias_size_in_bytes
    if name.startswith("resonance"):
        training = kind == "training"
        planned = estimate_memory(model.config, length, training=training, dtype=model.dtype)
    before = resident("VmRSS")
    if before is None:
        raise ValueError("this system does not say what a process uses: the benchmark needs Linux.")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) < 4 and seconds[-1] < 20):
        started = time.perf_counter()
        if kind == "training":
            state, metrics = program(state, batch)
            jax.block_until_ready((state, metrics))
        else:
            jax.block_until_ready(program(state.eval_variables, ids))
        seconds.append(time.perf_counter() - started)
    grown = (resident("VmHWM") or 0) - before + sizes.argument_size_in_bytes
    return {
        "seconds": min(seconds[1:]),
        "all_seconds": [round(s, 3) for s in seconds],
        "peak_bytes": grown,
        "planned_bytes": planned,
        "process_peak_bytes": (resident("VmHWM") or 0),
        "compile_seconds": round(compile_seconds, 1),
    }


def run_row(name: str, kind: str, length: int, limit: float) -> dict[str, Any]:
    """Measures a row in a process of its own; one that fails says of what."""
    command = [sys.executable, "-m", "benchmarks.long_context", name, kind, str(length)]
    try:
        flags = os.environ.get("XLA_FLAGS", "")
        if (name, kind) not in DEFAULTS:
            flags = f"{flags} {FLAGS}"
        environment = os.environ | {"XLA_FLAGS": flags}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=4 * limit + 300, env=environment
        )
    except subprocess.TimeoutExpired:
        return {"left_out": f"longer than {4 * limit + 300:.0f} s"}
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return {"left_out": f"ended with {done.returncode}: {last[:200]}"}


def targets(record: Record, rows: list[dict[str, Any]]) -> None:
    """Slopes of each model and pass, memory of the longest, and how right the plan is."""
    for name in MODELS:
        for kind in LENGTHS:
            found = [r for r in rows if (r["model"], r["pass"]) == (name, kind) and "seconds" in r]
            if len(found) < 3:
                continue
            n = [row["length"] for row in found]
            for quantity in ("seconds", "peak_bytes"):
                a = fit_slope(n, [row[quantity] for row in found])
                what = f"{name}, {kind}: a of {quantity} ∝ n^a"
                record.values.setdefault("slopes", {})[what] = [round(value, 3) for value in a]
                record.target(what, a.slope, at_most=None if "attention" in name else 1.05)
    for kind, length in (("training", 262144), ("forward", 1048576)):
        for row in rows:
            here = row["model"], row["pass"], row["length"]
            if here == ("resonance", kind, length) and "seconds" in row:
                gib = row["process_peak_bytes"] / 2**30
                record.target(f"{kind} at {length}: GiB of the process", gib, at_most=8)
    planned = [
        r["planned_bytes"] / r["peak_bytes"]
        for r in rows
        if "seconds" in r and r["model"].startswith("resonance")
    ]
    if planned:
        furthest = max(max(value, 1 / value) for value in planned)
        what = "resonance: larger / smaller of planned and measured memory"
        record.target(what, furthest, at_most=1.2)


def run(record: Record) -> None:
    """Measures each row in a process of its own."""
    if jax.default_backend() != "cpu":
        print(
            "It measures the memory of processes, so it runs on a CPU alone: nothing was measured."
        )
        return
    record.values["options"] = {"attention, forward": "", "others": FLAGS}
    lengths = {kind: at[:2] for kind, at in LENGTHS.items()} if record.quick else LENGTHS
    for name in MODELS:
        for kind in lengths:
            last: dict[str, Any] = {}
            for length in lengths[kind]:
                key = {"model": name, "pass": kind, "length": length}
                (last,) = record.measure(key, partial(next_row, last, **key))
                print(last, flush=True)
    targets(record, record.values["rows"])


def next_row(last: dict[str, Any], model: str, length: int, **key: str) -> list[dict[str, Any]]:
    """Measures a row unless the shorter one before it says that it would fail, or take too long."""
    power = 2 if "attention" in model else 1
    expected = last.get("seconds", 0) * (length / last.get("length", length)) ** power
    if "left_out" in last:
        return [{"left_out": "as the row before"}]
    if expected > LIMIT:
        return [{"left_out": f"would take about {expected:.0f} s"}]
    return [run_row(model, key["pass"], length, LIMIT)]


if __name__ == "__main__":  # one row, in the process that `run_row` starts
    print(json.dumps(measure_row(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
