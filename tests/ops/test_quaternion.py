"""Laws and values of ops/quaternion.py."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops import quaternion as quat

pytestmark = pytest.mark.usefixtures("quick_compile")

SHAPES = ((), (1,), (3, 1, 2))
# Compiled whole: a primitive at a time, each shape would compile a dozen programs.
product, conjugate, norm, normalize = map(
    jax.jit, (quat.hamilton_product, quat.conjugate, quat.norm, quat.normalize)
)
exp, so4_matrix, rotate_so4, rotate, slerp = map(
    jax.jit, (quat.exp, quat.so4_matrix, quat.rotate_so4, quat.rotate, quat.slerp)
)
log, inverse, from_so4_matrix = map(jax.jit, (quat.log, quat.inverse, quat.from_so4_matrix))
# Zero, the units, the negative real axis and its neighbourhood, sizes whose squares leave float32.
SINGULAR = np.array(
    [
        *([0, 0, 0, 0], [1, 0, 0, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, -1]),
        *(
            [1, 1e-4, 0, 0],
            [1, 1e-20, 0, 0],
            [-1, 1e-3, 0, 0],
            [1e-30, 0, 1e-30, 0],
            [0, 1e25, 0, 1e25],
        ),
        *([0, 0, 1e-10, 0], [1, 0.5, 0, 0], [1, 0.124, 0, 0], [1, 0.126, 0, 0]),
    ]
)
DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])


def assert_close(found, expected, rtol=0.0, atol=0.0):
    """Compares with the tolerances given and no other: NumPy's own default adds 1e-7 relative."""
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def quaternions(count: int):
    """Draws `count` arrays of one shape [*shape, 4] with entries in [-2, 2], 0 and small ones included."""
    entry = st.floats(-2, 2, width=32, allow_subnormal=False)
    return st.sampled_from(SHAPES).flatmap(
        lambda s: hnp.arrays(np.float64, (count, *s, 4), elements=entry)
    )


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((*shape, 4))


def unit(seed: int, *shape: int) -> np.ndarray:
    q = normal(seed, *shape)
    return q / np.linalg.norm(q, axis=-1, keepdims=True)


