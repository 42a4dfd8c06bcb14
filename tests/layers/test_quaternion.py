"""Quaternion layers against a slow NumPy twin, their symmetries, and what options and masks must do."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers import quaternion
from resonance_jax.ops.quaternion import rotate_so4
from resonance_jax.training.optimizer import label_parameters

# As Any: to a type checker the result of a module's `apply` is a union.
QuaternionDense: Any = quaternion.QuaternionDense
QuaternionLayerNorm: Any = quaternion.QuaternionLayerNorm
QRHLayer: Any = quaternion.QRHLayer
QRHBlock: Any = quaternion.QRHBlock

pytestmark = pytest.mark.usefixtures("quick_compile")

D = 3
TABLE = [
    [1, 2, 3, 4],
    [2, -1, 4, -3],
    [3, -4, -1, 2],
    [4, 3, -2, -1],
]  # of the units, ± (1 + index)


def normal(*shape, seed=0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def product(p, q):
    p, q = np.broadcast_arrays(np.asarray(p, np.float64), np.asarray(q, np.float64))
    out = np.zeros(p.shape)
    for i, j in np.ndindex(4, 4):
        unit = TABLE[i][j]
        out[..., abs(unit) - 1] += np.sign(unit) * p[..., i] * q[..., j]
    return out


def twin_dense(params, x):
    """Sums W_oi x_i one pair at a time."""
    inputs, outputs, _ = params["kernel"].shape
    y = np.zeros((*x.shape[:-2], outputs, 4))
    for i, o in np.ndindex(inputs, outputs):
        y[..., o, :] += product(params["kernel"][i, o], x[..., i, :])
    return y + np.asarray(params["bias"]).reshape(outputs, 4)


def twin_norm(params, x):
    x = x - x.mean(axis=-2, keepdims=True)
    size = np.sqrt(np.mean(np.sum(x**2, axis=-1), axis=-1) / 4 + 1e-6)[..., None, None]
    return x / size * np.asarray(params["scale"])[:, None] + np.asarray(params["bias"]).reshape(
        -1, 4
    )


def unit(q):
    return np.asarray(q) / np.linalg.norm(q, axis=-1, keepdims=True)


def twin_layer(params, x, symmetry, twin_filter):
    psi = twin_dense(params["embed"], x.reshape(*x.shape[:-1], D, 4))
    psi = twin_filter(psi, 1.0, symmetry)
    right = unit(params["right_rotation"]) * [1, -1, -1, -1]
    psi = product(product(unit(params["left_rotation"]), psi), right)
    return twin_norm(params["norm"], x.reshape(psi.shape) + psi).reshape(x.shape)


def test_dense_is_the_sum_of_hamilton_products(random_variables):
    layer, x = QuaternionDense(5), normal(2, 7, D, 4)
    variables = random_variables(layer, x)
    assert jax.tree.map(np.shape, variables["params"]) == {"kernel": (D, 5, 4), "bias": (20,)}
    np.testing.assert_allclose(
        layer.apply(variables, x), twin_dense(variables["params"], x), atol=1e-5
    )
    bare = QuaternionDense(5, use_bias=False)
    params = {"params": {"kernel": variables["params"]["kernel"]}}
    bias = np.asarray(variables["params"]["bias"]).reshape(5, 4)
    np.testing.assert_allclose(bare.apply(params, x) + bias, layer.apply(variables, x), atol=1e-5)


def test_dense_starts_by_keeping_the_variance():
    x = normal(256, 64, 4)
    layer = QuaternionDense(64)
    y = layer.apply(layer.init(jax.random.key(0), x), x)
    np.testing.assert_allclose(np.var(y), 1, atol=0.05)


def test_dense_commutes_with_multiplication_from_the_right(random_variables):
    """Σ W (x q) = (Σ W x) q: weights act from the left."""
    layer, x, q = QuaternionDense(2, use_bias=False), normal(4, D, 4), unit(normal(4, seed=1))
    variables = random_variables(layer, x)
    inside = layer.apply(variables, product(x, q).astype(np.float32))
    np.testing.assert_allclose(inside, product(layer.apply(variables, x), q), atol=1e-5)


def test_norm_equals_the_twin_and_commutes_with_rotations(random_variables):
    layer, x = QuaternionLayerNorm(), normal(2, 5, D, 4)
    variables = random_variables(layer, x)
    y = layer.apply(variables, x)
    np.testing.assert_allclose(y, twin_norm(variables["params"], x), atol=1e-5)
    params = {"params": {**variables["params"], "bias": np.zeros(4 * D, np.float32)}}
    left, right = unit(normal(4, seed=1)), unit(normal(4, seed=2))
    rotated = layer.apply(params, rotate_so4(x, left, right))
    np.testing.assert_allclose(rotated, rotate_so4(layer.apply(params, x), left, right), atol=1e-5)
    assert np.isfinite(layer.apply(variables, np.zeros_like(x))).all()


@pytest.mark.parametrize("symmetry", ["hermitian", "even"])
def test_layer_equals_the_twin(symmetry, random_variables, twin_filter):
    layer, x = QRHLayer(D, symmetry=symmetry), normal(2, 7, 4 * D)
    variables = random_variables(layer, x)
    y = jax.jit(layer.apply)(variables, x)
    np.testing.assert_allclose(
        y, twin_layer(variables["params"], x, symmetry, twin_filter), atol=2e-5
    )


ABLATIONS = [
    {}, dict(rotation="layer"), dict(rotation="none"), dict(use_quaternion=False), dict(use_filter=False),
    dict(rotation="layer", use_quaternion=False), dict(symmetry="even"), dict(alpha_mode="learned", alpha=0.3),
]  # fmt: skip


def _parameters_move(module, options, random_variables):
    """Checks that every parameter has a gradient and a group; returns the loss."""
    x, goal = normal(2, 9, 4 * D), normal(2, 9, 4 * D, seed=1)
    params = random_variables(module, x)["params"]
    loss = jax.value_and_grad(lambda p: jnp.sum(module.apply({"params": p}, x) * goal))
    value, gradient = jax.jit(loss)(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)) and np.any(np.abs(leaf) > 1e-6), path
    rotates = options.get("rotation") != "none" and options.get("use_quaternion", True)
    groups = set(jax.tree.leaves(label_parameters(params)))
    assert ("phase" in groups) == (rotates or "alpha_mode" in options)
    return value


def test_every_parameter_of_every_ablation_gets_a_gradient_and_a_group(random_variables):
    losses = [
        float(_parameters_move(QRHLayer(D, post_norm=False, **options), options, random_variables))
        for options in ABLATIONS
    ]
    assert np.diff(np.sort(losses)).min() > 1e-3, "two ablations compute the same"


@pytest.mark.parametrize("options", [{}, dict(use_quaternion=False)])
def test_every_parameter_of_a_block_gets_a_gradient(options, random_variables):
    whole = _parameters_move(QRHBlock(D, 8, **options), options, random_variables)
    x, ungated = normal(2, 9, 4 * D), QRHBlock(D, 0, gate=False, **options)
    variables = random_variables(ungated, x)
    assert set(variables["params"]) == {"mixer_norm", "qrh"}
    y = jax.jit(ungated.apply)(variables, x)
    assert abs(whole - np.sum(y * normal(2, 9, 4 * D, seed=1))) > 1e-3


@pytest.mark.parametrize("options", [{}, dict(use_filter=False), dict(symmetry="even")])
def test_hidden_steps_neither_speak_nor_hear(options, random_variables):
    layer, x = QRHLayer(D, post_norm=False, **options), normal(2, 9, 4 * D)
    variables = random_variables(layer, x)
    mask = np.arange(9) < np.array([[9], [6]])
    apply = jax.jit(layer.apply)
    y = np.asarray(apply(variables, x, mask))
    spoilt = np.where(mask[..., None], x, np.float32(1e3))
    np.testing.assert_allclose(y, apply(variables, spoilt, mask), atol=1e-5)
    assert not y[~mask].any() and y[mask].all()


def test_dropout_and_dtypes(random_variables):
    layer, x = QRHLayer(D, dropout=0.5, post_norm=False), normal(2, 9, 4 * D)
    variables = random_variables(layer, x)
    dropped = np.asarray(
        layer.apply(variables, x, deterministic=False, rngs={"dropout": jax.random.key(0)})
    )
    kept = dropped != 0
    np.testing.assert_allclose(
        dropped[kept], 2 * np.asarray(layer.apply(variables, x))[kept], rtol=1e-5
    )
    assert 0.2 < kept.mean() < 0.8
    low = QRHLayer(D, dtype=jnp.bfloat16)
    y = jax.jit(low.apply)(random_variables(low, x), x)
    assert y.dtype == jnp.bfloat16
    wide = jax.jit(QRHLayer(D).apply)(random_variables(low, x), x)
    np.testing.assert_allclose(np.asarray(y, np.float32), wide, atol=0.1)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: QuaternionDense(2).init(jax.random.key(0), np.ones((2, 3))), "x must be real .* last axis of 4"),
        (lambda: QuaternionDense(2).init(jax.random.key(0), np.ones(4)), r"shape \[..., d_in, 4\]"),
        (lambda: QuaternionLayerNorm().init(jax.random.key(0), np.ones((3, 1, 4), np.float32)), "d >= 2 quaternions"),
        (lambda: QRHBlock(2, 8).init(jax.random.key(0), np.ones((1, 5, 7))), "expected 4 · 2 = 8 features"),
        (lambda: QRHLayer(2).init(jax.random.key(0), np.ones((1, 5, 7))), "expected 4 · 2 = 8 features"),
        (lambda: QRHLayer(2, rotation="free").init(jax.random.key(0), np.ones((1, 5, 8))), "unknown rotation"),
        (lambda: QRHBlock(2, 6).init(jax.random.key(0), np.ones((1, 5, 8))), "mlp_dim must be a multiple of 4"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
