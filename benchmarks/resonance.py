"""Times `resonate` beside what it competes with, and measures where its two methods cross.

    python -m benchmarks.resonance [--quick] [--table] [--out FILE]

Every function sees the same float32 tensor x [b, n, 256] with b n = 16384 (65536 for n = 64K) and 64 frequencies.
"forward+backward" returns the output and the gradients in x and the weights. Ratios are medians over interleaved
rounds.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from benchmarks.timing import Case, compiled_case, environment, ratio, time_interleaved
from resonance_jax.ops.fourier import select_bins
from resonance_jax.ops.resonance import resonate

LENGTHS = (1024, 4096, 16384, 65536)
FEATURES = 256
NUM_BINS = 64
HEADS = 4
PASSES = ("forward", "forward+backward")
TABLE_LENGTHS = (256, 1024, 4096, 16384, 65536)
TABLE_BINS = (8, 16, 32, 64, 128, 256, 512)
RESULTS = Path(__file__).parent / "results"


def tensors(n: int, k: int):
    """x and an output gradient [b, n, d], and weights [k, d]."""
    rng = np.random.default_rng(0)
    shape = (max(1, 16384 // n), n, FEATURES)
    x, gradient = (jnp.asarray(rng.standard_normal(shape, np.float32)) for _ in range(2))
    weights = rng.standard_normal((2, k, FEATURES), np.float32)
    return x, jax.lax.complex(*jnp.asarray(weights)), gradient


def straightforward(x, weights, bins):
    """The form that the formula suggests: rfft → gather → multiply → scatter → irfft along time."""
    spectrum = jnp.fft.rfft(x, axis=1)
    selected = spectrum[:, bins] * weights
    full = jnp.zeros_like(spectrum).at[:, bins].set(selected)
    return jnp.fft.irfft(full, n=x.shape[1], axis=1)


def attention(x, query_chunk=None):
    """Multi-head attention without projections; in chunks of queries where the scores don't fit."""
    heads = x.reshape(*x.shape[:2], HEADS, -1)
    if query_chunk is None:
        return jax.nn.dot_product_attention(heads, heads, heads).reshape(x.shape)
    queries = heads.reshape(len(x), -1, query_chunk, *heads.shape[2:]).swapaxes(0, 1)
    rows = jax.lax.map(lambda q: jax.nn.dot_product_attention(q, heads, heads), queries)
    return rows.swapaxes(0, 1).reshape(x.shape)


def fnet_mixer(x):
    """Real part of the FFT over time and features (arXiv:2105.03824)."""
    return jnp.fft.fft2(x, axes=(1, 2)).real


def scipy_round_trip(x):
    spectrum = scipy.fft.rfft(x, axis=1, workers=2)
    return scipy.fft.irfft(spectrum, n=x.shape[1], axis=1, workers=2)


def with_gradients(function):
    """(x, weights, gradient) → the output and its gradients in x and the weights."""

    def both(x, weights, gradient):
        y, pull = jax.vjp(function, x, weights)
        return y, pull(gradient)

    return both


def timed(name, function, inputs, repeats, passes=PASSES, note="") -> list[Case]:
    """One case for each pass of function(x, weights)."""
    info = {"note": note} if note else {}
    programs = {PASSES[0]: (function, inputs[:2]), PASSES[1]: (with_gradients(function), inputs)}
    cases = []
    for which in passes:
        program, arguments = programs[which]
        cases.append(compiled_case(f"{name} {which}", program, arguments, repeats, **info))
    return cases


