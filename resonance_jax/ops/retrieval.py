"""Retrieval by cosine: an index of unit vectors, the nearest of them, and the rank of the one that was wanted."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import (
    AnyShape,
    IndexArray,
    KeyTable,
    RowIds,
    Scalar,
    TokenIds,
    TokenVectors,
)
from resonance_jax.ops._checks import is_concrete
from resonance_jax.ops._vectors import norm


class RetrievalIndex(NamedTuple):
    """What is searched: a tree of arrays, made by `build_index`."""

    keys: KeyTable
    """Unit vectors, [n, d]; a vector of zeros stays 0 and is similar to nothing."""
    ids: RowIds
    """int32 [n]: what a search returns."""


class Found(NamedTuple):
    """What a search found, the most similar first."""

    scores: AnyShape
    """Cosines, [*b, k]."""
    ids: IndexArray
    """[*b, k]."""


def build_index(keys: KeyTable, ids: RowIds | None = None) -> RetrievalIndex:
    """Makes an index of vectors, scaled to norm 1.

    Args:
        keys: real, [n, d], n ≥ 1.
        ids: integers [n], distinct; None is 0 … n − 1.
    Raises:
        ValueError: if keys are not real [n, d], or the ids are not n integers (distinct, where they are known).

    >>> print(build_index(jnp.array([[3.0, 4.0], [0.0, 2.0]])).keys)
    [[0.6 0.8]
     [0.  1. ]]
    """
    keys = jnp.asarray(keys)
    if keys.ndim != 2 or not jnp.issubdtype(keys.dtype, jnp.floating) or not keys.shape[0]:
        raise ValueError(
            f"keys must be real [n, d] with n >= 1, got {keys.dtype} of shape {keys.shape}."
        )
    ids = jnp.arange(len(keys)) if ids is None else jnp.asarray(ids)
    if ids.shape != (len(keys),) or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"ids must be {len(keys)} integers, got {ids.dtype} of shape {ids.shape}.")
    if is_concrete(ids) and len(np.unique(ids)) != len(ids):
        raise ValueError("ids must be distinct: a search could not tell equal ones apart.")
    return RetrievalIndex(_unit(keys), ids.astype(jnp.int32))


def search(index: RetrievalIndex, queries: TokenVectors, k: int, *, chunk: int = 8192) -> Found:
    """Finds the k keys of the largest cosine with each query; of equal ones the first in the index.

    Scores are computed for a chunk of keys at a time: the memory is that of (k + chunk) scores a query, whatever n.

    Args:
        index: of n keys.
        queries: real, [*b, d], of any norm.
        k: 1 … n.
        chunk: keys at a time.
    Raises:
        ValueError: if the dimensions differ, k is not in 1 … n, or chunk < 1.

    >>> index = build_index(jnp.eye(3), jnp.array([7, 8, 9]))
    >>> print(search(index, jnp.array([0.1, 2.0, 0.3]), 2).ids)
    [8 9]
    """
    queries = _check_queries(index, queries, chunk)
    count = index.keys.shape[0]
    if not 1 <= k <= count:
        raise ValueError(f"k must be in 1 .. {count}, the keys of the index, got {k}.")
    keys, there = _chunks(index.keys, chunk)
    ids, _ = _chunks(index.ids, chunk)
    flat = queries.reshape(-1, queries.shape[-1])

    def merge(best, part):
        keys, ids, there = part
        scores = jnp.where(there, _cosines(flat, keys), -jnp.inf)
        scores = jnp.concatenate([best[0], scores], axis=1)
        ids = jnp.concatenate([best[1], jnp.broadcast_to(ids, (len(flat), len(ids)))], axis=1)
        scores, places = jax.lax.top_k(scores, k)
        return (scores, jnp.take_along_axis(ids, places, axis=1)), None

    nothing = jnp.full((len(flat), k), -jnp.inf, flat.dtype), jnp.full((len(flat), k), -1)
    (scores, found), _ = jax.lax.scan(merge, nothing, (keys, ids, there))
    shape = (*queries.shape[:-1], k)
    return Found(scores.reshape(shape), found.reshape(shape))


def ranks(
    index: RetrievalIndex, queries: TokenVectors, wanted: TokenIds, *, chunk: int = 8192
) -> IndexArray:
    """Returns the place, from 1, of each query's own key among all keys by falling cosine.

    Pessimistic: keys of the same score come before it, and so does what cannot be compared (NaN): a model that gives
    all the same vector has rank n and not 1.

    Args:
        index: of n keys.
        queries: real, [*b, d].
        wanted: the ids of their keys, integers [*b].
        chunk: keys at a time, as in `search`.
    Returns:
        int32 [*b], in 1 … n; n + 1 where there is no such id.
    Raises:
        ValueError: if shapes or dtypes do not fit, or chunk < 1.

    >>> index = build_index(jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    >>> print(ranks(index, jnp.array([[1.0, 0.1], [0.1, 1.0]]), jnp.array([1, 2])))
    [2 1]
    """
    queries, wanted = _check_queries(index, queries, chunk), jnp.asarray(wanted)
    if wanted.shape != queries.shape[:-1] or not jnp.issubdtype(wanted.dtype, jnp.integer):
        raise ValueError(
            f"wanted must be integer ids {queries.shape[:-1]}, one a query, got {wanted.dtype} {wanted.shape}."
        )
    keys, there = _chunks(index.keys, chunk)
    ids, _ = _chunks(index.ids, chunk)
    flat, own = queries.reshape(-1, queries.shape[-1]), wanted.reshape(-1, 1)

    def find(score, part):
        keys, ids, there = part
        here = there & (ids == own)
        found = jnp.max(jnp.where(here, _cosines(flat, keys), -jnp.inf), axis=1, initial=-jnp.inf)
        return jnp.maximum(score, found), None

    # From the same products as those that it is compared with: another order of sums is another number.
    score, _ = jax.lax.scan(find, jnp.full(len(flat), -jnp.inf, flat.dtype), (keys, ids, there))

    def before(count, part):
        keys, ids, there = part
        ahead = there & (ids != own) & ~(_cosines(flat, keys) < score[:, None])
        return count + jnp.sum(ahead, axis=1, dtype=jnp.int32), None

    count, _ = jax.lax.scan(before, jnp.ones(len(flat), jnp.int32), (keys, ids, there))
    return count.reshape(wanted.shape)


def recall_at(ranks: IndexArray, k: int) -> Scalar:
    """Returns the share of ranks that are k or better.

    Args:
        ranks: integers from 1, of any shape, at least one.
        k: ≥ 1.
    Raises:
        ValueError: if there is no rank, or k < 1.

    >>> float(recall_at(jnp.array([1, 3, 2, 9]), 2))
    0.5
    """
    ranks = jnp.asarray(ranks)
    if not ranks.size or k < 1:
        raise ValueError(f"expected at least one rank and k >= 1, got {ranks.size} and {k}.")
    return jnp.mean((ranks <= k).astype(jnp.float32))


def _unit(x):
    length = norm(x)[..., None]
    return x / jnp.where(length > 0, length, 1)


def _cosines(queries, keys):
    return jnp.einsum("qd,nd->qn", queries, keys, precision="highest")


def _chunks(array, size):
    """Chunks [c, size, …] of rows, the last filled with 0, and which rows are there, [c, size]."""
    count = array.shape[0]
    size = min(size, count)
    padded = jnp.pad(array, [(0, -count % size)] + [(0, 0)] * (array.ndim - 1))
    there = jnp.arange(padded.shape[0]) < count
    return padded.reshape(-1, size, *array.shape[1:]), there.reshape(-1, size)


def _check_queries(index, queries, chunk):
    queries = jnp.asarray(queries)
    if not jnp.issubdtype(queries.dtype, jnp.floating) or queries.ndim < 1:
        raise ValueError(f"queries must be real [*b, d], got {queries.dtype} {queries.shape}.")
    if queries.shape[-1] != index.keys.shape[-1]:
        raise ValueError(
            f"queries must have the {index.keys.shape[-1]} features of the keys, got {queries.shape}."
        )
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}.")
    return _unit(queries)
