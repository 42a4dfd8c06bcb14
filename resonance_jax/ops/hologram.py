"""Holographic memory: patterns bound to keys, superposed in one trace, read back by key and cleaned up.

Two kinds of vectors, told apart by their dtype: real ones, bound by circular convolution (holographic reduced
representations), and complex phasors e^{iθ}, bound by the product of components. The last axis is the dimension N; all
others broadcast. A memory goes in and a memory comes out: every function is pure, and runs under jit, vmap and scan.

How much can be recalled: `ops.capacity`. All pairs at once: `ops.joint_recall`. By interference: `ops.optics`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import AnyShape, AnyVectors, IndexArray
from resonance_jax.ops._checks import check_choice, is_concrete
from resonance_jax.ops._vectors import (
    check_codebook,
    check_unitary,
    check_vectors,
    inner,
    norm,
    square_norm,
)

KINDS = ("real", "phasor")


class Match(NamedTuple):
    """What a clean-up found.

    Attributes:
        index: of the codebook's entries, the most similar first, int32, [..., k].
        similarity: cosine of the angle between query and entry, [..., k].
    """

    index: IndexArray
    similarity: AnyShape


def bind(pattern: AnyVectors, key: AnyVectors) -> AnyVectors:
    """Binds a pattern to a key, in a vector of the same dimension that is similar to neither.

    Real: the circular convolution (k ⊛ p)_i = Σ_j k_j p_{(i−j) mod N}, by FFT. Phasors: k_i p_i. Commutative and
    associative.

    Args:
        pattern, key: both real or both complex, [..., N], shapes that broadcast.
    Returns:
        [..., N]; 16-bit numbers are computed in float32.
    Raises:
        ValueError: if the dimensions differ or one is real and the other complex.
    References:
        Plate, Holographic reduced representations, IEEE Trans. Neural Networks 6 (1995) 623.

    >>> import jax.numpy as jnp
    >>> print(jnp.round(bind(jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0, 0.0]))))  # shifted by one
    [3. 1. 2.]
    """
    return _combine(pattern, key, conjugate=False)


def unbind(trace: AnyVectors, key: AnyVectors) -> AnyVectors:
    """Reads what was bound to a key: the circular correlation, or the product with the conjugate key.

    With a unitary key the exact inverse of `bind`; with another key an approximate one (phasors: scaled by |k|²).

    Args:
        trace, key: both real or both complex, [..., N], shapes that broadcast.
    Returns:
        [..., N]; an empty memory (zeros) gives zeros.
    Raises:
        ValueError: as `bind`.

    >>> import jax
    >>> key, pattern = unitary_key(jax.random.key(0), (8,)), jax.random.normal(jax.random.key(1), (8,))
    >>> bool(jnp.allclose(unbind(bind(pattern, key), key), pattern, atol=1e-6))
    True
    """
    return _combine(trace, key, conjugate=True)


def _combine(vector, key, conjugate):
    vector, key = check_vectors(vector, key, ("pattern or trace", "key"))
    if jnp.iscomplexobj(key):
        return vector * (jnp.conj(key) if conjugate else key)
    dtype = jnp.result_type(vector, key)
    wide = jnp.promote_types(dtype, jnp.float32)
    a, b = (jnp.fft.rfft(x.astype(wide)) for x in (vector, key))
    return jnp.fft.irfft(a * (jnp.conj(b) if conjugate else b), n=key.shape[-1]).astype(dtype)


def bundle(vectors: AnyVectors, axis: int = 0) -> AnyVectors:
    """Superposes vectors: their sum along an axis, similar to each of them.

    Args:
        vectors: [..., m, ..., N].
        axis: of the vectors, not the last.
    Raises:
        ValueError: if the axis is the last or there is no such axis.

    >>> import jax.numpy as jnp
    >>> print(bundle(jnp.array([[1.0, 2.0], [3.0, 4.0]])))
    [4. 6.]
    """
    vectors = jnp.asarray(vectors)
    if not -vectors.ndim <= axis < vectors.ndim or axis % vectors.ndim == vectors.ndim - 1:
        raise ValueError(
            f"axis must count vectors, not be their dimension (the last one); got {axis} for shape {vectors.shape}."
        )
    return jnp.sum(vectors, axis=axis)


def permute(vector: AnyVectors, shift: int = 1) -> AnyVectors:
    """Rolls the components, which marks an order: dissimilar to the vector, undone by −shift.

    Args:
        vector: [..., N].
        shift: places, of either sign.

    >>> import jax.numpy as jnp
    >>> print(permute(jnp.array([1.0, 2.0, 3.0])))
    [3. 1. 2.]
    """
    return jnp.roll(vector, shift, axis=-1)


def unitary_key(key: jax.Array, shape: tuple[int, ...], kind: str = "real") -> AnyVectors:
    """Draws keys whose binding is exactly inverted by `unbind`: every Fourier coefficient has modulus 1.

    Real: uniform phases in the spectrum, signs ±1 at DC and Nyquist; of norm 1. Phasors: e^{iθ}, θ uniform.

    Args:
        key: PRNG key.
        shape: (..., N).
        kind: "real" (float32) or "phasor" (complex64).
    Raises:
        ValueError: if the kind is unknown or N < 1.

    >>> import jax
    >>> print(jnp.round(jnp.abs(jnp.fft.fft(unitary_key(jax.random.key(0), (4,)))), 3))
    [1. 1. 1. 1.]
    """
    n = _check_draw(shape, kind)
    if kind == "phasor":
        return phase_key(jax.random.uniform(key, shape, maxval=2 * np.pi), kind)
    phases, signs = jax.random.split(key)
    theta = jax.random.uniform(phases, (*shape[:-1], n // 2 + 1), maxval=2 * np.pi)
    flipped = jax.random.bernoulli(signs, shape=theta.shape)
    return _from_phases(jnp.where(_is_real_bin(n), np.pi * flipped, theta), n)


def phase_key(phases: AnyShape, kind: str = "real", *, dimension: int | None = None) -> AnyVectors:
    """Makes a unitary key of given phases, so that near phases give similar keys.

    With θ = W x and rows of W drawn from a density, ⟨k(x), k(y)⟩/|k|² approaches that density's characteristic function
    of x − y (random Fourier features; |k|² is 1 for real keys, N for phasors): a memory keyed by content, read by what
    resembles the content.

    Args:
        phases: θ in radians, [..., m]. Phasors: m = N, k = e^{iθ}. Real: m = (N − 1) // 2, the phases of the bins 1 … m
            of the spectrum of k, whose coefficients at DC and Nyquist are 1.
        kind: "real" or "phasor".
        dimension: N; None is m for phasors and 2 m + 1 for real keys.
    Returns:
        k, [..., N].
    Raises:
        ValueError: if the kind is unknown, or this dimension takes another number of phases.
    References:
        Rahimi and Recht, Random features for large-scale kernel machines, NIPS 2007.

    >>> import jax.numpy as jnp
    >>> print(jnp.round(phase_key(jnp.array([0.0])), 3))
    [1. 0. 0.]
    """
    check_choice("kind", kind, KINDS)
    phases = jnp.asarray(phases)
    phases = phases.astype(jnp.promote_types(phases.dtype, jnp.float32))
    given = phases.shape[-1]
    if dimension is None:
        dimension = given if kind == "phasor" else 2 * given + 1
    needed = dimension if kind == "phasor" else (dimension - 1) // 2
    if given != needed or dimension < 1:
        raise ValueError(
            f"a {kind} key of dimension {dimension} takes {needed} phases, got {given} in shape {phases.shape}."
        )
    if kind == "phasor":
        return jax.lax.complex(jnp.cos(phases), jnp.sin(phases))
    around = [(0, 0)] * (phases.ndim - 1) + [(1, dimension // 2 - given)]
    return _from_phases(jnp.pad(phases, around), dimension)


def _from_phases(theta, n):
    """The real vector of n numbers whose half spectrum is e^{iθ}; θ is a multiple of π at DC and Nyquist."""
    sine = jnp.where(_is_real_bin(n), 0.0, jnp.sin(theta))
    return jnp.fft.irfft(jax.lax.complex(jnp.cos(theta), sine), n=n)


def _is_real_bin(n):
    bins = np.arange(n // 2 + 1)
    return (bins == 0) | (2 * bins == n)


def random_pattern(key: jax.Array, shape: tuple[int, ...], kind: str = "real") -> AnyVectors:
    """Draws patterns as the theory of recall takes them: components N(0, 1/N), or phasors.

    Args:
        key: PRNG key.
        shape: (..., N).
        kind: "real" (float32) or "phasor" (complex64).

    >>> import jax
    >>> random_pattern(jax.random.key(0), (3, 8)).shape
    (3, 8)
    """
    n = _check_draw(shape, kind)
    if kind == "phasor":
        return unitary_key(key, shape, kind)
    return jax.random.normal(key, shape) * n**-0.5


def write(
    memory: AnyVectors, pattern: AnyVectors, key: AnyVectors, *, pages: bool = False
) -> AnyVectors:
    """Adds a bound pair to a memory: m + k ⊛ p.

    Args:
        memory: m, [..., N]; with pages [..., a, N].
        pattern: p, [..., N].
        key: k, shaped as the memory; unitary for an exact read.
        pages: a memory of a·N numbers: the pattern goes into each of a pages, under a key of its own.
    Returns:
        The memory after.
    Raises:
        ValueError: as `bind`.

    >>> import jax.numpy as jnp
    >>> print(jnp.round(write(jnp.ones(3), jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0, 0.0]))))
    [4. 2. 3.]
    """
    pattern = jnp.asarray(pattern)
    bound = bind(pattern[..., None, :] if pages else pattern, key)
    check_vectors(memory, bound, ("memory", "pattern"))
    return memory + bound


def read(memory: AnyVectors, key: AnyVectors, *, pages: bool = False) -> AnyVectors:
    """Reads what is bound to a key (`unbind`); with pages the mean over them, whose noise is √a smaller.

    Args:
        memory: [..., N]; with pages [..., a, N]. Empty (zeros), it reads as zeros.
        key: shaped as the memory.
        pages: as `write`.
    Returns:
        [..., N].
    Raises:
        ValueError: as `bind`.

    >>> import jax.numpy as jnp
    >>> print(jnp.round(read(jnp.array([3.0, 1.0, 2.0]), jnp.array([0.0, 1.0, 0.0]))))
    [1. 2. 3.]
    """
    found = unbind(memory, key)
    return jnp.mean(found, axis=-2) if pages else found


def decay(memory: AnyVectors, factor: AnyShape | float | int) -> AnyVectors:
    """Weakens all that was written: γ m. Applied before each write, it gives the pair that is t writes old strength γᵗ.

    Args:
        memory: m, [..., N].
        factor: γ in [0, 1], a number or broadcastable to the memory.
    Raises:
        ValueError: if a factor known outside of a transformation is not in [0, 1].

    >>> import jax.numpy as jnp
    >>> print(decay(jnp.array([2.0, 4.0]), 0.5))
    [1. 2.]
    """
    if is_concrete(factor) and not np.all((np.asarray(factor) >= 0) & (np.asarray(factor) <= 1)):
        raise ValueError(f"factor must be in [0, 1], got {factor}.")
    return memory * factor


def delta_write(
    memory: AnyVectors,
    pattern: AnyVectors,
    key: AnyVectors,
    rate: AnyShape | float | int = 1.0,
    *,
    pages: bool = False,
) -> AnyVectors:
    """Writes what the memory does not yet recall: m + η k ⊛ (p − read(m, k)).

    With η = 1 the pair just written is read exactly. Repeated over all pairs (`consolidate`) it is the Kaczmarz method
    for the memory that recalls them all; a pages hold a patterns exactly (real ones but for DC and Nyquist, where the
    a signs of each of a keys may be dependent). With a single page there is nothing to share:
    k ⊛ unbind(m, k) = m for every unitary key, so that a write replaces the share η of the whole memory.

    Args:
        memory, pattern, key, pages: as `write`; the key unitary.
        rate: η in [0, 1], broadcastable to the pattern.
    Returns:
        The memory after.
    Raises:
        ValueError: as `bind`; if a key that is known outside of a transformation is not unitary.

    >>> import jax
    >>> key = unitary_key(jax.random.key(0), (4, 8))  # of four pages
    >>> memory = delta_write(jnp.ones((4, 8)), jnp.arange(8.0), key, pages=True)
    >>> print(jnp.round(read(memory, key, pages=True)))
    [0. 1. 2. 3. 4. 5. 6. 7.]
    """
    check_unitary("key", key)
    error = jnp.asarray(pattern) - read(memory, key, pages=pages)
    return write(memory, rate * error, key, pages=pages)


def corrective_write(
    memory: AnyVectors,
    label: IndexArray | int,
    key: AnyVectors,
    codebook: AnyVectors,
    margin: float | int = 1.0,
    *,
    pages: bool = False,
) -> AnyVectors:
    """Writes only what clean-up would still get wrong: the smallest change that puts the right entry before its rival.

        m + k ⊛ d max(0, κ |c_l| − ⟨q, d⟩) / |d|²,    d = c_l/|c_l| − c_r/|c_r|,    q = read(m, k)

    l is the right entry and r the most similar other. Repeated over all pairs (`consolidate`) it finds a memory that
    recalls each of them, if there is one: several times as many as `write` superposes.

    Args:
        memory: m, [N]; with pages [a, N].
        label: l, index of the pattern in the codebook, integer [].
        key: k, unitary, shaped as the memory.
        codebook: c, [C, N], C ≥ 2 different entries.
        margin: κ > 0, how far the right entry must be ahead, in units of its own norm.
        pages: as `write`.
    Returns:
        The memory after.
    Raises:
        ValueError: as `delta_write`; if the codebook has fewer than two entries, or the label that is known is none of
            them, or the margin is not positive.
    References:
        Crammer et al., Online passive-aggressive algorithms, JMLR 7 (2006) 551; Agmon, The relaxation method for
        linear inequalities, Canad. J. Math. 6 (1954) 382.

    >>> import jax
    >>> codebook = random_pattern(jax.random.key(0), (5, 64))
    >>> key = unitary_key(jax.random.key(1), (64,))
    >>> memory = corrective_write(jnp.zeros(64), 3, key, codebook)
    >>> print(cleanup(read(memory, key), codebook).index)
    [3]
    """
    check_unitary("key", key)
    codebook = check_codebook(codebook, 2)
    _check_label(label, codebook)
    if not margin > 0:
        raise ValueError(f"margin must be positive, got {margin}.")
    query, codebook = check_vectors(
        read(memory, key, pages=pages), codebook, ("memory", "codebook")
    )
    sizes = norm(codebook)
    entries = codebook / jnp.where(sizes > 0, sizes, 1)[:, None]
    scores = inner(query, entries)
    others = jnp.where(jnp.arange(codebook.shape[0]) == label, -jnp.inf, scores)
    short = margin * sizes[label] - (scores[label] - jnp.max(others))
    difference = entries[label] - entries[jnp.argmax(others)]
    apart = square_norm(difference)
    step = jnp.where(apart > 0, jnp.maximum(short, 0) / jnp.where(apart > 0, apart, 1), 0)
    return write(memory, step * difference, key, pages=pages)


def consolidate(
    write: Callable[[Any, Any, Any], Any],
    memory: AnyVectors,
    items: AnyVectors | IndexArray,
    keys: AnyVectors,
    rounds: IndexArray | int = 1,
) -> AnyVectors:
    """Rehearses: applies a write to each pair in turn, several times over.

    Args:
        write: function (memory, item, key) -> memory: `delta_write`, or `corrective_write` with its codebook bound by
            a lambda or functools.partial.
        memory: as the write takes it.
        items: patterns [m, ..., N] or labels [m].
        keys: [m, ..., N].
        rounds: times that all pairs are gone through, at least 1; a Python number for reverse-mode gradients.
    Returns:
        The memory after.
    Raises:
        ValueError: if there are fewer rounds than 1, or not as many items as keys.

    >>> import jax
    >>> codebook = random_pattern(jax.random.key(0), (16, 64))
    >>> keys, labels = unitary_key(jax.random.key(1), (12, 64)), jnp.arange(12)
    >>> correct = lambda memory, label, key: corrective_write(memory, label, key, codebook)
    >>> memory = consolidate(correct, jnp.zeros(64), labels, keys, rounds=20)  # 0.75 bits a number
    >>> print(cleanup(read(memory, keys), codebook).index[:, 0])
    [ 0  1  2  3  4  5  6  7  8  9 10 11]
    """
    if (is_concrete(rounds) and rounds < 1) or len(items) != len(keys):
        raise ValueError(
            f"expected at least one round and a key for each item, got {rounds} rounds, {len(items)} items and "
            f"{len(keys)} keys."
        )
    items, keys = jnp.asarray(items), jnp.asarray(keys)

    def one(index, memory):
        index = index % len(keys)
        return write(memory, items[index], keys[index])

    return jax.lax.fori_loop(0, rounds * len(keys), one, memory)


def cleanup(query: AnyVectors, codebook: AnyVectors, k: int = 1) -> Match:
    """Finds the entries of a codebook most similar to a query, by Re⟨q, c⟩ / (|q| |c|).

    Args:
        query: q, [..., N]; a zero query, as an empty memory gives it, has similarity 0 to all and finds the first.
        codebook: c, [C, N].
        k: how many entries, at most C.
    Returns:
        Match with index and similarity, each [..., k]. Gradients flow through the similarities.
    Raises:
        ValueError: if the dimensions or kinds differ, or the codebook is smaller than k.

    >>> import jax.numpy as jnp
    >>> print(cleanup(jnp.array([0.1, 0.9]), jnp.eye(2)).index)
    [1]
    """
    codebook = check_codebook(codebook, k)
    query, codebook = check_vectors(query, codebook, ("query", "codebook"))
    sizes = norm(query)[..., None] * norm(codebook)
    similarity = inner(query, codebook) / jnp.where(sizes > 0, sizes, 1)
    value, index = jax.lax.top_k(similarity, k)
    return Match(index, value)


def _check_label(label, codebook) -> None:
    label = jnp.asarray(label)
    if label.shape != () or not jnp.issubdtype(label.dtype, jnp.integer):
        raise ValueError(
            f"label must be one integer, got {label.dtype} of shape {label.shape}; use vmap or scan."
        )
    if is_concrete(label) and not 0 <= int(label) < codebook.shape[0]:
        raise ValueError(f"label must be in 0 .. {codebook.shape[0] - 1}, got {int(label)}.")


def _check_draw(shape, kind) -> int:
    check_choice("kind", kind, KINDS)
    if not shape or shape[-1] < 1:
        raise ValueError(f"shape must end in the dimension N of at least 1, got {shape}.")
    return shape[-1]
