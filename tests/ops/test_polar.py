"""Laws and values of ops/polar.py."""

import chex
import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops import polar

# Compiled whole: a primitive at a time, each shape would compile a dozen programs.
from_polar = jax.jit(polar.from_polar)
to_polar = jax.jit(polar.to_polar)
polar_gradient = jax.jit(polar.polar_gradient)
complex_softmax = jax.jit(polar.complex_softmax, static_argnames="axis")
SHAPES = ((), (1,), (3, 1, 2))
# Zero, the axes, the cut, and moduli whose squares leave float32.
SINGULAR = np.array(
    [0, 1, -1, 1j, -1j, 1e-30, -1e-30j, 1e-25 + 1e-25j, 1e30 - 1e30j, -1e-37, 1e-40], np.complex64
)


def complex_arrays(limit: float):
    """Draws complex64 arrays of each shape, near 0 and on the axes too."""
    part = st.floats(-limit, limit, width=32, allow_subnormal=False)
    number = st.builds(complex, part, part)
    return st.sampled_from(SHAPES).flatmap(lambda s: hnp.arrays(np.complex64, s, elements=number))


def normal(seed: int, *shape: int) -> np.ndarray:
    """Returns complex standard normal values in complex128."""
    real, imaginary = np.random.default_rng(seed).standard_normal((2, *shape))
    return real + 1j * imaginary


@jax.jit
def loss(w):
    """A real loss that is neither holomorphic nor invariant under rotation."""
    a = jnp.array([1.0 - 2.0j, 0.5j, -0.3 + 0.1j])
    return jnp.sum((a * w**2).real + jnp.abs(w) ** 3 + w.imag)