def product_twin(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Multiplies by the table of the units, one pair of components at a time."""
    table = [
        [1, 2, 3, 4],
        [2, -1, 4, -3],
        [3, -4, -1, 2],
        [4, 3, -2, -1],
    ]  # ± (1 + index of the unit)
    p, q = np.broadcast_arrays(p, q)
    out = np.zeros(p.shape)
    for i in range(4):
        for j in range(4):
            unit = table[i][j]
            out[..., abs(unit) - 1] += np.sign(unit) * p[..., i] * q[..., j]
    return out


def exp_twin(q: np.ndarray) -> np.ndarray:
    """Sums the power series of e^q."""
    total = term = np.broadcast_to([1.0, 0, 0, 0], q.shape)
    for n in range(1, 60):
        term = product_twin(term, q) / n
        total = total + term
    return total


@DTYPES
def test_product_obeys_the_laws_of_the_algebra(x64, dtype, tolerance):
    @hypothesis.given(quaternions(3))
    @hypothesis.settings(max_examples=30)
    def laws(pqr):
        p, q, r = pqr.astype(dtype)
        bound = tolerance * 64  # |p||q||r| ≤ 64
        pq = product(p, q)
        assert pq.dtype == dtype
        assert_close(pq, product_twin(*pqr[:2]), atol=bound)
        assert_close(product(pq, r), product(p, product(q, r)), atol=bound)
        assert_close(norm(pq), norm(p) * norm(q), atol=bound)
        assert_close(conjugate(pq), product(conjugate(q), conjugate(p)), atol=bound)
        square = np.zeros(p.shape)
        square[..., 0] = np.sum(pqr[0] ** 2, axis=-1)
        assert_close(product(p, conjugate(p)), square, atol=bound)

    laws()


@DTYPES
def test_inverses_and_rotations_obey_their_laws(x64, dtype, tolerance):
    near_singular = st.sampled_from(SINGULAR[1:6].tolist() + SINGULAR[10:].tolist())

    @hypothesis.given(quaternions(3), near_singular)
    @hypothesis.settings(max_examples=30)
    def laws(drawn, special):
        drawn[0, ..., :] += (np.abs(drawn[0]).max(axis=-1, keepdims=True) < 1e-3) * np.array(
            special
        )
        q, left, right = (
            drawn[0].astype(dtype),
            *(np.asarray(normalize(a)) for a in drawn[1:].astype(dtype)),
        )
        one = np.broadcast_to(np.eye(4)[0], q.shape)
        assert_close(product(q, inverse(q)), one, atol=4 * tolerance)
        size = np.asarray(norm(q))[..., None]
        assert_close(exp(log(q)) / size, q / size, atol=10 * tolerance)
        matrix = np.asarray(so4_matrix(left, right))
        identity = np.broadcast_to(np.eye(4), matrix.shape)
        assert_close(matrix @ np.swapaxes(matrix, -1, -2), identity, atol=4 * tolerance)
        assert_close(np.linalg.det(matrix), np.ones(q.shape[:-1]), atol=10 * tolerance)
        assert_close(so4_matrix(-left, -right), matrix)
        turned = np.einsum("...ij,...j->...i", matrix, q)
        assert_close(rotate_so4(q, left, right), turned, atol=20 * tolerance)

    laws()


def test_product_is_not_commutative():
    p, q = normal(0, 5), normal(1, 5)
    assert np.all(np.abs(product(p, q) - product(q, p)).max(axis=-1) > 0.1)


@DTYPES
def test_inverse_and_normalize_near_zero(x64, dtype, tolerance):
    q = SINGULAR[1:].astype(dtype)
    one = np.broadcast_to(np.eye(4)[0], q.shape)
    assert_close(product(q, quat.inverse(q)), one, atol=tolerance)
    assert_close(product(quat.inverse(q), q), one, atol=tolerance)
    size = np.linalg.norm(q.astype(np.longdouble), axis=-1).astype(np.float64)
    assert_close(norm(q), size, rtol=tolerance)
    assert_close(normalize(q), q / size[:, None], atol=tolerance)
    np.testing.assert_array_equal(normalize(np.zeros((2, 4), dtype)), one[:2])
    np.testing.assert_array_equal(inverse(np.zeros((2, 4), dtype)), 0)


@DTYPES
def test_exp_and_log_are_inverse(x64, dtype, tolerance):
    v = normal(0, 50)
    v[:, 1:] *= (np.pi * np.random.default_rng(1).random(50) / np.linalg.norm(v[:, 1:], axis=-1))[
        :, None
    ]
    v = np.concatenate(
        [v, [[0.3, 0, 0, 0], [0, 1e-9, 0, 0], [0, 0, 0.49, 0], [0, 0.5, 0, 0], [0, 0.51, 0, 0]]]
    )
    close = dict(rtol=10 * tolerance, atol=10 * tolerance)
    assert_close(exp(v.astype(dtype)), exp_twin(v), **close)
    assert_close(log(exp(v.astype(dtype))), v, **close)
    q = SINGULAR[1:].astype(dtype)
    size = np.asarray(norm(q))[:, None]
    assert_close(exp(log(q)) / size, q / size, atol=100 * tolerance)


def test_log_at_the_singular_points():
    q = np.array([[-1.0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    assert_close(log(q), [[0, np.pi, 0, 0], [-np.inf, 0, 0, 0], [0, 0, 0, 0]], rtol=1e-6)


@DTYPES
def test_so4_matrix_is_a_rotation_and_the_two_sided_product(x64, dtype, tolerance):
    left, right, psi = (
        unit(0, 3, 2).astype(dtype),
        unit(1, 1, 2).astype(dtype),
        normal(2, 3, 2).astype(dtype),
    )
    matrix = np.asarray(so4_matrix(left, right))
    identity = np.broadcast_to(np.eye(4), matrix.shape)
    assert_close(matrix @ np.swapaxes(matrix, -1, -2), identity, atol=tolerance)
    assert_close(np.linalg.det(matrix), 1, atol=10 * tolerance)
    both = product_twin(product_twin(left, psi), right * [1, -1, -1, -1])
    assert_close(np.einsum("...ij,...j->...i", matrix, psi), both, atol=10 * tolerance)
    assert_close(rotate_so4(psi, left, right), both, atol=10 * tolerance)
    np.testing.assert_array_equal(so4_matrix(-left, -right), matrix)  # the double cover
    assert np.abs(so4_matrix(-left, right) - matrix).max() > 0.1
    assert_close(
        np.einsum("...ij,...j->...i", quat.left_matrix(left), psi),
        product_twin(left, psi),
        atol=10 * tolerance,
    )


@DTYPES
def test_from_so4_matrix_inverts(x64, dtype, tolerance):
    left, right = unit(3, 40), unit(4, 40)
    left[:4], right[4:8] = np.eye(4), np.eye(4)
    found = from_so4_matrix(so4_matrix(left.astype(dtype), right.astype(dtype)))
    sign = np.sign(np.take_along_axis(left, np.abs(found[0]).argmax(-1)[:, None], -1))
    assert_close(found[0], sign * left, atol=10 * tolerance)
    assert_close(found[1], sign * right, atol=10 * tolerance)
    assert np.all(np.asarray(found[0]).max(axis=-1) > 0)


@pytest.mark.parametrize("shape", [(4,), (6, 4)])
def test_rotations_of_channels_equal_the_two_products(x64, shape):
    """One pair for all, or one a channel: a matrix product, with the gradients of the two Hamilton products."""
    psi, left, right = normal(0, 3, 5, 6), unit(1, *shape[:-1]), unit(2, *shape[:-1])
    cotangent, sign = normal(3, 3, 5, 6), np.array([1, -1, -1, -1])
    value, pullback = jax.vjp(rotate_so4, psi, left, right)
    both = product_twin(product_twin(left, psi), right * sign)
    assert_close(value, both, atol=1e-12)
    # ⟨c, q_L Ψ q_R†⟩ = ⟨q_L† c q_R, Ψ⟩ = ⟨c q_R Ψ†, q_L⟩ = ⟨c† q_L Ψ, q_R⟩
    expected = (
        product_twin(product_twin(left * sign, cotangent), right),
        product_twin(product_twin(cotangent, right), psi * sign),
        product_twin(product_twin(cotangent * sign, left), psi),
    )
    for found, wanted in zip(pullback(cotangent), expected, strict=True):
        summed = tuple(range(wanted.ndim - found.ndim))
        assert_close(found, wanted.sum(axis=summed), atol=1e-11)


def test_rotate_agrees_with_the_two_sided_product_and_with_jaxlie():
    q, v = normal(0, 20).astype(np.float32), normal(1, 20)[:, 1:].astype(np.float32)
    rotated = rotate(v, q)
    around = product_twin(
        product_twin(unit(0, 20), np.pad(v, [(0, 0), (1, 0)])), unit(0, 20) * [1, -1, -1, -1]
    )
    assert_close(rotated, around[:, 1:], atol=1e-5)
    assert_close(jnp.linalg.norm(rotated, axis=-1), np.linalg.norm(v, axis=-1), rtol=1e-5)
    np.testing.assert_array_equal(rotate(v, np.zeros_like(q)), v)
    jaxlie = pytest.importorskip("jaxlie")
    group = jaxlie.SO3(jnp.asarray(normalize(q)))
    assert_close(jax.vmap(lambda g, u: g @ u)(group, v), rotated, atol=1e-5)


def test_constructions_from_angles():
    axis, angle = normal(0, 9)[:, 1:], np.linspace(-4, 4, 9)
    q = quat.from_axis_angle(axis, angle)
    assert_close(norm(q), 1, rtol=1e-6)
    assert_close(rotate(axis, q), axis, atol=1e-5)
    half = np.pad(
        axis / np.linalg.norm(axis, axis=-1, keepdims=True) * angle[:, None] / 2, [(0, 0), (1, 0)]
    )
    assert_close(q, exp(half.astype(np.float32)), atol=1e-6)
    theta, omega, phi = np.random.default_rng(1).uniform(-6, 6, (3, 30))
    twin = [np.cos(theta / 2), *(np.sin(theta / 2) * part for part in (
        np.cos(omega), np.sin(omega) * np.cos(phi), np.sin(omega) * np.sin(phi)))]  # fmt: skip
    assert_close(quat.from_angles(theta, omega, phi), np.stack(twin, -1), atol=1e-6)
    assert quat.from_angles(theta, 1.0, 2).shape == (30, 4)


def test_slerp_takes_the_short_way_at_constant_speed(x64):
    p, q = unit(0, 8), unit(1, 8)
    fractions = np.linspace(0, 1, 5)[:, None]
    path = np.asarray(slerp(p, q, fractions))
    assert_close(norm(path), 1, rtol=1e-12)
    cosine = np.sum(p * q, axis=-1, keepdims=True)
    nearer = np.where(cosine < 0, -q, q)
    assert_close(path[0], p, atol=1e-12)
    assert_close(path[-1], nearer, atol=1e-12)
    angle = np.arccos(np.abs(cosine))
    twin = (
        np.sin((1 - fractions[:, None]) * angle) * p + np.sin(fractions[:, None] * angle) * nearer
    ) / np.sin(angle)
    assert_close(path, twin, atol=1e-12)
    assert_close(slerp(p, p, 0.3), p, atol=1e-12)
    assert_close(slerp(p, -p, 0.3), p, atol=1e-12)


def test_complex_pairs_are_the_same_numbers(x64):
    q = normal(0, 3, 2)
    pair = quat.to_complex_pair(q)
    np.testing.assert_array_equal(
        pair, np.stack([q[..., 0] + 1j * q[..., 1], q[..., 2] + 1j * q[..., 3]], -1)
    )
    np.testing.assert_array_equal(quat.from_complex_pair(pair), q)
    c = np.array([0.3, -1.2, 0, 0])  # left multiplication by a complex number
    assert_close(quat.to_complex_pair(product(c, q)), (0.3 - 1.2j) * pair, atol=1e-12)


def test_random_units_are_uniform():
    q = np.asarray(quat.random_unit(jax.random.key(0), (20000,)))
    assert_close(np.linalg.norm(q, axis=-1), 1, rtol=1e-6)
    assert_close(q.mean(axis=0), 0, atol=0.02)
    assert_close(q.T @ q / len(q), np.eye(4) / 4, atol=0.01)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (quat.hamilton_product, (normal(0, 2), normal(1, 1))),
        (quat.rotate_so4, (normal(0, 2), unit(1, 2), unit(2))),
        (quat.norm, (normal(0, 2),)),
        (quat.normalize, (normal(0, 2),)),
        (quat.inverse, (normal(0, 2),)),
        (quat.exp, (np.array([[0.1, 0.2, -1, 2], [0.3, 1e-3, 0, 0], [0, 0, 0, 0]]),)),
        (quat.log, (np.array([[0.1, 0.2, -1, 2], [0.3, 1e-3, 0, 0], [-1, 0.5, 0, 0]]),)),
        (quat.slerp, (unit(0, 3), unit(1, 3), np.array([0.1, 0.5, 0.9]))),
        (quat.rotate, (normal(0, 2)[:, 1:], normal(1, 2))),
        (quat.from_angles, tuple(np.random.default_rng(0).normal(size=(3, 2)))),
        (quat.from_axis_angle, (normal(0, 2)[:, 1:], np.array([0.4, -2.0]))),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_gradients_in_both_modes(x64, function, arguments):
    check_grads(jax.jit(function), arguments, order=1, modes=("fwd", "rev"), rtol=1e-6, atol=1e-6)


def test_the_product_can_be_differentiated_twice(x64):
    check_grads(
        jax.jit(quat.hamilton_product), (normal(0, 2), normal(1, 2)), order=2, modes=("fwd", "rev")
    )


@pytest.mark.parametrize("name", ["norm", "normalize", "inverse", "exp", "log", "rotate", "slerp"])
def test_gradients_are_finite_at_singular_points(name):
    q = SINGULAR.astype(np.float32)

    def loss(q):
        other = jnp.float32([0.5, -0.5, 0.5, 0.5])
        value = {
            "rotate": lambda: quat.rotate(other[:3], q),
            "slerp": lambda: quat.slerp(q, other, 0.3),
        }.get(name, lambda: getattr(quat, name)(q))()
        return jnp.sum(jnp.where(jnp.isfinite(value), value, 0) * 1e-3)

    # e^q overflows and 1/q² leaves float32 at some of these points; so do their derivatives.
    q = {
        "exp": q[np.abs(q).max(axis=-1) < 10],
        "inverse": q[(q == 0).all(axis=-1) | (np.abs(q).max(axis=-1) > 1e-9)],
    }.get(name, q)
    assert np.isfinite(jax.jit(jax.grad(loss))(q)).all()


def test_jit_vmap_and_dtypes():
    p, q = normal(0, 3), normal(1, 3)
    by_row = jax.vmap(quat.rotate_so4, (0, 0, None))(p, q, p[0])
    assert_close(by_row, rotate_so4(p, q, p[0]), atol=1e-5)
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        low = jnp.asarray(p, dtype)
        for function in (
            quat.norm,
            quat.normalize,
            quat.inverse,
            quat.exp,
            quat.log,
            quat.conjugate,
        ):
            value = function(low)
            assert value.dtype == dtype
            wide = function(jnp.asarray(low, jnp.float32))
            assert_close(np.float32(value), wide, rtol=float(jnp.finfo(dtype).eps))

        def others(low):
            turn = quat.from_axis_angle(low[:, 1:], 0.5 * jnp.ones((), low.dtype))
            return (
                turn,
                quat.from_angles(low[:, 0], low[:, 1], low[:, 2]),
                quat.rotate(low[:, 1:], turn),
                quat.rotate_so4(low, low, low),
                quat.hamilton_product(low, low),
                quat.slerp(low, low, 0.5),
            )

        assert [value.dtype for value in jax.eval_shape(others, low)] == 6 * [dtype]
    assert quat.from_angles(1, 2, 3).dtype == jnp.float32


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quat.hamilton_product(np.ones(3), np.ones(4)), r"p must be real .*last axis of 4 .*shape \(3,\)"),
        (lambda: quat.exp(np.ones(4, int)), "q must be real floating point .*got int"),
        (lambda: quat.inverse(np.zeros((2, 4))), r"q is zero at index \(0,\): a zero quaternion has no inverse"),
        (lambda: quat.log(jnp.zeros(4)), "q is zero: a zero quaternion has no logarithm"),
        (lambda: quat.slerp(np.ones(4), np.zeros(4), 0.5), "q is zero: slerp needs rotations"),
        (lambda: quat.rotate(np.ones(3), np.zeros(4)), "q is zero: a rotation needs"),
        (lambda: quat.rotate(np.ones(4), np.ones(4)), "vector must be real .*last axis of 3"),
        (lambda: quat.so4_matrix(np.ones(4), np.zeros(4)), "right is zero: q_R must be a unit"),
        (lambda: quat.inverse(np.full(4, 1e-39, np.float32)), "q is zero"),
        (lambda: quat.rotate_so4(np.ones(4), np.zeros(4), np.ones(4)), "left is zero: q_L must be a unit"),
        (lambda: quat.from_axis_angle(np.zeros(3), 1.0), "axis is zero: a rotation needs an axis"),
        (lambda: quat.from_so4_matrix(2 * np.eye(4)), r"must be orthogonal, got \|M Mᵀ − 1\| = 3"),
        (lambda: quat.from_so4_matrix(np.diag([1.0, 1, 1, -1])), "determinant \\+1, got −1"),
        (lambda: quat.from_so4_matrix(np.eye(3)), r"shape \[..., 4, 4\]"),
        (lambda: quat.from_so4_matrix(np.full((4, 4), np.nan)), "must be orthogonal"),
        (lambda: quat.from_complex_pair(np.ones(2)), "pair must be complex"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
