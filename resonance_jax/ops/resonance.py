"""FFT resonance: a few frequencies of a sequence, weighted, mixed and put back."""

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import (
    Array,
    Bins,
    ComplexWeights,
    Frequencies,
    Interference,
    RealSequence,
    SequenceMask,
)
from resonance_jax.ops._checks import (
    check_bins,
    check_choice,
    check_complex,
    check_frequencies,
    check_mask,
    check_real_sequence,
    check_shape,
    is_static,
)
from resonance_jax.ops._two_level import TwoLevel, cheapest_tables, work_in_columns
from resonance_jax.ops.fourier import project, synthesize

METHODS = ("auto", "fft", "matrix")
UNSELECTED = ("drop", "pass")

# The most that the matrix form may cost (`work_in_columns`) and be the faster one, by FFT length: forward + backward,
# float32, measured by `python -m benchmarks methods` (up to 4,096 it was for all bins), which found the same for widths
# of 32 to 1,024 and batches of 1 to 64. Between rows the log of n is interpolated. No GPU has been measured.
_MATRIX_COLUMNS = {
    "cpu": ((4096, 260), (16384, 316), (65536, 461)),
    "gpu": ((4096, 260),),
}


def resonate(
    x: RealSequence,
    weights: ComplexWeights,
    bins: Bins,
    *,
    interference: Interference | None = None,
    unselected: str = "drop",
    fft_length: int | None = None,
    mask: SequenceMask | None = None,
    method: str = "auto",
    axis_name: str | None = None,
) -> RealSequence:
    """Filters a sequence at k frequencies and lets those frequencies mix.

    With N = fft_length, x zero-padded to N samples, and f_k = bins_k / N cycles per sample:

        X_k = Σ_t x_t e^{−2πi f_k t},   S = W ⊙ X,   S ← S + M S,   y_t = (1/N) Σ_k c_k Re(S_k e^{2πi f_k t})

    c_k is 1 at DC and Nyquist (where only Re S counts) and 2 elsewhere, so that y = irfft(scatter(S))[:t]. With
    unselected="pass" the other bins keep their X: y = x + synthesis of (S − X).

    Both methods compute the same thing, to 1e-5 relative in float32: "fft" in O(N log N), "matrix" as matrix products
    in O(N k) or less (`fourier.project`). Sums are float32 for float32 and narrower inputs (bfloat16 is rounded only on
    the way out), and float64 for float64.

    Args:
        x: real, [..., t, d], t ≥ 1.
        weights: W, complex, [k, d].
        bins: distinct rfft bins in 0 … N//2, int, [k]. Traced bins need the "fft" method, which "auto" then takes, and
            cannot be checked for range and repeats.
        interference: M, complex, [k, k], row j mixes into bin j; None is M = 0.
        unselected: "drop" zeroes the bins that were not selected, "pass" leaves them as they are.
        fft_length: N ≥ t; None is N = t. See `fourier.fast_length`.
        mask: bool [..., t], True = observed. Hidden steps read as 0 and give 0.
        method: "fft", "matrix", or "auto": by what the products cost, N and device, from a measured table.
        axis_name: in shard_map or pmap, the axis along which x is one of equal parts of a sequence, in their order; t
            in the formula is then the sum of their lengths, and y this part's. Matrix form: one all-reduce of k d
            numbers.
    Returns:
        y, real, [..., t, d], in x's dtype.
    Raises:
        ValueError: if a shape, dtype, bin, option or static mask is not as stated.

    >>> import numpy as np, jax.numpy as jnp
    >>> x = jnp.arange(4.0)[:, None]
    >>> y = resonate(x, jnp.ones((1, 1), complex), np.array([0]))  # keeps the mean
    >>> y[:, 0].tolist()
    [1.5, 1.5, 1.5, 1.5]
    """
    x = jnp.asarray(x)
    parts = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    n, bins = _check_arguments(x, weights, bins, interference, unselected, fft_length, mask, parts)
    check_choice("method", method, METHODS)
    if axis_name is None:
        method = choose_method(n, bins, method)
    elif method == "fft" or not is_static(bins):
        raise ValueError(
            "a sequence in parts along an axis of devices takes the matrix form and static bins: pass method='matrix' "
            "or 'auto' and bins as a NumPy array; for a whole FFT see distributed_fft."
        )

    def evaluate(signal, weights, interference):
        if method == "fft":
            return _resonate_fft(signal, weights, bins, interference, unselected, n)
        scale = np.where((bins == 0) | (2 * bins == n), 1, 2) / n
        return _resonate_matrix(
            signal, weights, bins / n, scale, interference, unselected, axis_name
        )

    return _evaluate(evaluate, x, weights, interference, mask)


