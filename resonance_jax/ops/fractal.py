"""Fractal dimension of curves, what a spectral slope says of it, and the filter's α that follows it.

Also here: `ops/box_counting.py` for point sets and images, `ops/fractal_spectrum.py` for spectral slopes,
`ops/fractal_sets.py` for sets of known dimension. Bias and spread of every estimator: `python -m
experiments.fractal_dimension` (experiments/results/fractal_dimension.json).
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import AnyReal, AnyShape, Curves
from resonance_jax.ops._checks import check_real, is_concrete
from resonance_jax.ops._regression import fit_slope

MIN_STEPS = 7
KINDS = ("brownian_graph", "self_similar_set")


class DimensionEstimate(NamedTuple):
    """A fractal dimension and the error of the line that it was read from.

    Attributes:
        dimension: D, [*b].
        standard_error: standard error of the slope in the log-log plot, as if its residuals were independent, [*b].
            They are not, since neighbouring scales share their data; and all scales of one curve share its course. It
            says how straight the plot is and is no confidence interval: over random inputs, `higuchi` spreads by up to
            27 times as much (the smoother the curve and the longer, the more), the other estimators by up to twice as
            much; experiments/results/fractal_dimension.json has both side by side. It does not contain the bias.
            Infinite where the scales are too few to tell.
    """

    dimension: AnyReal
    standard_error: AnyReal


class SlopeEstimate(NamedTuple):
    """The exponent of a power spectrum and the error of the line that it was read from.

    Attributes:
        beta: β, where power falls as f^(−β), [*b].
        standard_error: standard error of the slope, with the same reservations as in DimensionEstimate, [*b].
    """

    beta: AnyReal
    standard_error: AnyReal


def higuchi(curve: Curves, *, max_lag: int | None = None) -> DimensionEstimate:
    """Estimates the dimension of the graph of a signal by Higuchi's curve lengths.

    The curve's mean length at lag k, over the k ways to read every k-th of its t values, falls as k^(−D):

        L_s(k) = (t − 1)/(q_s k²) Σ_{i=1…q_s} |x_{s+ik} − x_{s+(i−1)k}|,   q_s = ⌊(t − 1 − s)/k⌋,   s = 0 … k − 1

    D is the slope of log mean_s L_s(k) over −log k, at two lags an octave. A constant curve has D = 1 exactly; other
    curves that repeat after a lag (length 0) do without that lag. Invariant to offset and scale; estimates may lie
    outside [1, 2]. Cost O(t · log max_lag) for each curve, without a sort or a transform.

    Args:
        curve: x, real, [..., t], t ≥ 7; the last axis is time.
        max_lag: largest lag, 3 … (t − 1)//2; None is t//16, kept within 4 … 32 and (t − 1)//2.
    Returns:
        DimensionEstimate, each [...], float32 for float32 and narrower curves, NaN for a curve with a value that is
        not finite. Gradients are finite.
    Raises:
        ValueError: if the curve is too short, not real, or static with a value that is not finite, or max_lag is out of
            range.
    References:
        Higuchi, Approach to an irregular time series on the basis of the fractal theory, Physica D 31 (1988) 277.

    >>> import jax, jax.numpy as jnp
    >>> noise = jax.random.normal(jax.random.key(0), (4096,))  # D = 2; its running sum has D = 1.5
    >>> print(f"{higuchi(noise).dimension:.2f} {higuchi(jnp.cumsum(noise)).dimension:.2f}")
    2.00 1.50
    """
    check_real("curve", curve, ("t",))
    curve = jnp.asarray(curve)
    lags = _lags(curve.shape[-1], max_lag)
    return _higuchi(curve, tuple(lags))


def dimension_from_slope(slope: SlopeEstimate, kind: str) -> DimensionEstimate:
    """Returns the dimension that a spectral slope means, for a named kind of object.

        "brownian_graph":    D = (5 − β)/2    the graph of a signal whose power falls as f^(−β), 1 < β < 3, as that of
                                              fractional Brownian motion with β = 2H + 1, D = 2 − H
        "self_similar_set":  D = β            a set whose |μ̂|² falls as k^(−β), averaged over directions and scales

    The two are not exchangeable: β = 2 is the graph of a Brownian motion (D = 1.5), or a plane set (D = 2).

    Args:
        slope: β and its error, as `fractal_spectrum.spectral_slope` and `spectral_slope_points` return them.
        kind: "brownian_graph" for the first, "self_similar_set" for the second of these.
    Returns:
        DimensionEstimate of the same shape.
    Raises:
        ValueError: if the kind is unknown.

    >>> slope = SlopeEstimate(jnp.array(2.0), jnp.array(0.1))
    >>> dimension, error = dimension_from_slope(slope, "brownian_graph")
    >>> print(dimension, error)
    1.5 0.05
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}; choose one of {', '.join(KINDS)}.")
    if kind == "brownian_graph":
        return DimensionEstimate((5 - slope.beta) / 2, slope.standard_error / 2)
    return DimensionEstimate(slope.beta, slope.standard_error)


