"""Q8: the quaternion layer costs O(n log n).

Source: Q (quaternions and the log-phase filter).
Decided by: XLA's count of operations of a `QRHLayer` over n, whose exponent from length to length may be at most that
of n log n, 1 + 1/ln n; the log-log slope, with its 95 % interval, of the CPU time of its forward pass; and the same for
lengths that are prime, where the transform cannot be split.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.numbers import largest
from resonance_jax.claims.scaling import aic, count_operations, fit_slope
from resonance_jax.claims.trials import median_milliseconds
from resonance_jax.layers.quaternion import QRHLayer

SHAPES = {  # lengths, primes, quaternions, repeats
    "quick": ((256, 1024, 4096, 16384), (1021, 16381), 4, 20),
    "full": (tuple(2**i for i in range(8, 18)), (251, 1021, 4093, 16381, 65521), 4, 20),
}


def cost(n: int, quaternions: int, repeats: int) -> tuple[float, float]:
    """Returns operations and CPU seconds of the layer; which parameters does not matter to it."""
    layer, x = QRHLayer(quaternions), jnp.ones((1, n, 4 * quaternions))
    shapes = jax.eval_shape(layer.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1, leaf.dtype), shapes)
    run = jax.jit(layer.apply)
    milliseconds = median_milliseconds(lambda: run(variables, x), repeats)
    return count_operations(run, variables, x), milliseconds / 1e3


def measure(seed: int, size: str) -> Numbers:
    lengths, primes, quaternions, repeats = SHAPES[size]
    counts, seconds = zip(*(cost(n, quaternions, repeats) for n in lengths), strict=True)
    prime_seconds = [cost(n, quaternions, repeats)[1] for n in primes]
    slope = fit_slope(lengths, seconds)
    n = np.array(lengths, float)
    beside = np.interp(np.log(primes), np.log(n), np.log(seconds))
    return {
        "lengths": list(lengths),
        "primes": list(primes),
        "operations": list(counts),
        "operations_exponents": (np.diff(np.log(counts)) / np.diff(np.log(n))).tolist(),
        "exponents_of_n_log_n": (1 + 1 / np.log(n[:-1])).tolist(),
        "seconds": list(seconds),
        "slope": slope.slope,
        "slope_low": slope.low,
        "slope_high": slope.high,
        "aic_n_log_n": aic(lengths, seconds, "n log n"),
        "aic_n_squared": aic(lengths, seconds, "n^2"),
        "prime_seconds": prime_seconds,
        "prime_slope": float(np.polyfit(np.log(primes), np.log(prime_seconds), 1)[0]),
        "prime_ratio": float(prime_seconds[-1] / np.exp(beside[-1])),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    def mean(name: str) -> float:
        return float(np.mean([run[name] for run in runs]))

    exponent = largest(runs, "operations_exponents")
    number = (
        f"operations ∝ n^{exponent:.2f} at most (n log n: at most n^{runs[0]['exponents_of_n_log_n'][0]:.2f}); time "
        f"∝ n^{mean('slope'):.2f} ({mean('slope_low'):.2f} to {mean('slope_high'):.2f}); prime lengths: time "
        f"∝ n^{mean('prime_slope'):.2f}, {mean('prime_ratio'):.1f} times as long at n = {runs[0]['primes'][-1]}"
    )
    within = all(
        found <= bound
        for run in runs
        for found, bound in zip(
            run["operations_exponents"], run["exponents_of_n_log_n"], strict=True
        )
    )
    if not within:
        return Decision("fails", number, "The operations grow faster than n log n.")
    # An exponent is told by the integer that it is nearest to; n log n is nearest to 1 here.
    if mean("slope") >= 1.5 or mean("aic_n_log_n") > mean("aic_n_squared"):
        return Decision("holds when", number, "Operations are counted; the time grows faster.")
    if mean("prime_slope") >= 1.5:
        return Decision("holds when", number, "The length has small prime factors.")
    return Decision(
        "holds",
        number,
        "It is a bound: fixed costs flatten the slope at small n. A prime length costs a constant factor.",
    )


def draw(runs: Sequence[Numbers]) -> Plot:
    def mean(name: str) -> list[float]:
        return np.mean([run[name] for run in runs], axis=0).tolist()

    n, seconds = np.array(runs[0]["lengths"], float), mean("seconds")
    laws = {"n log n": n * np.log(n), "n²": n**2}
    references = [
        Series(f"∝ {name}", n.tolist(), (law / law[0] * seconds[0]).tolist(), "reference")
        for name, law in laws.items()
    ]
    series = (
        Series("powers of two", n.tolist(), seconds),
        Series("primes", runs[0]["primes"], mean("prime_seconds"), "points"),
    )
    return Plot("sequence length n", "CPU seconds", (*series, *references), log_x=True, log_y=True)