def resonate_at(
    x: RealSequence,
    weights: ComplexWeights,
    frequencies: Frequencies,
    *,
    interference: Interference | None = None,
    unselected: str = "drop",
    mask: SequenceMask | None = None,
    axis_name: str | None = None,
) -> RealSequence:
    """Filters a sequence at any k frequencies, on or off the grid of its length.

    As `resonate`, with f given instead of bins and N = t:

        X_k = Σ_t x_t e^{−2πi f_k t},   S = W ⊙ X,   S ← S + M S,   y_t = (1/t) Σ_k c_k Re(S_k e^{2πi f_k t})

    c_k is 1 where a static f_k is 0 or 1/2, else 2. Off the grid the k components overlap, so unselected="pass", which
    adds the synthesis of (S − X) to x, is the identity at W = 1 but no longer a projection.

    Args:
        x: real, [..., t, d].
        weights: W, complex, [k, d].
        frequencies: f in cycles per sample, [k]; a JAX array is differentiated with respect to (see `fourier.project`).
        interference: M, complex, [k, k]; None is M = 0.
        unselected: "drop" or "pass".
        mask: bool [..., t], True = observed. Hidden steps read as 0 and give 0.
        axis_name: as in `resonate`.
    Returns:
        y, real, [..., t, d], in x's dtype.
    Raises:
        ValueError: if a shape, dtype, option or static mask is not as stated.

    >>> import numpy as np, jax.numpy as jnp
    >>> x = jnp.cos(2 * jnp.pi * 0.25 * jnp.arange(8.0))[:, None]
    >>> y = resonate_at(x, jnp.ones((1, 1), complex), np.array([0.25]))
    >>> bool(jnp.allclose(y, x, atol=1e-6))
    True
    """
    x = jnp.asarray(x)
    check_real_sequence("x", x)
    frequencies = check_frequencies(frequencies)
    _check_filter(x, weights, frequencies.shape[0], interference, unselected, mask)
    if is_static(frequencies):
        count = np.where((frequencies == 0) | (frequencies == 0.5), 1, 2)
    else:
        count = np.full(frequencies.shape, 2)
    length = x.shape[-2] * (1 if axis_name is None else jax.lax.axis_size(axis_name))

    def evaluate(signal, weights, interference):
        return _resonate_matrix(
            signal, weights, frequencies, count / length, interference, unselected, axis_name
        )

    return _evaluate(evaluate, x, weights, interference, mask)


def choose_method(n: int, bins: Bins, method: str = "auto") -> str:
    """Returns "fft" or "matrix" for an FFT length n and these bins on the default device.

    Raises:
        ValueError: if the method is unknown, or is "matrix" with traced bins.

    >>> import numpy as np
    >>> choose_method(4096, np.arange(2049)), choose_method(65536, np.arange(32769))
    ('matrix', 'fft')
    """
    check_choice("method", method, METHODS)
    if not is_static(bins):
        if method == "matrix":
            raise ValueError(
                "method='matrix' needs bins known at trace time (a NumPy array); pass method='fft'."
            )
        return "fft"
    if method != "auto":
        return method
    table = _MATRIX_COLUMNS.get(jax.default_backend(), _MATRIX_COLUMNS["gpu"])
    lengths, columns = zip(*table, strict=True)
    most = np.interp(np.log(n), np.log(lengths), columns)
    return "matrix" if work_in_columns(np.asarray(bins) / n, n, np.float32) <= most else "fft"


