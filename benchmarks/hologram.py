"""Binding, and writing with reading, beside torchhd and hrr.

float32 and complex64, 1000 pairs of 1024 and of 10,000 dimensions. Bind: each pattern to its key. Write + read: all
pairs are bound and superposed, and each key reads the sum. torchhd runs as documented (bind, multiset, inverse);
hrr's JAX functions are compiled as ours are. Patterns and keys are the same numbers for all; before anything is timed
the results are compared. Keys are unitary, so that conjugation is the inverse for every library. Ratios are medians
over rounds. The capacity curve is drawn by experiments/hologram_capacity.py.
"""

import importlib
import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Record
from benchmarks.timing import Case, absent, compiled_case, elsewhere, installed, ratio
from resonance_jax.ops.hologram import bind, bundle, random_pattern, read, unitary_key

PAIRS = 1000
DIMENSIONS = (1024, 10_000)
TARGET = 2.0
TASKS = ("bind", "write + read")


def write_read(patterns, keys):
    return read(bundle(bind(patterns, keys)), keys)


def hrr_cases(patterns, keys, repeats: int) -> dict[str, Case]:
    """hrr's JAX functions, compiled; {} for phasors, which it does not have."""
    if jnp.iscomplexobj(keys):
        return {}
    if installed("HRR") is None:
        return {task: absent("hrr", "hrr") for task in TASKS}
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
    """torchhd on the same numbers, as HRR or FHRR tensors."""
    if jax.default_backend() != "cpu":
        return {task: elsewhere("torchhd") for task in TASKS}
    torchhd, torch = installed("torchhd"), installed("torch")
    if torchhd is None or torch is None:
        return {task: absent("torchhd", "torch-hd") for task in TASKS}
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
    """Requires that all that are installed compute the same."""
    cases = [case for case in cases if not case.left_out]
    first, *others = (np.asarray(case.call()) for case in cases)
    for case, other in zip(cases[1:], others, strict=True):
        error = float(np.linalg.norm(other - first) / np.linalg.norm(first))
        if not error < 1e-4:
            raise RuntimeError(f"{case.name} differs by {error:.1g} relative; nothing was timed.")


def run(record: Record) -> None:
    """Times both tasks for real patterns and phasors of both dimensions."""
    for kind in ("real", "phasor"):
        for dimension in DIMENSIONS:
            for task, cases in all_cases(dimension, kind, 5 if record.quick else 31).items():
                key = {"task": task, "kind": kind, "dimensions": dimension, "pairs": PAIRS}
                ours, *others = record.time(key, cases, "resonance_jax").values()
                for other in others:
                    what = f"{task}, {kind}, {dimension} dimensions: {other.name} / ours"
                    record.target(what, ratio(other, ours), at_least=TARGET)
