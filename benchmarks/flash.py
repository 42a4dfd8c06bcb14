"""For a GPU: resonance in bfloat16 beside a copy of its input, and beside flash attention at 256 to 256K steps.

x [b, n, 1024] in bfloat16. Beside the copy: 2²⁸ numbers, 64 of the frequencies, the lowest, and spread. Beside
attention: 2¹⁸ steps in rows of each length, 16 heads of 64 by cuDNN's flash attention (Dao, arXiv:2307.08691), whose
queries, keys and values are all x, both ways and causal; resonance of 64 frequencies, whose products are float32, and
causal chunks of 16 heads of 16 resonators, channels first, whose products are bfloat16. cuDNN is compared with XLA's
attention, and the chunks with the FFT form, before anything is timed. "forward+backward" returns the output and the
gradients in x and the weights. What does not fit, and attention where there is none, have a row that says why;
attention is not timed where the length before says that it would take more than 20 s. On a CPU it runs with --quick
alone, at small sizes and with XLA's attention: that shows that it runs, and nothing else.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.block import level_at
from benchmarks.harness import Record
from benchmarks.timing import Case, compiled_case, ratio
from resonance_jax.ops import recurrence
from resonance_jax.ops.fourier import select_bins
from resonance_jax.ops.resonance import resonate

FEATURES, HEADS, BINS, RESONATORS = 1024, 16, 64, 16
LENGTHS = (256, 1024, 4096, 16384, 65536, 262144)
PASSES = ("forward", "forward+backward")
COPIED = (4096, 65536)
LIMIT = 20.0
WANTED = {1024: 1.0, 16384: 10.0, 262144: 100.0}
CAUSAL = {16384: 5.0}


def on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def normal(*shape: int) -> jax.Array:
    """Normal numbers, made on the device: gigabytes would take long from the host."""
    return jax.jit(partial(jax.random.normal, shape=shape, dtype=jnp.bfloat16))(jax.random.key(0))


def filter_weights() -> jax.Array:
    parts = np.random.default_rng(0).standard_normal((2, BINS, FEATURES), np.float32)
    return jax.lax.complex(*jnp.asarray(parts))


def with_gradients(function: Callable, x: Any, weights: Any) -> Any:
    """The output, and the gradients of half its squared norm."""
    y, pull = jax.vjp(function, x, weights)
    return y, pull(y)


def timed(name: str, function: Callable, arguments: tuple, repeats: int) -> list[Case]:
    """A case of each pass of function(x, weights)."""
    cases = []
    programs = function, partial(with_gradients, function)
    for which, program in zip(PASSES, programs, strict=True):
        title = f"{name} | {which}"
        try:
            case = compiled_case(title, program, arguments, repeats)
        except jax.errors.JaxRuntimeError as error:  # a GPU plans its memory when it compiles
            case = Case(title, lambda: None, 0, left_out=str(error).splitlines()[0])
        if "attention" in name or "causal" in name:
            case.info["flops"] = None  # XLA counts a loop's body once, and nothing of cuDNN's
        cases.append(case)
    return cases


def resonance(n: int, strategy: str) -> Callable:
    return partial(resonate, bins=select_bins(n // 2 + 1, BINS, strategy))


def attention(x: jax.Array, _: Any, causal: bool, how: Any = None) -> jax.Array:
    heads = x.reshape(*x.shape[:2], HEADS, -1)
    how = how or ("xla" if on_cpu() else "cudnn")
    y = jax.nn.dot_product_attention(heads, heads, heads, is_causal=causal, implementation=how)
    return y.reshape(x.shape)


def causal_chunks(x: jax.Array, bank: Any) -> Any:
    return recurrence.chunked(x, bank, channels_first=True)[0]


def refusal() -> str:
    """Why there is no flash attention here, as cuDNN or JAX says it; empty if there is."""
    try:
        attention(normal(1, 256, FEATURES), (), True)
    except (NotImplementedError, RuntimeError, ValueError) as error:
        return (str(error).splitlines() or [repr(error)])[0]
    return ""


def check_equal(with_attention: bool) -> None:
    """Requires that what is timed computes what slower forms do."""
    x = normal(2, 256, FEATURES)
    bank = recurrence.ring_bank(jax.random.key(0), HEADS, RESONATORS)
    first = jnp.moveaxis(x, -1, 0)
    slow = recurrence.convolve(first, bank, channels_first=True)[0]
    pairs = [(causal_chunks(first, bank), slow)]
    for causal in (False, True) if with_attention else ():
        pairs.append((attention(x, (), causal), attention(x, (), causal, "xla")))
    for found, wanted in pairs:
        found, wanted = (np.asarray(values, np.float32) for values in (found, wanted))
        error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        if not error < 2**-6:
            raise RuntimeError(f"two forms differ by {error:.1g} relative; nothing was timed.")


def beside_copy(record: Record, n: int, numbers: int, repeats: int) -> None:
    """Times resonance and a copy of the same x."""
    arguments = normal(max(1, numbers // (n * FEATURES)), n, FEATURES), filter_weights()
    copy = compiled_case("copy", lambda x, _: x * jnp.bfloat16(1.01), arguments, repeats)
    cases = [copy]
    for strategy in ("low", "uniform"):
        cases += timed(f"{strategy} bins", resonance(n, strategy), arguments, repeats)
    case = record.time({"n": n, "numbers": arguments[0].size}, cases, "copy")
    for strategy in ("low", "uniform"):
        for which, limit in zip(PASSES, (2.0, 5.0), strict=True):
            what = f"n = {n}: {strategy} bins / copy, {which}"
            found = ratio(case[f"{strategy} bins | {which}"], copy)
            record.target(what, found, at_most=None if on_cpu() else limit, better="lower")


def beside_attention(n: int, steps: int, repeats: int, left_out: str) -> list[Case]:
    """Resonance and attention on rows of one length; attention only if nothing says why it is left out."""
    x = normal(max(1, steps // n), n, FEATURES)
    bank = recurrence.ring_bank(jax.random.key(0), HEADS, RESONATORS)
    cases = timed("resonance", resonance(n, "low"), (x, filter_weights()), repeats)
    cases += timed("causal resonance", causal_chunks, (jnp.moveaxis(x, -1, 0), bank), repeats)
    for name, is_causal in (("attention", False), ("causal attention", True)):
        if left_out:
            cases += [Case(f"{name} | {p}", lambda: None, 0, left_out=left_out) for p in PASSES]
        else:
            cases += timed(name, partial(attention, causal=is_causal), (x, ()), repeats)
    return cases


def run(record: Record) -> None:
    """Times all of it; on a CPU only what shows that it runs."""
    if on_cpu() and not record.quick:
        print("It is for a GPU, and on a CPU runs with --quick alone: nothing was measured.")
        return
    left_out = refusal()
    check_equal(with_attention=not left_out)
    small, repeats = record.quick, 3 if record.quick else 11
    for n in COPIED[:1] if small else COPIED:
        beside_copy(record, n, 2**22 if small else 2**28, repeats)
    gains: dict[int, float] = {}
    for n in LENGTHS[:2] if small else LENGTHS:
        cases = beside_attention(n, 2**11 if small else 2**18, repeats, left_out)
        case = record.time({"n": n}, cases, "resonance | forward")
        for prefix, limits in (("", WANTED), ("causal ", CAUSAL)):
            for which in PASSES:
                rival, ours = (f"{prefix}{name} | {which}" for name in ("attention", "resonance"))
                gain = ratio(case[rival], case[ours])
                what = f"n = {n}: {prefix}attention / {prefix}resonance, {which}"
                limit = None if on_cpu() else limits.get(n)
                record.target(what, gain, at_least=limit, better="higher")
                if not prefix and which == "forward" and gain is not None:
                    gains[n] = gain
        last = case[f"attention | {PASSES[1]}"]
        if last.seconds and 4 * float(np.median(last.seconds)) > LIMIT:
            left_out = f"4 times the {np.median(last.seconds):.0f} s of the length before"
    record.values["level_at"] = level_at(gains)
    print(f"resonance and attention are level at n = {record.values['level_at']}")