def alpha_from_dimension(
    dimension: AnyShape | float | int,
    *,
    euclidean_dimension: float | int,
    base: AnyShape | float | int = 1.0,
    strength: AnyShape | float | int = 0.8,
    bounds: tuple[float | int, float | int] = (0.1, 3.0),
) -> AnyShape:
    """Returns the strength α of the log-phase filter for data of a fractal dimension.

        α = α₀ (1 + λ (D − n)/n),  clipped to the bounds

    Args:
        dimension: D, real, [...].
        euclidean_dimension: n > 0, of the space that the set lies in, or any reference at which α = α₀: 1 for a
            signal's values, 2 for the graph of a signal.
        base: α₀, broadcast with D.
        strength: λ, broadcast with D.
        bounds: the smallest and the largest α.
    Returns:
        α, real, [...]; its gradient is 0 where it is clipped.
    Raises:
        ValueError: if n is not positive, the bounds are not in order, or a static value is not finite.

    >>> print(f"{alpha_from_dimension(1.5, euclidean_dimension=2):.2f}")
    0.80
    """
    _check_euclidean(euclidean_dimension)
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"bounds must be two finite numbers in rising order, got {bounds}.")
    dimension, base, strength = _finite_reals(dimension=dimension, base=base, strength=strength)
    relative = (dimension - euclidean_dimension) / euclidean_dimension
    return jnp.clip(base * (1 + strength * relative), low, high)


def dimension_from_alpha(
    alpha: AnyShape | float | int,
    *,
    euclidean_dimension: float | int,
    base: AnyShape | float | int = 1.0,
    strength: AnyShape | float | int = 0.8,
) -> AnyShape:
    """Returns the dimension that `alpha_from_dimension` makes an α of: its inverse where α is not clipped.

        D = n (1 + (α/α₀ − 1)/λ)

    At a bound of α many dimensions have that α; this returns the one where the clipping begins.

    Args:
        alpha: α, real, [...].
        euclidean_dimension: n > 0.
        base: α₀, not 0, broadcast with α.
        strength: λ, not 0, broadcast with α.
    Returns:
        D, real, [...].
    Raises:
        ValueError: if n is not positive, a static value is not finite, or a static α₀ or λ is 0.

    >>> print(f"{dimension_from_alpha(0.8, euclidean_dimension=2):.2f}")
    1.50
    """
    _check_euclidean(euclidean_dimension)
    alpha, base, strength = _finite_reals(alpha=alpha, base=base, strength=strength)
    for name, value in (("base", base), ("strength", strength)):
        if is_concrete(value) and np.any(np.asarray(value) == 0):
            raise ValueError(f"{name} must not be 0: α would not depend on the dimension.")
    return euclidean_dimension * (1 + (alpha / base - 1) / strength)


def _lags(t: int, max_lag: int | None) -> list[int]:
    """Two lags an octave: 1, 2, 3, 4, 6, 8, 11, …"""
    if t < MIN_STEPS:
        raise ValueError(
            f"a curve needs at least {MIN_STEPS} steps for its dimension, got {t}; pass a longer one."
        )
    most = (t - 1) // 2
    if max_lag is None:
        max_lag = min(max(t // 16, 4), 32, most)
    if not 3 <= max_lag <= most:
        raise ValueError(
            f"max_lag must lie in 3 .. {most} for {t} steps, got {max_lag}; None chooses one."
        )
    return sorted({k for j in range(64) if (k := round(2 ** (j / 2))) <= max_lag})


@functools.partial(jax.jit, static_argnums=1)
def _higuchi(curve: jax.Array, lags: tuple[int, ...]) -> DimensionEstimate:
    curve = curve.astype(jnp.promote_types(curve.dtype, jnp.float32))
    # No sum overflows; and by a power of two, so that differences of equal values stay 0 when the compiler fuses them.
    exponent = jnp.frexp(jnp.max(jnp.abs(curve), -1, keepdims=True))[1]
    curve = curve * jnp.ldexp(jnp.ones((), curve.dtype), -jnp.clip(exponent, -126, 126))
    lengths = jnp.stack([_length(curve, k) for k in lags], -1)
    known = lengths > 0
    # NaN is not > 0 either, and must not pass for a constant.
    constant = jnp.all(lengths == 0, -1)
    x = jnp.asarray(-np.log(lags), curve.dtype)
    weights = jnp.where(known, 1, 0).astype(curve.dtype)
    slope, error = fit_slope(x, jnp.log(jnp.where(known, lengths, 1)), weights)
    # At lag 1 every value counts: the sum is NaN if one of them is not finite.
    missing = jnp.where(jnp.isfinite(lengths[..., 0]), 0, jnp.nan)
    dimension, error = jnp.where(constant, 1, slope), jnp.where(constant, 0, error)
    return DimensionEstimate(dimension + missing, error + missing)


def _length(curve: jax.Array, k: int) -> jax.Array:
    """Mean of the lengths at lag k: a weighted sum of the differences, as one product with a vector."""
    t = curve.shape[-1]
    start = np.arange(t - k)
    weights = (t - 1) / (k**3 * ((t - 1 - start % k) // k))
    differences = jnp.abs(curve[..., k:] - curve[..., :-k])
    return jnp.matmul(differences, jnp.asarray(weights, curve.dtype), precision="highest")


def _check_euclidean(n):
    if not (math.isfinite(n) and n > 0):
        raise ValueError(f"euclidean_dimension must be a positive number, got {n}.")


def _finite_reals(**values):
    """Returns the values as floating arrays; those that are known must be finite."""
    for name, value in values.items():
        if is_concrete(value) and not np.all(np.isfinite(np.asarray(value, np.float64))):
            raise ValueError(f"{name} must be finite, got {np.asarray(value).tolist()}.")
    dtype = jnp.result_type(*values.values(), jnp.float32)
    return [jnp.asarray(value, dtype) for value in values.values()]
