"""Laws of ops/_products.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops._products import product

SHAPES = (3, 8, 5), (3, 5, 6)  # of a and b


def factors(dtype) -> tuple[jax.Array, ...]:
    """a, b, and a cotangent of their product, which is float32 or wider."""
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES)
    return a, b, jnp.asarray(rng.standard_normal((3, 8, 6)), jnp.promote_types(dtype, jnp.float32))


@jax.jit
def with_gradients(a, b, cotangent):
    y, pull = jax.vjp(product, a, b)
    return y, *pull(cotangent)


def in_float64(a, b, cotangent):
    a, b, cotangent = (np.asarray(values, np.float64) for values in (a, b, cotangent))
    return a @ b, cotangent @ b.swapaxes(1, 2), a.swapaxes(1, 2) @ cotangent


@pytest.mark.parametrize(
    ("dtype", "exact", "rounded"), [("bfloat16", 1e-6, 2**-7), ("float32", 1e-6, 1e-6)]
)
def test_product_and_gradients(dtype, exact, rounded):
    """Factors are what they are: the product is exact to float32; cotangents and gradients are rounded to x's dtype."""
    given = factors(dtype)
    y, to_a, to_b = with_gradients(*given)
    assert y.dtype == jnp.float32
    assert to_a.dtype == to_b.dtype == dtype
    expected = in_float64(*given)
    for values, wanted, tolerance in zip(
        (y, to_a, to_b), expected, (exact, rounded, rounded), strict=True
    ):
        error = np.linalg.norm(np.asarray(values, np.float64) - wanted) / np.linalg.norm(wanted)
        assert error < tolerance


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_rows_of_several_axes(dtype, devices, monkeypatch):
    """As one axis of rows, whether they are made one or, as one may be sharded, left as they are."""
    a, b, cotangent = factors(dtype)
    expected = with_gradients(a, b, cotangent)
    monkeypatch.setattr(jax, "device_count", lambda: devices)
    split, pull = jax.vjp(product, a.reshape(3, 2, 4, 5), b)
    assert split.shape == (3, 2, 4, 6)
    to_a, to_b = pull(cotangent.reshape(3, 2, 4, 6))
    for values, wanted in zip((split, to_a, to_b), expected, strict=True):
        values, wanted = np.asarray(values, np.float32), np.asarray(wanted, np.float32)
        np.testing.assert_allclose(values.reshape(wanted.shape), wanted, rtol=2**-8, atol=1e-5)


def test_float32_is_the_matrix_product():
    a, b, _ = factors("float32")
    np.testing.assert_array_equal(
        jax.jit(product)(a, b), jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))(a, b)
    )


def test_float64(x64):
    given = factors("float64")
    for values, wanted in zip(with_gradients(*given), in_float64(*given), strict=True):
        assert values.dtype == jnp.float64
        np.testing.assert_allclose(values, wanted, rtol=1e-12, atol=1e-13)


def test_a_wider_second_factor_is_rounded_and_gets_a_gradient_of_its_own_dtype():
    a, _, cotangent = factors("bfloat16")
    _, b, _ = factors("float32")
    y, to_a, to_b = with_gradients(a, b, cotangent)
    rounded = with_gradients(a, b.astype(jnp.bfloat16), cotangent)
    assert (y.dtype, to_a.dtype, to_b.dtype) == (jnp.float32, jnp.bfloat16, jnp.float32)
    for values, wanted in zip((y, to_a, to_b), rounded, strict=True):
        np.testing.assert_array_equal(values.astype(jnp.float32), wanted.astype(jnp.float32))


def test_vmap_and_one_matrix():
    a, b, cotangent = factors("bfloat16")
    y = with_gradients(a, b, cotangent)
    again = jax.jit(jax.vmap(with_gradients))(a, b, cotangent)
    for values, wanted in zip(again, y, strict=True):
        np.testing.assert_allclose(
            values.astype(jnp.float32), wanted.astype(jnp.float32), rtol=1e-6, atol=1e-6
        )
