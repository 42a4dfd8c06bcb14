"""Quaternions q = w + xi + yj + zk as real arrays whose last axis is (w, x, y, z), after Hamilton: ij = k.

Every function broadcasts over the axes before the last, keeps the dtype (16-bit types are computed in float32 where a
root or an angle is taken), and is finite with finite gradients at q = 0 and on the real axis, as it says.
"""

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import AnyShape, ComplexPair, Quaternions, SO4Matrices, Vectors
from resonance_jax.ops._checks import check_nonzero, check_quaternions, is_concrete
from resonance_jax.ops._quaternion import (
    CONJUGATE,
    IMAGES,
    angle_over_sine,
    at_least_float32,
    cosine_and_sinc,
    floating,
    log_unit,
    product,
    same_type,
    scaled,
)


def hamilton_product(p: Quaternions, q: Quaternions) -> Quaternions:
    """Multiplies p q, in this order.

        w = p_w q_w − p_x q_x − p_y q_y − p_z q_z        x = p_w q_x + p_x q_w + p_y q_z − p_z q_y
        y = p_w q_y − p_x q_z + p_y q_w + p_z q_x        z = p_w q_z + p_x q_y − p_y q_x + p_z q_w

    Associative, not commutative, |p q| = |p| |q|.

    Args:
        p, q: wxyz, [..., 4], shapes that broadcast.
    Returns:
        p q, [..., 4].
    Raises:
        ValueError: if a last axis is not 4 or an argument is not real floating point.

    >>> import jax.numpy as jnp
    >>> i, j = jnp.array([0.0, 1.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 1.0, 0.0])
    >>> print(hamilton_product(i, j), hamilton_product(j, i))
    [0. 0. 0. 1.] [ 0.  0.  0. -1.]
    """
    p, q = same_type(check_quaternions("p", p), check_quaternions("q", q))
    return product(p, q)


def conjugate(q: Quaternions) -> Quaternions:
    """Negates the vector part: q† = w − xi − yj − zk, with (p q)† = q† p† and q q† = |q|².

    Args:
        q: wxyz, [..., 4].

    >>> import jax.numpy as jnp
    >>> print(conjugate(jnp.array([1.0, 2.0, 3.0, 4.0])))
    [ 1. -2. -3. -4.]
    """
    q = check_quaternions("q", q)
    return q * CONJUGATE.astype(q.dtype)


def norm(q: Quaternions) -> AnyShape:
    """Computes |q| = sqrt(w² + x² + y² + z²), with gradient q/|q|, taken as 0 at q = 0.

    The squares of a scaled q are summed, so that none over- or underflows.

    Args:
        q: wxyz, [..., 4].
    Returns:
        |q|, [...].

    >>> import jax.numpy as jnp
    >>> print(norm(jnp.array([1.0, 1.0, 1.0, -1.0])))
    2.0
    """
    q = check_quaternions("q", q)
    scale, unscaled, zero = scaled(q)
    size = scale[..., 0] * jnp.sqrt(jnp.sum(unscaled * unscaled, axis=-1))
    return jnp.where(zero[..., 0], 0, size).astype(q.dtype)


def normalize(q: Quaternions) -> Quaternions:
    """Divides by the norm: q/|q|; a zero quaternion becomes 1, the identity rotation, with gradient 0.

    Args:
        q: wxyz, [..., 4].
    Returns:
        Unit quaternions, [..., 4].

    >>> import jax.numpy as jnp
    >>> print(normalize(jnp.array([[0.0, 0.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0]])))
    [[0. 0. 0. 1.]
     [1. 0. 0. 0.]]
    """
    q = check_quaternions("q", q)
    _, unscaled, _ = scaled(q)
    return (unscaled / jnp.sqrt(jnp.sum(unscaled * unscaled, axis=-1, keepdims=True))).astype(
        q.dtype
    )


def inverse(q: Quaternions) -> Quaternions:
    """Inverts: q⁻¹ = q†/|q|², with q q⁻¹ = q⁻¹ q = 1.

    Args:
        q: wxyz, nonzero, [..., 4].
    Returns:
        q⁻¹, [..., 4]; inside a transformation, where values are not known, a zero quaternion gives 0.
    Raises:
        ValueError: if a quaternion whose value is known is zero.

    >>> import jax.numpy as jnp
    >>> print(inverse(jnp.array([0.0, 0.0, 2.0, 0.0])))
    [ 0.  -0.  -0.5 -0. ]
    """
    q = check_quaternions("q", q)
    check_nonzero("q", q, "a zero quaternion has no inverse")
    scale, unscaled, zero = scaled(q)
    result = conjugate(unscaled) / jnp.sum(unscaled * unscaled, axis=-1, keepdims=True) / scale
    return jnp.where(zero, 0, result).astype(q.dtype)


