"""The arithmetic under `ops.quaternion`: the product and its derivative, scaled sums of squares, series near 0."""

import jax
import jax.numpy as jnp
import numpy as np

CONJUGATE = np.array(
    [1, -1, -1, -1], np.int8
)  # as int8 it takes on the dtype of what it multiplies
# Below these arguments a function of s = |v|² is summed as a series: quotients like (sin θ)/θ lose digits there, and
# their derivatives divide 0 by 0.
_SERIES_ANGLE = 0.25
_SERIES_TANGENT = 1 / 64


@jax.custom_jvp
def product(p, q):
    """Multiplies; an entry of the result is chosen from four, which XLA fuses into one pass, unlike a concatenation."""
    shape = jnp.broadcast_shapes(p.shape, q.shape)
    component = jax.lax.broadcasted_iota(jnp.int32, shape, len(shape) - 1)
    w, x, y, z = components(p, q)
    return jnp.where(
        component < 2, jnp.where(component == 0, w, x), jnp.where(component == 2, y, z)
    )


@product.defjvp
def product_jvp(primals, tangents):
    """dp q + p dq, concatenated: what a concatenation transposes to is as fast as the product itself."""
    (p, q), (dp, dq) = primals, tangents
    change = jnp.concatenate(components(dp, q), axis=-1) + jnp.concatenate(
        components(p, dq), axis=-1
    )
    return product(p, q), change


def components(p, q):
    """Returns the four components of p q, each [..., 1]."""
    a, b, c, d = (p[..., i : i + 1] for i in range(4))
    w, x, y, z = (q[..., i : i + 1] for i in range(4))
    return (
        a * w - b * x - c * y - d * z,
        a * x + b * w + c * z - d * y,
        a * y - b * z + c * w + d * x,
        a * z + b * y - c * x + d * w,
    )


def _two_sided_images() -> np.ndarray:
    """Returns the matrix [k, l] of Ψ → e_i Ψ e_j† for all units, [i, j, k, l]: orthogonal to each other, |·|² = 4."""
    units = np.eye(4, dtype=np.float32)
    left, right = np.broadcast_arrays(units[:, None], units * CONJUGATE)
    images = np.empty((4, 4, 4, 4), np.float32)
    for column, unit in enumerate(units):
        inner = np.concatenate(components(left, np.broadcast_to(unit, left.shape)), axis=-1)
        images[..., column] = np.concatenate(components(inner, right), axis=-1)
    return images


IMAGES = _two_sided_images()


def scaled(q):
    """Returns (scale [..., 1], q/scale, where q is 0), at least float32; q/scale is 1 where q is 0.

    Every function of q/scale here is invariant under the scale or corrected for it, so it is held constant, and no
    square of q/scale over- or underflows.
    """
    q = at_least_float32(q)
    scale = jax.lax.stop_gradient(jnp.max(jnp.abs(q), axis=-1, keepdims=True))
    zero = scale < jnp.finfo(q.dtype).tiny
    scale = jnp.where(zero, 1, scale)
    one = jnp.asarray(np.eye(1, q.shape[-1])[0], q.dtype)
    return scale, jnp.where(zero, one, q / scale), zero


def cosine_and_sinc(s):
    """Returns cos √s and (sin √s)/√s for s ≥ 0, smooth at 0."""
    small = s < _SERIES_ANGLE
    root = jnp.sqrt(jnp.where(small, 1, s))
    cosine = sinc = jnp.ones_like(s)
    for n in range(8, 0, -1):  # Horner; the first term left out is 1e-18 of the sum
        cosine = 1 - s / ((2 * n - 1) * (2 * n)) * cosine
        sinc = 1 - s / ((2 * n) * (2 * n + 1)) * sinc
    return jnp.where(small, cosine, jnp.cos(root)), jnp.where(small, sinc, jnp.sin(root) / root)


def angle_over_sine(w, s):
    """Returns (arctan2(√s, w)/√s, where it is infinite: s = 0 and w ≤ 0)."""
    cut = (w <= 0) & (s < jnp.finfo(s.dtype).tiny)
    small = (w > 0) & (s < _SERIES_TANGENT * w * w)
    safe_w = jnp.where(small, w, 1)
    ratio = jnp.where(small, s / (safe_w * safe_w), 0)
    series = jnp.full_like(ratio, 1 / 17)
    for n in range(7, -1, -1):
        series = 1 / (2 * n + 1) - ratio * series
    root = jnp.sqrt(jnp.where(small | cut, 1, s))
    direct = jnp.arctan2(root, jnp.where(small | cut, 1, w)) / root
    return jnp.where(small, series / safe_w, direct), cut


def log_unit(q):
    """Computes the logarithm of q with |q| = 1 and w ≥ 0, without looking at values."""
    work = at_least_float32(q)
    w, v = work[..., :1], work[..., 1:]
    factor, _ = angle_over_sine(w, jnp.sum(v * v, axis=-1, keepdims=True))
    return jnp.concatenate([jnp.zeros_like(w), factor * v], axis=-1).astype(q.dtype)


def at_least_float32(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def same_type(*arrays):
    dtype = jnp.result_type(*arrays)
    return tuple(array.astype(dtype) for array in arrays)


def floating(*values):
    """Returns arrays of one floating dtype; that of whole numbers is JAX's default."""
    arrays = [jnp.asarray(value) for value in values]
    dtype = jnp.result_type(*arrays)
    dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)
    return tuple(array.astype(dtype) for array in arrays)
