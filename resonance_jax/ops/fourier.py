"""Projection on a few frequencies and synthesis from them, plus the FFT tools that surround them.

Convention: X_f = Σ_t x_t e^{−2πi f t} with f in cycles per sample, time on axis −2, features on axis −1.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import (
    BroadcastSequence,
    Frequencies,
    Kernel,
    RealSequence,
    Spectrum,
)
from resonance_jax.ops._checks import check_complex, check_frequencies, check_real_sequence
from resonance_jax.ops._chunks import (
    angle_table,
    apply_table,
    chunk_size,
    join,
    rotation,
    rotation_of_part,
    split,
)
from resonance_jax.ops._two_level import TwoLevel, cheapest_tables

STRATEGIES = ("low", "log", "uniform")


def fast_length(n: int) -> int:
    """Returns the smallest 2·3·5·7-smooth integer ≥ n, a length at which an FFT is fast.

    Args:
        n: a positive length.
    Raises:
        ValueError: if n < 1 or n is not whole.

    >>> [fast_length(n) for n in (1, 11, 500, 4099)]
    [1, 12, 500, 4116]
    """
    if n < 1 or n % 1:
        raise ValueError(f"n must be a whole number and at least 1, got {n}.")
    while True:
        rest = n
        for prime in (2, 3, 5, 7):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1


def select_bins(num_bins: int, k: int, strategy: str = "low") -> np.ndarray:
    """Chooses k distinct bins of a real spectrum, in rising order.

    `low`: 0 … k−1. `log`: DC, then geometrically spaced up to the highest bin. `uniform`: evenly spaced from DC to the
    highest bin; bins that are all multiples of s make a layer's output periodic with n/s, whatever its weights, so it
    cannot tell apart positions that far apart.

    Args:
        num_bins: bins available, n//2 + 1 for a sequence of length n.
        k: bins to choose, 1 ≤ k ≤ num_bins.
        strategy: "low", "log" or "uniform".
    Returns:
        NumPy int32 array [k].
    Raises:
        ValueError: if k is out of range or the strategy is unknown.

    >>> select_bins(33, 5, "log").tolist()
    [0, 1, 3, 10, 32]
    """
    if not 1 <= k <= num_bins:
        raise ValueError(
            f"k = {k} frequencies were asked for but there are {num_bins} bins; "
            f"choose 1 <= k <= {num_bins} or use a longer sequence."
        )
    if strategy == "low":
        return np.arange(k, dtype=np.int32)
    if strategy == "uniform":
        return np.round(np.linspace(0, num_bins - 1, k)).astype(np.int32)
    if strategy == "log":
        bins = np.zeros(k, np.int32)
        ideal = np.geomspace(1, max(num_bins - 1, 1), max(k - 1, 1))
        for i in range(1, k):  # distinct, and leaving room for those that follow
            bins[i] = min(max(round(ideal[i - 1]), bins[i - 1] + 1), num_bins - k + i)
        return bins
    raise ValueError(f"unknown strategy {strategy!r}; choose one of {', '.join(STRATEGIES)}.")


def project(
    x: RealSequence,
    frequencies: Frequencies | Sequence[float],
    *,
    chunk: int | None = None,
    axis_name: str | None = None,
) -> Spectrum:
    """Evaluates X_k = Σ_t x_t e^{−2πi f_k t} at any k frequencies, on or off the FFT grid.

    The time axis is split into chunks of T samples. One table [T, 2k] of cosines and sines, shared by all chunks, gives
    each chunk's partial sums as a matrix product; each is then rotated by e^{−2πi f_k cT} and added: O(t k d) work.
    Static frequencies that lie close together share a narrower table [T, r]: O(t r d), where r is about 2T times the
    width of the band they fill, plus 10. Static multiples of one 1/N that are spread take two products in place of
    one, as the four-step FFT does: O(t √k d). Whichever costs least is taken.

    Args:
        x: real signal, [..., t, d].
        frequencies: f in cycles per sample, [k]. NumPy or Python numbers are static: their angles are reduced in
            float64, and the result is accurate to 3e-5 relative in float32 at t = 2^20. A JAX array is differentiated
            with respect to; its angles are reduced exactly for the value that its dtype holds, so only its own rounding
            (2^-24 relative in float32, which is f·t·2^-24 cycles at time t) remains.
        chunk: T, samples per chunk; None chooses, and whether there are chunks at all.
        axis_name: in shard_map or pmap, the axis along which x is one of equal parts of a sequence, in their order: the
            result, on every device, is that of the whole sequence. One all-reduce of k d complex numbers.
    Returns:
        Complex [..., k, d]: complex128 for float64 x, else complex64 (narrower x is computed in float32).
    Raises:
        ValueError: if x is not real [..., t, d] with t ≥ 1, frequencies is not real [k] with k ≥ 1, or chunk < 1.

    >>> import numpy as np, jax.numpy as jnp
    >>> x = jnp.cos(2 * jnp.pi * 0.25 * jnp.arange(8.0))[:, None]
    >>> print(jnp.round(jnp.abs(project(x, np.array([0.25, 0.0])))[:, 0], 3))
    [4. 0.]
    """
    x = jnp.asarray(x)
    check_real_sequence("x", x)
    f = check_frequencies(frequencies)
    length = x.shape[-2]
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    spectrum = _project(x, f, length, chunk)
    if axis_name is None:
        return spectrum
    return jax.lax.psum(spectrum * rotation_of_part(length, f, x.dtype, axis_name), axis_name)


def _project(x, f, length, chunk):
    tables = cheapest_tables(f, length, chunk, x.dtype)
    if isinstance(tables, TwoLevel):
        return tables.project(x)[..., tables.slots, :]
    if tables is not None:
        basis, phases = tables
        reduced = apply_table(basis.T, split(x, basis.shape[0]))  # [..., c, r, d]
        reduced = reduced.reshape(*x.shape[:-2], phases.shape[0], x.shape[-1])
        parts = apply_table(phases.T, reduced)
        real, imaginary = jnp.split(parts, 2, axis=-2)
        return jax.lax.complex(real, imaginary)
    size = chunk_size(length, chunk)
    table = angle_table(np.arange(size), f, x.dtype)
    real, minus = jnp.split(apply_table(table.T, split(x, size)), 2, axis=-2)  # [..., c, k, d]
    partial = jax.lax.complex(real, -minus)
    return jnp.sum(partial * rotation(partial.shape[-3], size, f, x.dtype), axis=-3)


def synthesize(
    spectrum: Spectrum,
    frequencies: Frequencies | Sequence[float],
    length: int,
    *,
    chunk: int | None = None,
    axis_name: str | None = None,
) -> RealSequence:
    """Evaluates y_t = Re Σ_k S_k e^{2πi f_k t} for t = 0 … length−1, the transpose of `project` up to conjugation.

    Chunked like `project`: the spectrum is rotated to each chunk's start, then one shared table does the rest.

    Args:
        spectrum: complex S, [..., k, d].
        frequencies: f in cycles per sample, [k]; static or traced as in `project`.
        length: samples to make, ≥ 1.
        chunk: samples per chunk; None chooses.
        axis_name: in shard_map or pmap, the axis of devices each of which makes its own part of this length, in their
            order.
    Returns:
        Real [..., length, d]: float64 for complex128, else float32.
    Raises:
        ValueError: if the spectrum is not complex [..., k, d] with one row per frequency, or length or chunk < 1.

    >>> import numpy as np, jax.numpy as jnp
    >>> print(jnp.round(synthesize(jnp.ones((1, 1), complex), np.array([0.25]), 4)[:, 0], 3) + 0.0)
    [ 1.  0. -1.  0.]
    """
    spectrum = jnp.asarray(spectrum)
    check_complex("spectrum", spectrum)
    f = check_frequencies(frequencies)
    if spectrum.ndim < 2 or spectrum.shape[-2] != f.shape[0]:
        raise ValueError(
            f"spectrum must have shape [..., k, d] with k = {f.shape[0]} frequencies, "
            f"got {spectrum.shape}."
        )
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}.")
    dtype = spectrum.real.dtype
    if axis_name is not None:
        spectrum = spectrum * jnp.conj(rotation_of_part(length, f, dtype, axis_name))
    tables = cheapest_tables(f, length, chunk, dtype)
    if isinstance(tables, TwoLevel):
        return tables.synthesize(tables.place(spectrum, -2), length)
    if tables is not None:
        basis, phases = tables
        parts = jnp.concatenate([spectrum.real, spectrum.imag], axis=-2)
        reduced = apply_table(phases, parts)  # [..., c r, d]
        rank, features = basis.shape[1], spectrum.shape[-1]
        count = phases.shape[0] // rank
        reduced = reduced.reshape(*spectrum.shape[:-2], count, rank, features)
        return join(apply_table(basis, reduced), length)
    size = chunk_size(length, chunk)
    count = -(-length // size)
    back = jnp.conj(rotation(count, size, f, dtype))
    spectrum = spectrum[..., None, :, :] * back  # [..., c, k, d]
    parts = jnp.concatenate([spectrum.real, -spectrum.imag], axis=-2)
    return join(apply_table(angle_table(np.arange(size), f, dtype), parts), length)


def causal_convolve(x: RealSequence, kernel: Kernel) -> BroadcastSequence:
    """Computes y_t = Σ_{τ=0..t} h_τ x_{t−τ} by FFT, padded so that nothing wraps around.

    Float32 round-off leaks backwards in time at about 1e-7 of the largest value.

    Args:
        x: real signal, [..., t, d].
        kernel: real impulse response h, [..., m, d] or [..., m, 1] for every feature; batch axes broadcast with those
            of x; samples beyond t have no effect.
    Returns:
        Real [..., t, d] in x's dtype (16-bit inputs are transformed in float32).
    Raises:
        ValueError: if an argument is not real [..., time, features] or the features differ.

    >>> import numpy as np, jax.numpy as jnp
    >>> y = causal_convolve(jnp.ones((3, 1)), jnp.array([[1.0], [0.5]]))
    >>> np.asarray(y, float)[:, 0].round(3).tolist()
    [1.0, 1.5, 1.5]
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    check_real_sequence("x", x)
    check_real_sequence("kernel", kernel)
    if kernel.shape[-1] not in (1, x.shape[-1]):
        raise ValueError(
            f"kernel must have {x.shape[-1]} features (or 1), got shape {kernel.shape}."
        )
    length = x.shape[-2]
    kernel = kernel[..., :length, :]
    n = fast_length(length + kernel.shape[-2] - 1)
    dtype = jnp.promote_types(jnp.promote_types(x.dtype, kernel.dtype), jnp.float32)
    transform = [jnp.fft.rfft(a.astype(dtype), n=n, axis=-2) for a in (x, kernel)]
    return jnp.fft.irfft(transform[0] * transform[1], n=n, axis=-2)[..., :length, :].astype(x.dtype)


