"""Products, norms and trace-time checks of the vectors of holographic memory."""

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.ops._checks import is_concrete


def inner(query, codebook):
    """Re⟨q, c⟩, [..., C]."""
    product = jnp.einsum("...n,cn->...c", query, jnp.conj(codebook), precision="highest")
    return jnp.real(product)


def square_norm(x):
    """Square norm along the last axis."""
    return jnp.sum(jnp.real(x) ** 2 + jnp.imag(x) ** 2, axis=-1)


def norm(x):
    """Euclidean norm along the last axis, with gradient 0 at 0."""
    # By the largest part, so that no square overflows or vanishes.
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True))
    scale = jnp.where(largest > 0, largest, 1)
    square = square_norm(x / scale)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0) * scale[..., 0]


def check_vectors(a, b, names: tuple[str, str]) -> tuple[jax.Array, jax.Array]:
    """Returns both as arrays; requires real or complex vectors, both of one kind and one dimension."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    for name, x in zip(names, (a, b), strict=True):
        if not jnp.issubdtype(x.dtype, jnp.inexact) or x.ndim < 1:
            raise ValueError(
                f"{name} must be real or complex floating point [..., N], got {x.dtype} of shape {x.shape}; cast it."
            )
    if jnp.iscomplexobj(a) != jnp.iscomplexobj(b):
        raise ValueError(
            f"{names[0]} and {names[1]} must both be real or both phasors, got {a.dtype} and {b.dtype}; draw both with "
            "the same kind."
        )
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same dimension, got {a.shape[-1]} and {b.shape[-1]}; for a "
            "larger memory use pages."
        )
    return a, b


def check_unitary(name: str, key) -> None:
    """Requires of keys that are known that their Fourier coefficients (phasors: components) have modulus 1."""
    if not is_concrete(key):
        return
    key = np.asarray(key)
    if not jnp.issubdtype(key.dtype, jnp.inexact):
        return  # check_vectors says it
    wide = key.astype(np.promote_types(key.dtype, np.float32))
    modulus = np.abs(wide if np.iscomplexobj(key) else np.fft.rfft(wide))
    tolerance = 16 * np.sqrt(key.shape[-1]) * float(jnp.finfo(key.dtype).eps)
    off = float(np.max(np.abs(modulus - 1), initial=0))
    if not off <= tolerance:
        what = "zero" if not np.any(key) else "not unitary"
        raise ValueError(
            f"{name} is {what}: a modulus of its spectrum differs from 1 by {off:.3g}; draw it with unitary_key or "
            "make it with phase_key."
        )


def check_codebook(codebook, k: int) -> jax.Array:
    """Returns a codebook [C, N] as an array; requires C >= k."""
    codebook = jnp.asarray(codebook)
    if codebook.ndim != 2 or not 1 <= k <= codebook.shape[0]:
        raise ValueError(
            f"a codebook [C, N] of at least {k} entries is needed, got shape {codebook.shape}."
        )
    return codebook
