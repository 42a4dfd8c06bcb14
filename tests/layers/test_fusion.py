"""The fusion layer: its formula, gradients everywhere, and a source that is not there."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers.fusion import CrossModalResonance
from resonance_jax.ops.fusion import cross_modulation

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 7, 4)).astype(np.float32)
SOURCE = RNG.normal(size=(2, 5, 3)).astype(np.float32)
MASK = np.ones((2, 7), bool)
SOURCE_MASK = np.array([[True, True, True, False, False], [False] * 5])
LAYER = CrossModalResonance(4, 3)


@pytest.fixture(scope="module")
def apply():
    return jax.jit(LAYER.apply)


def twin_norm(x, params):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * params["scale"] + params["bias"]


def test_it_is_its_formula(apply, random_variables):
    variables = random_variables(LAYER, X, SOURCE)
    params = variables["params"]
    u = twin_norm(X, params["target_norm"])
    v = twin_norm(SOURCE, params["source_norm"]) @ params["source"]["kernel"]
    weights = np.exp(params["log_magnitude"] + 1j * np.asarray(params["phase"]))
    masks: dict[str, Any] = dict(mask=MASK, source_mask=SOURCE_MASK)
    r = np.asarray(cross_modulation(u, v, weights, np.arange(3), **masks))
    y = apply(variables, X, SOURCE, MASK, SOURCE_MASK)
    np.testing.assert_allclose(y, X + r, atol=1e-5)
    added = CrossModalResonance(4, 3, residual=False).apply(variables, X, SOURCE, MASK, SOURCE_MASK)
    np.testing.assert_allclose(np.asarray(added), r, atol=1e-5)


def test_an_absent_source_leaves_a_row_as_it_is_whatever_it_holds(apply, random_variables):
    variables = random_variables(LAYER, X, SOURCE)
    anything = np.where(SOURCE_MASK[..., None], SOURCE, np.nan)
    y = apply(variables, X, anything, MASK, SOURCE_MASK)
    np.testing.assert_array_equal(y[1], X[1])
    np.testing.assert_array_equal(y, apply(variables, X, SOURCE, MASK, SOURCE_MASK))
    assert np.abs(y[0] - X[0]).max() > 1e-2


def test_every_parameter_is_learned_and_hidden_values_spoil_no_gradient(random_variables):
    variables = random_variables(LAYER, X, SOURCE)
    anything = np.where(SOURCE_MASK[..., None], SOURCE, np.nan)

    @jax.jit
    @jax.grad
    def gradient(variables):
        y: Any = LAYER.apply(variables, X, anything, MASK, SOURCE_MASK)
        return jnp.sum(jnp.sin(y))

    for path, leaf in jax.tree.leaves_with_path(gradient(variables)):
        assert np.any(leaf) and np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)


def test_dropout_and_dtype(random_variables):
    layer = CrossModalResonance(4, 3, dropout=0.5, dtype=jnp.bfloat16)
    variables = random_variables(layer, X, SOURCE)
    call = jax.jit(partial(layer.apply, deterministic=False))
    first, second = (
        call(variables, X, SOURCE, rngs={"dropout": jax.random.key(i)}) for i in (0, 1)
    )
    assert first.dtype == jnp.bfloat16
    assert np.abs(np.asarray(first - second, np.float32)).max() > 1e-2


@pytest.mark.error_message
def test_what_does_not_fit_is_refused():
    for layer, mask, message in (
        (CrossModalResonance(5, 3), None, r"expected x \[..., 5\]"),
        (CrossModalResonance(4, 0), None, "num_frequencies >= 1"),
        (LAYER, np.ones((2, 6), bool), "mask must be boolean"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(layer.init, jax.random.key(0), X, SOURCE, mask)
