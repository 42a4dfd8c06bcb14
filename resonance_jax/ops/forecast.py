"""Windows of series to forecast: reversible normalisation, and continuing a window by its spectrum.

Time is axis −2 and channels are axis −1 of a window x [..., t, d]; h steps of forecast follow it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from resonance_jax.array_typing import (
    Array,
    ChannelMask,
    ContinuedSequence,
    RealSequence,
    SpectrumMap,
    WindowMoments,
)
from resonance_jax.ops._checks import check_complex, check_real_sequence


class WindowStatistics(NamedTuple):
    """What `normalize_window` took out of a window and `restore_window` gives back."""

    mean: WindowMoments
    """[..., 1, d]."""
    deviation: WindowMoments
    """[..., 1, d], positive."""


def observed_steps(x: RealSequence, mask: Array | None = None) -> ChannelMask:
    """Says which values of a window are there: not NaN, and True in the mask.

    Args:
        x: real [..., t, d]; NaN where missing.
        mask: bool [..., t] or [..., t, d], True = observed; None leaves it to x.
    Returns:
        bool [..., t, d].
    Raises:
        ValueError: if x is not real [..., t, d], or the mask is not boolean or of another shape.

    >>> import jax.numpy as jnp
    >>> observed_steps(jnp.array([[1.0], [jnp.nan], [3.0]]), jnp.array([True, True, False]))[:, 0].tolist()
    [True, False, False]
    """
    x = jnp.asarray(x)
    check_real_sequence("x", x)
    observed = ~jnp.isnan(x)
    if mask is None:
        return observed
    mask = jnp.asarray(mask)
    if mask.dtype != bool or mask.shape not in (x.shape, x.shape[:-1]):
        raise ValueError(
            f"mask must be boolean (True = observed) of shape {x.shape[:-1]} or {x.shape}, got {mask.dtype} of shape "
            f"{mask.shape}."
        )
    return observed & (mask if mask.ndim == x.ndim else mask[..., None])


def normalize_window(
    x: RealSequence, mask: Array | None = None, *, scale: bool = True
) -> tuple[RealSequence, WindowStatistics]:
    """Subtracts each channel's mean and divides by its deviation, both of the observed steps of this window.

        y_t = (x_t − μ) / σ,    μ = Σ_observed x_t / n,    σ² = Σ_observed (x_t − μ)² / n

    A channel whose observed steps are equal, to within rounding, has σ = 1, one without any observed step μ = 0 and
    σ = 1.

    Args:
        x: real [..., t, d]; NaN where missing.
        mask: as `observed_steps`.
        scale: False leaves σ = 1.
    Returns:
        y [..., t, d] in x's dtype, 0 where missing; and μ and σ, [..., 1, d] in float32 or wider.
    Raises:
        ValueError: as `observed_steps`.
    References:
        Kim et al., Reversible Instance Normalization, ICLR 2022.

    >>> import jax.numpy as jnp
    >>> y, (mean, deviation) = normalize_window(jnp.array([[1.0], [jnp.nan], [5.0]]))
    >>> y[:, 0].tolist(), float(mean[0, 0]), float(deviation[0, 0])
    ([-1.0, 0.0, 1.0], 3.0, 2.0)
    """
    x = jnp.asarray(x)
    observed = observed_steps(x, mask)
    wide = jnp.where(observed, x, 0).astype(jnp.promote_types(x.dtype, jnp.float32))
    count = jnp.maximum(jnp.sum(observed, axis=-2, keepdims=True), 1)
    mean = jnp.sum(wide, axis=-2, keepdims=True) / count
    centered = jnp.where(observed, wide - mean, 0)
    variance = jnp.sum(jnp.square(centered), axis=-2, keepdims=True) / count
    # The mean of equal values misses them by their rounding.
    least = 4 * jnp.finfo(wide.dtype).eps * jnp.abs(mean)
    varies = (variance > jnp.square(least)) & scale
    deviation = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 1)
    return (centered / deviation).astype(x.dtype), WindowStatistics(mean, deviation)


def restore_window(y: RealSequence, statistics: WindowStatistics) -> RealSequence:
    """Undoes `normalize_window`: x_t = σ y_t + μ, for the window or for what follows it.

    Args:
        y: real [..., h, d], any number of steps.
        statistics: as `normalize_window` returns them.
    Returns:
        Real [..., h, d] in y's dtype.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[1.0], [2.0], [6.0]])
    >>> [round(float(value), 5) for value in restore_window(*normalize_window(x))[:, 0]]
    [1.0, 2.0, 6.0]
    """
    y = jnp.asarray(y)
    return (y * statistics.deviation + statistics.mean).astype(y.dtype)


def interpolate_spectrum(x: RealSequence, weights: SpectrumMap, horizon: int) -> ContinuedSequence:
    """Maps the low bins of a window's spectrum to those of window and horizon together, and synthesises these.

        Z_j = Σ_k M_jk X_k,    y_s = 1/t Σ_j c_j Re(Z_j e^{2πi j s / (t + h)}),    s = 0 … t + h − 1,

    with X the DFT of x, unnormalised, c_0 = 1, c = 1 at the highest bin of an even t + h, and else 2. The imaginary
    part of Z is not used there. A wave of k cycles in the window and j in t + h steps, k / t = j / (t + h), goes
    on as it is with M_jk = 1.

    Args:
        x: real [..., t, d].
        weights: M, complex [j, k], from the first k bins to the first j, k ≤ t//2 + 1, j ≤ (t + h)//2 + 1.
        horizon: h ≥ 0.
    Returns:
        Real [..., t + h, d] in x's dtype: the window anew, then the forecast.
    Raises:
        ValueError: if x is not real [..., t, d], the weights are not complex [j, k], or there are not so many bins.
    References:
        Xu, Zeng and Xu, FITS: Modeling Time Series with 10k Parameters, arXiv:2307.03756.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([1.0, 0.0, -1.0, 0.0])[:, None]  # one cycle in 4 steps, two in 8
    >>> weights = jnp.zeros((3, 2), complex).at[2, 1].set(1)
    >>> print(jnp.round(interpolate_spectrum(x, weights, 4)[:, 0], 3) + 0.0)
    [ 1.  0. -1.  0.  1.  0. -1.  0.]
    """
    x, weights = jnp.asarray(x), jnp.asarray(weights)
    check_real_sequence("x", x)
    check_complex("weights", weights)
    length = x.shape[-2]
    whole = length + horizon
    bins = whole // 2 + 1, length // 2 + 1
    if (
        horizon < 0
        or weights.ndim != 2
        or any(a > b for a, b in zip(weights.shape, bins, strict=True))
    ):
        raise ValueError(
            f"expected horizon >= 0 and weights [j, k] with j <= {bins[0]} and k <= {bins[1]} for a window of {length} "
            f"steps, got horizon = {horizon} and weights {weights.shape}."
        )
    wide = jnp.moveaxis(x, -2, -1).astype(jnp.promote_types(x.dtype, jnp.float32))
    spectrum = jnp.fft.rfft(wide, axis=-1)[..., : weights.shape[1]]  # [..., d, k]
    spectrum = spectrum @ weights.T.astype(spectrum.dtype)
    ends = jnp.arange(weights.shape[0])
    real = (ends == 0) | (2 * ends == whole)  # some back ends read the imaginary part there
    spectrum = jax.lax.complex(spectrum.real, jnp.where(real, 0, spectrum.imag))
    y = jnp.fft.irfft(spectrum, n=whole, axis=-1) * (whole / length)
    return jnp.moveaxis(y, -1, -2).astype(x.dtype)


def continue_periodically(x: RealSequence, weights: Array, horizon: int) -> ContinuedSequence:
    """Weights the low bins of a window's spectrum and lets their waves run on beyond its end.

        y_s = 1/t Σ_k c_k Re(w_k X_k e^{2πi k (t + s) / t}),    s = 0 … h − 1

    Every wave fits the window a whole number of times, so with w = 1 at all bins the window is repeated.

    Args:
        x: real [..., t, d].
        weights: w, complex [k], of the first k bins, k ≤ t//2 + 1.
        horizon: h ≥ 1.
    Returns:
        Real [..., h, d] in x's dtype.
    Raises:
        ValueError: as `interpolate_spectrum`.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([1.0, 2.0, 4.0, 0.0])[:, None]
    >>> print(jnp.round(continue_periodically(x, jnp.ones(3, complex), 6)[:, 0], 3) + 0.0)
    [1. 2. 4. 0. 1. 2.]
    """
    weights = jnp.asarray(weights)
    if weights.ndim != 1 or horizon < 1:
        raise ValueError(
            f"expected weights [k] and horizon >= 1, got weights of shape {weights.shape} and horizon = {horizon}."
        )
    x = jnp.asarray(x)
    check_real_sequence("x", x)
    period = interpolate_spectrum(x, jnp.diag(weights), 0)
    return jnp.take(period, jnp.arange(horizon) % x.shape[-2], axis=-2)
