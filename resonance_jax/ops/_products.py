"""Matrix products of bfloat16 that are summed in float32, forwards and backwards.

On a CPU with matrix units (AMX) they run at three to six times the speed of float32, if each product has one of the
fast forms: one that sums over the rows of its left factor is ten times slower, and autodiff of a float32 sum would mix
a float32 factor with a bfloat16 one.
"""

import jax
import jax.numpy as jnp


def product(a, b):
    """[..., *m, k] @ [..., k, n] with the same leading axes, in a's dtype, summed in float32 or wider.

    Several axes m of rows are made one, which is up to half again as fast in float32 with its gradients on a CPU; not
    where there are several devices: one of the axes may be sharded, and would be gathered.
    """
    b = b.astype(a.dtype)
    rows = a.shape[b.ndim - 2 : -1]
    if len(rows) > 1 and jax.device_count() == 1:
        flat = a.reshape(*b.shape[:-2], -1, a.shape[-1])
        return product(flat, b).reshape(*b.shape[:-2], *rows, b.shape[-1])
    return _narrow(a, b) if a.dtype == jnp.bfloat16 else _contract(a, b, b.ndim - 2)


# From 0.11 on some forms of a bfloat16 product that is summed in float32 end in UNIMPLEMENTED on a CPU.
_WIDEN_ON_CPU = jax.__version_info__ >= (0, 11)


def _contract(a, b, axis: int, count: int = 1, leading: int | None = None):
    """Sums over the last `count` axes of a and those of b from this one on; the first `leading` are a batch."""
    leading = b.ndim - 2 if leading is None else leading

    batch = tuple(range(leading))
    summed = tuple(range(a.ndim - count, a.ndim)), tuple(range(axis, axis + count))

    def multiply(a, b):
        return jax.lax.dot_general(
            a,
            b,
            (summed, (batch, batch)),
            precision=jax.lax.Precision.HIGHEST,  # float32 stays float32 where the default is TF32
            preferred_element_type=jnp.promote_types(a.dtype, jnp.float32),
        )

    if a.dtype != jnp.bfloat16 or not _WIDEN_ON_CPU:
        return multiply(a, b)
    # The same sums: a product of two bfloat16 numbers is exact in float32.
    return jax.lax.platform_dependent(
        a,
        b,
        cpu=lambda a, b: multiply(a.astype(jnp.float32), b.astype(jnp.float32)),
        default=multiply,
    )


def _columns_first(a, leading: int):
    """a with its last axis before its rows, in memory too: a plain transpose becomes a layout, of which XLA's CPU has
    no fast product (70 in place of 390 GF/s); neither an optimization barrier nor a cast keeps it from that."""
    turned = jnp.moveaxis(a, -1, leading)
    first, second = jnp.array_split(turned, 2, axis=leading)
    return jnp.concatenate([first, second], axis=leading)


@jax.custom_vjp
def _narrow(a, b):
    return _contract(a, b, b.ndim - 2)


def _narrow_forward(a, b):
    return _narrow(a, b), (a, b)


def _narrow_backward(residuals, cotangent):
    a, b = residuals
    cotangent = cotangent.astype(a.dtype)
    leading = b.ndim - 2
    to_a = _contract(cotangent, b, b.ndim - 1)
    turned = _columns_first(a, leading)
    to_b = _contract(turned, cotangent, leading, a.ndim - leading - 1, leading)
    return to_a.astype(a.dtype), to_b.astype(b.dtype)


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
    to_b = _contract(_columns_first(cotangent, a.ndim - 2), a, a.ndim - 2)
    return to_a.astype(a.dtype), to_b.astype(b.dtype)


_narrow_rows.defvjp(_narrow_rows_forward, _narrow_rows_backward)