def _mix(spectrum: Array, weights: Array, interference: Array | None) -> jax.Array:
    """Applies S = W ⊙ X and S ← S + M S to a spectrum [..., k, d]."""
    spectrum = jnp.asarray(spectrum) * weights
    if interference is None:
        return spectrum
    mixed = jnp.einsum("jk,...kd->...jd", interference, spectrum, precision="highest")
    return spectrum + mixed


def _evaluate(evaluate, x, weights, interference, mask):
    """Runs one evaluation in float32 or float64 on the observed steps; returns x's dtype."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    complex_dtype = jnp.promote_types(dtype, jnp.complex64)
    signal = x.astype(dtype)
    if mask is not None:
        signal = jnp.where(mask[..., None], signal, 0)
    weights = jnp.asarray(weights, complex_dtype)
    if interference is not None:
        interference = jnp.asarray(interference, complex_dtype)
    y = evaluate(signal, weights, interference)
    if mask is not None:
        y = jnp.where(mask[..., None], y, 0)
    return y.astype(x.dtype)


def _resonate_fft(x, weights, bins, interference, unselected, n):
    full = jnp.fft.rfft(
        jnp.swapaxes(x, -1, -2), n=n
    )  # [..., d, n//2 + 1]: the last axis is the fast one
    selected = _mix(jnp.swapaxes(full[..., bins], -1, -2), weights, interference)
    real_only = ((bins == 0) | (2 * bins == n))[:, None]
    selected = jax.lax.complex(selected.real, jnp.where(real_only, 0, selected.imag))
    base = jnp.zeros_like(full) if unselected == "drop" else full
    spectrum = base.at[..., bins].set(jnp.swapaxes(selected, -1, -2), unique_indices=True)
    return jnp.swapaxes(jnp.fft.irfft(spectrum, n=n), -1, -2)[..., : x.shape[-2], :]


def _resonate_matrix(x, weights, frequencies, scale, interference, unselected, axis_name):
    scale = jnp.asarray(scale, x.dtype)[:, None]
    length = x.shape[-2]
    tables = cheapest_tables(frequencies, length, None, x.dtype)
    if isinstance(tables, TwoLevel) and axis_name is None:  # parameters move to the slots, not x
        weights, scale = tables.place(weights, 0), tables.place(scale, 0)
        if interference is not None:
            interference = tables.place(tables.place(interference, 0), 1)
        spectrum = tables.project(x)
    else:
        tables, spectrum = None, project(x, frequencies, axis_name=axis_name)
    selected = _mix(spectrum, weights, interference)
    change = scale * (selected if unselected == "drop" else selected - spectrum)
    if tables is None:
        y = synthesize(change, frequencies, length, axis_name=axis_name)
    else:
        y = tables.synthesize(change, length)
    return y if unselected == "drop" else x + y


def _check_arguments(x, weights, bins, interference, unselected, fft_length, mask, parts):
    """Raises for bad arguments; returns N and the bins (as NumPy where they are static)."""
    check_real_sequence("x", x)
    length = x.shape[-2] * parts
    n = length if fft_length is None else fft_length
    if n < length:
        raise ValueError(f"fft_length must be at least the sequence length {length}, got {n}.")
    if is_static(bins):
        bins = np.asarray(bins)
    check_bins(bins, n // 2 + 1)
    _check_filter(x, weights, bins.shape[0], interference, unselected, mask)
    return n, bins.astype(np.int32)  # 2 * bins must not overflow


def _check_filter(x, weights, k, interference, unselected, mask):
    check_complex("weights", weights)
    check_shape("weights", weights, (k, x.shape[-1]))
    if interference is not None:
        check_complex("interference", interference)
        check_shape("interference", interference, (k, k))
    if unselected not in UNSELECTED:
        raise ValueError(
            f"unknown unselected={unselected!r}; choose one of {', '.join(UNSELECTED)}."
        )
    if mask is not None:
        check_mask(mask, x)