def exp(q: Quaternions) -> Quaternions:
    """Computes e^q = e^w (cos |v| + (sin |v|)/|v| · v) with v = xi + yj + zk.

    Args:
        q: wxyz, [..., 4]; |v| in radians.
    Returns:
        e^q, [..., 4], of norm e^w; smooth where e^w and |v|² do not overflow, beyond which nothing is promised.

    >>> import jax.numpy as jnp
    >>> print(jnp.round(exp(jnp.array([0.0, jnp.pi / 2, 0.0, 0.0])), 3))
    [-0.  1.  0.  0.]
    """
    q = check_quaternions("q", q)
    work = at_least_float32(q)
    v = work[..., 1:]
    cosine, sinc = cosine_and_sinc(jnp.sum(v * v, axis=-1, keepdims=True))
    result = jnp.exp(work[..., :1]) * jnp.concatenate([cosine, sinc * v], axis=-1)
    return result.astype(q.dtype)


def log(q: Quaternions) -> Quaternions:
    """Computes the principal logarithm ln |q| + v/|v| · arctan2(|v|, w), the inverse of `exp` for |v| < π.

    Args:
        q: wxyz, nonzero, [..., 4].
    Returns:
        log q, [..., 4], vector part of norm ≤ π. On the negative real axis, where any axis would do, it is πi and the
        gradient of the vector part is taken as 0. Inside a transformation a zero quaternion gives −∞ + 0i + 0j + 0k,
        with gradient 0.
    Raises:
        ValueError: if a quaternion whose value is known is zero.

    >>> import jax.numpy as jnp
    >>> print(log(jnp.array([0.0, 0.0, 1.0, 0.0])))
    [0.        0.        1.5707964 0.       ]
    """
    q = check_quaternions("q", q)
    check_nonzero("q", q, "a zero quaternion has no logarithm")
    scale, unscaled, zero = scaled(q)
    w, v = unscaled[..., :1], unscaled[..., 1:]
    s = jnp.sum(v * v, axis=-1, keepdims=True)
    factor, cut = angle_over_sine(w, s)
    axis = jnp.asarray([1, 0, 0], v.dtype)
    vector = jnp.where(cut, jnp.pi * axis, factor * v)
    real = jnp.log(scale) + 0.5 * jnp.log(w * w + s)
    result = jnp.concatenate([jnp.where(zero, -jnp.inf, real), jnp.where(zero, 0, vector)], axis=-1)
    return result.astype(q.dtype)


def slerp(p: Quaternions, q: Quaternions, fraction: AnyShape | float | int) -> Quaternions:
    """Interpolates along the shorter great circle: p (p⁻¹ ±q)^fraction, the sign that makes ⟨p, ±q⟩ ≥ 0.

    Args:
        p, q: nonzero quaternions, wxyz, [..., 4]; they are normalised first.
        fraction: 0 gives p, 1 gives ±q (q and −q are the same rotation); [...], broadcast.
    Returns:
        Unit quaternions, [..., 4].
    Raises:
        ValueError: if a quaternion whose value is known is zero.
    References:
        Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985.

    >>> import jax.numpy as jnp
    >>> one, i = jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.array([0.0, 1.0, 0.0, 0.0])
    >>> print(jnp.round(slerp(one, i, 1 / 3), 2))
    [0.87 0.5  0.   0.  ]
    """
    p, q = same_type(check_quaternions("p", p), check_quaternions("q", q))
    check_nonzero("p", p, "slerp needs rotations")
    check_nonzero("q", q, "slerp needs rotations")
    p, q = normalize(p), normalize(q)
    q = jnp.where(jnp.sum(p * q, axis=-1, keepdims=True) < 0, -q, q)
    step = jnp.asarray(fraction, p.dtype)[..., None] * log_unit(hamilton_product(conjugate(p), q))
    return hamilton_product(p, exp(step))


