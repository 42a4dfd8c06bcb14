"""The evaluations of a bank of resonators beside each other and beside a dense layer.

8 heads of 16 resonators, 256 features, 16,384 tokens in rows of 1K, 4K and 16K steps, float32 unless it says
otherwise. "forward+gradient" returns the output and the gradients in x and all of the bank (or the dense matrix).
"first": channels first, x [d, b, n]; else x [b, n, d]. The dense layer multiplies the same tensor by a matrix 256 x
256. The associative scan, whose states would not fit, runs on one of the 8 heads; targets count its time eight times.
Outputs are compared before anything is timed. Ratios are medians over interleaved rounds.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Record
from benchmarks.timing import Case, compiled_case, ratio
from resonance_jax.ops import recurrence
from resonance_jax.ops._products import product

FEATURES, HEADS, RESONATORS, TOKENS = 256, 8, 16, 16384
LENGTHS = (1024, 4096, 16384)
PASSES = ("forward", "forward+gradient")
CHUNKS = (64, 128, 256)
SCAN_SHARE = 8
DEFAULT = f"chunked {recurrence.DEFAULT_CHUNK}"
DENSE = {"": "dense", ", first": "dense, first", ", first, bfloat16": "dense, first, bfloat16"}


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

    forward = [case for case in cases if case.name.endswith(f"| {PASSES[0]}") and not case.left_out]
    expected = {case.name: output(case) for case in forward}
    for name, y in expected.items():
        reference = "dense" if name.startswith("dense") else DEFAULT
        wanted = expected[f"{reference} | {PASSES[0]}"][..., : y.shape[-1]]
        error = np.linalg.norm(y - wanted) / np.linalg.norm(wanted)
        if not error < (2**-6 if "bfloat16" in name else 1e-5):
            raise RuntimeError(f"{name} differs by {error:.1g} relative; nothing was timed.")


def measure(record: Record, n: int, repeats: int) -> None:
    """Times everything at one length, and adds what was asked of the chunked evaluation."""
    cases = []
    for name, (function, (x, weights, cotangent)) in contenders(n).items():
        few = 2 if name == "scan" else repeats
        gradients = with_gradients(function)
        about = {"dtype": "bfloat16"} if "bfloat16" in name else {}
        programs = (function, (x, weights)), (gradients, (x, weights, cotangent))
        for which, (program, arguments) in zip(PASSES, programs, strict=True):
            cases.append(compiled_case(f"{name} | {which}", program, arguments, few, **about))
    check_equal(cases)
    case = record.time({"n": n, "rows": TOKENS // n}, cases, f"dense | {PASSES[0]}")

    def target(what: str, above: str, below: str, which: str, share: float = 1, **limit: Any):
        measured = ratio(case[f"{above} | {which}"], case[f"{below} | {which}"])
        measured = None if measured is None else share * measured
        record.target(f"n = {n}: {what}, {which}", measured, **limit)

    for which in PASSES:
        target("scan / chunked", "scan", DEFAULT, which, SCAN_SHARE, at_least=5)
        for layout in ("", ", first") if n >= 4096 else ():
            names = f"convolve{layout}", f"{DEFAULT}{layout}"
            target(f"convolve / chunked{layout}", *names, which, at_least=1)
    for layout, layer in DENSE.items():
        target(f"chunked{layout} / dense", f"{DEFAULT}{layout}", layer, PASSES[0], at_most=3)


def run(record: Record) -> None:
    """Times everything at each length."""
    for n in LENGTHS[:1] if record.quick else LENGTHS:
        measure(record, n, 3 if record.quick else 7)