def filters(n: int, k: int, strategy: str) -> dict:
    """The forms of the layer's core as functions of (x, weights)."""
    bins = select_bins(n // 2 + 1, k, strategy)
    forms = {m: partial(resonate, bins=bins, method=m) for m in ("fft", "matrix", "auto")}
    if strategy == "low":
        forms["straightforward"] = partial(straightforward, bins=bins)
    return {f"{name}, {strategy} bins": function for name, function in forms.items()}


def peers(n: int, inputs, repeats: int) -> list[Case]:
    x = inputs[0]
    on_host = np.asarray(x)
    cases = timed("copy", lambda x, w: x * 1.0000001, inputs, repeats, PASSES[:1])
    cases.append(Case("scipy round trip forward", lambda: scipy_round_trip(on_host), repeats))
    cases += timed("fnet", lambda x, w: fnet_mixer(x), inputs, min(repeats, 5))
    if n < 16384:
        cases += timed("attention", lambda x, w: attention(x), inputs, 2 if n == 1024 else 1)
    elif n == 16384:  # 4 GiB of scores, a minute forward and several backward
        function = partial(attention, query_chunk=1024)
        note = "once, 1024 queries at a time; backward left out"
        cases += timed("attention", lambda x, w: function(x), inputs, 1, PASSES[:1], note)
    return cases


def targets(n: int, case: dict[str, Case], platform: str) -> list[dict]:
    """What issue 2 asks for, against what was measured: at most (or at least) a ratio."""
    found = []

    def check(what, limit, at_least, *names):
        value = ratio(*(case[name] for name in names))
        passed = value >= limit if at_least else value <= limit
        found.append(
            {
                "target": f"n = {n}: {what} {'>=' if at_least else '<='} {limit}",
                "measured": round(value, 3),
                "result": "PASS" if passed else "MISS",
            }
        )

    for strategy in ("low", "log", "uniform"):
        for which in PASSES:
            fft, matrix, auto = (f"{m}, {strategy} bins {which}" for m in ("fft", "matrix", "auto"))
            check(f"auto / better method, {strategy} bins, {which}", 1.1, False, auto, fft, matrix)
    if n == 4096:
        for which in PASSES:
            slow, fast = (f"{m}, low bins {which}" for m in ("straightforward", "auto"))
            check(f"straightforward / auto, {which}", 2, True, slow, fast)
    if n >= 4096:
        check(
            "auto / scipy round trip, forward",
            0.7,
            False,
            "auto, low bins forward",
            "scipy round trip forward",
        )
    if n == 16384:
        check("attention / auto, forward", 100, True, "attention forward", "auto, low bins forward")
    if platform == "gpu":
        check("auto / copy, forward", 3, False, "auto, low bins forward", "copy forward")
    else:
        what = f"n = {n}: auto / copy, forward <= 3 on a GPU"
        found.append({"target": what, "measured": None, "result": "unmeasured"})
    return found


def compare(lengths, repeats: int) -> dict:
    """Times everything at each length; returns rows and targets."""
    platform = jax.default_backend()
    rows, checked = [], []
    for n in lengths:
        inputs = tensors(n, NUM_BINS)
        few = min(repeats, 5) if n > 16384 else repeats
        cases = peers(n, inputs, few)
        for strategy in ("low", "log", "uniform"):
            for name, function in filters(n, NUM_BINS, strategy).items():
                cases += timed(name, function, inputs, few if strategy == "low" else min(few, 5))
        time_interleaved(cases)
        by_name = {case.name: case for case in cases}
        print(f"\nn = {n}, x {list(inputs[0].shape)}, k = {NUM_BINS}")
        print(f"{'':44}{'median':>10}{'min':>10}  {'quartiles ms':>17}{'x copy':>8}{'temp MB':>9}")
        for case in cases:
            row = {"n": n, "name": case.name, **case.row()}
            row["times_copy"] = round(ratio(case, by_name["copy forward"]), 2)
            rows.append(row)
            print(line(row))
        checked += targets(n, by_name, platform)
    print("\nTargets (medians over rounds of the ratio inside a round)")
    for entry in checked:
        print(f"  {entry['result']:<11}{entry['target']:<62}{entry['measured'] or '':>8}")
    return {"rows": rows, "targets": checked}


def line(row: dict) -> str:
    lower, upper = row["quartiles_ms"]
    temp = row.get("temp_bytes")
    memory = "" if temp is None else f"{temp / 2**20:.1f}"
    return (
        f"{row['name']:<44}{row['median_ms']:>10.2f}{row['min_ms']:>10.2f}  "
        f"{lower:>8.2f}{upper:>9.2f}{row['times_copy']:>8.1f}{memory:>9} {row.get('note', '')}"
    )


def crossover(lengths, counts, repeats: int) -> dict:
    """Forward + backward of fft / matrix by length and number of uniform bins, the case that no table compresses."""
    ratios: dict[int, dict[int, float]] = {}
    rows = []
    for n in lengths:
        ratios[n] = {}
        for k in (k for k in counts if k <= n // 2 + 1):
            inputs = tensors(n, k)
            forms = filters(n, k, "uniform")
            fft, matrix = (
                timed(m, forms[f"{m}, uniform bins"], inputs, repeats, PASSES[1:])[0]
                for m in ("fft", "matrix")
            )
            time_interleaved([fft, matrix])
            ratios[n][k] = ratio(fft, matrix)
            rows.append({"n": n, "k": k, "fft": fft.row(), "matrix": matrix.row()})
            print(f"n = {n:<6} k = {k:<4} fft / matrix = {ratios[n][k]:.2f}", flush=True)
    entries = tuple((n, most_bins(by_k)) for n, by_k in ratios.items())
    print(f'_MATRIX_BINS["{jax.default_backend()}"] = {entries}')
    return {"rows": rows, "matrix_bins": entries}


def most_bins(ratios: dict[int, float]) -> int:
    """The k up to which matrix wins, log-interpolated between the last win and the first loss."""
    counts = sorted(ratios)
    for before, after in zip([None, *counts], counts, strict=False):
        if ratios[after] < 1:
            if before is None:
                return 0
            win, loss = np.log(ratios[before]), -np.log(ratios[after])
            return int(before * (after / before) ** (win / (win + loss)))
    return counts[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Times resonate beside its peers.")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repeats")
    parser.add_argument("--table", action="store_true", help="measure the table of the methods")
    parser.add_argument("--out", type=Path, help="JSON file (default: benchmarks/results)")
    args = parser.parse_args()
    about = environment()
    print(json.dumps(about, indent=1))
    if args.table:
        quick = TABLE_LENGTHS[1:4], TABLE_BINS[3:6]
        found = crossover(*(quick if args.quick else (TABLE_LENGTHS, TABLE_BINS)), 3)
    else:
        found = compare(LENGTHS[: 2 if args.quick else None], 3 if args.quick else 11)
    kind = "methods" if args.table else "resonance"
    out = args.out or RESULTS / f"{kind}-{about['platform']}{'-quick' if args.quick else ''}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**about, **found}, indent=1) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
