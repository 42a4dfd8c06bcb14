"""Sums over t samples at frequencies on a common grid, as two matrix products: the four-step transform, in part.

With f = b / N, N = n₁ n₂, t = n₂ c + τ (τ < n₂) and b = u + n₁ v (u < n₁):

    Σ_t x_t e^{−2πi f t} = Σ_τ e^{−2πi b τ/N} Σ_c e^{−2πi u c/n₁} x_{n₂ c + τ}

The inner sums are one product [2U, c] by [c, n₂ d], where U counts the u that occur (those above n₁/2 are the
conjugates of others: x is real); the outer ones, a product [2q, 2n₂] by [2n₂, d] for each u, where q is the most
frequencies that share one. No axis is transposed, and all columns together, 2U + 4 q U/n₁, are about 4 √k for k
frequencies that are spread, where a plain table has 2k.

References:
    Bailey, FFTs in external or hierarchical memory, J. Supercomputing 4 (1990): all frequencies.
    Fu et al., FlashFFTConv, arXiv:2311.05908: on matrix units.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import Array
from resonance_jax.ops._chunks import (
    HIGHEST,
    LARGEST_TABLE,
    TRAFFIC,
    apply_table,
    chunk_size,
    columns_of_compressed,
    compressed_tables,
    join,
    split,
)

_LONGEST_GRID = 2**21
# The inner products read rows of x that are n₂ samples apart: measured with 256 features, it takes longer from some
# 128 KiB on (benchmarks/README.md).
_FAR, _FAR_TRAFFIC = 256, 110


@dataclass(frozen=True)
class TwoLevel:
    """Tables for k frequencies and a length. A slot is a row of the outer products; some are empty, and give 0.

    Attributes:
        size: n₂.
        inner: cosines and −sines, [2U, c].
        outer: [U, 2q, 2n₂], real parts of the q slots of each u before their imaginary parts.
        slots: the slot of each frequency, [k], of U q.
        frequencies: the frequency in each slot, k where it is empty, [U q].
    """

    size: int
    inner: np.ndarray
    outer: np.ndarray
    slots: np.ndarray
    frequencies: np.ndarray

    def project(self, x: jax.Array) -> jax.Array:
        """Σ_t x_t e^{−2πi f t} of real x [..., t, d], complex [..., U q, d]."""
        batch, features = x.shape[:-2], x.shape[-1]
        inner = _multiply_blocks(self.inner, split(x, self.size))
        outer = _multiply(self.outer, inner.reshape(*batch, -1, 2 * self.size, features))
        real, imaginary = jnp.split(outer, 2, axis=-2)
        return jax.lax.complex(real, imaginary).reshape(*batch, -1, features)

    def synthesize(self, spectrum: jax.Array, length: int) -> jax.Array:
        """Re Σ_f S_f e^{2πi f t} of S [..., U q, d] for t < length, [..., length, d]."""
        batch, features = spectrum.shape[:-2], spectrum.shape[-1]
        count, rows = self.outer.shape[:2]
        spectrum = spectrum.reshape(*batch, count, rows // 2, features)
        parts = jnp.concatenate([spectrum.real, spectrum.imag], axis=-2)
        inner = _multiply(np.swapaxes(self.outer, 1, 2), parts)
        inner = inner.reshape(*batch, -1, self.size, features)
        return join(_multiply_blocks(self.inner.T, inner), length)

    def place(self, values: jax.Array, axis: int) -> jax.Array:
        """Moves an axis [k] to slots, [U q], 0 where they are empty."""
        return jnp.take(values, self.frequencies, axis, mode="fill", fill_value=0)


def cheapest_tables(
    frequencies: Array, length: int, chunk: int | None, dtype
) -> TwoLevel | tuple[np.ndarray, np.ndarray] | None:
    """Returns the tables of the form that costs least: two levels, or chunks of a compressed table.

    None is a plain table [T, 2k]: for traced frequencies, and where nothing saves enough. A given chunk rules out two
    levels.
    """
    if not isinstance(frequencies, np.ndarray):
        return None
    f = np.asarray(frequencies, np.float64)
    plan, compressed = _alternatives(f, length, chunk, dtype)
    if compressed is None and plan is not None:
        return _tables(f.tobytes(), length, plan, np.dtype(dtype).name)
    return compressed


def work_in_columns(frequencies: np.ndarray, length: int, dtype) -> float:
    """Returns what `project` costs per sample and feature, in columns of a table, of which a plain one has 2k.

    An array between two products that is as large as x counts as `TRAFFIC` columns, between two levels by n₂.
    """
    k = len(frequencies)
    plan, compressed = _alternatives(np.asarray(frequencies, np.float64), length, None, dtype)
    if compressed is not None:
        basis, _ = compressed
        return columns_of_compressed(basis.shape[1], k, basis.shape[0])
    return _plain_columns(k, length) if plan is None else plan.cost


def _plain_columns(k: int, length: int) -> float:
    """What one table costs: nothing lies between where one chunk is all there is."""
    size = chunk_size(length, None)
    return 2 * k * (1 + TRAFFIC / size) if size < length else 2.0 * k


def _alternatives(f: np.ndarray, length: int, chunk: int | None, dtype):
    """The plan of two levels and the compressed tables, each None where it saves too little or the other costs less."""
    most = _plain_columns(len(f), length)
    plan = _plan(f.tobytes(), length) if chunk is None else None
    if plan is not None and plan.cost > most:
        plan = None
    if plan is not None:
        most = plan.cost
    return plan, compressed_tables(f, length, chunk, most, dtype)


def _multiply_blocks(table: np.ndarray, x: jax.Array) -> jax.Array:
    """[m, c] by [..., c, n, d], on [..., c, n d]: else XLA's CPU gradient takes two and a half times as long.

    Not where there are several devices: features that are sharded would be gathered.
    """
    if jax.device_count() > 1:
        return jnp.einsum("uc,...cnd->...und", table, x, precision=HIGHEST)
    y = apply_table(table, x.reshape(*x.shape[:-2], -1))
    return y.reshape(*y.shape[:-1], *x.shape[-2:])


def _multiply(table: Array, x: jax.Array) -> jax.Array:
    """[u, m, n] by [..., u, n, d]; the table is copied over the batch as in `apply_table`, if x is the larger."""
    if table.shape[1] <= x.shape[-1]:
        table = jnp.broadcast_to(table, (*x.shape[:-3], *table.shape))
        return jnp.matmul(table, x, precision=HIGHEST)
    return jnp.einsum("umn,...und->...umd", table, x, precision=HIGHEST)


class _Plan(NamedTuple):
    cost: float  # in columns
    grid: int  # N
    size: int  # n₂


@lru_cache(maxsize=256)
def _grid(frequencies: bytes) -> int | None:
    """The smallest N of which every frequency is a multiple of 1/N, to rounding."""
    n = 1
    for f in np.frombuffer(frequencies):
        fraction = Fraction(f).limit_denominator(_LONGEST_GRID)
        n = math.lcm(n, fraction.denominator)
        if n > _LONGEST_GRID or abs(float(fraction) - f) > 1e-15:
            return None
    return n


def _traffic(size: int) -> float:
    """What an array as large as x costs between the products, in columns, for n₂; by its log from `_FAR` / 2 on."""
    near = np.clip(np.log2(_FAR / size), 0, 1)
    return float(near * TRAFFIC + (1 - near) * _FAR_TRAFFIC)


@lru_cache(maxsize=256)
def _plan(frequencies: bytes, length: int) -> _Plan | None:
    """The cut that costs least, or None without a grid."""
    n = _grid(frequencies)
    if n is None:
        return None
    bins = np.round(n * np.frombuffer(frequencies)).astype(np.int64)
    best = None
    small = [size for size in range(1, math.isqrt(n) + 1) if n % size == 0]
    for size in sorted({*small, *(n // size for size in small)}):
        if not 2 <= size <= length:
            continue
        residues, _, _ = _residues(bins, n, size)
        _, counts = np.unique(residues, return_counts=True)
        outer = 4 * len(counts) * int(counts.max())
        padded = -(-length // size) * size
        columns = (2 * len(counts) * padded + outer * size) / length
        copies = 2 * len(counts) * size / length + (padded > length)
        fits = outer * size + 2 * len(counts) * padded // size <= LARGEST_TABLE
        cost = columns + _traffic(size) * copies
        if fits and (best is None or cost < best.cost):
            best = _Plan(cost, n, size)
    return best


def _residues(bins: np.ndarray, n: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """u and b of each frequency, or of its conjugate where u would be above n₁/2, and which those are."""
    first = n // size
    turned = bins % first > first // 2
    bins = np.where(turned, -bins, bins) % n
    return bins % first, bins, turned


@lru_cache(maxsize=64)
def _tables(frequencies: bytes, length: int, plan: _Plan, dtype: str) -> TwoLevel:
    _, n, size = plan
    bins = np.round(n * np.frombuffer(frequencies)).astype(np.int64)
    residues, bins, turned = _residues(bins, n, size)
    distinct, group = np.unique(residues, return_inverse=True)
    order = np.argsort(group, kind="stable")
    place = np.empty_like(group)  # of a frequency among those of its u
    place[order] = np.arange(len(bins)) - np.searchsorted(group[order], group[order])
    most = int(place.max()) + 1

    first = n // size
    angle = 2 * np.pi * (np.outer(distinct, np.arange(-(-length // size))) % first) / first
    inner = np.stack([np.cos(angle), -np.sin(angle)], axis=1)
    angle = 2 * np.pi * (np.outer(bins, np.arange(size)) % n) / n
    cosine, sine, sign = np.cos(angle), np.sin(angle), np.where(turned, -1, 1)[:, None]
    outer = np.zeros((len(distinct), 2, most, 2 * size))
    outer[group, 0, place] = np.concatenate([cosine, sine], axis=1)
    outer[group, 1, place] = sign * np.concatenate([-sine, cosine], axis=1)

    slots = group * most + place
    in_slot = np.full(len(distinct) * most, len(bins))
    in_slot[slots] = np.arange(len(bins))
    return TwoLevel(
        size,
        inner.reshape(-1, inner.shape[-1]).astype(dtype),
        outer.reshape(len(distinct), 2 * most, 2 * size).astype(dtype),
        slots,
        in_slot,
    )
