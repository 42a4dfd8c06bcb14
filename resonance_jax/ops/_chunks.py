"""How sums over t samples at k frequencies are cut into chunks that share one small table.

With t = cT + τ (chunk c, sample τ < T), e^{−2πi f t} = e^{−2πi f cT} e^{−2πi f τ}: one table [T, 2k] of cosines and
sines of 2π f τ serves every chunk, and a rotation moves each chunk's result to its place.

When the k frequencies lie close together beside 1/T, as the lowest bins of a long sequence do, the columns of that
table depend on one another: it is U C to rounding, with r < 2k orthonormal columns U [T, r]. A chunk is then reduced to
r numbers in place of 2k, and C goes into the rotations (phases [cr, 2k]), which cost little.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import Array

DEFAULT_CHUNK = 512  # one table of cosines and sines [512, 2k] stays in a CPU's second-level cache
HIGHEST = jax.lax.Precision.HIGHEST  # float32 products stay float32 where the default is TF32

# Measured on two CPU cores with 256 features, in columns of a plain table: an array as large as x that is written and
# read between two products, and a column of a compressed table, whose products are narrow (benchmarks/README.md).
TRAFFIC = 64
NARROW = 1.2
LARGEST_TABLE = 2**22  # entries: a table is part of the program

# Columns are dropped that together change the table by less than this, relative to its norm.
_TOLERANCE = {"float32": 1e-8, "float64": 4e-15}


def chunk_size(length: int, chunk: int | None) -> int:
    """Chooses equal chunks of at most about `chunk` samples so that little padding is needed."""
    if chunk is not None:
        if chunk < 1:
            raise ValueError(f"chunk must be at least 1, got {chunk}.")
        return min(chunk, length)
    return -(-length // max(1, round(length / DEFAULT_CHUNK)))


def compressed_tables(
    frequencies: np.ndarray, length: int, chunk: int | None, most: float, dtype
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns U [T, r] and phases [cr, 2k], or None where that takes `most` columns or more, or too large a table.

    With U's samples u and the chunks' rows p: cos 2π f_k t = Σ_r u_{τ,r} p_{(c,r),k}, and −sin in the last k columns.
    """
    f = np.asarray(frequencies, np.float64)
    return _compressed_tables(f.tobytes(), length, chunk, most, np.dtype(dtype).name)


