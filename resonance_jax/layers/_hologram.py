"""How a `HolographicMemory` writes many patterns at once, its capacity, and what it requires of its callers."""

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.ops._checks import check_choice, is_concrete
from resonance_jax.ops._vectors import check_unitary
from resonance_jax.ops.capacity import max_pairs, recall_accuracy
from resonance_jax.ops.hologram import KINDS, bind, bundle, decay, delta_write

RULES = ("add", "delta")
ACCURACY = 0.99
_WARNED: set[tuple[Any, ...]] = set()  # memories, by path and size, that were reported as full


def add_all(trace, pattern, key, written, rate, factor):
    """Writes all of pattern [*b, t, N] under key [*b, t, a, N] in one sum; each decays by the writes after it."""
    after = jnp.cumsum(written[..., ::-1], axis=-1)[..., ::-1] - written
    weight = jnp.where(written, rate * factor**after, 0).astype(trace.real.dtype)
    bound = bind((weight[..., None] * pattern)[..., None, :], key)
    left = factor ** jnp.sum(written, axis=-1)
    return decay(trace, left[..., None, None]) + bundle(bound, axis=-3)


def delta_all(trace, pattern, key, written, rate, factor):
    """Writes what is not yet recalled, one pattern after another."""

    def one(trace, item):
        pattern, key, written = item
        trace = decay(trace, jnp.where(written, factor, 1)[..., None, None])
        share = jnp.where(written, rate, 0)[..., None]
        return delta_write(trace, pattern, key, share, pages=True), None

    steps = (jnp.moveaxis(x, trace.ndim - 2, 0) for x in (pattern, key, written))
    return jax.lax.scan(one, trace, tuple(steps))[0]


def real_bin_signs(phases, n: int):
    """What turns DC and Nyquist, which are 1, into the signs of cos θ_1 and cos θ_m in real keys of phases [..., m]."""
    first, last = (
        jnp.where(jnp.cos(end) < 0, -2 / n, 0) for end in (phases[..., :1], phases[..., -1:])
    )
    return first + (last * (-1.0) ** np.arange(n) if n % 2 == 0 else 0)


def capacity(memory) -> int:
    """Pairs that a `HolographicMemory` was given, or recalls with `ACCURACY`; at least 1."""
    if memory.capacity is not None:
        return memory.capacity
    return _default_capacity(memory.hologram_dim, memory.codebook_size, memory.kind)


@functools.lru_cache
def _default_capacity(dimension, codebook_size, kind):
    return max(1, max_pairs(dimension, codebook_size, ACCURACY, kind))


def effective_pairs(memory, pairs):
    """Σ γ^(2n) over the pairs written, each n writes old: their power beside the newest one's."""
    square = memory.decay**2
    return pairs if square == 1 else (1 - square**pairs) / (1 - square)


def warn_if_full(memory, pairs) -> None:
    """Warns, once a process, if pairs that are known exceed the capacity."""
    limit = capacity(memory)
    name = (*memory.path, memory.hologram_dim, limit)
    if not is_concrete(pairs) or name in _WARNED:
        return
    most = float(np.max(effective_pairs(memory, np.asarray(pairs)), initial=0))
    if most <= limit:
        return
    _WARNED.add(name)
    dimension, size = memory.hologram_dim, memory.codebook_size
    accuracy = recall_accuracy(dimension, int(np.ceil(most)), size, memory.kind)
    warnings.warn(
        f"a memory of dimension {dimension} holds {most:.4g} pairs, more than its capacity of {limit}: of random "
        f"patterns it recalls {accuracy:.1%} among {size} entries. Enlarge hologram_dim, or forget by decay < 1 or "
        "clear().",
        stacklevel=3,
    )


def check_options(memory) -> None:
    """Requires options of a `HolographicMemory` that mean something."""
    check_choice("rule", memory.rule, RULES)
    check_choice("kind", memory.kind, KINDS)
    n, least = memory.pattern_dim, 3 if memory.kind == "real" else 1
    if n < least:
        raise ValueError(f"pattern_dim must be at least {least} for {memory.kind} keys, got {n}.")
    if memory.hologram_dim < n or memory.hologram_dim % n:
        raise ValueError(
            f"hologram_dim must be a multiple of pattern_dim = {n}, one page or more; got {memory.hologram_dim}."
        )
    if memory.rule == "delta" and memory.hologram_dim == n:
        raise ValueError(
            "rule='delta' needs at least two pages: in a memory of one, each write replaces the share `rate` of all "
            "that it holds."
        )
    if memory.dtype is not None and jnp.issubdtype(memory.dtype, jnp.complexfloating) != (
        memory.kind == "phasor"
    ):
        raise ValueError(
            f"dtype must be {'complex' if memory.kind == 'phasor' else 'real'} for kind {memory.kind!r}, "
            f"got {memory.dtype}."
        )
    if not (0 < memory.rate <= 1 and 0 <= memory.decay <= 1):
        raise ValueError(
            f"expected rate in (0, 1] and decay in [0, 1], got {memory.rate} and {memory.decay}."
        )
    if (memory.capacity is not None and memory.capacity < 1) or memory.codebook_size < 2:
        raise ValueError(
            f"expected capacity >= 1 or None and codebook_size >= 2, got {memory.capacity} and "
            f"{memory.codebook_size}."
        )
    if not 0 < memory.key_scale < float("inf"):
        raise ValueError(f"key_scale must be positive and finite, got {memory.key_scale}.")


def check_pattern(memory, pattern):
    """Returns a pattern [b, N] or [b, t, N] of the memory's kind as an array."""
    pattern = jnp.asarray(pattern)
    wanted = "complex" if memory.kind == "phasor" else "real"
    floating = jnp.issubdtype(pattern.dtype, jnp.inexact)
    if not floating or jnp.iscomplexobj(pattern) != (wanted == "complex"):
        raise ValueError(
            f"a pattern of kind {memory.kind!r} must be {wanted} floating point, got {pattern.dtype}."
        )
    n = memory.pattern_dim
    if pattern.ndim not in (2, 3) or pattern.shape[-1] != n or 0 in pattern.shape:
        raise ValueError(
            f"pattern must have shape [b, N] or [b, t, N] with N = {n} and nothing empty, got {pattern.shape}."
        )
    return pattern


def check_key(memory, key, lead, written=None):
    """Returns given keys [*lead, a, N]; where they are known and used they must be unitary."""
    pages, n = memory.hologram_dim // memory.pattern_dim, memory.pattern_dim
    if jnp.shape(key) != (*lead, pages, n) or len(lead) not in (1, 2):
        raise ValueError(
            f"key must have shape [b, a, N] or [b, t, a, N] as the patterns, with a = {pages} pages of N = {n}, "
            f"got {jnp.shape(key)}."
        )
    if jnp.iscomplexobj(key) != (memory.kind == "phasor"):
        raise ValueError(
            f"a memory of kind {memory.kind!r} needs keys of that kind, got {jnp.result_type(key)}."
        )
    if written is None:
        check_unitary("key", key)
        return jnp.asarray(key)
    if is_concrete(key) and is_concrete(written):
        check_unitary("key", np.asarray(key)[np.asarray(written)])
    return jnp.where(written[..., None, None], key, 0)


def check_mask(mask, pattern):
    """Returns a mask of what is written; that it hides everything is nothing unusual."""
    if mask.dtype != bool or mask.shape != pattern.shape[:-1]:
        raise ValueError(
            f"mask must be bool (True = written) of shape {pattern.shape[:-1]}, got {mask.dtype} of shape "
            f"{mask.shape}."
        )
    return jnp.asarray(mask)
