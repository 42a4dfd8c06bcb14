"""Holograms by interference: what an intensity keeps of a pattern, and four ways to read it.

A pattern P and a reference R, complex [..., N], meet on a plate that records |P + R|² and nothing else. A real pattern
is a complex one of phase 0. The sum of several exposures is a superposition of holograms.
"""

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import AnyShape, AnyVectors, ComplexAnyShape
from resonance_jax.ops._checks import is_concrete


def intensity(pattern: AnyVectors, reference: AnyVectors) -> AnyShape:
    """Records the interference |P + R|² = |P|² + |R|² + P R̄ + P̄ R.

    Args:
        pattern: P, [..., N].
        reference: R, [..., N].
    Returns:
        Intensity, real and not negative, [..., N].
    Raises:
        ValueError: if the dimensions differ.

    >>> import jax.numpy as jnp
    >>> print(intensity(jnp.array([1.0, 2.0]), jnp.array([1j, -2.0])))
    [2. 0.]
    """
    pattern, reference = _check_waves(pattern, reference)
    return _power(pattern + reference)


def reconstruct(hologram: AnyShape, reference: AnyVectors) -> ComplexAnyShape:
    """Lights a hologram with its reference: H R = (|P|² + |R|²) R + P |R|² + P̄ R².

    With |R| = 1 the pattern beside a DC term and its twin image: for patterns of unit power under a random reference
    the relative error is √(⟨|P|⁴⟩ + 4), and 1 without the DC term (`suppress_dc`), from the twin image alone.

    Args:
        hologram: H, real, [..., N].
        reference: R, [..., N].
    Returns:
        Complex, [..., N].
    Raises:
        ValueError: if the dimensions differ.

    >>> import jax.numpy as jnp
    >>> print(reconstruct(jnp.array([2.0, 3.0]), jnp.array([1j, 2.0])))
    [0.+2.j 6.+0.j]
    """
    hologram, reference = _check_waves(hologram, reference)
    return hologram * reference


def suppress_dc(
    hologram: AnyShape, reference: AnyVectors, pattern_power: AnyShape | None = None
) -> AnyShape:
    """Subtracts what carries no phase: |R|², and |P|² where it was recorded without the reference, else its mean.

    Args:
        hologram: H, [..., N].
        reference: R, [..., N].
        pattern_power: |P|², [..., N]; None subtracts the mean of H − |R|², which is exact for patterns of constant
            modulus up to the mean of the interference itself.
    Returns:
        [..., N], real, of both signs; P R̄ + P̄ R if the power is given.
    Raises:
        ValueError: if the dimensions differ.

    >>> import jax.numpy as jnp
    >>> pattern, reference = jnp.array([1.0, 2.0]), jnp.array([1j, -2.0])
    >>> print(suppress_dc(intensity(pattern, reference), reference, pattern**2))
    [ 0. -8.]
    """
    hologram, reference = _check_waves(hologram, reference)
    rest = jnp.real(hologram) - _power(reference)
    if pattern_power is None:
        return rest - jnp.mean(rest, axis=-1, keepdims=True)
    pattern_power, _ = _check_waves(pattern_power, reference)
    return rest - jnp.real(pattern_power)


def off_axis_reference(dimension: int, bandwidth: int) -> ComplexAnyShape:
    """Makes the tilted plane wave R_x = e^{2πi f x/N} that keeps a band-limited pattern apart from all other terms.

    A pattern with frequencies −B … B leaves, after lighting, |P|² in f ± 2B, the twin image in 2f ± B, and itself in
    ±B: apart if 3B < f and 2f + 2B < N. f is the integer in the middle of what is allowed.

    Args:
        dimension: N.
        bandwidth: B, in cycles over the N samples, at least 0 and below (N − 2)/8.
    Returns:
        R, [N].
    Raises:
        ValueError: if no carrier separates the terms.

    >>> import jax.numpy as jnp
    >>> print(int(jnp.argmax(jnp.abs(jnp.fft.fft(off_axis_reference(64, 4))))))
    20
    """
    low, high = 3 * bandwidth + 1, (dimension - 1) // 2 - bandwidth
    if bandwidth < 0 or dimension < 1 or low > high:
        raise ValueError(
            f"a bandwidth of {bandwidth} cycles leaves no carrier among {dimension} samples; at least "
            f"{8 * max(bandwidth, 0) + 3} samples are needed (3 B < f < N/2 − B)."
        )
    carrier = (low + high) // 2
    cycles = np.arange(dimension) * carrier % dimension  # reduced, so that the angle is exact
    wave = np.exp(2j * np.pi * cycles / dimension)
    return jnp.asarray(wave, jnp.complex64 if not jax.config.read("jax_enable_x64") else None)


