"""Memory and time of the long-context model over the length of a sequence, beside attention.

    python -m benchmarks.long_context [--only resonance attention ...] [--limit SECONDS] [--out FILE]

One sequence of random bytes, 256 features, 6 layers, MLP of 512, float32 unless it says otherwise: a training step with
AdamW at 8K to 256K tokens, a forward pass to 1M. Each row is a process of its own. "peak_bytes" is what the process
grew by while it ran the program (its peak resident memory, less what was resident before), and what program it was
given (parameters, optimizer state, tokens); "planned_bytes" is `estimate_memory` for resonance, and XLA's plan of the
program for the others. A row is left out if its time, by the row before, would be over the limit, or fails for memory.
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

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import environment
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

RESULTS = Path(__file__).parent / "results"
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
    before = _resident("VmRSS")
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
    grown = _resident("VmHWM") - before + sizes.argument_size_in_bytes
    return {
        "seconds": min(seconds[1:]),
        "all_seconds": [round(s, 3) for s in seconds],
        "peak_bytes": grown,
        "planned_bytes": planned,
        "process_peak_bytes": _resident("VmHWM"),
        "compile_seconds": round(compile_seconds, 1),
    }


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return 1024 * int(line.split()[1])
    raise ValueError(f"this system does not say {field}: the benchmark needs Linux.")


def run_row(name: str, kind: str, length: int, limit: float) -> dict[str, Any]:
    """Measures a row in a process of its own; one that fails says of what."""
    command = [sys.executable, "-m", "benchmarks.long_context", "--row", name, kind, str(length)]
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


def summarize(rows: list[dict[str, Any]]) -> list[str]:
    """Slopes of each model and pass, and the targets."""
    lines = []
    for name in MODELS:
        for kind in LENGTHS:
            found = [r for r in rows if (r["model"], r["pass"]) == (name, kind) and "seconds" in r]
            if len(found) < 3:
                continue
            n = [row["length"] for row in found]
            for quantity, target in (("seconds", 1.05), ("peak_bytes", 1.05)):
                a = fit_slope(n, [row[quantity] for row in found])
                met = "" if "attention" in name else f", target 1.05: {a.slope <= target}"
                lines.append(
                    f"{name}, {kind}: {quantity} ∝ n^{a.slope:.3f} ({a.low:.3f} to {a.high:.3f}){met}"
                )
    for kind, length in (("training", 262144), ("forward", 1048576)):
        for row in rows:
            here = row["model"], row["pass"], row["length"]
            if here == ("resonance", kind, length) and "seconds" in row:
                gib = row["process_peak_bytes"] / 2**30
                lines.append(f"{kind} at {length}: {gib:.2f} GiB of 8: {gib <= 8}")
    ratios = [r["planned_bytes"] / r["peak_bytes"] for r in rows if "seconds" in r]
    ours = [
        r["planned_bytes"] / r["peak_bytes"]
        for r in rows
        if "seconds" in r and r["model"].startswith("resonance")
    ]
    if ours:
        within = max(abs(np.array(ours) - 1)) <= 0.2
        lines.append(
            f"planned / measured memory: {min(ours):.2f} to {max(ours):.2f} (with the peers {min(ratios):.2f} to "
            f"{max(ratios):.2f}), target within 20 %: {within}"
        )
    return lines


def main() -> None:
    """Measures the rows that the file does not have, and writes each as it comes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=MODELS, default=MODELS)
    parser.add_argument("--limit", type=float, default=240, help="most seconds of one run")
    parser.add_argument("--out", type=Path, default=RESULTS / "long_context-cpu.json")
    parser.add_argument("--row", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        name, kind, length = options.row
        print(json.dumps(measure_row(name, kind, int(length))))
        return
    record: dict[str, Any] = {"rows": []}
    if options.out.exists():
        record = json.loads(options.out.read_text())
    for name in options.only:
        for kind, lengths in LENGTHS.items():
            last: dict[str, Any] = {}
            for length in lengths:
                key = {"model": name, "pass": kind, "length": length}
                known = [row for row in record["rows"] if row.items() >= key.items()]
                power = 2 if "attention" in name else 1
                expected = last.get("seconds", 0) * (length / last.get("length", length)) ** power
                if known:
                    row = known[0]
                elif "left_out" in last:
                    row = key | {"left_out": "as the row before"}
                elif expected > options.limit:
                    row = key | {"left_out": f"would take about {expected:.0f} s"}
                else:
                    row = key | run_row(name, kind, length, options.limit)
                last = row
                if not known:
                    record["rows"].append(row)
                    record |= environment() | {
                        "xla_flags": {"attention, forward": "", "others": FLAGS}
                    }
                    record |= {"summary": summarize(record["rows"])}
                    options.out.write_text(json.dumps(record, indent=1) + "\n")
                    print(row, flush=True)
    print("\n".join(summarize(record["rows"])))


if __name__ == "__main__":
    main()
