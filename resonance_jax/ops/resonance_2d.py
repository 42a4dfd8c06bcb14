"""FFT resonance of images: a few frequencies along height and width, weighted, mixed and put back."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import (
    ColumnInterference,
    Images,
    ImageWeights,
    Interference,
    StaticVector,
)
from resonance_jax.ops._checks import check_choice, check_complex, check_shape
from resonance_jax.ops.fourier import project, synthesize
from resonance_jax.ops.resonance import METHODS, UNSELECTED


def resonate_2d(
    x: Images,
    weights: ImageWeights,
    rows: StaticVector,
    columns: StaticVector,
    *,
    interference: tuple[Interference, ColumnInterference] | None = None,
    unselected: str = "drop",
    fft_shape: Sequence[int] | None = None,
    method: str = "auto",
) -> Images:
    """Filters images at k × l frequencies and lets those frequencies mix along either axis.

    With (H, W) = fft_shape, x zero-padded to it, f_j = rows_j / H and g_k = columns_k / W cycles per pixel:

        X_jk = Σ_yx x_yx e^{−2πi (f_j y + g_k x)},   S = W ⊙ X,   S ← S + A S + S Bᵀ,
        out_yx = (1/HW) Σ_jk c_k Re(S_jk e^{2πi (f_j y + g_k x)})

    A real image needs half of its frequencies: columns are not negative, rows have both signs. c_k is 1 at g_k = 0 and
    1/2, where j and −j are conjugates (and only the sum of what they make counts), and 2 elsewhere: out is
    irfft2(scatter(S)), cut to the image. With unselected="pass" the other bins keep their X.

    Both methods compute the same thing, to 1e-5 relative in float32: "fft" in O(HW log HW), "matrix" in two products,
    O(hwl + hkl). Sums are float32 for float32 and narrower inputs, and float64 for float64.

    Args:
        x: real, [..., h, w, d].
        weights: W, complex, [k, l, d].
        rows: distinct integers [k] with −H/2 < j ≤ H/2, known at trace time.
        columns: distinct integers [l] in 0 … W//2, known at trace time.
        interference: A [k, k] and B [l, l], complex; None is 0.
        unselected: "drop" zeroes the bins that were not selected, "pass" leaves them as they are.
        fft_shape: (H, W), at least (h, w); None is (h, w).
        method: "fft", "matrix", or "auto", which is the one with fewer operations.
    Returns:
        Real [..., h, w, d], in x's dtype.
    Raises:
        ValueError: if a shape, dtype, bin or option is not as stated.

    >>> import numpy as np, jax.numpy as jnp
    >>> x = jnp.arange(6.0).reshape(2, 3, 1)
    >>> resonate_2d(x, jnp.ones((1, 1, 1), complex), np.array([0]), np.array([0]))[0, :, 0].tolist()  # keeps the mean
    [2.5, 2.5, 2.5]
    """
    x = jnp.asarray(x)
    _check_images(x)
    shape = x.shape[-3:-1] if fft_shape is None else tuple(fft_shape)
    if len(shape) != 2 or shape[0] < x.shape[-3] or shape[1] < x.shape[-2]:
        raise ValueError(f"fft_shape must be at least the image's {x.shape[-3:-1]}, got {shape}.")
    rows = _check_bins("rows", rows, -((shape[0] - 1) // 2), shape[0] // 2)
    columns = _check_bins("columns", columns, 0, shape[1] // 2)
    _check_filter(x, weights, len(rows), len(columns), interference, unselected)
    check_choice("method", method, METHODS)
    if method == "auto":
        method = choose_method_2d(shape, len(rows), len(columns))

    def evaluate(signal, weights, interference):
        if method == "fft":
            return _by_fft(signal, weights, rows, columns, interference, unselected, shape)
        count = np.where((columns == 0) | (2 * columns == shape[1]), 1, 2)
        f, g = rows / shape[0], columns / shape[1]
        scale = count / (shape[0] * shape[1])
        return _by_matrix(signal, weights, f, g, scale, interference, unselected)

    return _evaluate(evaluate, x, weights, interference)


def resonate_2d_at(
    x: Images,
    weights: ImageWeights,
    row_frequencies: StaticVector,
    column_frequencies: StaticVector,
    *,
    interference: tuple[Interference, ColumnInterference] | None = None,
    unselected: str = "drop",
) -> Images:
    """Filters images at any k × l frequencies, on or off the grid of their size.

    As `resonate_2d` in matrix form, with f and g given and (H, W) the image's own: a filter that was learned on images
    of one size goes on with others, by frequency and not by index. c_k is 1 where g_k is 0 or 1/2, else 2.

    Args:
        x: real, [..., h, w, d].
        weights: W, complex, [k, l, d].
        row_frequencies: f in cycles per pixel, of both signs, [k], known at trace time.
        column_frequencies: g in cycles per pixel, not negative, [l], known at trace time.
        interference, unselected: as in `resonate_2d`.
    Returns:
        Real [..., h, w, d], in x's dtype.
    Raises:
        ValueError: if a shape, dtype, frequency or option is not as stated.

    >>> import numpy as np, jax.numpy as jnp
    >>> x = jnp.cos(2 * jnp.pi * 0.25 * jnp.arange(8.0))[:, None, None] * jnp.ones((8, 6, 1))
    >>> y = resonate_2d_at(x, jnp.ones((2, 1, 1), complex), np.array([-0.25, 0.25]), np.array([0.0]))
    >>> bool(jnp.allclose(y, x, atol=1e-6))
    True
    """
    x = jnp.asarray(x)
    _check_images(x)
    f, g = (_check_frequencies(values) for values in (row_frequencies, column_frequencies))
    if np.any(g < 0):
        raise ValueError(f"column frequencies must not be negative, got {g.tolist()}.")
    _check_filter(x, weights, len(f), len(g), interference, unselected)
    scale = np.where((g == 0) | (g == 0.5), 1, 2) / (x.shape[-3] * x.shape[-2])

    def evaluate(signal, weights, interference):
        return _by_matrix(signal, weights, f, g, scale, interference, unselected)

    return _evaluate(evaluate, x, weights, interference)


def select_image_bins(
    shape: Sequence[int], rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Chooses the lowest frequencies of an image: signed rows 0, 1, −1, 2, −2, … in rising order, columns 0, 1, 2, ….

    Args:
        shape: (H, W) of the transform.
        rows: k, 1 … H.
        columns: l, 1 … W//2 + 1.
    Returns:
        NumPy int32 arrays [k], [l].
    Raises:
        ValueError: if there are not so many.

    >>> [bins.tolist() for bins in select_image_bins((8, 8), 4, 3)]
    [[-1, 0, 1, 2], [0, 1, 2]]
    """
    if not (1 <= rows <= shape[0] and 1 <= columns <= shape[1] // 2 + 1):
        raise ValueError(
            f"{rows} x {columns} frequencies were asked for but an image of {tuple(shape)} has {shape[0]} x "
            f"{shape[1] // 2 + 1}: ask for fewer, or take a larger image."
        )
    return (
        np.arange(-((rows - 1) // 2), rows // 2 + 1, dtype=np.int32),
        np.arange(columns, dtype=np.int32),
    )


def choose_method_2d(shape: Sequence[int], rows: int, columns: int) -> str:
    """Returns "matrix" or "fft": by real multiplications and additions for each feature of an image.

    Two products with tables, of real numbers along a row and complex ones along a column, against two FFTs of
    2.5 HW log₂(HW) and what lies between, which `python -m benchmarks resonance_2d` found to do a seventh as many
    operations a second on a CPU; no GPU has been measured.

    >>> choose_method_2d((14, 14), 7, 4), choose_method_2d((256, 256), 255, 128)
    ('matrix', 'fft')
    """
    height, width = shape
    by_matrix = 8 * height * columns * (width + 2 * rows)
    by_fft = 5 * height * width * np.log2(height * width)
    return "matrix" if by_matrix <= FFT_OPERATION * by_fft else "fft"


FFT_OPERATION = 7.0  # time of one, in those of an operation of a product


def _evaluate(evaluate, x, weights, interference):
    """Runs one evaluation in float32 or float64; returns x's dtype."""
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    complex_dtype = jnp.promote_types(dtype, jnp.complex64)
    weights, interference = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, complex_dtype), (weights, interference)
    )
    return evaluate(x.astype(dtype), weights, interference).astype(x.dtype)


def _mix(spectrum, weights, interference):
    """Applies S = W ⊙ X and S ← S + A S + S Bᵀ to a spectrum [..., k, l, d]."""
    spectrum = spectrum * weights
    if interference is None:
        return spectrum
    along_rows, along_columns = interference
    return (
        spectrum
        + jnp.einsum("ij,...jkd->...ikd", along_rows, spectrum, precision="highest")
        + jnp.einsum("ik,...jkd->...jid", along_columns, spectrum, precision="highest")
    )


def _by_fft(x, weights, rows, columns, interference, unselected, shape):
    full = jnp.fft.rfft2(jnp.moveaxis(x, -1, -3), s=shape)  # the last axes are the fast ones
    at = (..., (rows % shape[0])[:, None], columns)
    selected = _mix(jnp.moveaxis(full[at], -3, -1), weights, interference)
    base = jnp.zeros_like(full) if unselected == "drop" else full
    spectrum = base.at[at].set(jnp.moveaxis(selected, -1, -3), unique_indices=True)
    # Along the rows first: some libraries take it for granted that j and −j are conjugates where only real parts count.
    half = jnp.fft.ifft(spectrum, axis=-2)
    real_only = np.isin(np.arange(half.shape[-1]) * 2, (0, shape[1]))
    half = jax.lax.complex(half.real, jnp.where(real_only, 0, half.imag))
    y = jnp.moveaxis(jnp.fft.irfft(half, n=shape[1]), -3, -1)
    return y[..., : x.shape[-3], : x.shape[-2], :]


def _by_matrix(x, weights, f, g, scale, interference, unselected):
    height, width = x.shape[-3:-1]
    angle = 2 * np.pi * (np.outer(f, np.arange(height)) % 1)
    table = jnp.asarray(np.exp(-1j * angle), jnp.promote_types(x.dtype, jnp.complex64))
    of_rows = project(x, g)  # [..., h, l, d]
    spectrum = jnp.einsum("jy,...ykd->...jkd", table, of_rows, precision="highest")
    selected = _mix(spectrum, weights, interference)
    change = selected if unselected == "drop" else selected - spectrum
    change = change * jnp.asarray(scale, x.dtype)[:, None]
    of_rows = jnp.einsum("jy,...jkd->...ykd", jnp.conj(table), change, precision="highest")
    y = synthesize(of_rows, g, width)
    return y if unselected == "drop" else x + y


def _check_images(x) -> None:
    if x.ndim < 3 or not jnp.issubdtype(x.dtype, jnp.floating) or 0 in x.shape[-3:]:
        raise ValueError(
            f"images must be real floating point [..., h, w, d], none of them empty, got {x.dtype} of shape {x.shape}."
        )


def _check_bins(name: str, bins, low: int, high: int) -> np.ndarray:
    if isinstance(bins, jax.Array):
        raise ValueError(f"{name} must be known at trace time: give a NumPy array.")
    bins = np.asarray(bins)
    if bins.ndim != 1 or not len(bins) or not np.issubdtype(bins.dtype, np.integer):
        raise ValueError(
            f"{name} must be integers [k], k >= 1, got {bins.dtype} of shape {bins.shape}."
        )
    if bins.min() < low or bins.max() > high or len(np.unique(bins)) != len(bins):
        raise ValueError(
            f"{name} must be distinct and in {low} .. {high} for this size, got {bins.tolist()}."
        )
    return bins.astype(np.int32)


def _check_frequencies(values) -> np.ndarray:
    if isinstance(values, jax.Array):
        raise ValueError("frequencies of images must be known at trace time: give a NumPy array.")
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not np.all(np.isfinite(values)):
        raise ValueError(f"frequencies must be finite [k] with k >= 1, got {values}.")
    return values


def _check_filter(x, weights, k, columns, interference, unselected) -> None:
    check_complex("weights", weights)
    check_shape("weights", weights, (k, columns, x.shape[-1]))
    for name, matrix, size in zip("AB", interference or (), (k, columns), strict=False):
        check_complex(f"interference {name}", matrix)
        check_shape(f"interference {name}", matrix, (size, size))
    check_choice("unselected", unselected, UNSELECTED)
