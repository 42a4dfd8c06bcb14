"""Spectral slope of signals and of point sets; `fractal.dimension_from_slope` says what dimension it means."""

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import Curves, PointSets
from resonance_jax.ops._checks import check_points, check_real
from resonance_jax.ops._regression import fit_slope
from resonance_jax.ops.fourier import fast_length
from resonance_jax.ops.fractal import SlopeEstimate

MIN_SAMPLES = 128
_TAPERS = 5
# Above 1/16 cycle per sample, sampling folds so much power of a rough signal (D near 2) back that its slope is flat.
_HIGHEST_FREQUENCY = 1 / 16
# Grid points a side by dimension, of which the set covers half: at most a million in all but the line.
_GRID = {1: 2**15, 2: 2**10, 3: 2**7}
# Below, what is left of |μ̂|² after the noise 1/n of n points is mostly that noise.
_SIGNAL_TO_NOISE = 10


def spectral_slope(signal: Curves) -> SlopeEstimate:
    """Estimates β of a signal whose power falls with the frequency as f^(−β).

    The steps x_{t+1} − x_t, less their mean, go through 5 sine tapers v_k; the mean of the spectra, divided by that of
    the difference operator, is averaged over half octaves of f and a line fitted in the log-log plot:

        S(f) = Σ_{k=1…5} |F(v_k ⊙ Δx)|² / (4 sin² πf),    β = −slope of log S over log f,   1/t ≤ f ≤ 1/16

    with weights √c, c the number of frequencies in a bin. The expected log of a mean of ν exponential variables is
    ψ(ν) − log ν less than the log of its expectation; that is taken out, with ν = c + 4. Differences and tapers keep
    the jump between the signal's ends, which alone has β = 2, out of the spectrum. Invariant to offset, linear trend
    and scale. For β from 1 to 3: of white noise the differences leave so little at low f that β = 0 comes out as 0.14
    at t = 4096.

    Args:
        signal: x, real, [..., t], t ≥ 128.
    Returns:
        SlopeEstimate, each [...]: β is 0 with an infinite error for a signal without power (constant, or a straight
        line), NaN for one with a value that is not finite.
    Raises:
        ValueError: if the signal is too short, not real, or static with a value that is not finite.
    References:
        Riedel and Sidorenko, Minimum bias multiple taper spectral estimation, IEEE Trans. Signal Process. 43 (1995)
        188.

    >>> import jax, jax.numpy as jnp
    >>> walk = jnp.cumsum(jax.random.normal(jax.random.key(0), (16384,)))  # β = 2
    >>> print(f"{spectral_slope(walk).beta:.1f}")
    2.0
    """
    check_real("signal", signal, ("t",))
    if signal.shape[-1] < MIN_SAMPLES:
        raise ValueError(
            f"a signal needs at least {MIN_SAMPLES} samples for its spectral slope, got {signal.shape[-1]}; pass a "
            "longer one."
        )
    return _spectral_slope(jnp.asarray(signal))


def spectral_slope_points(points: PointSets) -> SlopeEstimate:
    """Estimates β of a set of points whose |μ̂|² falls with the wave number as k^(−β).

    With μ the mean of n point masses and k in cycles per longest extent of the set,

        A(R) = mean of (n |μ̂(k)|² − 1)/(n − 1) over all k with |k| ≤ R,   β = −slope of log A over log R

    at four R an octave, from R = 2 to an eighth of the grid or where A falls below 10/n. 1 and 1/n take out the noise
    of the n points. The mean is over the ball, not the shell |k| = R: for a self-similar measure both fall as R^(−D),
    but in the shells |μ̂|² swings by its whole size (a Cantor set's does not even tend to 0), which costs 0.1 of
    accuracy, and for a filled square they see the edge alone. Masses lie on a grid of 2¹⁵, 1024² or 128³ points, twice
    the set's extent. One transform of the grid for each set.

    Args:
        points: real, [..., n, m], n ≥ 64 points in m = 1, 2 or 3 dimensions.
    Returns:
        SlopeEstimate, each [...]: β is 0 to 0.01 for equal points, which are one; NaN where a value is not finite. Its
        error is infinite where the points are too few for three R.
    Raises:
        ValueError: if a shape or dtype is not as stated, the points are too few, or a static value is not finite.
    References:
        Strichartz, Self-similar measures and their Fourier transforms I, Indiana Univ. Math. J. 39 (1990) 797.

    >>> from resonance_jax.ops.fractal_sets import sierpinski_triangle
    >>> print(f"{spectral_slope_points(sierpinski_triangle(8)).beta:.1f}")  # log 3/log 2 = 1.58
    1.6
    """
    check_points(points)
    return _spectral_slope_points(jnp.asarray(points))