def from_angles(
    theta: AnyShape | float | int, omega: AnyShape | float | int, phi: AnyShape | float | int
) -> Quaternions:
    """Builds cos(θ/2) + sin(θ/2) [cos ω i + sin ω cos φ j + sin ω sin φ k], of unit norm.

    Args:
        theta: angle of the rotation in radians, [...].
        omega: polar angle of its axis from i in radians, [...].
        phi: azimuth of its axis around i, from j, in radians, [...].
    Returns:
        Unit quaternions, wxyz, [..., 4].

    >>> import jax.numpy as jnp
    >>> print(jnp.abs(jnp.round(from_angles(jnp.pi, jnp.pi / 2, 0.0), 3)))
    [0. 0. 1. 0.]
    """
    angles = jnp.broadcast_arrays(*floating(theta, omega, phi))
    theta, omega, phi = map(at_least_float32, angles)
    sine = jnp.sin(theta / 2)
    parts = (
        jnp.cos(theta / 2),
        sine * jnp.cos(omega),
        sine * jnp.sin(omega) * jnp.cos(phi),
        sine * jnp.sin(omega) * jnp.sin(phi),
    )
    return jnp.stack(parts, axis=-1).astype(angles[0].dtype)


def from_axis_angle(axis: Vectors, angle_radians: AnyShape | float | int) -> Quaternions:
    """Builds the rotation by an angle around an axis: cos(θ/2) + sin(θ/2) a/|a|.

    Args:
        axis: a, nonzero, of any length, [..., 3].
        angle_radians: θ, [...], broadcast.
    Returns:
        Unit quaternions, wxyz, [..., 4].
    Raises:
        ValueError: if the last axis is not 3, or an axis whose value is known is zero (inside a transformation it
            gives the identity).

    >>> import jax.numpy as jnp
    >>> print(jnp.round(from_axis_angle(jnp.array([0.0, 0.0, 2.0]), jnp.pi / 2), 3))
    [0.707 0.    0.    0.707]
    """
    axis = _check_vectors("axis", axis)
    check_nonzero("axis", axis, "a rotation needs an axis")
    half = at_least_float32(jnp.asarray(angle_radians, axis.dtype))[..., None] / 2
    _, unscaled, zero = scaled(axis)
    unit = jnp.where(zero, 0, unscaled / jnp.sqrt(jnp.sum(unscaled**2, axis=-1, keepdims=True)))
    shape = jnp.broadcast_shapes(unit.shape[:-1], half.shape[:-1])
    cosine = jnp.where(zero, 1, jnp.cos(half))
    parts = jnp.broadcast_to(cosine, (*shape, 1)), jnp.sin(half) * unit
    return jnp.concatenate(parts, axis=-1).astype(axis.dtype)


def rotate(vector: Vectors, q: Quaternions) -> Vectors:
    """Rotates vectors: the vector part of q v q⁻¹, for any q ≠ 0.

        v' = v + 2/|q|² · (w (u × v) + u × (u × v)),    u = (x, y, z)

    Args:
        vector: v, [..., 3].
        q: wxyz, nonzero, [..., 4], broadcast.
    Returns:
        v', [..., 3]; inside a transformation a zero q leaves v as it is.
    Raises:
        ValueError: if the last axes are not 3 and 4, or a quaternion whose value is known is zero.

    >>> import jax.numpy as jnp
    >>> turn = from_axis_angle(jnp.array([0.0, 0.0, 1.0]), jnp.pi / 2)
    >>> print(jnp.abs(jnp.round(rotate(jnp.array([1.0, 0.0, 0.0]), turn), 3)))
    [0. 1. 0.]
    """
    vector, q = same_type(_check_vectors("vector", vector), check_quaternions("q", q))
    check_nonzero("q", q, "a rotation needs a nonzero quaternion")
    unit = normalize(q)
    w, u = unit[..., :1], unit[..., 1:]
    across = jnp.cross(u, vector)
    return vector + 2 * (w * across + jnp.cross(u, across))


