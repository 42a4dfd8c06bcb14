"""Times the evaluations of a bank of resonators beside each other and beside a dense layer.

    python -m benchmarks.recurrence [--quick] [--out FILE]

8 heads of 16 resonators, 256 features, 16,384 tokens in rows of 1K, 4K and 16K steps, float32 unless it says
otherwise. "forward+gradient" returns the output and the gradients in x and all of the bank (or the dense matrix).
"first": channels first, x [d, b, n]; else x [b, n, d]. The dense layer multiplies the same tensor by a matrix 256 x
256. The associative scan, whose states would not fit, runs on one of the heads and its time counts eight times.
Outputs are compared before anything is timed. Times and ratios are of minima over interleaved rounds, so that a busy
machine distorts them less; flops and bytes are what XLA counts.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Case, compiled_case, environment, time_interleaved
from resonance_jax.ops import recurrence
from resonance_jax.ops._products import product

FEATURES, HEADS, RESONATORS, TOKENS = 256, 8, 16, 16384
LENGTHS = (1024, 4096, 16384)
PASSES = ("forward", "forward+gradient")
CHUNKS = (64, 128, 256)
SCAN_SHARE = 8
DEFAULT = f"chunked {recurrence.DEFAULT_CHUNK}"
DENSE = {"": "dense", ", first": "dense, first", ", first, bfloat16": "dense, first, bfloat16"}
RESULTS = Path(__file__).parent / "results"


def dense(x, matrix):
    return product(x.reshape(-1, FEATURES), matrix).astype(x.dtype).reshape(x.shape)


def dense_first(x, matrix):
    """[d, b, n]: the matrix is the left factor and nothing is transposed."""
    return product(matrix.astype(x.dtype), x.reshape(FEATURES, -1)).astype(x.dtype).reshape(x.shape)


def filtered(evaluation: Callable, **options) -> Callable:
    """y of an evaluation without its final state."""
    return lambda x, bank: evaluation(x, bank, **options)[0]


def with_gradients(function: Callable) -> Callable:
    def both(x, weights, cotangent):
        y, pull = jax.vjp(function, x, weights)
        return y, pull(cotangent)

    return both


def contenders(n: int) -> dict[str, tuple[Callable, tuple[Any, ...]]]:
    """Functions of (x, weights), and what they are called with: x, weights and a cotangent of y."""
    rng = np.random.default_rng(0)
    x, cotangent = jnp.asarray(rng.standard_normal((2, TOKENS // n, n, FEATURES), np.float32))
    first = jnp.moveaxis(x, -1, 0), jnp.moveaxis(cotangent, -1, 0)
    narrow = tuple(values.astype(jnp.bfloat16) for values in first)
    bank = recurrence.ring_bank(jax.random.key(0), HEADS, RESONATORS)
    matrix = jnp.asarray(rng.standard_normal((FEATURES, FEATURES), np.float32)) / FEATURES**0.5
    part = jax.tree.map(lambda values: values[: HEADS // SCAN_SHARE], bank)
    part_x = tuple(values[..., : FEATURES // SCAN_SHARE] for values in (x, cotangent))

    chunked, convolve = recurrence.chunked, recurrence.convolve
    turned = filtered(chunked, channels_first=True)
    usual = {f"chunked {size}": filtered(chunked, chunk_size=size) for size in CHUNKS}
    return {
        "scan": (filtered(recurrence.scan), (part_x[0], part, part_x[1])),
        "convolve": (filtered(convolve), (x, bank, cotangent)),
        "convolve, first": (filtered(convolve, channels_first=True), (first[0], bank, first[1])),
        **{name: (function, (x, bank, cotangent)) for name, function in usual.items()},
        f"{DEFAULT}, first": (turned, (first[0], bank, first[1])),
        f"{DEFAULT}, first, bfloat16": (turned, (narrow[0], bank, narrow[1])),
        DENSE[""]: (dense, (x, matrix, cotangent)),
        DENSE[", first"]: (dense_first, (first[0], matrix.T, first[1])),
        DENSE[", first, bfloat16"]: (dense_first, (narrow[0], matrix.T, narrow[1])),
    }


def check_equal(cases: list[Case]) -> None:
    """Requires that all banks, and all dense layers, compute the same."""

    def output(case):
        y = np.asarray(case.call(), np.float32)
        return np.moveaxis(y, 0, -1) if "first" in case.name else y

    forward = [case for case in cases if case.name.endswith(f"| {PASSES[0]}")]
    expected = {case.name: output(case) for case in forward}
    for name, y in expected.items():
        reference = "dense" if name.startswith("dense") else DEFAULT
        wanted = expected[f"{reference} | {PASSES[0]}"][..., : y.shape[-1]]
        error = np.linalg.norm(y - wanted) / np.linalg.norm(wanted)
        if not error < (2**-6 if "bfloat16" in name else 1e-5):
            raise RuntimeError(f"{name} differs by {error:.1g} relative; nothing was timed.")


def milliseconds(case: Case) -> float:
    share = SCAN_SHARE if case.name.startswith("scan") else 1
    return min(case.seconds) * 1e3 * share


def measure(n: int, repeats: int) -> list[dict[str, Any]]:
    """Times everything at one length and prints it; returns rows."""
    cases = []
    for name, (function, (x, weights, cotangent)) in contenders(n).items():
        few = 2 if name == "scan" else repeats
        gradients = with_gradients(function)
        cases.append(compiled_case(f"{name} | {PASSES[0]}", function, (x, weights), few))
        cases.append(
            compiled_case(f"{name} | {PASSES[1]}", gradients, (x, weights, cotangent), few)
        )
    check_equal(cases)
    time_interleaved(cases)
    times = {case.name: milliseconds(case) for case in cases}
    print(f"\nn = {n}, {TOKENS // n} rows\n{'':52}{'min ms':>9}{'x dense':>9}{'GFLOP':>8}{'MB':>8}")
    rows = []
    for case in cases:
        name, which = case.name.split(" | ")
        beside = next(DENSE[k] for k in reversed(DENSE) if name.endswith(k))
        row = {"n": n, "name": name, "pass": which, **case.row()}
        row["min_ms_of_all_heads"] = round(times[case.name], 3)
        row["times_dense"] = round(times[case.name] / times[f"{beside} | {which}"], 2)
        row["scale"] = SCAN_SHARE if name == "scan" else 1
        rows.append(row)
        print(
            f"{name:<34}{which:<18}{row['min_ms_of_all_heads']:>9.2f}{row['times_dense']:>9.2f}"
            f"{(row['flops'] or 0) * row['scale'] / 1e9:>8.2f}{(row['bytes'] or 0) * row['scale'] / 1e6:>8.0f}",
            flush=True,
        )
    return rows


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was asked of the chunked evaluation: 5 times the scan, from 4K no slower than FFT, 3 dense layers."""
    time = {(row["n"], row["name"], row["pass"]): row["min_ms_of_all_heads"] for row in rows}
    found = []

    def check(what, measured, passed):
        result = "PASS" if passed else "MISS"
        found.append({"target": what, "measured": round(measured, 2), "result": result})

    for n in sorted({row["n"] for row in rows}):
        for which in PASSES:
            scan, ours = time[n, "scan", which], time[n, DEFAULT, which]
            check(f"n = {n}: scan / chunked, {which}, >= 5", scan / ours, scan >= 5 * ours)
            for layout in ("", ", first") if n >= 4096 else ():
                fft, ours = time[n, f"convolve{layout}", which], time[n, DEFAULT + layout, which]
                what = f"n = {n}: convolve / chunked{layout}, {which}, >= 1"
                check(what, fft / ours, fft >= ours)
        for layout, layer in DENSE.items():
            factor = time[n, DEFAULT + layout, PASSES[0]] / time[n, layer, PASSES[0]]
            check(f"n = {n}: chunked{layout} / dense, forward, <= 3", factor, factor <= 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="the first length, few repeats")
    parser.add_argument("--out", type=Path, help="JSON file (default: benchmarks/results)")
    args = parser.parse_args()
    about = environment()
    print(json.dumps(about, indent=1))
    lengths, repeats = (LENGTHS[:1], 3) if args.quick else (LENGTHS, 7)
    rows = [row for n in lengths for row in measure(n, repeats)]
    print("\nTargets (ratios of minima)")
    found = targets(rows)
    for entry in found:
        print(f"  {entry['result']:<6}{entry['target']:<66}{entry['measured']:>8}")
    name = f"recurrence-{about['platform']}{'-quick' if args.quick else ''}.json"
    out = args.out or RESULTS / name
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**about, "rows": rows, "targets": found}, indent=1) + "\n")
    print(f"written to {out.name}")


if __name__ == "__main__":
    main()