@jax.jit
def _spectral_slope(signal: jax.Array) -> SlopeEstimate:
    signal = signal.astype(jnp.promote_types(signal.dtype, jnp.float32))
    largest = jnp.max(jnp.abs(signal), -1, keepdims=True)
    steps = jnp.diff(signal / jnp.where(largest > 0, largest, 1))
    missing = jnp.where(jnp.isfinite(jnp.sum(steps, -1)), 0, jnp.nan)
    # Rounding leaves a straight line steps that differ by this much.
    rounding = 4 * jnp.finfo(steps.dtype).eps
    steps = steps - jnp.mean(steps, -1, keepdims=True)
    flat = jnp.max(jnp.abs(steps), -1, keepdims=True) <= rounding
    steps = jnp.where(flat, 0, steps)
    n = steps.shape[-1]
    length = fast_length(n)
    tapers = np.sin(np.pi * np.outer(np.arange(1, _TAPERS + 1), np.arange(1, n + 1)) / (n + 1))
    tapered = steps[..., None, :] * jnp.asarray(tapers, steps.dtype)  # [..., k, t]
    transformed = jnp.fft.rfft(tapered, n=length)
    power = jnp.sum(transformed.real**2 + transformed.imag**2, -2)
    frequencies, members = _half_octaves(length, n)
    response = 4 * np.sin(np.pi * np.arange(length // 2 + 1) / length) ** 2
    average = members / np.where(response > 0, response, 1) / members.sum(-1, keepdims=True)
    power = jnp.matmul(power, jnp.asarray(average.T, power.dtype), precision="highest")
    known = power > 0
    count = members.sum(-1)
    weights = jnp.where(known, np.sqrt(count), 0).astype(power.dtype)
    freedom = count + _TAPERS - 1
    # ψ(ν) − log ν, to 1e-4 from ν = 5 on.
    shortfall = jnp.asarray(-1 / (2 * freedom) - 1 / (12 * freedom**2), power.dtype)
    x = jnp.asarray(-np.log(frequencies), power.dtype)
    beta, error = fit_slope(x, jnp.log(jnp.where(known, power, 1)) - shortfall, weights)
    return SlopeEstimate(beta + missing, error + missing)


@jax.jit
def _spectral_slope_points(points: jax.Array) -> SlopeEstimate:
    points = points.astype(jnp.promote_types(points.dtype, jnp.float32))
    flat = points.reshape(-1, *points.shape[-2:])
    beta, error = jax.lax.map(_points_slope, flat)  # one grid at a time
    return SlopeEstimate(beta.reshape(points.shape[:-2]), error.reshape(points.shape[:-2]))


def _half_octaves(length: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean log frequency (as a frequency) and the members, bool [bins, length//2 + 1], of each bin."""
    f = np.arange(length // 2 + 1) / length
    used = (f * n >= 1) & (f <= _HIGHEST_FREQUENCY)
    octave = np.floor(2 * np.log2(np.where(used, f * n, 1)) + 1e-9)
    members = np.array([used & (octave == b) for b in np.unique(octave[used])])
    logs = np.log(np.where(used, f, 1))
    return np.exp(members @ logs / members.sum(-1)), members


def _points_slope(points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The slope of one set [n, m]."""
    n, m = points.shape
    side = _GRID[m]
    low = jnp.min(points, 0)
    extent = jnp.max(jnp.max(points, 0) - low)
    cells = jnp.round((points - low) / jnp.where(extent > 0, extent, 1) * (side // 2 - 1))
    mass = jnp.zeros((side,) * m, points.dtype)
    mass = mass.at[tuple(cells.astype(jnp.int32).T)].add(1 / n)
    spectrum = jnp.fft.rfftn(mass)
    # Only wave numbers up to an eighth of the grid are used: k[-1] ≥ 0, the other axes ± k.
    most = side // 8
    whole, half = np.r_[0 : most + 1, -most:0], np.arange(most + 1)
    waves = np.meshgrid(*[whole] * (m - 1), half, indexing="ij", sparse=True)
    spectrum = spectrum[tuple(w for w in waves)]
    grid_response = np.prod(np.broadcast_arrays(*[np.sinc(w / side) ** 2 for w in waves]), 0)
    power = (spectrum.real**2 + spectrum.imag**2) / jnp.asarray(grid_response, points.dtype)
    power = (n * power - 1) / (n - 1)
    # Radius of each wave number, in grid steps of half a cycle per extent, to the quarter octave above it.
    radius = np.sqrt(sum(w.astype(float) ** 2 for w in waves))
    radii = 2.0 ** (np.arange(8, 4 * np.log2(most) + 1) / 4)
    ball = np.searchsorted(radii, radius - 1e-9)
    copies = np.broadcast_to(np.where(half > 0, 2.0, 1.0), radius.shape)  # −k is not stored
    counts = np.cumsum(np.bincount(ball.ravel(), copies.ravel(), len(radii) + 1)[:-1])
    shells = jax.ops.segment_sum((power * copies).ravel(), ball.ravel(), len(radii) + 1)[:-1]
    mean = jnp.cumsum(shells) / jnp.asarray(counts, points.dtype)
    used = mean > _SIGNAL_TO_NOISE / n
    # Past the first R in the noise there is no signal.
    used = jnp.cumprod(used)
    beta, error = fit_slope(
        jnp.asarray(-np.log(radii), points.dtype),
        jnp.log(jnp.where(used, mean, 1)),
        used.astype(points.dtype),
    )
    missing = jnp.where(jnp.isfinite(jnp.sum(points)), 0, jnp.nan)
    return beta + missing, error + missing