def window(name: str, length: int) -> np.ndarray:
    """Returns a periodic window w_t = Σ_j a_j cos(2πjt/length) as float64 NumPy values.

    Args:
        name: "hann" (½, −½), "hamming" (0.54, −0.46), "blackman" (0.42, −0.5, 0.08) or "rectangular" (1).
        length: samples, ≥ 1; a single sample is 1 for every window, as in SciPy.
    Raises:
        ValueError: if the name is unknown or length < 1.
    References:
        Harris, On the use of windows for harmonic analysis with the DFT, Proc. IEEE 66 (1978).

    >>> window("hann", 4).round(3).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    coefficients = {
        "rectangular": (1.0,),
        "hann": (0.5, -0.5),
        "hamming": (0.54, -0.46),
        "blackman": (0.42, -0.5, 0.08),
    }
    if name not in coefficients:
        raise ValueError(f"unknown window {name!r}; choose one of {', '.join(coefficients)}.")
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}.")
    if length == 1:
        return np.ones(1)
    angle = 2 * np.pi * np.arange(length) / length
    return np.sum([a * np.cos(j * angle) for j, a in enumerate(coefficients[name])], axis=0)


def low_pass(x: RealSequence, cutoff: float, *, transition: float = 0.0) -> RealSequence:
    """Removes frequencies above a cutoff, along the whole (circular) sequence.

    The gain is 1 to cutoff − transition/2, 0 from cutoff + transition/2, and a raised cosine between.

    Args:
        x: real signal, [..., t, d].
        cutoff: cycles per sample, 0 < cutoff ≤ 1/2.
        transition: width of the transition band in cycles per sample, ≥ 0; 0 is a brick wall that keeps the cutoff.
    Returns:
        Real [..., t, d] in x's dtype.
    Raises:
        ValueError: if x is not real [..., t, d], or cutoff or transition are out of range.

    >>> import numpy as np, jax.numpy as jnp
    >>> x = jnp.array([1.0, -1.0, 1.0, -1.0])[:, None] + 3.0
    >>> np.asarray(low_pass(x, 0.25), float)[:, 0].round(3).tolist()
    [3.0, 3.0, 3.0, 3.0]
    """
    x = jnp.asarray(x)
    check_real_sequence("x", x)
    if not (0 < cutoff <= 0.5 and transition >= 0):
        raise ValueError(
            f"expected 0 < cutoff <= 0.5 cycles per sample and transition >= 0, got {cutoff} and {transition}."
        )
    length = x.shape[-2]
    f = np.arange(length // 2 + 1) / length  # rfftfreq's 3 * (1 / 10) is above 0.3
    if transition > 0:
        ramp = np.clip((f - cutoff) / transition + 0.5, 0.0, 1.0)
        gain = 0.5 + 0.5 * np.cos(np.pi * ramp)
    else:
        gain = (f <= cutoff).astype(float)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    spectrum = jnp.fft.rfft(x.astype(dtype), axis=-2) * jnp.asarray(gain, dtype)[:, None]
    return jnp.fft.irfft(spectrum, n=length, axis=-2).astype(x.dtype)
