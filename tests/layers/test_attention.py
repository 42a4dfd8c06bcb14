"""Causal attention: against a twin, in parts with a cache, documents, padding, causality and gradients."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers import attention
from resonance_jax.training.optimizer import label_parameters

# As Any: to a type checker the result of a module's `apply` is a union.
CausalAttention: Any = partial(attention.CausalAttention, num_heads=2, max_length=16)

pytestmark = pytest.mark.usefixtures("quick_compile")

D, B, LENGTH = 8, 2, 12
SEGMENTS = (np.arange(LENGTH) >= np.array([[3, 8], [0, 1]])[..., None]).sum(1)


def normal(*shape, seed=0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def variables(seed=0) -> Any:
    kernels = {"qkv": normal(3 * D, D, seed=seed), "out_proj": normal(D, D, seed=seed + 1)}
    return {"params": {name: {"kernel": 0.5 * values} for name, values in kernels.items()}}


def turned(vector, place):
    """Pairs (i, i + e/2) as complex numbers, turned by place · 10000^(−2i/e)."""
    half = len(vector) // 2
    pairs = vector[:half] + 1j * vector[half:]
    pairs = pairs * np.exp(1j * place * 10000.0 ** (-np.arange(half) / half))
    return np.concatenate([pairs.real, pairs.imag])


def twin(weights, x, segments, heads=2):
    """A row, a head and a step at a time, in float64."""
    kernels = {name: np.asarray(leaf["kernel"], float) for name, leaf in weights["params"].items()}
    y = np.zeros(x.shape)
    for row in range(x.shape[1]):
        qkv = (kernels["qkv"] @ x[:, row]).reshape(3, heads, -1, x.shape[2])
        read = []
        for query, key, value in zip(*qkv, strict=True):
            for t in range(x.shape[2]):
                past = [s for s in range(t + 1) if segments[row, s] == segments[row, t]]
                scores = [turned(query[:, t], t) @ turned(key[:, s], s) for s in past]
                weight = np.exp(np.array(scores) / np.sqrt(len(query)))
                read.append(value[:, past] @ (weight / weight.sum()))
        read = np.reshape(read, (heads, x.shape[2], -1)).swapaxes(1, 2)
        y[:, row] = kernels["out_proj"] @ read.reshape(-1, x.shape[2])
    return y


@jax.jit
def evaluate(weights, x, y_weights, segments):
    """y, and the gradients of its weighted sum by the parameters and x."""

    def loss(weights, x):
        y, state = CausalAttention(D).apply(weights, x, None, segments=segments, method="extend")
        assert state is None
        return jnp.sum(y * y_weights), y

    return jax.grad(loss, (0, 1), has_aux=True)(weights, x)


def test_values_and_gradients_are_those_of_the_twin():
    """Gradients along a random direction of all arguments, by central differences."""
    x, weights, y_weights = normal(D, B, LENGTH), variables(), normal(D, B, LENGTH, seed=5)
    moves = variables(7), normal(D, B, LENGTH, seed=9)
    for segments in (np.zeros((B, LENGTH), int), SEGMENTS):
        gradients, y = evaluate(weights, x, y_weights, segments)
        np.testing.assert_allclose(y, twin(weights, x, segments), rtol=1e-4, atol=1e-5)

        def loss(size, segments=segments):
            moved = jax.tree.map(lambda v, d: v + size * d.astype(float), (weights, x), moves)
            return np.sum(twin(moved[0], moved[1], segments) * y_weights)

        terms = jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(g * d), gradients, moves))
        change = (loss(1e-5) - loss(-1e-5)) / 2e-5
        assert abs(sum(terms) - change) < 1e-4 * max(map(abs, terms))
    without = jax.jit(partial(CausalAttention(D).apply, method="extend"))(weights, x, None)[0]
    np.testing.assert_allclose(
        without, twin(weights, x, np.zeros((B, LENGTH), int)), rtol=1e-4, atol=1e-5
    )


def test_no_output_depends_on_a_later_input_or_another_document():
    x, weights, y_weights = normal(D, B, LENGTH), variables(), normal(D, B, LENGTH, seed=5)
    _, y = evaluate(weights, x, y_weights, SEGMENTS)
    for t in (0, 1, 5, 11):
        changed, earlier = x.copy(), y_weights.copy()
        changed[:, :, t] += 1
        earlier[:, :, t:] = 0
        (_, by_x), again = evaluate(weights, changed, earlier, SEGMENTS)
        np.testing.assert_array_equal(again[..., :t], y[..., :t])
        assert np.all(by_x[..., t:] == 0)
        for row in range(B):
            other = SEGMENTS[row] != SEGMENTS[row, t]
            np.testing.assert_array_equal(again[:, row, other], y[:, row, other])
            assert np.all(again[:, row, t] != y[:, row, t])


def test_every_parameter_has_a_gradient_and_a_group():
    x, weights = normal(D, B, LENGTH), variables()
    (gradient, _), _ = evaluate(weights, x, normal(D, B, LENGTH, seed=5), SEGMENTS)
    for leaf in jax.tree.leaves(gradient):
        assert np.all(np.isfinite(leaf) & (leaf != 0))
    assert set(jax.tree.leaves(label_parameters(weights["params"]))) == {"other"}


def test_parts_steps_and_padding_give_what_the_whole_gives_and_nothing_beyond_the_cache():
    """The cache holds 16 steps: what does not fit is NaN, what came before it is not."""
    x, weights, layer = normal(D, B, 20), variables(), CausalAttention(D)
    expected = twin(weights, x, np.zeros((B, 20), int))
    lengths = np.array([4, 2])

    @jax.jit
    def run(x):
        extend = partial(layer.apply, weights, method="extend")
        parts, state = [], layer.initial_state(B)
        for part in (x[..., :1], x[..., 1:5], x[..., 5:12]):
            y, state = extend(part, state)
            parts.append(y)
        beyond, after = extend(x[..., 12:], state)
        step = lambda state, now: extend(now[..., None], state)[::-1]  # noqa: E731
        last, steps = jax.lax.scan(step, layer.initial_state(B), jnp.moveaxis(x[..., :12], -1, 0))
        _, padded = extend(x[..., :4], layer.initial_state(B), lengths=lengths)
        # Behind their own ends: other rows of the batch are elsewhere.
        rows = [x[:, row, n : n + 3] for row, n in enumerate(lengths)]
        return (
            jnp.concatenate([*parts, beyond], -1),
            jnp.moveaxis(steps[..., 0], 0, -1),
            (state, last, after),
            extend(jnp.stack(rows, axis=1), padded),
        )

    y, steps, (state, last, after), (behind, behind_state) = run(x)
    np.testing.assert_allclose(y[..., :16], expected[..., :16], rtol=1e-4, atol=1e-5)
    assert np.all(np.isnan(y[..., 16:]))
    np.testing.assert_allclose(steps, expected[..., :12], rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(state, last, atol=1e-5)
    chex.assert_trees_all_equal_shapes_and_dtypes(layer.initial_state(B), after)
    np.testing.assert_array_equal(after.position, 20)
    np.testing.assert_array_equal(behind_state.position, lengths + 3)
    for row, n in enumerate(lengths):
        np.testing.assert_allclose(
            behind[:, row], expected[:, row, n : n + 3], rtol=1e-4, atol=1e-5
        )


def test_options_change_the_output():
    """Heads; factors of 8 bits, which change little; dropout."""
    x, weights, key = normal(D, B, 32), variables(), {"dropout": jax.random.key(0)}

    @jax.jit
    def run(x):
        chosen: Any = ({}, {"num_heads": 4}, {"dtype": jnp.bfloat16}, {"dropout": 0.5})
        return [
            CausalAttention(D, **options).apply(
                weights, x, None, deterministic=False, rngs=key, method="extend"
            )[0]
            for options in chosen
        ]

    usual, heads, narrow, dropped = run(x)
    nothing = np.zeros((B, 32), int)
    np.testing.assert_allclose(heads, twin(weights, x, nothing, heads=4), rtol=1e-4, atol=1e-5)
    assert not np.allclose(heads, usual, atol=0.1)
    assert narrow.dtype == jnp.float32
    error = np.linalg.norm(narrow - usual) / np.linalg.norm(usual)
    assert 1e-4 < error < 2**-6
    kept = np.asarray(dropped != 0)
    assert 0.4 < kept.mean() < 0.6
    np.testing.assert_allclose(dropped[kept], 2 * np.asarray(usual)[kept], rtol=1e-5)


@pytest.mark.error_message
def test_errors():
    x, layer = normal(D, B, LENGTH), CausalAttention(D)
    extend = partial(layer.apply, variables(), method="extend")
    state = layer.initial_state(B)
    with pytest.raises(ValueError, match="num_heads = 3 must divide features = 8 into an even"):
        CausalAttention(D, num_heads=3).init(jax.random.key(0), x, None, method="extend")
    with pytest.raises(ValueError, match="num_heads = 8 must divide features = 8 into an even"):
        CausalAttention(D, num_heads=8).init(jax.random.key(0), x, None, method="extend")
    with pytest.raises(ValueError, match=r"x must have shape \(8, 2, 12\), got \(4, 2, 12\)"):
        extend(x[:4], None)
    with pytest.raises(ValueError, match="attention with a cache takes no segments"):
        extend(x, state, segments=SEGMENTS)
    with pytest.raises(ValueError, match="segments must not be negative and not decrease"):
        extend(x, None, segments=SEGMENTS - 1)
    with pytest.raises(ValueError, match="segments must not be negative and not decrease"):
        extend(x, None, segments=SEGMENTS[:, ::-1])
    with pytest.raises(ValueError, match=r"segments must be integers \(2, 12\)"):
        extend(x, None, segments=SEGMENTS[:, :5])
    with pytest.raises(ValueError, match=r"lengths must lie in 0 .. 12, got 1 .. 13"):
        extend(x, state, lengths=np.array([1, 13]))
    with pytest.raises(ValueError, match=r"state.keys must have shape \(2, 2, 16, 4\)"):
        extend(x, layer.initial_state(B + 1))
    with pytest.raises(ValueError, match=r"state.position must have shape \(2,\)"):
        extend(x, state._replace(position=np.zeros(3, int)))
