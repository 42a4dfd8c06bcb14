"""Times binding, and writing with reading, beside torchhd and hrr.

    python -m benchmarks.hologram [--quick] [--out FILE]

float32 and complex64, 1000 pairs of 1024 and of 10,000 dimensions. Bind: each pattern to its key. Write + read: all
pairs are bound and superposed, and each key reads the sum. torchhd runs as documented (bind, multiset, inverse);
hrr's JAX functions are compiled as ours are. Patterns and keys are the same numbers for all; before anything is timed
the results are compared. Keys are unitary, so that conjugation is the inverse for every library. Peers that are not
installed are named at the end (benchmarks/requirements-peers.txt). Ratios are medians over rounds. The capacity curve
is drawn by experiments/hologram_capacity.py.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Case, compiled_case, environment, ratio, time_interleaved
from resonance_jax.ops.hologram import bind, bundle, random_pattern, read, unitary_key

PAIRS = 1000
DIMENSIONS = (1024, 10_000)
TARGET = 2.0
RESULTS = Path(__file__).parent / "results"
PEERS = {"torchhd": "torchhd", "HRR": "hrr"}


def write_read(patterns, keys):
    return read(bundle(bind(patterns, keys)), keys)


def peer(name: str) -> Any:
    """Imports a peer; None where it is not installed."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def hrr_cases(patterns, keys, repeats: int) -> dict[str, Case]:
    """hrr's JAX functions, compiled; {} where it is not installed or for phasors, which it does not have."""
    if peer("HRR") is None or jnp.iscomplexobj(keys):
        return {}
    hrr = importlib.import_module("HRR.with_jax")

    def both(patterns, keys):
        memory = jnp.sum(hrr.binding(patterns, keys, axis=-1), axis=0)
        return hrr.unbinding(memory, keys, axis=-1)

    return {
        "bind": compiled_case(
            "hrr", lambda p, k: hrr.binding(p, k, axis=-1), (patterns, keys), repeats
        ),
        "write + read": compiled_case("hrr", both, (patterns, keys), repeats),
    }


def torchhd_cases(patterns, keys, repeats: int) -> dict[str, Case]:
    """torchhd on the same numbers, as HRR or FHRR tensors; {} where it is not installed."""
    torchhd, torch = peer("torchhd"), peer("torch")
    if torchhd is None or torch is None:
        return {}
    kind = torchhd.FHRRTensor if jnp.iscomplexobj(keys) else torchhd.HRRTensor
    p, k = (torch.from_numpy(np.array(x)).as_subclass(kind) for x in (patterns, keys))

    def both():
        with torch.no_grad():
            memory = torchhd.multiset(torchhd.bind(p, k))
            return torchhd.bind(memory, torchhd.inverse(k))

    def one():
        with torch.no_grad():
            return torchhd.bind(p, k)

    about = {"version": importlib.metadata.version("torch-hd")}
    return {
        "bind": Case("torchhd", one, repeats, about),
        "write + read": Case("torchhd", both, repeats, about),
    }


def all_cases(dimension: int, kind: str, repeats: int) -> dict[str, list[Case]]:
    """For each task our function and its peers, which agree."""
    draws = jax.random.split(jax.random.key(0))
    patterns = random_pattern(draws[0], (PAIRS, dimension), kind)
    keys = unitary_key(draws[1], (PAIRS, dimension), kind)
    ours = {
        "bind": compiled_case("resonance_jax", bind, (patterns, keys), repeats),
        "write + read": compiled_case("resonance_jax", write_read, (patterns, keys), repeats),
    }
    peers = (torchhd_cases(patterns, keys, repeats), hrr_cases(patterns, keys, repeats))
    found = {}
    for task, case in ours.items():
        found[task] = [case, *(cases[task] for cases in peers if cases)]
        check_equal(found[task])
    return found


def check_equal(cases: list[Case]) -> None:
    first, *others = (np.asarray(case.call()) for case in cases)
    for case, other in zip(cases[1:], others, strict=True):
        error = float(np.linalg.norm(other - first) / np.linalg.norm(first))
        if not error < 1e-4:
            raise RuntimeError(f"{case.name} differs by {error:.1g} relative; nothing was timed.")


def measure(title: str, cases: list[Case]) -> list[dict[str, Any]]:
    """Times the cases side by side and prints each as pairs a second and as a multiple of ours."""
    time_interleaved(cases)
    print(f"\n{title}\n{'':16}{'median ms':>10}{'quartiles ms':>20}{'pairs/s':>12}{'× ours':>8}")
    rows = []
    for case in cases:
        row = {"table": title, "name": case.name, **case.row()}
        row["pairs_per_second"] = round(PAIRS / row["median_ms"] * 1e3)
        row["times_ours"] = round(ratio(case, cases[0]), 2)
        rows.append(row)
        lower, upper = row["quartiles_ms"]
        print(
            f"{case.name:<16}{row['median_ms']:>10.2f}{lower:>11.2f}{upper:>9.2f}"
            f"{row['pairs_per_second']:>12,}{row['times_ours']:>8.2f}",
            flush=True,
        )
    return rows


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each table: the faster peer's time over ours."""
    found = []
    for table in dict.fromkeys(row["table"] for row in rows):
        peers = [
            r["times_ours"] for r in rows if r["table"] == table and r["name"] != "resonance_jax"
        ]
        if peers:
            measured = min(peers)
            result = "PASS" if measured >= TARGET else "MISS"
            entry = {"target": f"{table}: >= {TARGET:g} times the faster peer"}
            found.append({**entry, "measured": measured, "result": result})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--out", type=Path, help="JSON file (default: benchmarks/results)")
    args = parser.parse_args()
    about = environment()
    print(json.dumps(about, indent=1))
    rows = []
    for kind in ("real", "phasor"):
        for dimension in DIMENSIONS:
            for task, cases in all_cases(dimension, kind, 5 if args.quick else 31).items():
                rows += measure(f"{task}, {kind}, {dimension} dimensions", cases)
    print("\nTargets")
    found = targets(rows)
    for entry in found:
        print(f"  {entry['result']:<6}{entry['target']:<72}{entry['measured']:>8}")
    absent = [name for module, name in PEERS.items() if peer(module) is None]
    print(f"not installed, not timed: {', '.join(absent) or 'none'}")
    out = args.out or RESULTS / f"hologram-{about['platform']}{'-quick' if args.quick else ''}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {**about, "pairs": PAIRS, "rows": rows, "targets": found, "not_installed": absent}
    out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"written to {out.name}")


if __name__ == "__main__":
    main()
