"""One sequence modulated by another in the frequency domain, for sequences of different lengths."""

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import (
    ComplexWeights,
    RealSequence,
    SequenceMask,
    SourceFeatures,
    SourceMask,
    StaticVector,
)
from resonance_jax.ops._checks import check_complex, check_real_sequence, check_shape
from resonance_jax.ops.fourier import project, synthesize

EPSILON = 1e-3
"""Of the root mean square below which a source's spectrum counts as faint."""


def cross_modulation(
    x: RealSequence,
    source: SourceFeatures,
    weights: ComplexWeights,
    cycles: StaticVector,
    *,
    mask: SequenceMask | None = None,
    source_mask: SourceMask | None = None,
) -> RealSequence:
    """Computes what is added to x when its spectrum is multiplied by 1 + G, G made of a source's spectrum.

    Frequencies are whole cycles c in the window of n steps that ends with a row's last observed one (without a mask all
    t steps), so that c means the same in windows of different lengths:

        X_c = (1/n) Σ_t x_t e^{−2πi c t / n},   Y_c the same of the source in its own window
        U = Y / √(ε² + mean |Y|²),   G = W ⊙ U / √(1 + |U|²),   r_t = Σ_c g_c Re(G_c X_c e^{2πi c t / n})

    The mean is over frequencies and features, so that the source's loudness does not matter; |G| < |W|. g_c is 1 where
    c is 0 or n/2, else 2, so that x + r has the spectrum (1 + G) ⊙ X at the frequencies c. A c above half the steps of
    either window is left alone. A source of which a row observes nothing adds exactly 0 to that row.

    Args:
        x: target, real, [..., t, d].
        source: real, [..., m, d], of the same batch axes.
        weights: W, complex, [k, d].
        cycles: c, distinct integers ≥ 0, NumPy, [k].
        mask: bool [..., t], True = observed; hidden steps read as 0 and give 0. A row may be hidden as a whole. With a
            mask there is a table of k t waves for each row, without one `fourier.project` works in chunks.
        source_mask: bool [..., m], the same of the source.
    Returns:
        r, real, [..., t, d], in x's dtype; sums are at least float32.
    Raises:
        ValueError: if a shape or dtype is not as stated, or cycles are not distinct integers ≥ 0.

    >>> import jax.numpy as jnp
    >>> wave = jnp.cos(2 * jnp.pi * jnp.arange(8.0) / 8)[:, None]
    >>> louder = cross_modulation(wave, 5 * wave[::2], jnp.ones((2, 1), complex), np.array([0, 1]))
    >>> print(jnp.round(louder[::2, 0] / wave[::2, 0], 2)[jnp.array([0, 2])])  # U = √2, G = √2 / √3
    [0.82 0.82]
    """
    x, source = jnp.asarray(x), jnp.asarray(source)
    cycles = _check(x, source, weights, cycles, mask, source_mask)
    dtype = jnp.promote_types(jnp.promote_types(x.dtype, source.dtype), jnp.float32)
    target, steps = _spectrum(x.astype(dtype), mask, cycles)
    other, source_steps = _spectrum(source.astype(dtype), source_mask, cycles)
    square = other.real**2 + other.imag**2
    mean = jnp.mean(square, axis=(-2, -1), keepdims=True)
    # U / √(1 + |U|²) in one fraction.
    gain = weights * other / jnp.sqrt(EPSILON**2 + mean + square)
    there = (2 * cycles <= steps[..., None]) & (2 * cycles <= source_steps[..., None])
    count = jnp.where((cycles == 0) | (2 * cycles == steps[..., None]), 1, 2)
    factor = jnp.where(there, count, 0).astype(dtype)[..., None]
    added = _synthesis(gain * target * factor, steps, mask, cycles, x.shape[-2])
    return added.astype(x.dtype)


def _spectrum(x, mask, cycles):
    """X [..., k, d], and n [...] (of one number for all rows where there is no mask)."""
    if mask is None:
        length = x.shape[-2]
        return project(x, cycles / length) / length, jnp.asarray(length)
    mask = jnp.asarray(mask)
    x = jnp.where(mask[..., None], x, 0)
    steps = jnp.max(jnp.where(mask, jnp.arange(1, x.shape[-2] + 1), 0), axis=-1)
    x = x / jnp.maximum(steps, 1).astype(x.dtype)[..., None, None]
    cosine, sine = _waves(steps, cycles, x.shape[-2], x.dtype)
    parts = (jnp.einsum("...kt,...td->...kd", w, x, precision="highest") for w in (cosine, -sine))
    return jax.lax.complex(*parts), steps


def _synthesis(spectrum, steps, mask, cycles, length):
    if mask is None:
        return synthesize(spectrum, cycles / length, length)
    cosine, sine = _waves(steps, cycles, length, spectrum.real.dtype)
    parts = ((cosine, spectrum.real), (-sine, spectrum.imag))
    made = sum(jnp.einsum("...kt,...kd->...td", *part, precision="highest") for part in parts)
    return jnp.where(jnp.asarray(mask)[..., None], made, 0)


def _waves(steps, cycles, length, dtype):
    """cos and sin of 2π c t / n, [..., k, t]: of each row its own n. Whole cycles are taken off in integers."""
    n = jnp.maximum(steps, 1)[..., None, None]
    angle = 2 * np.pi * ((cycles[:, None] * np.arange(length)) % n / n).astype(dtype)
    return jnp.cos(angle), jnp.sin(angle)


def _check(x, source, weights, cycles, mask, source_mask) -> np.ndarray:
    check_real_sequence("x", x)
    check_real_sequence("source", source)
    if source.shape[:-2] != x.shape[:-2] or source.shape[-1] != x.shape[-1]:
        raise ValueError(
            f"the source must have x's batch axes and features, got x {x.shape} and source {source.shape}; project its "
            "features first."
        )
    if isinstance(cycles, jax.Array):
        raise ValueError("cycles must be known at trace time: give a NumPy array.")
    cycles = np.asarray(cycles)
    if (
        cycles.ndim != 1
        or not np.issubdtype(cycles.dtype, np.integer)
        or len(np.unique(cycles)) != len(cycles)
        or np.any(cycles < 0)
        or not len(cycles)
    ):
        raise ValueError(
            f"cycles must be distinct integers >= 0, [k] with k >= 1, got {cycles.tolist()}."
        )
    check_complex("weights", weights)
    check_shape("weights", weights, (len(cycles), x.shape[-1]))
    for name, given, array in (("mask", mask, x), ("source_mask", source_mask, source)):
        if given is not None and (given.dtype != bool or given.shape != array.shape[:-1]):
            raise ValueError(
                f"{name} must be boolean (True = observed) of shape {array.shape[:-1]}, got {given.dtype} "
                f"{tuple(given.shape)}."
            )
    return cycles
