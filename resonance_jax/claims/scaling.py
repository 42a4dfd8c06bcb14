"""How cost grows with size: times and operations, the log-log slope with its interval, and which law fits best."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "n": lambda n: n,
    "n log n": lambda n: n * np.log(n),
    "n^2": lambda n: n * n,
}


class Slope(NamedTuple):
    """The exponent a of seconds ∝ n^a, with a 95 % confidence interval.

    Attributes:
        slope: a, the least-squares fit of log seconds on log n.
        low: lower end of the interval.
        high: upper end.
    """

    slope: float
    low: float
    high: float


def fastest_seconds(function: Callable[..., Any], *args: Any, repeats: int = 5) -> float:
    """Returns the least time of `function(*args)` in seconds, its result computed and ready.

    What else the machine does can only add to it. One call goes before and is not counted: it compiles.

    Args:
        function: usually jitted; may return any tree of arrays.
        *args: its arguments.
        repeats: timed calls, at least 1.
    Raises:
        ValueError: if repeats < 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}.")
    jax.block_until_ready(function(*args))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def count_operations(function: Callable[..., Any], *args: Any) -> float:
    """Returns XLA's count of the floating-point operations of `function(*args)`, without compiling it.

    The body of a loop (`jax.lax.scan`, `map`, `while_loop`) counts once, however often it runs.

    Raises:
        ValueError: if this back end does not count.
    """
    cost = jax.jit(function).lower(*args).cost_analysis()
    if not cost or "flops" not in cost:
        raise ValueError(f"{jax.default_backend()} does not count operations; use the CPU.")
    return float(cost["flops"])


def fit_slope(n: Sequence[int | float], seconds: Sequence[int | float]) -> Slope:
    """Fits seconds = c n^a on logarithms and returns a with its 95 % interval.

    With residuals r_i of N points, s² = Σ r² / (N − 2) and t the 97.5 % quantile of Student's t with N − 2 degrees of
    freedom, the interval is a ± t s / sqrt(Σ (log n_i − mean)²). It answers for scatter about a straight line, not for
    a bend in it: compare laws with `aic`.

    Args:
        n: sizes, at least 3, not all equal.
        seconds: times at those sizes, positive.
    Raises:
        ValueError: if there are fewer than 3 points, the lengths differ, or a value is not positive.
    """
    x, y = _logarithms(n, seconds)
    spread = np.sum((x - x.mean()) ** 2)
    if len(x) < 3 or spread == 0:
        raise ValueError(f"a slope with its interval needs 3 points of different n, got n = {n}.")
    slope = np.sum((x - x.mean()) * (y - y.mean())) / spread
    residual = y - y.mean() - slope * (x - x.mean())
    degrees = len(x) - 2
    half = _student_t(degrees) * np.sqrt(np.sum(residual**2) / degrees / spread)
    return Slope(float(slope), float(slope - half), float(slope + half))


def aic(n: Sequence[int | float], seconds: Sequence[int | float], law: str) -> float:
    """Returns Akaike's criterion of seconds = c g(n) e^ε, ε normal: the law with the lowest value fits best.

    AIC = N log(Σ r² / N) + 4 with r the residuals of log seconds − log g(n) about their mean; the two fitted parameters
    are c and the variance. A difference below 2 decides nothing.

    Args:
        n: sizes, > 1.
        seconds: times at those sizes, positive.
        law: g, one of `LAWS`.
    Raises:
        ValueError: if the law is unknown, the lengths differ, a value is not positive or an n not above 1.
    References:
        Akaike, A new look at the statistical model identification, IEEE Trans. Automatic Control 19, 1974.
    """
    if law not in LAWS:
        raise ValueError(f"unknown law {law!r}; choose one of {', '.join(LAWS)}.")
    _, y = _logarithms(n, seconds)
    sizes = np.asarray(n, float)
    if sizes.min() <= 1:
        raise ValueError(f"sizes must be above 1, where n log n = 0, got n = {n}.")
    residual = y - np.log(LAWS[law](sizes))
    variance = max(np.var(residual), np.finfo(float).eps ** 2)  # a perfect fit stays finite
    return float(len(y) * np.log(variance) + 4)


def _logarithms(
    n: Sequence[int | float], seconds: Sequence[int | float]
) -> tuple[np.ndarray, np.ndarray]:
    if len(n) != len(seconds) or not len(n):
        raise ValueError(f"expected a time for each size, got {len(n)} and {len(seconds)}.")
    both = np.asarray([n, seconds], float)
    if not np.all(np.isfinite(both)) or both.min() <= 0:
        raise ValueError(
            f"sizes and times must be positive and finite, got n = {n}, seconds = {seconds}."
        )
    x, y = np.log(both)
    return x, y


def _student_t(degrees: int) -> float:
    """The 97.5 % quantile of Student's t: with t = √ν tan θ its density is ∝ cos^{ν−1} θ on (−π/2, π/2)."""
    theta = np.linspace(0, np.pi / 2, 20_001)
    density = np.cos(theta) ** (degrees - 1)
    mass = np.append(0, np.cumsum(density[1:] + density[:-1]))
    return float(np.sqrt(degrees) * np.tan(np.interp(0.95 * mass[-1], mass, theta)))