def central_difference(function, at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Differentiates a scalar function of a real vector, entry by entry."""
    steps = step * np.eye(len(at))
    return np.array([(function(at + s) - function(at - s)) / (2 * step) for s in steps])


def softmax_twin(z: np.ndarray) -> np.ndarray:
    """Weighs each row of z by the softmax of its moduli, one number at a time."""
    y = np.empty_like(z)
    for row in np.ndindex(z.shape[:-1]):
        largest = max(abs(number) for number in z[row])
        total = sum(np.exp(abs(number) - largest) for number in z[row])
        for j, number in enumerate(z[row]):
            y[row][j] = np.exp(abs(number) - largest + 1j * np.angle(number)) / total
    return y


@hypothesis.given(complex_arrays(2.0**50))
def test_from_polar_inverts_to_polar(z):
    back = np.asarray(from_polar(*to_polar(jnp.asarray(z))))
    assert back.shape == z.shape
    np.testing.assert_array_less(np.abs(back - z), 1e-6 * np.abs(z) + 1e-37)


@hypothesis.given(complex_arrays(2.0**50))
def test_to_polar_gives_modulus_and_principal_argument(z):
    magnitude, phase = (np.asarray(part) for part in to_polar(jnp.asarray(z)))
    assert np.all(magnitude >= 0) and np.all(np.abs(phase) <= np.float32(np.pi))
    np.testing.assert_allclose(magnitude, np.abs(z.astype(complex)), rtol=1e-6, atol=1e-37)
    # −π and π are the same angle for a part that has underflowed or a negative zero.
    difference = phase - np.angle(z.astype(complex))
    np.testing.assert_array_less(np.abs(np.exp(1j * difference) - 1), 1e-6)


@hypothesis.given(complex_arrays(1024.0), st.integers(0, 2**16))
def test_polar_gradient_keeps_the_gradients_modulus(w, seed):
    w = np.where(np.abs(w) < 1e-3, np.complex64(1e-3), w)
    g = normal(seed, *w.shape).astype(np.complex64)
    magnitude, phase = polar_gradient(jnp.asarray(w), jnp.asarray(g))
    size = np.abs(g) ** 2
    np.testing.assert_allclose(magnitude**2 + phase**2 / np.abs(w) ** 2, size, 2e-5, 1e-30)


@hypothesis.given(complex_arrays(50.0), st.floats(-3, 3))
def test_complex_softmax_laws(z, angle):
    z = np.atleast_1d(z)
    y = np.asarray(complex_softmax(jnp.asarray(z)))
    np.testing.assert_allclose(np.abs(y).sum(-1), 1, rtol=2e-6)
    aligned = y * np.conj(z)  # a phase that is kept makes this real and positive
    np.testing.assert_array_less(np.abs(aligned - np.abs(aligned)), 1e-5 * np.abs(z) + 1e-30)
    hypothesis.assume(np.all(np.abs(z) > 1e-3))
    turn = np.complex64(np.exp(1j * angle))
    np.testing.assert_allclose(complex_softmax(jnp.asarray(turn * z)), turn * y, 2e-4, 1e-6)


def test_values_match_numpy(x64):
    z = normal(0, 3, 1, 2)
    magnitude, phase = to_polar(z)
    np.testing.assert_allclose(magnitude, np.abs(z), rtol=1e-14)
    np.testing.assert_allclose(phase, np.angle(z), rtol=1e-14)
    np.testing.assert_allclose(from_polar(-magnitude, phase), -z, rtol=1e-14)
    z = normal(1, 2, 3, 4)
    np.testing.assert_allclose(complex_softmax(z), softmax_twin(z), rtol=1e-13)
    middle = np.swapaxes(softmax_twin(np.swapaxes(z, 1, 2)), 1, 2)
    np.testing.assert_allclose(complex_softmax(z, axis=1), middle, rtol=1e-13)


def test_complex_softmax_of_non_negative_numbers_is_the_softmax():
    x = jnp.array([[0.0, 1.0, 5.0], [2.0, 0.0, 0.0]])
    chex.assert_trees_all_close(
        complex_softmax(x.astype(complex)).real, jax.nn.softmax(x), rtol=1e-6
    )


def test_complex_softmax_is_stable_up_to_1e4_and_beyond():
    z = jnp.array([1e4, 1e4j, -9999.0, 0.0, 1e-30])
    expected = np.array([1, 1j, -np.exp(-1.0), 0, 0]) / (2 + np.exp(-1.0))
    np.testing.assert_allclose(complex_softmax(z), expected, atol=1e-6)
    chex.assert_tree_all_finite(complex_softmax(1e33 * z))

    def total(z):
        y = complex_softmax(z)
        return jnp.sum(y.real * jnp.arange(5.0) + y.imag)

    chex.assert_tree_all_finite(jax.jit(jax.grad(total))(z))


def test_polar_gradient_matches_finite_differences(x64):
    w = normal(2, 3)
    r, phi = np.abs(w), np.angle(w)
    gradient = polar_gradient(w, jax.grad(loss)(w))
    by_r = central_difference(lambda r: loss(r * np.exp(1j * phi)), r)
    by_phi = central_difference(lambda phi: loss(r * np.exp(1j * phi)), phi)
    np.testing.assert_allclose(gradient.magnitude, by_r, rtol=1e-7)
    np.testing.assert_allclose(gradient.phase, by_phi, rtol=1e-7)


def test_polar_gradient_matches_autodiff_through_from_polar(x64):
    w = normal(3, 3)
    through = jax.grad(lambda r, phi: loss(from_polar(r, phi)), (0, 1))(*to_polar(w))
    chex.assert_trees_all_close(tuple(polar_gradient(w, jax.grad(loss)(w))), through, rtol=1e-12)


def test_phase_formula_in_circulation_is_minus_the_magnitude_gradient(x64):
    w = normal(4, 3)
    r, phi = np.abs(w), np.angle(w)
    by_r = central_difference(lambda r: loss(r * np.exp(1j * phi)), r)
    by_phi = central_difference(lambda phi: loss(r * np.exp(1j * phi)), phi)
    g = np.asarray(jax.grad(loss)(w))
    np.testing.assert_allclose((g * (-1j * w) / np.abs(w)).imag, -by_r, rtol=1e-7)
    for convention in (g, np.conj(g)):  # JAX's and PyTorch's
        circulating = (convention * (-1j * w) / np.abs(w)).imag
        assert np.all(np.abs(circulating - by_phi) > 0.1 * np.abs(by_phi))


def test_polar_gradient_is_finite_at_zero():
    w, g = jnp.zeros(2, complex), jnp.array([1 + 2j, -3j])
    gradient = polar_gradient(w, g)
    np.testing.assert_array_equal(gradient.magnitude, [1, 0])
    np.testing.assert_array_equal(gradient.phase, [0, 0])


def test_to_polar_gradients_are_finite_and_right_near_singular_points():
    z = jnp.asarray(SINGULAR)
    wide = SINGULAR.astype(complex)
    zero = np.abs(wide) < np.finfo(np.float32).tiny
    safe = np.where(zero, 1, wide)
    by_r = jax.vmap(jax.grad(lambda z: to_polar(z)[0]))(z)
    by_phi = jax.vmap(jax.grad(lambda z: to_polar(z)[1]))(z)
    # ∂|z|/∂x − i ∂|z|/∂y = z̄/|z| and ∂φ/∂x − i ∂φ/∂y = −i/z
    np.testing.assert_allclose(by_r, np.where(zero, 0, np.conj(safe) / np.abs(safe)), 1e-6)
    np.testing.assert_allclose(by_phi, np.where(zero, 0, -1j / safe), 1e-6)


def everything(z):
    """Each op once, as one program."""
    parts = polar.to_polar(z), polar.polar_gradient(z, 1j * z), polar.from_polar(z.real, z.imag)
    return *parts, polar.complex_softmax(z)


def test_gradients(x64):
    check_grads(jax.jit(everything), (normal(5, 3),), order=1, rtol=1e-6)
    check_grads(to_polar, (normal(6, 3),), order=2, modes=["fwd"], rtol=1e-6)


def test_jit_and_vmap_change_nothing():
    z = jnp.asarray(normal(7, 2, 3))
    rows = jax.jit(jax.vmap(everything))(z)
    chex.assert_trees_all_close(jax.tree.map(lambda row: row[1], rows), everything(z[1]), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_dtypes_are_kept(x64, dtype):
    wide = jnp.promote_types(dtype, jnp.float32)
    real = jnp.ones(2, dtype)
    z = from_polar(real, real)
    assert z.dtype == jnp.promote_types(wide, jnp.complex64)
    assert complex_softmax(z).dtype == z.dtype
    chex.assert_type([*to_polar(z), *polar_gradient(z, z)], wide)


@pytest.mark.error_message
def test_errors():
    real, z = jnp.ones(3), jnp.ones(3, complex)
    with pytest.raises(ValueError, match=r"phase must have shape \(3,\), got \(2,\)"):
        from_polar(real, jnp.ones(2))
    with pytest.raises(ValueError, match=r"z must be complex, got float32; build it with .*from_p"):
        to_polar(real)
    with pytest.raises(ValueError, match="z must be complex, got float32"):
        complex_softmax(real)
    with pytest.raises(ValueError, match="weight must be complex"):
        polar_gradient(real, z)
    with pytest.raises(ValueError, match="grad must be complex"):
        polar_gradient(z, real)
    with pytest.raises(ValueError, match=r"grad must have shape \(3,\), got \(1,\)"):
        polar_gradient(z, z[:1])
