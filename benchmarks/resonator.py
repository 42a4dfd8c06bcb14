"""A stack of 16 resonator layers beside 16 attention layers and beside 16 filters that each transform.

Every function sees float32 x [1, n, 64]; forward pass. `stack` is a `ResonatorStack`, projections included, and
`attention` is multi-head attention with projections, both of 4 heads. `one transform` and `16 transforms` are the same
filters, chosen by the input, with one FFT in and one out against an FFT and an inverse FFT a layer; their results are
compared before they are timed. From n = 4096 on attention takes 512 queries at a time, or its scores would not fit, and
from there on it is timed once. Slopes are least squares of log time on log n with 95 % intervals; ratios are medians
over interleaved rounds.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Record
from benchmarks.timing import Case, compiled_case, ratio
from resonance_jax.claims.filters import separate_filters, stacked_attention, stacked_filters
from resonance_jax.claims.scaling import fit_slope
from resonance_jax.layers.resonator import ResonatorStack

LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384)
LAYERS, FEATURES, HEADS, PATTERNS = 16, 64, 4, 8
CHUNKED_FROM, QUERY_CHUNK = 4096, 512
LEAST_GAIN = 2.0


def cases_at(n: int, repeats: int) -> list[Case]:
    """All four at one length, of which two have been compared."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    x = draw(1, n, FEATURES)
    stack = ResonatorStack(FEATURES, LAYERS, num_patterns=PATTERNS, num_heads=HEADS)
    variables = stack.init(jax.random.key(0), x)
    weights = draw(LAYERS, 4, FEATURES, FEATURES) / FEATURES**0.5
    chunk = QUERY_CHUNK if n >= CHUNKED_FROM else None
    attention = partial(stacked_attention, num_heads=HEADS, query_chunk=chunk)
    note = {"note": f"once, {chunk} queries at a time"} if chunk else {}
    bins = n // 2 + 1
    # Real at DC and Nyquist, as a real filter is: an inverse FFT drops what is imaginary there, once or 16 times.
    ends = jnp.ones(bins).at[jnp.array([0, -1])].set(0)
    pool = jax.lax.complex(1 + 0.1 * draw(PATTERNS, bins), 0.1 * ends * draw(PATTERNS, bins))
    layers = jax.lax.complex(draw(LAYERS, bins), draw(LAYERS, bins))
    filters = (x.swapaxes(1, 2), pool, layers)
    check_equal(*(jax.jit(f)(*filters) for f in (stacked_filters, separate_filters)))
    return [
        compiled_case("stack", stack.apply, (variables, x), repeats),
        compiled_case("attention", attention, (x, weights), 1 if chunk else repeats, **note),
        compiled_case("one transform", stacked_filters, filters, repeats),
        compiled_case("16 transforms", separate_filters, filters, repeats),
    ]


def check_equal(once, each) -> None:
    error = float(jnp.linalg.norm(once - each) / jnp.linalg.norm(each))
    if error > 1e-4:
        raise RuntimeError(
            f"the two evaluations differ by {error:.1g} relative; nothing was timed."
        )


def slopes(medians: dict[str, dict[int, float]]) -> dict[str, list[float]]:
    """The exponent of each time that was measured at three lengths or more, with its 95 % interval."""
    return {
        name: [round(value, 3) for value in fit_slope(list(by_length), list(by_length.values()))]
        for name, by_length in medians.items()
        if len(by_length) > 2
    }


def run(record: Record) -> None:
    """Times all four at each length, and fits the slopes."""
    lengths, repeats = (LENGTHS[:3], 3) if record.quick else (LENGTHS, 11)
    medians: dict[str, dict[int, float]] = {}
    for n in lengths:
        cases = record.time({"n": n}, cases_at(n, repeats), "stack")
        for name, case in cases.items():
            if not case.left_out:
                medians.setdefault(name, {})[n] = float(np.median(case.seconds))
        gain = ratio(cases["16 transforms"], cases["one transform"])
        record.target(f"n = {n}: 16 transforms / one transform", gain, at_least=LEAST_GAIN)
    record.values["slopes"] = slopes(medians)
    print("\nTime ∝ n^a: a (95 % interval)")
    for name, (slope, low, high) in record.values["slopes"].items():
        print(f"  {name:<20}{slope:>6.2f} ({low:.2f} to {high:.2f})")
