"""The log-phase filter: an all-pass filter whose phase grows with the logarithm of the frequency."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import AnyShape, ComplexAnyShape
from resonance_jax.ops._checks import check_choice, check_frequencies, is_concrete, is_static

SYMMETRIES = ("hermitian", "even")
UNITS = ("index", "cycles", "radians")
AMPLITUDES = ("unit", "power_law")


def log_phase_filter(
    frequencies: Any,
    alpha: AnyShape | float | int,
    *,
    symmetry: str = "hermitian",
    length: int | None = None,
    unit: str = "index",
    amplitude: str = "unit",
) -> ComplexAnyShape:
    """Computes F(k) = exp(iα arctan(ln |k|)), at k = 0 with the limit arctan(ln 0) = −π/2.

        "even":       F(k) as above; F(−k) = F(k), so a real signal becomes complex.
        "hermitian":  F(−k) = conj F(k): the phase takes the sign of k, and F = 1 at DC and Nyquist, which must be real.
                      A real signal stays real.

    In both forms |F| = 1: filtering conserves the energy of every frequency. The phase is bounded by |α| π/2 and
    saturates: in units of the index it is 0 at k = 1 and 1.32 α at k = 50.

    Args:
        frequencies: f in cycles per sample as `numpy.fft.fftfreq(n)` or `rfftfreq(n)` gives them, [k]; f = ± 1/2 is the
            Nyquist frequency. Constants: F is differentiated in α alone.
        alpha: α, real: one number, or one a feature or batch row, [*a].
        symmetry: "hermitian" or "even".
        length: n, the number of samples; None is the number of frequencies, as of `fftfreq(n)`. With `rfftfreq` it
            must be given. Used for unit="index" and for the amplitude at DC.
        unit: what |k| is: "index" |f| n, "cycles" |f| (per sample), or "radians" 2π |f|.
        amplitude: "unit", or "power_law", which multiplies by |k|^(−α/2); at k = 0, where that is infinite for α > 0,
            by its value at the lowest frequency above 0, f = 1/n.
    Returns:
        F, [*a, k]: complex128 for a float64 α, else complex64.
    Raises:
        ValueError: if an option is unknown, α is not real or (where its value is known) not finite, the frequencies are
            not real [k] and finite, or they are not those of `fftfreq(n)` and no length is given.
    References:
        The log-phase filter is that of the ΨQRH layer, there applied with the even phase alone.

    >>> import numpy as np
    >>> print(jnp.round(log_phase_filter(np.fft.fftfreq(4), 1.0, symmetry="even"), 2))
    [-0.  -1.j    1.  +0.j    0.82+0.57j  1.  +0.j  ]
    >>> print(jnp.round(log_phase_filter(np.fft.fftfreq(6), 1.0)[1:], 2))
    [1.  +0.j   0.82+0.57j 1.  +0.j   0.82-0.57j 1.  -0.j  ]
    """
    for name, value, choices in (
        ("symmetry", symmetry, SYMMETRIES),
        ("unit", unit, UNITS),
        ("amplitude", amplitude, AMPLITUDES),
    ):
        check_choice(name, value, choices)
    alpha = _check_alpha(alpha)
    xp = np if is_static(frequencies) else jnp  # in float64 at trace time where they are known
    frequencies = check_frequencies(frequencies)
    length = _check_length(frequencies, length)
    scale = {"index": length, "cycles": 1, "radians": 2 * np.pi}[unit]
    size = xp.abs(frequencies) * scale
    zero = size == 0
    log_size = xp.log(xp.where(zero, 1, size))
    phase = xp.where(zero, -np.pi / 2, xp.arctan(log_size))
    if symmetry == "hermitian":
        real = zero | (xp.abs(frequencies) == 0.5)
        phase = xp.where(real, 0, xp.sign(frequencies) * phase)
    angle = alpha[..., None] * jnp.asarray(phase, alpha.dtype)
    if amplitude == "unit":
        return jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
    log_size = xp.where(zero, np.log(scale / length), log_size)
    gain = jnp.exp(-0.5 * alpha[..., None] * jnp.asarray(log_size, alpha.dtype))
    return jax.lax.complex(gain * jnp.cos(angle), gain * jnp.sin(angle))


def _check_alpha(alpha) -> jax.Array:
    array = jnp.asarray(alpha)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise ValueError(f"alpha must be real, got {array.dtype}.")
    if is_concrete(alpha) and not np.all(np.isfinite(np.asarray(alpha, np.float64))):
        raise ValueError(f"alpha must be finite, got {np.asarray(alpha).tolist()}.")
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _check_length(frequencies, length: int | None) -> int:
    """Returns n; without it, frequencies whose values are known must be those of fftfreq(n), up to their order."""
    count = frequencies.shape[0]
    if length is not None:
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}.")
        return length
    if is_concrete(frequencies):
        whole = np.sort(np.fft.fftfreq(count))
        values = np.asarray(frequencies, np.float64)
        # fftshift and a Nyquist frequency written as + 1/2 are the same grid
        given = np.sort(np.where(values == 0.5, -0.5, values))
        if not np.allclose(given, whole, rtol=0, atol=1e-6 / count):
            raise ValueError(
                f"the {count} frequencies are not those of fftfreq({count}); give length=n, the number of samples."
            )
    return count
