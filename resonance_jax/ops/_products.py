"""Matrix products of bfloat16 that are summed in float32, forwards and backwards.

On a CPU with matrix units (AMX) they run at three to six times the speed of float32, if each product has one of the
fast forms: one that sums over the rows of its left factor is ten times slower, and autodiff of a float32 sum would mix
a float32 factor with a bfloat16 one.
"""

import jax
import jax.numpy as jnp


def product(a, b):
    """[..., m, k] @ [..., k, n] with the same leading axes, in a's dtype, summed in float32 or wider."""
    b = b.astype(a.dtype)
    return _narrow(a, b) if a.dtype == jnp.bfloat16 else _contract(a, b, a.ndim - 2)


# From 0.11 on some forms of a bfloat16 product that is summed in float32 end in UNIMPLEMENTED on a CPU.
_WIDEN_ON_CPU = jax.__version_info__ >= (0, 11)


def _contract(a, b, axis: int):
    """Sums over the last axis of a and this one of b."""
    if a.dtype != jnp.bfloat16 or not _WIDEN_ON_CPU:
        return _multiply(a, b, axis)
    # The same sums: a product of two bfloat16 numbers is exact in float32.
    return jax.lax.platform_dependent(
        a,
        b,
        cpu=lambda a, b: _multiply(a.astype(jnp.float32), b.astype(jnp.float32), axis),
        default=lambda a, b: _multiply(a, b, axis),
    )


def _multiply(a, b, axis: int):
    leading = tuple(range(a.ndim - 2))
    return jax.lax.dot_general(
        a,
        b,
        (((a.ndim - 1,), (axis,)), (leading, leading)),
        precision=jax.lax.Precision.HIGHEST,  # float32 stays float32 where the default is TF32
        preferred_element_type=jnp.promote_types(a.dtype, jnp.float32),
    )


def _transposed(a):
    """a with its last axes swapped, in memory too: a plain transpose becomes a layout, of which XLA's CPU has no fast
    product (70 in place of 390 GF/s); neither an optimization barrier nor a cast keeps it from that."""
    turned = jnp.swapaxes(a, -1, -2)
    half = turned.shape[-2] // 2
    return jnp.concatenate([turned[..., :half, :], turned[..., half:, :]], axis=-2)


@jax.custom_vjp
def _narrow(a, b):
    return _contract(a, b, a.ndim - 2)


def _narrow_forward(a, b):
    return _narrow(a, b), (a, b)


def _narrow_backward(residuals, cotangent):
    a, b = residuals
    cotangent = cotangent.astype(a.dtype)
    turned = _transposed(a)
    to_a = _contract(cotangent, b, a.ndim - 1)
    return to_a.astype(a.dtype), _contract(turned, cotangent, a.ndim - 2).astype(b.dtype)


_narrow.defvjp(_narrow_forward, _narrow_backward)


def product_of_rows(a, b):
    """[..., m, k] and [..., n, k] → [..., m, n], a bᵀ, as `product`; b may be large: no transpose of it is needed."""
    b = b.astype(a.dtype)
    return _narrow_rows(a, b) if a.dtype == jnp.bfloat16 else _contract(a, b, a.ndim - 1)


@jax.custom_vjp
def _narrow_rows(a, b):
    return _contract(a, b, a.ndim - 1)


def _narrow_rows_forward(a, b):
    return _narrow_rows(a, b), (a, b)


def _narrow_rows_backward(residuals, cotangent):
    a, b = residuals
    cotangent = cotangent.astype(a.dtype)
    to_a = _contract(cotangent, b, a.ndim - 2)
    return to_a.astype(a.dtype), _contract(_transposed(cotangent), a, a.ndim - 2).astype(b.dtype)


_narrow_rows.defvjp(_narrow_rows_forward, _narrow_rows_backward)