def rotate_so4(psi: Quaternions, left: Quaternions, right: Quaternions) -> Quaternions:
    """Multiplies from both sides: q_L Ψ q_R†, for unit q_L and q_R a rotation of ℝ⁴ (and every one has this form).

    (q_L, q_R) and (−q_L, −q_R) give the same map. Quaternions that are not of unit norm scale by |q_L| |q_R|. Where
    `left` and `right` are one pair for all Ψ [..., d, 4], or one pair a channel [d, 4], the map is a product with one
    (block-diagonal) matrix, whose gradient is matrix products too.

    Args:
        psi: Ψ, wxyz, [..., 4].
        left, right: q_L, q_R, wxyz, [..., 4], broadcast.
    Returns:
        [..., 4].
    Raises:
        ValueError: if a last axis is not 4, or a q_L or q_R whose value is known is zero.

    >>> import jax.numpy as jnp
    >>> psi, i = jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([0.0, 1.0, 0.0, 0.0])
    >>> print(rotate_so4(psi, i, i))
    [ 1.  2. -3. -4.]
    """
    psi, left, right = same_type(
        check_quaternions("psi", psi),
        check_quaternions("left", left),
        check_quaternions("right", right),
    )
    check_nonzero("left", left, "q_L must be a unit quaternion; see normalize")
    check_nonzero("right", right, "q_R must be a unit quaternion; see normalize")
    shape = jnp.broadcast_shapes(left.shape, right.shape)
    if psi.ndim > 2 and len(shape) <= 2 and shape[:-1] in ((), (1,), psi.shape[-2:-1]):
        return _rotate_channels(psi, so4_matrix(left, right))
    # In one fusion XLA would compute the inner product once for each component of the outer one.
    inner = jax.lax.optimization_barrier(product(left, psi))
    return product(inner, conjugate(right))


def _rotate_channels(psi, matrix):
    """Applies matrices [4, 4] or [d, 4, 4] to Ψ [..., d, 4]."""
    if matrix.ndim == 2 or matrix.shape[0] == 1:
        return jnp.matmul(psi, matrix.reshape(4, 4).T, precision="highest")
    channels = psi.shape[-2]
    blocks = (
        jnp.eye(channels, dtype=psi.dtype)[:, None, :, None]
        * jnp.swapaxes(matrix, 1, 2)[:, :, None]
    )
    flat = psi.reshape(*psi.shape[:-2], 4 * channels)
    return jnp.matmul(
        flat, blocks.reshape(4 * channels, 4 * channels), precision="highest"
    ).reshape(psi.shape)


def left_matrix(q: Quaternions) -> SO4Matrices:
    """Computes the matrix M with M (w, x, y, z)ᵀ = q Ψ.

    Args:
        q: wxyz, [..., 4].
    Returns:
        M, [..., 4, 4].

    >>> import jax.numpy as jnp
    >>> print(left_matrix(jnp.array([0.0, 1.0, 0.0, 0.0]))[:, 2])  # i j = k
    [0. 0. 0. 1.]
    """
    q = check_quaternions("q", q)
    return jnp.einsum("...i,ikl->...kl", q, IMAGES[:, 0].astype(q.dtype), precision="highest")


def so4_matrix(left: Quaternions, right: Quaternions) -> SO4Matrices:
    """Computes the matrix M with M (w, x, y, z)ᵀ = q_L Ψ q_R†; for unit q_L and q_R orthogonal, determinant +1.

    Args:
        left, right: q_L, q_R, wxyz, [..., 4], broadcast.
    Returns:
        M, [..., 4, 4].
    Raises:
        ValueError: if a last axis is not 4, or a q_L or q_R whose value is known is zero.

    >>> import jax.numpy as jnp
    >>> one, i = jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.array([0.0, 1.0, 0.0, 0.0])
    >>> print(so4_matrix(i, one)[:, 0])  # i · 1 = i
    [0. 1. 0. 0.]
    """
    left, right = same_type(check_quaternions("left", left), check_quaternions("right", right))
    check_nonzero("left", left, "q_L must be a unit quaternion; see normalize")
    check_nonzero("right", right, "q_R must be a unit quaternion; see normalize")
    images = IMAGES.astype(left.dtype)
    return jnp.einsum("...i,...j,ijkl->...kl", left, right, images, precision="highest")


