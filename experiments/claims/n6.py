"""N6: each doubling of the length from 64 to 1024 costs about 2.1 times as much.

Source: N (resonance networks with holographic memory).
Decided by: the ratio of XLA's counts of operations at each doubling, for both evaluations of the layer; 2.0 to 2.3
counts as "about 2.1". The ratio of the times is printed beside it.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.scaling import count_operations, fastest_seconds
from resonance_jax.ops.resonance import resonate

LENGTHS = (64, 128, 256, 512, 1024)


def cost(n: int, k: int, method: str, repeats: int) -> tuple[float, float]:
    """Returns operations and seconds of a layer of width 64 on 8 sequences."""
    x, weights = jnp.ones((8, n, 64)), jnp.ones((k, 64), jnp.complex64)

    @jax.jit
    def layer(x, weights):
        return resonate(x, weights, np.arange(k), method=method)

    seconds = fastest_seconds(layer, x, weights, repeats=repeats)
    return count_operations(layer, x, weights), seconds


def measure(seed: int, size: str) -> Numbers:
    repeats = 5 if size == "quick" else 50
    numbers: Numbers = {}
    for method in ("fft", "matrix"):
        flops, seconds = zip(*(cost(n, 16, method, repeats) for n in LENGTHS), strict=True)
        numbers[f"{method}_flops_ratio"] = (np.array(flops[1:]) / flops[:-1]).tolist()
        numbers[f"{method}_seconds_ratio"] = (np.array(seconds[1:]) / seconds[:-1]).tolist()
    return numbers


def decide(runs: Sequence[Numbers]) -> Decision:
    mean = {name: float(np.exp(np.mean([np.log(run[name]) for run in runs]))) for name in runs[0]}
    number = (
        f"operations grow {mean['fft_flops_ratio']:.2f} times at each doubling by FFT and "
        f"{mean['matrix_flops_ratio']:.2f} times as matrix products; "
        f"time {mean['fft_seconds_ratio']:.2f} and {mean['matrix_seconds_ratio']:.2f} times"
    )
    about = {
        method: all(2.0 <= ratio <= 2.3 for ratio in runs[0][f"{method}_flops_ratio"])
        for method in ("fft", "matrix")
    }
    if all(about.values()):
        return Decision("holds", number)
    if any(about.values()):
        (one,) = (method for method in about if about[method])
        form = {"fft": "FFT, n log n", "matrix": "matrix products, n k"}[one]
        return Decision(
            "holds when",
            number,
            f"It holds when the layer is evaluated by {form}. With a fixed number of frequencies the other form has "
            "another ratio, and at these lengths the time of a call grows less, being overhead in part.",
        )
    return Decision("fails", number, "Neither evaluation grows by 2.0 to 2.3 at every doubling.")


def draw(runs: Sequence[Numbers]) -> Plot:
    series = [
        Series(f"{method}, {unit}", LENGTHS[1:], runs[0][f"{method}_{unit}_ratio"])
        for method in ("fft", "matrix")
        for unit in ("flops", "seconds")
    ]
    claimed = Series("claimed", LENGTHS[1:], [2.1] * 4, "reference")
    return Plot("length n", "cost(n) / cost(n / 2)", (*series, claimed), log_x=True)