def reconstruct_off_axis(
    hologram: AnyShape, reference: AnyVectors, bandwidth: int
) -> ComplexAnyShape:
    """Lights an off-axis hologram and keeps the frequencies −B … B: the pattern alone, exactly if it is band-limited.

    Args:
        hologram: |P + R|², [..., N].
        reference: R of `off_axis_reference`, with modulus 1.
        bandwidth: B, in cycles over the N samples.
    Returns:
        P, complex, [..., N].
    Raises:
        ValueError: if the dimensions differ, or the bandwidth is not in 0 … (N − 1)/2.
    References:
        Leith and Upatnieks, Reconstructed wavefronts and communication theory, J. Opt. Soc. Am. 52 (1962) 1123.

    >>> import jax.numpy as jnp
    >>> reference, pattern = off_axis_reference(64, 4), jnp.cos(2 * jnp.pi * 3 * jnp.arange(64) / 64)
    >>> found = reconstruct_off_axis(intensity(pattern, reference), reference, 4)
    >>> bool(jnp.allclose(found, pattern, atol=1e-5))
    True
    """
    lit = reconstruct(hologram, reference)
    n = lit.shape[-1]
    if not 0 <= bandwidth <= (n - 1) // 2:
        raise ValueError(f"bandwidth must be in 0 .. {(n - 1) // 2}, got {bandwidth}.")
    kept = np.minimum(np.arange(n), n - np.arange(n)) <= bandwidth
    return jnp.fft.ifft(jnp.fft.fft(lit) * kept)


def phase_shifted_intensities(
    pattern: AnyVectors, reference: AnyVectors, steps: int = 4
) -> AnyShape:
    """Records the interference with the reference shifted by δ_m = 2π m/steps: |P + R e^{iδ_m}|².

    Args:
        pattern: P, [..., N].
        reference: R, [..., N].
        steps: at least 3; 4 is usual.
    Returns:
        [steps, ..., N].
    Raises:
        ValueError: if the dimensions differ or there are fewer than 3 steps.

    >>> import jax.numpy as jnp
    >>> print(phase_shifted_intensities(jnp.array([1.0]), jnp.array([1.0]))[:, 0].round(3))
    [4. 2. 0. 2.]
    """
    if steps < 3:
        raise ValueError(f"phase shifting takes at least 3 steps for its 3 unknowns, got {steps}.")
    pattern, reference = _check_waves(pattern, reference)
    return jnp.stack([_power(pattern + reference * shift) for shift in _shifts(steps)])


def demodulate(holograms: AnyShape) -> ComplexAnyShape:
    """Computes the cross term P R̄ = Σ_m e^{iδ_m} H_m / steps of phase-shifted holograms; DC and twin image cancel.

    Sums of exposures with different references become Σ P_i R̄_i: the trace of `ops.hologram` with the keys R̄_i.

    Args:
        holograms: H_m, [steps, ..., N], at least 3.
    Returns:
        Complex, [..., N].
    Raises:
        ValueError: if there are fewer than 3 steps.
    References:
        Yamaguchi and Zhang, Phase-shifting digital holography, Opt. Lett. 22 (1997) 1268.

    >>> import jax.numpy as jnp
    >>> print(demodulate(phase_shifted_intensities(jnp.array([1.0]), jnp.array([1j]))).round(3))
    [0.-1.j]
    """
    holograms = jnp.asarray(holograms)
    if holograms.ndim < 2 or holograms.shape[0] < 3:
        raise ValueError(f"expected [steps, ..., N] with at least 3 steps, got {holograms.shape}.")
    shifts = _shifts(holograms.shape[0])
    terms = [shift * hologram for shift, hologram in zip(shifts, holograms, strict=True)]
    return jnp.sum(jnp.stack(terms), axis=0) / len(shifts)


def reconstruct_phase_shifted(holograms: AnyShape, reference: AnyVectors) -> ComplexAnyShape:
    """Reads the pattern exactly from phase-shifted holograms: P = (P R̄) R / |R|².

    Args:
        holograms: of `phase_shifted_intensities`, [steps, ..., N].
        reference: R without a zero, [..., N].
    Returns:
        P, complex, [..., N].
    Raises:
        ValueError: if the dimensions differ, there are fewer than 3 steps, or a reference that is known has a zero.

    >>> import jax.numpy as jnp
    >>> pattern, reference = jnp.array([1.0, 2j]), jnp.array([1j, -2.0])
    >>> print(reconstruct_phase_shifted(phase_shifted_intensities(pattern, reference), reference).round(3))
    [1.+0.j 0.+2.j]
    """
    cross, reference = _check_waves(demodulate(holograms), reference)
    if is_concrete(reference) and not np.all(np.asarray(reference)):
        raise ValueError(
            "the reference is zero somewhere, where nothing was recorded of the pattern's phase; use |R| = 1."
        )
    return cross * reference / _power(reference)


def _shifts(steps):
    return [complex(np.round(np.exp(2j * np.pi * m / steps), 15)) for m in range(steps)]


def _power(x):
    return jnp.real(x) ** 2 + jnp.imag(x) ** 2


def _check_waves(a, b):
    a, b = jnp.asarray(a), jnp.asarray(b)
    for x in (a, b):
        if x.ndim < 1 or not jnp.issubdtype(x.dtype, jnp.inexact):
            raise ValueError(
                f"expected real or complex floating point [..., N], got {x.dtype} of shape {x.shape}; cast it."
            )
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"pattern or hologram and reference must have the same dimension, got {a.shape[-1]} and {b.shape[-1]}."
        )
    return a, b
