"""Sets and signals of known fractal dimension, to test estimators with."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import Array, Curves, PointSet
from resonance_jax.ops.fourier import fast_length

_MOST_POINTS = 2**24


def cantor_set(levels: int, *, gap: float | int = 1 / 3) -> PointSet:
    """Returns the left ends of the intervals of a Cantor set.

    Every interval loses its open middle of relative length g; after `levels` times, 2^levels are left. All left ends
    belong to the set, which is made of two copies of itself at the ratio r = (1 − g)/2:

        D = log 2/log(1/r),    log 2/log 3 = 0.631 for g = 1/3

    Args:
        levels: number of subdivisions, ≥ 0; float32 tells the points apart up to about 14 for g = 1/3.
        gap: g, in (0, 1).
    Returns:
        Points in [0, 1), in rising order, [2^levels, 1].
    Raises:
        ValueError: if an argument is out of range.

    >>> print(cantor_set(2, gap=0.5)[:, 0])
    [0.     0.1875 0.75   0.9375]
    """
    _check_levels(levels, 2)
    if not 0 < gap < 1:
        raise ValueError(f"gap must lie strictly between 0 and 1, got {gap}.")
    ratio = (1 - gap) / 2
    return jnp.asarray(np.real(_self_similar(np.array([0, 1 - ratio]), ratio, levels))[:, None])


def sierpinski_triangle(levels: int) -> PointSet:
    """Returns the lower left corners of the triangles of a Sierpinski triangle with unit side.

    Three copies of itself at the ratio 1/2: D = log 3/log 2 = 1.585. All corners belong to the set.

    Args:
        levels: number of subdivisions, ≥ 0.
    Returns:
        Points, [3^levels, 2].
    Raises:
        ValueError: if the number of levels is out of range.

    >>> print(sierpinski_triangle(1)[:, 0])
    [0.   0.5  0.25]
    """
    _check_levels(levels, 3)
    corners = np.array([0, 1, np.exp(1j * np.pi / 3)]) / 2
    return _plane(_self_similar(corners, 0.5, levels))


def koch_curve(levels: int) -> PointSet:
    """Returns the vertices of a Koch curve from (0, 0) to (1, 0), in order.

    Four copies of itself at the ratio 1/3: D = log 4/log 3 = 1.262. All vertices belong to the curve.

    Args:
        levels: number of subdivisions, ≥ 0.
    Returns:
        Points, [4^levels + 1, 2].
    Raises:
        ValueError: if the number of levels is out of range.

    >>> print(3 * koch_curve(1)[:, 0])
    [0.  1.  1.5 2.  3. ]
    """
    _check_levels(levels, 4)
    turn = np.exp(1j * np.pi / 3)
    starts, ratios = np.array([0, 1, 1 + turn, 2]) / 3, np.array([1, turn, 1 / turn, 1]) / 3
    return _plane(np.append(_self_similar(starts, ratios, levels), 1))


def weierstrass(
    n: int, *, hurst: float, base: float | int = 1.5, key: jax.Array | None = None
) -> Curves:
    """Returns samples of a Weierstrass function on [0, 1], whose graph has the dimension D = 2 − H.

        W(x) = Σ_j a^j cos(2π b^j x + φ_j),   a = b^(−H),   so that D = 2 + log a/log b

    summed while b^j ≤ 2⁴⁰; the terms left out add up to less than 2^(−40 H)/(1 − a). The samples take their part in the
    fine terms as they are, aliased: the law holds down to the distance of two samples.

    Args:
        n: number of samples x = i/(n − 1), ≥ 2.
        hurst: H, in (0, 1), the Hölder exponent.
        base: b > 1.
        key: draws the phases φ_j uniformly, for which D = 2 − H holds almost surely at every b > 1; None is φ_j = 0.
    Returns:
        W, [n].
    Raises:
        ValueError: if an argument is out of range.
    References:
        Hunt, The Hausdorff dimension of graphs of Weierstrass functions, Proc. Amer. Math. Soc. 126 (1998) 791.

    >>> print(f"{weierstrass(2, hurst=0.5, base=2)[0]:.3f}")  # 1/(1 − 2^(−1/2)), but for the tail
    3.414
    """
    _check_samples(n)
    _check_hurst(hurst)
    if not (math.isfinite(base) and base > 1):
        raise ValueError(f"base must be a number greater than 1, got {base}.")
    j = np.arange(math.floor(40 * math.log(2) / math.log(base) + 1e-9) + 1)
    cycles = np.outer(float(base) ** j, np.linspace(0, 1, n)) % 1  # float64, before it is rounded
    phases = 0.0 if key is None else jax.random.uniform(key, (len(j), 1))
    waves = jnp.cos(2 * jnp.pi * (jnp.asarray(cycles) + phases))
    return jnp.matmul(jnp.asarray(float(base) ** (-hurst * j)), waves, precision="highest")


def fractional_brownian_motion(key: jax.Array, n: int, *, hurst: float) -> Curves:
    """Draws a fractional Brownian motion, whose graph has the dimension D = 2 − H.

        E (B_s − B_t)² = |s − t|^(2H),   B_0 = 0

    The n − 1 steps are drawn with exactly their covariance, embedded in a circulant matrix: its eigenvalues are the
    DFT of its first row and are not negative for any H in (0, 1). Its power spectrum falls as f^(−(2H + 1)).

    Args:
        key: random key; `jax.vmap` over keys draws several.
        n: number of samples at the times 0, 1, … n − 1; ≥ 2.
        hurst: H, in (0, 1); 1/2 is Brownian motion.
    Returns:
        B, [n].
    Raises:
        ValueError: if an argument is out of range.
    References:
        Davies and Harte, Tests for Hurst effect, Biometrika 74 (1987) 95.
        Craigmile, Simulating a class of stationary Gaussian processes using the Davies–Harte algorithm, with
        application to long memory processes, J. Time Ser. Anal. 24 (2003) 505.

    >>> import jax
    >>> fractional_brownian_motion(jax.random.key(0), 8, hurst=0.3).shape
    (8,)
    """
    _check_samples(n)
    _check_hurst(hurst)
    half = fast_length(n - 1)
    lags = np.minimum(np.arange(2 * half), 2 * half - np.arange(2 * half)).astype(float)
    row = (np.abs(lags + 1) ** (2 * hurst) + np.abs(lags - 1) ** (2 * hurst)) / 2 - lags ** (
        2 * hurst
    )
    eigenvalues = np.maximum(np.fft.fft(row).real, 0)  # rounding alone makes one negative
    noise = jax.lax.complex(*jax.random.normal(key, (2, 2 * half)))
    steps = jnp.fft.fft(jnp.asarray(np.sqrt(eigenvalues / (2 * half))) * noise).real[: n - 1]
    return jnp.concatenate([jnp.zeros(1, steps.dtype), jnp.cumsum(steps)])


def _self_similar(starts: np.ndarray, ratios: Array | float, levels: int) -> np.ndarray:
    """The images of 0 under all words of `levels` maps z ↦ start + ratio·z, in lexicographic order, complex128."""
    points = np.zeros(1, complex)
    for _ in range(levels):
        points = (starts[:, None] + np.broadcast_to(ratios, starts.shape)[:, None] * points).ravel()
    return points


def _plane(z: np.ndarray) -> jax.Array:
    return jnp.asarray(np.stack([np.real(z), np.imag(z)], -1))


def _check_levels(levels, copies):
    most = int(math.log(_MOST_POINTS, copies) + 1e-9)
    if isinstance(levels, bool) or not isinstance(levels, int) or not 0 <= levels <= most:
        raise ValueError(
            f"levels must be an integer in 0 .. {most} ({copies}^{most} points), got {levels!r}."
        )


def _check_samples(n):
    if isinstance(n, bool) or not isinstance(n, int) or n < 2:
        raise ValueError(f"n must be an integer of at least 2 samples, got {n!r}.")


def _check_hurst(hurst):
    if not 0 < hurst < 1:
        raise ValueError(f"hurst must lie strictly between 0 and 1, got {hurst}.")
