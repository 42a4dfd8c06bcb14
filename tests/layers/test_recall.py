"""HolographicRecall against its formula, with the memory's own methods for reads and writes."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers import recall
from resonance_jax.layers.hologram import HolographicMemory

# As Any: to a type checker the result of a module's `apply` is a union.
HolographicRecall: Any = recall.HolographicRecall

pytestmark = pytest.mark.usefixtures("quick_compile")

B, T, D, PAGES = 2, 3, 6, 2


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("rule", ["add", "delta"])
def test_tokens_read_what_earlier_calls_stored(rule, random_variables):
    layer = HolographicRecall(D, PAGES, rule=rule, decay=0.8)
    memory: Any = HolographicMemory(D, PAGES * D, rule=rule, decay=0.8)
    first, second = normal(B, T, D), normal(B, T + 1, D, seed=1)
    mask = np.array([[True, False, True], [False, False, False]])
    params = random_variables(layer, first)["params"]
    call = jax.jit(partial(layer.apply, store=True, mutable=["hologram"]))
    y, state = call({"params": params}, first, mask)
    np.testing.assert_array_equal(y, first)  # an empty memory adds nothing
    found, _ = call({"params": params, **state}, second)

    def normed(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    def script(memory, first, second):
        memory.encode(first, mask=mask)
        return memory.reconstruct(second)

    twin = jax.jit(partial(memory.apply, method=script, mutable=["hologram"]))
    r, expected = twin({"params": params["memory"]}, normed(first), normed(second))
    kept = state["hologram"]["memory"]
    np.testing.assert_allclose(kept["trace"], expected["hologram"]["trace"], atol=1e-6)
    np.testing.assert_array_equal(kept["pairs"], [2, 0])
    r = np.asarray(r)
    added = r / np.sqrt(1 + np.mean(r**2, -1, keepdims=True)) @ params["out"]["kernel"]
    np.testing.assert_allclose(found, second + added, atol=1e-5)
    assert np.abs(added[0]).max() > 0.05 and np.all(added[1] == 0)


def test_what_is_recalled_is_bounded_and_starts_small():
    layer = HolographicRecall(64, 4)
    x = normal(1, 1, 64)

    @jax.jit
    def twice(x):
        many = jnp.repeat(x, 1000, axis=1)  # a thousand times the same token
        variables = layer.init(jax.random.key(0), x)
        assert set(variables) == {"params"}
        _, state = layer.apply(variables, many, recall=False, store=True, mutable=["hologram"])
        return layer.apply({**variables, **state}, x)

    y = twice(x)
    assert 0 < np.linalg.norm(y - x) < 0.2 * np.linalg.norm(x)


def test_dtype_and_a_memory_that_only_stores(random_variables):
    layer = HolographicRecall(D, PAGES, dtype=jnp.bfloat16)
    x = jnp.asarray(normal(B, T, D), jnp.bfloat16)
    variables = random_variables(layer, x)
    call = partial(layer.apply, recall=False, store=True, mutable=["hologram"])
    y, state = jax.jit(call)(variables, x)
    assert y.dtype == jnp.bfloat16
    assert state["hologram"]["memory"]["trace"].dtype == jnp.float32
    np.testing.assert_array_equal(jax.jit(call)({**variables, **state}, x)[0], x)
    assert jax.jit(layer.apply)({**variables, **state}, x).dtype == jnp.bfloat16
