"""N5: a layer costs O(n log n + k²), shown by R² > 0.95 for n log n and R² < 0.62 for n².

Source: N (resonance networks with holographic memory).
Decided by: XLA's count of operations over n and over k; the log-log slope of the time over two decades; and what R²
says of data that grow exactly as n² on the text's own lengths, 64 to 1024.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.scaling import aic, count_operations, fastest_seconds, fit_slope
from resonance_jax.ops.resonance import resonate

TEXT_LENGTHS = 2 ** np.arange(6, 11)
COUNTS = (64, 256, 1024)
FEATURES = 16


def make_filter(n: int, k: int):
    """Returns the FFT form at length n with k mixing frequencies, and its arguments."""
    x = jnp.ones((1, n, FEATURES))
    weights, mixing = jnp.ones((k, FEATURES), jnp.complex64), jnp.ones((k, k), jnp.complex64) / k

    def layer(x, weights, mixing):
        return resonate(x, weights, np.arange(k), interference=mixing, method="fft")

    return jax.jit(layer), x, weights, mixing


def r_squared(law: np.ndarray, values: np.ndarray) -> float:
    """The share of variance that a straight line in `law` explains."""
    return float(np.corrcoef(law, values)[0, 1] ** 2)


def measure(seed: int, size: str) -> Numbers:
    lengths = [1024, 4096, 16384, 131072] if size == "quick" else [2**i for i in range(10, 20)]
    repeats = 5 if size == "quick" else 20
    seconds = [fastest_seconds(*make_filter(n, 32), repeats=repeats) for n in lengths]
    flops = [count_operations(*make_filter(int(n), 32)) for n in TEXT_LENGTHS]
    mixing = [count_operations(*make_filter(4096, k)) for k in COUNTS]
    fixed = count_operations(*make_filter(4096, 1))
    n = TEXT_LENGTHS.astype(float)
    square, log = n**2, n * np.log2(n)
    slope = fit_slope(lengths, seconds)
    return {
        "lengths": lengths,
        "seconds": seconds,
        "slope": slope.slope,
        "slope_low": slope.low,
        "slope_high": slope.high,
        "aic_n_log_n": aic(lengths, seconds, "n log n"),
        "aic_n_squared": aic(lengths, seconds, "n^2"),
        "exponent_in_k": fit_slope(COUNTS, (np.array(mixing) - fixed).tolist()).slope,
        "r2_flops_n_log_n": r_squared(log, np.array(flops)),
        "r2_flops_n_squared": r_squared(square, np.array(flops)),
        "r2_n_log_n_of_squares": r_squared(log, square),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    slope, high = (float(np.mean([run[name] for run in runs])) for name in ("slope", "slope_high"))
    first = runs[0]
    cost = slope < 1.4 and 1.5 < first["exponent_in_k"] < 2.3
    cost = cost and all(run["aic_n_log_n"] < run["aic_n_squared"] for run in runs)
    number = (
        f"time ∝ n^{slope:.2f} (95 % interval up to {high:.2f}), operations in k ∝ k^{first['exponent_in_k']:.2f}; "
        f"R² against n² is {first['r2_flops_n_squared']:.3f} for the layer's operations, "
        f"and exact squares have R² = {first['r2_n_log_n_of_squares']:.3f} against n log n"
    )
    tells = first["r2_n_log_n_of_squares"] < 0.95 and first["r2_flops_n_squared"] < 0.62
    if not cost:
        return Decision("fails", number, "The measured cost does not follow n log n + k².")
    if tells:
        return Decision("holds", number)
    return Decision(
        "holds when",
        number,
        "The cost holds when it is judged by operations, slopes and AIC. R² on lengths 64 to 1024 cannot show it: "
        "both laws pass above 0.95 there, whichever is true.",
    )


def draw(runs: Sequence[Numbers]) -> Plot:
    n, seconds = np.array(runs[0]["lengths"], float), np.array(runs[0]["seconds"])
    laws = {"n log n": n * np.log(n), "n²": n**2}
    references = [
        Series(name, n.tolist(), (law / law[-1] * seconds[-1]).tolist(), "reference")
        for name, law in laws.items()
    ]
    series = Series("one layer, k = 32", n.tolist(), seconds.tolist())
    return Plot("length n", "seconds", (series, *references), log_x=True, log_y=True)