def from_so4_matrix(matrix: SO4Matrices) -> tuple[Quaternions, Quaternions]:
    """Splits a rotation of ℝ⁴ into its two unit quaternions, the inverse of `so4_matrix` up to a common sign.

    The 16 products of a component of q_L with one of q_R are linear in M; they form a matrix of rank 1, whose
    longest row and the product with it are q_R and q_L.

    Args:
        matrix: M, orthogonal with determinant +1, [..., 4, 4].
    Returns:
        (q_L, q_R), wxyz, each [..., 4]; of the two answers the one in which the component of q_L that is largest in
        absolute value is positive.
    Raises:
        ValueError: if the shape is not [..., 4, 4], or a matrix whose value is known is no rotation (to the square root
            of its dtype's precision).
    References:
        Mebius, A matrix-based proof of the quaternion representation theorem for four-dimensional rotations,
        arXiv:math/0501249.

    >>> import jax.numpy as jnp
    >>> left, right = from_so4_matrix(jnp.eye(4))
    >>> print(left, right)
    [1. 0. 0. 0.] [1. 0. 0. 0.]
    """
    matrix = jnp.asarray(matrix)
    _check_rotation(matrix)
    work = at_least_float32(matrix)
    outer = jnp.einsum("ijkl,...kl->...ij", IMAGES / 4, work, precision="highest")  # q_L[i] q_R[j]
    # Pick the longest row: no division by a small number, and it is not 0 for a rotation.
    row = jnp.argmax(jnp.sum(outer * outer, axis=-1), axis=-1)[..., None, None]
    right = normalize(jnp.take_along_axis(outer, row, axis=-2)[..., 0, :])
    left = normalize(jnp.einsum("...ij,...j->...i", outer, right, precision="highest"))
    return left.astype(matrix.dtype), right.astype(matrix.dtype)


def to_complex_pair(q: Quaternions) -> ComplexPair:
    """Splits q = a + b j into complex a = w + ix and b = y + iz.

    Left multiplication of q by a complex number multiplies both.

    Args:
        q: wxyz, [..., 4].
    Returns:
        (a, b), complex, [..., 2].

    >>> import jax.numpy as jnp
    >>> print(to_complex_pair(jnp.array([1.0, 2.0, 3.0, 4.0])))
    [1.+2.j 3.+4.j]
    """
    q = at_least_float32(check_quaternions("q", q))
    return jax.lax.complex(q[..., 0::2], q[..., 1::2])


def from_complex_pair(pair: ComplexPair) -> Quaternions:
    """Joins complex (a, b) to the quaternion a + b j, the inverse of `to_complex_pair`.

    Args:
        pair: (a, b), complex, [..., 2].
    Returns:
        wxyz, real, [..., 4].
    Raises:
        ValueError: if the pair is not complex or the last axis is not 2.

    >>> import jax.numpy as jnp
    >>> print(from_complex_pair(jnp.array([1 + 2j, 3 + 4j])))
    [1. 2. 3. 4.]
    """
    pair = jnp.asarray(pair)
    if not jnp.issubdtype(pair.dtype, jnp.complexfloating) or pair.shape[-1:] != (2,):
        raise ValueError(
            f"pair must be complex with a last axis of 2 (w + ix, y + iz), got {pair.dtype} of shape {pair.shape}."
        )
    return jnp.stack([pair.real, pair.imag], axis=-1).reshape(*pair.shape[:-1], 4)


def random_unit(key: jax.Array, shape: tuple[int, ...] = (), dtype=jnp.float32) -> Quaternions:
    """Draws unit quaternions uniformly from the sphere S³, hence rotations uniformly.

    Args:
        key: PRNG key.
        shape: of the result before its last axis.
        dtype: real floating point.
    Returns:
        wxyz, [*shape, 4].

    >>> import jax
    >>> random_unit(jax.random.key(0), (2, 3)).shape
    (2, 3, 4)
    """
    return normalize(jax.random.normal(key, (*shape, 4), dtype))


def _check_vectors(name: str, x):
    x = jnp.asarray(x)
    if x.shape[-1:] != (3,) or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{name} must be real floating point with a last axis of 3 (x, y, z), got {x.dtype} of shape {x.shape}."
        )
    return x


def _check_rotation(matrix) -> None:
    """Requires [..., 4, 4], and of known values that they are orthogonal with determinant +1."""
    if matrix.shape[-2:] != (4, 4) or not jnp.issubdtype(matrix.dtype, jnp.floating):
        raise ValueError(
            f"matrix must be real floating point of shape [..., 4, 4], got {matrix.dtype} of shape {matrix.shape}."
        )
    if not is_concrete(matrix):
        return
    values = np.asarray(matrix, np.float64)
    error = np.abs(values @ np.swapaxes(values, -1, -2) - np.eye(4)).max(initial=0.0)
    if not error <= np.sqrt(float(jnp.finfo(matrix.dtype).eps)):
        raise ValueError(
            f"matrix must be orthogonal, got |M Mᵀ − 1| = {error:.2g}; orthogonalise it first, for instance by the "
            "polar factor U V of its singular value decomposition."
        )
    if np.any(np.linalg.det(values) < 0):
        raise ValueError("matrix must have determinant +1, got −1: a reflection is not q_L Ψ q_R†.")
