"""Information through a Gaussian channel, as a matrix or as a choice of frequencies; the entropy of a spectrum.

All in nats; divide by log 2 for bits. Power spectra are one-sided, S_f = E|X_f|²/n over the bins 0 … n//2 of a real
signal, so that white noise has S_f = its variance at every bin.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from resonance_jax.array_typing import (
    AnyReal,
    AnyShape,
    Array,
    Bins,
    ComplexWeights,
    Covariance,
    Matrix,
    PowerSpectrum,
    RealSequence,
    Scalar,
)
from resonance_jax.ops._checks import (
    check_bins,
    check_complex,
    check_real_sequence,
    check_shape,
    is_static,
)


def gaussian_mutual_information(
    matrix: Matrix, covariance: Covariance, noise_variance: Scalar | float | int
) -> Scalar:
    """Returns what a linear layer with noise tells about its Gaussian input.

    For x ~ N(0, Σ) and e ~ N(0, σ² 1), independent:

        I(x; A x + e) = ½ log det(1 + A Σ Aᵀ/σ²) = ½ Σ_i log(1 + s_i²),    s = singular values of A L/σ,  Σ = L Lᵀ

    The singular values keep the relative accuracy of weak channels, which 1 + s² would round away, and of strong ones
    beside weak ones, which A Σ Aᵀ would.

    Args:
        matrix: A, real, [i, j].
        covariance: Σ of the input, real, symmetric, positive definite, [j, j]. A NumPy array is checked, and factored
            in float64; one that is traced cannot be checked and gives NaN where it is not positive definite.
        noise_variance: σ² > 0 of each output.
    Returns:
        Mutual information in nats, a scalar in the common dtype of A and Σ (at least float32). It is differentiable
        once everywhere, twice where the s_i differ.
    Raises:
        ValueError: if a shape or dtype is not as stated, or a static Σ is not finite, not symmetric or not positive
            definite, or a static σ² is not positive.
    References:
        Cover and Thomas, Elements of Information Theory, 2nd ed. (2006), chapter 9.

    >>> import jax.numpy as jnp, numpy as np
    >>> information = gaussian_mutual_information(jnp.eye(2), 3 * np.eye(2), 1.0)  # 2 · ½ log 4
    >>> print(f"{information:.4f}")
    1.3863
    """
    matrix = jnp.asarray(matrix)
    _check_matrix("matrix", matrix)
    _check_noise(noise_variance)
    if not isinstance(covariance, Tracer):
        covariance = np.asarray(covariance)
    check_shape("covariance", covariance, (matrix.shape[1], matrix.shape[1]))
    dtype = jnp.result_type(matrix, covariance, np.float32)
    if is_static(covariance):
        factor = _static_factor(np.asarray(covariance))
    else:
        factor = jnp.linalg.cholesky(jnp.asarray(covariance, dtype))
    channel = jnp.matmul(
        jnp.asarray(matrix, dtype), jnp.asarray(factor, dtype), precision="highest"
    )
    gains = jnp.linalg.svd(channel / jnp.sqrt(jnp.asarray(noise_variance, dtype)), compute_uv=False)
    return 0.5 * jnp.sum(jnp.log1p(gains**2))


def spectral_mutual_information(
    power: PowerSpectrum,
    bins: Bins,
    noise_variance: Scalar | float | int,
    *,
    n: int,
    weights: ComplexWeights | None = None,
) -> Scalar:
    """Returns what a resonance layer that keeps k frequencies tells about a stationary Gaussian signal.

    With x of circulant covariance, hence independent bins, and c_f = 1 at DC and Nyquist, 2 elsewhere:

        I(x; y) = Σ_{f ∈ bins} (c_f/2) log(1 + |w_f|² S_f/σ²)

    With `weights`, the white noise σ² is added to the layer's output. Without, it is in the layer's input (y =
    layer(x + e)), and the result holds for any weights that are not 0: they scale signal and noise alike. The layer
    loses the value at all bins minus this one. At DC and Nyquist only Re w_f counts.

    For a signal that is not stationary, or a layer with interference, pass the layer's matrix to
    `gaussian_mutual_information`.

    Args:
        power: S_f = E|X_f|²/n, real, ≥ 0, [n//2 + 1, d]; features are independent of one another.
        bins: the bins that are kept, distinct, [k].
        noise_variance: σ² > 0, the variance of white noise per sample.
        n: sequence length, which says if the last bin is Nyquist.
        weights: w of the bins, complex, [k, d]; None puts the noise before the layer.
    Returns:
        Mutual information in nats, a scalar summed over features.
    Raises:
        ValueError: if a shape, dtype or static value is not as stated.

    >>> import jax.numpy as jnp, numpy as np
    >>> white = jnp.ones((5, 1))  # n = 8: five bins stand for eight real numbers
    >>> halves = [spectral_mutual_information(white, b, 1.0, n=8) for b in (np.arange(5), np.arange(1, 3))]
    >>> print(f"{halves[0] / halves[1]:.2f}")
    2.00
    """
    bins = np.asarray(bins) if is_static(bins) else bins
    _check_power(power)
    _check_noise(noise_variance)
    power = jnp.asarray(power)
    check_shape("power", power, (n // 2 + 1, power.shape[-1]))
    check_bins(bins, n // 2 + 1)
    ends = ((bins == 0) | (2 * bins.astype(np.int32) == n))[:, None]
    snr = power[bins] / noise_variance
    if weights is not None:
        check_complex("weights", weights)
        check_shape("weights", weights, snr.shape)
        snr = snr * (jnp.real(weights) ** 2 + jnp.where(ends, 0, jnp.imag(weights)) ** 2)
    return jnp.sum(jnp.where(ends, 0.5, 1.0) * jnp.log1p(snr))


def power_spectrum(x: RealSequence) -> PowerSpectrum:
    """Returns the one-sided periodogram P_f = |X_f|²/n, f = 0 … n//2, of a real signal.

    Σ_f c_f P_f = Σ_t x_t² with c_f = 1 at DC and Nyquist, 2 elsewhere.

    Args:
        x: real, [..., t, d].
    Returns:
        Real, [..., t//2 + 1, d], in x's dtype (16-bit inputs are transformed in float32).
    Raises:
        ValueError: if x is not real [..., t, d] with t ≥ 1.

    >>> import jax.numpy as jnp
    >>> print(power_spectrum(jnp.ones((4, 1)))[:, 0])
    [4. 0. 0.]
    """
    x = jnp.asarray(x)
    check_real_sequence("x", x)
    spectrum = jnp.fft.rfft(x.astype(jnp.promote_types(x.dtype, jnp.float32)), axis=-2)
    return ((spectrum.real**2 + spectrum.imag**2) / x.shape[-2]).astype(x.dtype)


def spectral_entropy(power: AnyReal, axis: int = -2, *, normalized: bool = False) -> AnyShape:
    """Returns the Shannon entropy of a power spectrum read as a distribution over its bins.

        p_f = P_f / Σ_g P_g,    H = −Σ_f p_f log p_f

    H is 0 for a single line, log(number of bins) for a flat spectrum, and the same for every multiple of P. A spectrum
    that is 0 everywhere has H = 0. The gradient is finite: at an empty bin, where it would be +∞, it is taken as 0,
    which is right with respect to the signal.

    Args:
        power: P_f ≥ 0, real, bins along `axis`; `power_spectrum` makes one.
        axis: the axis of the bins.
        normalized: divide by log(number of bins), so that H lies in [0, 1]; 0 where there is a single bin.
    Returns:
        H in nats, or in [0, 1]; the shape without `axis`, in the dtype of the input.
    Raises:
        ValueError: if power is not real, has no such axis, no bins, or static values that are negative or not finite.
    References:
        Inouye et al., Quantification of EEG irregularity by use of the entropy of the power spectrum (1991).

    >>> import jax.numpy as jnp
    >>> flat, line = jnp.ones(8), jnp.eye(8)[3]
    >>> [f"{spectral_entropy(p, axis=0, normalized=True):.2f}" for p in (flat, line)]
    ['1.00', '0.00']
    """
    _check_power(power)
    power = jnp.asarray(power)
    dtype = power.dtype
    if not -power.ndim <= axis < power.ndim or power.shape[axis] == 0:
        raise ValueError(f"power needs bins along axis {axis}, got shape {power.shape}.")
    power = power.astype(jnp.promote_types(dtype, jnp.float32))
    # Scaled by its peak, which changes neither H nor its gradient: the sum can't overflow.
    peak = jax.lax.stop_gradient(jnp.max(power, axis=axis, keepdims=True))
    power = power / jnp.where(peak > 0, peak, 1)
    total = jnp.sum(power, axis=axis, keepdims=True)
    share = power / jnp.where(total > 0, total, 1)
    log_share = jnp.log(jnp.where(share > 0, share, 1))
    entropy = 0.0 - jnp.sum(share * log_share, axis=axis)  # never −0
    if normalized:
        entropy = entropy / (math.log(power.shape[axis]) or 1.0)
    return entropy.astype(dtype)


def _static_factor(covariance: np.ndarray) -> np.ndarray:
    """Checks a covariance that is known at trace time; returns L with L Lᵀ = Σ in float64."""
    if covariance.dtype.kind not in "fiu" and not jnp.issubdtype(covariance.dtype, jnp.floating):
        raise ValueError(f"covariance must be real, got {covariance.dtype}.")
    wide = covariance.astype(np.float64)
    if not np.all(np.isfinite(wide)):
        raise ValueError("covariance must be finite, got infinite or NaN entries.")
    precision = np.finfo(covariance.dtype).eps if covariance.dtype.kind == "f" else 2.0**-52
    tolerance = len(wide) * precision * np.abs(wide).max()
    asymmetry = np.abs(wide - wide.T).max()
    if asymmetry > tolerance:
        raise ValueError(
            f"covariance must be symmetric, but entries differ from the transposed ones by up to {asymmetry:.3g}; "
            "pass (C + C.T) / 2 if that is rounding."
        )
    smallest = np.linalg.eigvalsh(wide)[0]
    if smallest <= tolerance:
        raise ValueError(
            f"covariance must be positive definite, but its smallest eigenvalue is {smallest:.3g}; if it is singular, "
            "write x = B z with z of full rank and pass matrix @ B and the covariance of z."
        )
    return np.linalg.cholesky(wide)


def _check_matrix(name: str, matrix: Array) -> None:
    if matrix.ndim != 2 or 0 in matrix.shape or not jnp.issubdtype(matrix.dtype, jnp.floating):
        raise ValueError(
            f"{name} must be real floating point [outputs, inputs], none of them 0, "
            f"got {matrix.dtype} of shape {matrix.shape}."
        )


def _check_noise(noise_variance) -> None:
    if not is_static(noise_variance):
        return
    if not (np.ndim(noise_variance) == 0 and 0 < noise_variance < np.inf):
        raise ValueError(
            f"noise_variance must be one positive, finite number, got {noise_variance}; without noise a "
            "continuous signal would carry infinitely many nats."
        )


def _check_power(power) -> None:
    """Requires real floating power, and that known values are finite and not negative."""
    if not jnp.issubdtype(power.dtype, jnp.floating):
        raise ValueError(
            f"power must be real floating point, got {power.dtype}; for a spectrum X take |X|²/n."
        )
    if is_static(power) and not np.all((power >= 0) & (power < np.inf)):
        raise ValueError("power must be finite and not negative: |X|²/n of a spectrum X.")
