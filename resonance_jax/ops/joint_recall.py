"""Reading all pairs of a superposition at once: what is recalled with confidence no longer disturbs the rest."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import AnyReal, AnyShape, AnyVectors, IndexArray, Scalar
from resonance_jax.ops._checks import is_concrete
from resonance_jax.ops._vectors import (
    check_codebook,
    check_unitary,
    check_vectors,
    inner,
    square_norm,
)
from resonance_jax.ops.hologram import bind, unbind


class JointRecall(NamedTuple):
    """What a memory was found to hold.

    Attributes:
        index: the codebook's entry under each key, int32, [M].
        probability: posterior probability of that entry, [M]; 1/C for an empty memory.
        residual: norm of what is left of the memory without the pairs found, over the memory's. Near 0 (or the level of
            its noise): the pairs explain the memory. Near 1: too many pairs, do not trust them. 0 for an empty memory.
    """

    index: IndexArray
    probability: AnyShape
    residual: Scalar


def recall_jointly(
    memory: AnyVectors,
    keys: AnyVectors,
    codebook: AnyVectors,
    strength: AnyReal | float | int = 1.0,
    iterations: IndexArray | int = 64,
    *,
    pages: bool = False,
) -> JointRecall:
    """Finds the entry of a codebook under each key of a superposition m = Σ_i α_i k_i ⊛ c_{x_i} + noise.

    A read alone leaves the cross-talk of the other M − 1 pairs. Approximate message passing subtracts what is believed
    of them, and repeats. With z the residual, D the real numbers of the memory, p_i the belief on pair i:

        r_i = k_i† ⊛ z + u_i,    p_i = softmax_c((α_i Re⟨r_i, c⟩ − α_i² |c|²/2) / τ²),    τ² = |z|²/D
        u_i = α_i Σ_c p_ic c,    z ← m − Σ_i k_i ⊛ u_i + z Σ_i α_i² Σ_c p_ic (1 − p_ic) |c|² / (D τ²)

    From pairs of equal strength it recalls about 1.4 bits for each number of the memory, where `read` and `cleanup`
    recall 0.3; from strengths that fall geometrically, as `decay` makes them, several bits: the strong ones are found
    first and removed. It costs two M × N × C products an iteration, needs all keys, and a codebook without structure:
    correlated entries, or fewer than ten, break the estimate of τ; flat spectra (`unitary_key`) suit it best.
    `residual` tells whether it succeeded. Strengths may fall to about 10⁻⁶ of the first in float32, not further.

    Args:
        memory: m, [N]; with pages [a, N].
        keys: k, unitary, [M, N]; with pages [M, a, N].
        codebook: c, [C, N].
        strength: α > 0, a number or [M].
        iterations: at least 1; with 1 and equal norms it is `read` followed by `cleanup`.
        pages: as `ops.hologram.write`.
    Returns:
        JointRecall.
    Raises:
        ValueError: if dimensions, shapes or kinds differ, keys that are known are not unitary, or a number is out of
            range.
    References:
        Donoho, Maleki and Montanari, Message-passing algorithms for compressed sensing, PNAS 106 (2009) 18914; Rush,
        Greig and Venkataramanan, Capacity-achieving sparse superposition codes via approximate message passing
        decoding, IEEE Trans. Inf. Theory 63 (2017) 1476; Kleyko et al., Efficient decoding of compositional structure
        in holistic representations, Neural Computation 35 (2023) 1159 (1.40 bits a number, by other decoders).

    >>> import jax
    >>> from resonance_jax.ops.hologram import bundle, random_pattern, unitary_key
    >>> codebook, keys = random_pattern(jax.random.key(0), (16, 64)), unitary_key(jax.random.key(1), (12, 64))
    >>> found = recall_jointly(bundle(bind(codebook[2:14], keys)), keys, codebook)
    >>> print(found.index, f"{found.residual:.3f}")
    [ 2  3  4  5  6  7  8  9 10 11 12 13] 0.000
    """
    memory, keys, codebook, strength = _check(memory, keys, codebook, strength, iterations, pages)
    copies = keys.shape[1] if pages else 1
    numbers = memory.size * (2 if jnp.iscomplexobj(memory) else 1)
    squares = square_norm(codebook)
    resolution = jnp.finfo(squares.dtype).eps
    power = jnp.sum(square_norm(memory)) / numbers
    floor = jnp.where(power > 0, resolution**2 * power, 1)
    # What a match is rounded by; with a variance below it the softmax would be of noise, and overflow.
    rounding = copies * (16 * resolution * jnp.max(squares)) * strength[:, None] ** 2

    def spread(beliefs):
        """Σ_i k_i ⊛ u_i, and u_i."""
        u = strength[:, None] * jnp.matmul(beliefs, codebook, precision="highest")
        return jnp.sum(bind(u[:, None, :] if pages else u, keys), axis=0), u

    def iterate(_, state):
        beliefs, residual, correction = state
        believed, u = spread(beliefs)
        residual = memory - believed + correction * residual
        variance = jnp.maximum(jnp.sum(square_norm(residual)) / numbers, floor)
        read = unbind(residual, keys)
        read = (jnp.sum(read, axis=1) if pages else read) + copies * u
        match = strength[:, None] * inner(read, codebook)
        expected = copies * strength[:, None] ** 2 * squares / 2
        beliefs = jax.nn.softmax((match - expected) / jnp.maximum(variance, rounding), axis=-1)
        # Not Σ p |c|² − |Σ p c|²: its rounding, over a variance near 0, makes what has converged diverge.
        uncertain = jnp.matmul(beliefs * (1 - beliefs), squares, precision="highest")
        return beliefs, residual, copies * jnp.sum(strength**2 * uncertain) / (numbers * variance)

    beliefs = jnp.zeros((keys.shape[0], codebook.shape[0]), squares.dtype)
    start = beliefs, jnp.zeros_like(memory), jnp.zeros((), squares.dtype)
    beliefs = jax.lax.fori_loop(0, iterations, iterate, start)[0]
    index = jnp.argmax(beliefs, axis=-1)
    found, _ = spread(jax.nn.one_hot(index, codebook.shape[0], dtype=squares.dtype))
    left = jnp.sum(square_norm(memory - found)) / numbers
    share = jnp.sqrt(jnp.where(power > 0, left / jnp.where(power > 0, power, 1), 0))
    sure = jnp.where(power > 0, jnp.max(beliefs, axis=-1), 1 / codebook.shape[0])
    return JointRecall(index.astype(jnp.int32), sure, share)


def _check(memory, keys, codebook, strength, iterations, pages):
    codebook = check_codebook(codebook, 1)
    check_unitary("keys", keys)
    memory, keys = check_vectors(memory, keys, ("memory", "keys"))
    memory, codebook = check_vectors(memory, codebook, ("memory", "codebook"))
    axes = 2 if pages else 1
    if memory.ndim != axes or keys.ndim != axes + 1 or keys.shape[1:] != memory.shape:
        expected = "[a, N] and keys [M, a, N]" if pages else "[N] and keys [M, N]"
        raise ValueError(
            f"expected a memory {expected}, got {memory.shape} and {keys.shape}; use vmap for more."
        )
    if is_concrete(iterations) and iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}.")
    if is_concrete(strength) and not np.all(np.asarray(strength) > 0):
        raise ValueError("strength must be positive for every pair; leave out pairs that are gone.")
    dtype = jnp.promote_types(jnp.result_type(memory, keys, codebook), jnp.float32)
    memory, keys, codebook = (x.astype(dtype) for x in (memory, keys, codebook))
    strength = jnp.asarray(strength, jnp.finfo(dtype).dtype)
    if strength.shape not in ((), (keys.shape[0],)):
        raise ValueError(
            f"strength must be one number or {keys.shape[0]}, one for each key, got shape {strength.shape}."
        )
    return memory, keys, codebook, jnp.broadcast_to(strength, keys.shape[:1])