@lru_cache(maxsize=64)
def _compressed_tables(frequencies: bytes, length: int, chunk: int | None, most: float, dtype: str):
    f = np.frombuffer(frequencies)
    size = _compressed_size(length, chunk)
    count = -(-length // size)
    column = columns_of_compressed(1, len(f), size)
    rank = min(most / column, LARGEST_TABLE / (count * 2 * len(f)))
    if 2 * _count_separated(f, 1.25 / size) >= rank:
        return None
    table = _static_table(np.arange(size), f)
    basis = _column_basis(table, _TOLERANCE[dtype], rank)
    if basis is None:
        return None
    cosine, sine = np.split(basis.T @ table, 2, axis=1)
    starts = size * np.arange(count)
    rotation = np.exp(-2j * np.pi * np.remainder(np.outer(starts, f), 1.0))
    phases = rotation[:, None, :] * (cosine - 1j * sine)  # [c, r, k]
    phases = np.concatenate([phases.real, phases.imag], axis=-1).reshape(-1, 2 * len(f))
    return basis.astype(dtype), phases.astype(dtype)


def _compressed_size(length: int, chunk: int | None) -> int:
    """Chooses T near 4 √t, where both products cost about the same, and a divisor of t if one is near."""
    if chunk is not None:
        return chunk_size(length, chunk)
    ideal = max(np.sqrt(length) / 4, 1.0)  # chunks
    counts = [c for c in range(1, int(2 * ideal) + 1) if length % c == 0]
    nearest = min(counts, key=lambda c: abs(np.log(c / ideal)))
    return -(-length // (nearest if nearest > ideal / 2 else round(ideal)))


def columns_of_compressed(rank: int, k: int, size: int) -> float:
    """What a sample and feature cost: rank columns of the basis and rank 2k / T of the phases, `NARROW` times, and
    rank / T of an array like x between them."""
    return rank * (NARROW * (1 + 2 * k / size) + TRAFFIC / size)


def _count_separated(f: np.ndarray, distance: float) -> int:
    """How many frequencies, and their negatives, lie further than this from each other.

    Their cosines and sines over T samples do not depend on one another if that is above 1/T (Montgomery and Vaughan,
    Hilbert's inequality, 1974): twice as many columns are needed at least.
    """
    f = np.sort(np.abs(f - np.round(f)))
    f = f[(f > distance / 2) & (f < 0.5 - distance / 2)]
    count = position = 0
    while position < len(f):
        count += 1
        position = np.searchsorted(f, f[position] + distance, side="right")
    return count


def _column_basis(table: np.ndarray, tolerance: float, most: float) -> np.ndarray | None:
    """Orthonormal columns that span `table`'s to a relative tolerance, from random combinations of them.

    None if `most` or more are needed.

    References:
        Halko, Martinsson, Tropp, Finding structure with randomness, SIAM Review 53 (2011).
    """
    probes = 32
    while True:
        width = min(probes, *table.shape)
        mixed = table @ np.random.default_rng(0).standard_normal((table.shape[1], width))
        basis, values, _ = np.linalg.svd(mixed, full_matrices=False)
        rank = int(np.sum(values > tolerance * values[0]))
        if rank >= most:
            return None
        if rank < width or width == min(table.shape):
            return basis[:, :rank]
        probes *= 2


def split(x: jax.Array, size: int) -> jax.Array:
    """Cuts [..., t, d] into [..., c, T, d], with zeros after the end."""
    length, features = x.shape[-2:]
    count = -(-length // size)
    if count * size != length:
        padding = [(0, 0)] * (x.ndim - 2) + [(0, count * size - length), (0, 0)]
        x = jnp.pad(x, padding)
    return x.reshape(*x.shape[:-2], count, size, features)


def join(x: jax.Array, length: int) -> jax.Array:
    """Undoes `split`: [..., c, T, d] → [..., t, d]."""
    count, size, features = x.shape[-3:]
    return x.reshape(*x.shape[:-3], count * size, features)[..., :length, :]


def apply_table(table: Array, x: jax.Array) -> jax.Array:
    """Multiplies a table [m, n] with each matrix of x [..., n, d].

    One shared matrix times a batch is a single product only after a transpose of x, which costs more than copies of the
    table do as long as these are no larger than x or the result.
    """
    table = jnp.asarray(table)
    if min(table.shape) <= x.shape[-1]:
        table = jnp.broadcast_to(table, (*x.shape[:-2], *table.shape))
        return jnp.matmul(table, x, precision=HIGHEST)
    return jnp.einsum("mn,...nd->...md", table, x, precision=HIGHEST)


def angle_table(times: np.ndarray, frequencies: Array, dtype) -> Array:
    """cos and sin of 2π f_k t side by side, [t, 2k], with t f reduced to a fraction of a cycle first."""
    if isinstance(frequencies, np.ndarray):
        return _static_table(times, frequencies).astype(dtype)
    angle = 2 * np.pi * cycles(times, frequencies).astype(dtype)
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=1)


def rotation(count: int, size: int, frequencies: Array, dtype) -> jax.Array:
    """e^{−2πi f cT} for each chunk c, [c, k, 1]."""
    table = jnp.asarray(angle_table(size * np.arange(count), frequencies, dtype))
    cosine, sine = jnp.split(table, 2, axis=-1)
    return jax.lax.complex(cosine, -sine)[..., None]


def rotation_of_part(length: int, frequencies: Array, dtype, axis_name: str) -> jax.Array:
    """e^{−2πi f m t} for this device's part m of a sequence in parts of t samples along a mapped axis, [k, 1]."""
    count = jax.lax.axis_size(axis_name)
    return rotation(count, length, frequencies, dtype)[jax.lax.axis_index(axis_name)]


def _static_table(times: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    angle = 2 * np.pi * np.remainder(np.outer(times, frequencies), 1.0)
    return np.concatenate([np.cos(angle), np.sin(angle)], axis=1)


def cycles(times: Array, frequencies: jax.Array) -> jax.Array:
    """t f mod 1 in [−1/2, 1/2), [t, k], for integer t < 2^24, exact to one unit in the last place; d/df = t.

    t = 4096 a + r splits t into two 12-bit integers. 4096 f mod 1 is exact in binary floating point; so is the
    product of a 12-bit integer with a frequency rounded to 12 fractional bits. Only the products with what is left
    round, and those are below 1/2.
    """
    high, low = times // 4096, times % 4096
    return _wrap(_short_cycles(high, _wrap(4096 * frequencies)) + _short_cycles(low, frequencies))


def _short_cycles(times: Array, frequencies: jax.Array) -> jax.Array:
    """t f mod 1 for integer 0 <= t < 4096."""
    f = _wrap(frequencies)
    t = jnp.asarray(times, f.dtype)[:, None]
    coarse = jax.lax.stop_gradient(jnp.round(f * 4096) / 4096)
    return _wrap(t * coarse) + t * (f - coarse)


def _wrap(cycles: jax.Array) -> jax.Array:
    """Subtracts the nearest integer; the derivative is 1."""
    return cycles - jax.lax.stop_gradient(jnp.round(cycles))
