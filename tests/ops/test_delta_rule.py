"""Laws and values of ops/delta_rule.py."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops.delta_rule import delta_rule, delta_step

NUM_KEYS, J = 4, 3

pytestmark = pytest.mark.usefixtures("quick_compile")

# One object each, and few shapes: every other one is compiled anew.
rule = jax.jit(delta_rule, static_argnames=("error_correcting", "chunk_size"))
step = jax.jit(delta_step)


def arguments(
    length: int, batch: tuple[int, ...] = (), dtype: Any = np.float64, seed: int = 0
) -> Any:
    """Returns query, key (of norm 1), value, rate over the whole of [0, 2], and a state."""
    rng = np.random.default_rng(seed)
    query, key = rng.standard_normal((2, *batch, length, NUM_KEYS))
    key /= np.linalg.norm(key, axis=-1, keepdims=True)
    value, state = (
        rng.standard_normal((*batch, length, J)),
        rng.standard_normal((*batch, J, NUM_KEYS)),
    )
    rate = rng.uniform(0, 2, (*batch, length))
    return tuple(x.astype(dtype) for x in (query, key, value, rate, state))


def twin(query, key, value, rate, state, error_correcting: Any = True):
    """The recurrence in float64, a number at a time."""
    query, key, value, rate = (np.asarray(x, np.float64) for x in (query, key, value, rate))
    state = np.array(state, np.float64)
    outputs = np.zeros(value.shape)
    for row in np.ndindex(value.shape[:-2]):
        for t in range(value.shape[-2]):
            for j in range(J):
                held = sum(state[row][j, i] * key[row][t, i] for i in range(NUM_KEYS))
                error = value[row][t, j] - (held if error_correcting else 0)
                state[row][j] += rate[row][t] * error * key[row][t]
                outputs[row][t, j] = np.dot(state[row][j], query[row][t])
    return outputs, state


@pytest.mark.parametrize(
    ("length", "chunk_size", "error_correcting"),
    [(13, 64, True), (13, 5, True), (13, 1, True), (1, 64, True), (40, 20, True), (13, 5, False)],
)
def test_every_chunk_size_matches_the_twin(x64, length, chunk_size, error_correcting):
    inputs = arguments(length, (2,))
    found = rule(*inputs, error_correcting=error_correcting, chunk_size=chunk_size)
    for actual, expected in zip(
        found, twin(*inputs, error_correcting=error_correcting), strict=True
    ):
        assert actual.dtype == jnp.float64
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


def test_float32_matches_the_twin_over_several_chunks():
    inputs = arguments(64, dtype=np.float32, seed=1)
    found = rule(*inputs, chunk_size=24)
    for actual, expected in zip(found, twin(*inputs), strict=True):
        assert actual.dtype == jnp.float32
        assert np.linalg.norm(actual - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("rate", [1.0, 2.0])
def test_repeated_keys_cancel_no_digits(rate):
    """One key at every step: N is dense, and powers of it would be far larger than the inverse of I + N."""
    query, key, value, _, state = arguments(64, dtype=np.float32)
    key = np.broadcast_to(key[:1], key.shape)
    rates = np.full(64, rate, np.float32)
    found, _ = rule(query, key, value, rates, state)
    expected, _ = twin(query, key, value, rates, state)
    # At rate 2 every write turns the sign of all that was held: rounding adds up, step by step as well.
    assert np.max(np.abs(found - expected)) < (1e-5 if rate == 1 else 1e-3) * np.max(abs(expected))


def test_parts_and_single_steps_go_on_where_the_last_one_ended(x64):
    query, key, value, rate, state = arguments(11, (2, 2))
    whole, last = rule(query, key, value, rate, state)
    parts, middle = rule(
        query[..., :7, :], key[..., :7, :], value[..., :7, :], rate[..., :7], state
    )
    np.testing.assert_allclose(parts, whole[..., :7, :], rtol=1e-12)
    for t in range(7, 11):
        now = (x[..., t, :] for x in (query, key, value))
        output, middle = step(middle, *now, rate[..., t])
        np.testing.assert_allclose(output, whole[..., t, :], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(middle, last, rtol=1e-12, atol=1e-12)


def test_the_future_changes_no_past_output():
    inputs = arguments(13, (2,), np.float32)
    outputs, _ = rule(*inputs, chunk_size=5)
    for t in range(1, 13):
        changed = [np.array(x) for x in inputs[:4]]
        for x in changed:
            x[:, t:] = 1 - x[:, t:] / 2
        again, _ = rule(*changed, inputs[4], chunk_size=5)
        chex.assert_trees_all_equal(again[:, :t], outputs[:, :t])
        assert not np.allclose(again[:, t], outputs[:, t])


def test_orthonormal_keys_recall_the_last_value_under_each(x64):
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(rng.standard_normal((NUM_KEYS, NUM_KEYS)))[0]
    chosen = rng.integers(NUM_KEYS, size=30)
    value = rng.standard_normal((30, J))
    query = basis[rng.integers(NUM_KEYS, size=30)]
    outputs, state = rule(query, basis[chosen], value, np.ones(30))
    for t in range(30):
        asked = int(np.argmax(basis @ query[t]))
        written = [s for s in range(t + 1) if chosen[s] == asked]
        expected = value[written[-1]] if written else np.zeros(J)
        np.testing.assert_allclose(outputs[t], expected, atol=1e-12)
    last = [value[np.flatnonzero(chosen == i)[-1]] for i in range(NUM_KEYS)]
    np.testing.assert_allclose(state @ basis.T, np.transpose(last), atol=1e-12)
    summed = jax.jit(lambda *a: delta_rule(*a, error_correcting=False)[1])
    sums = [value[chosen == i].sum(axis=0) for i in range(NUM_KEYS)]
    additive = summed(query, basis[chosen], value, np.ones(30))
    np.testing.assert_allclose(additive @ basis.T, np.transpose(sums), atol=1e-12)


def test_a_step_of_rate_0_writes_nothing():
    query, key, value, rate, state = arguments(13, (2,), np.float32)
    rate = np.where(np.arange(13) % 3 == 1, 0, rate).astype(np.float32)
    hidden = np.where(rate == 0, np.float32(7), np.float32(1))[..., None]
    found = rule(query, key, value, rate, state, chunk_size=5)
    again = rule(query, key, value * hidden, rate, state, chunk_size=5)
    chex.assert_trees_all_equal(again, found)
    unmoved = rule(query, key, value, 0 * rate, state, chunk_size=5)[1]
    chex.assert_trees_all_equal(unmoved, state)
    assert not np.allclose(found[1], state)


@pytest.mark.parametrize("error_correcting", [True, False])
def test_gradients(x64, error_correcting):
    def run(*inputs):
        return delta_rule(*inputs, error_correcting=error_correcting, chunk_size=3)

    check_grads(jax.jit(run), arguments(5), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_second_derivatives(x64):
    """The solution of a chunk is differentiated as one: twice, too, it must be that of single steps."""
    query, key, value, rate, _ = arguments(2)

    def curvature(chunk_size):
        def loss(scale):
            outputs, _ = delta_rule(query, scale * key, value, rate, chunk_size=chunk_size)
            return jnp.sum(outputs**2)

        return jax.grad(jax.grad(loss))(0.8)

    chunk, steps = jax.jit(lambda: [curvature(2), curvature(1)])()
    np.testing.assert_allclose(chunk, steps, rtol=1e-12)
    assert abs(chunk) > 0.1


def test_batch_axes_are_rows_of_their_own():
    inputs = arguments(13, (2,), np.float32)
    found = rule(*inputs, chunk_size=5)
    mapped = jax.jit(jax.vmap(partial(delta_rule, chunk_size=5)))(*inputs)
    chex.assert_trees_all_close(found, mapped, atol=1e-6)
    other = [x.copy() for x in inputs]
    for x in other:
        x[1] = np.nan
    again = rule(*other, chunk_size=5)
    chex.assert_trees_all_equal([x[0] for x in again], [x[0] for x in found])


def test_bfloat16_is_summed_in_float32_and_rounded_once():
    *inputs, state = (jnp.asarray(x, jnp.bfloat16) for x in arguments(13, (2,)))
    found, last = rule(*inputs, state, chunk_size=5)
    assert (found.dtype, last.dtype) == (jnp.bfloat16, jnp.float32)
    exact, wide = rule(*(x.astype(jnp.float32) for x in (*inputs, state)), chunk_size=5)
    chex.assert_trees_all_equal((found, last), (exact.astype(jnp.bfloat16), wide))
    now = (x[:, 0] for x in inputs)
    output, stepped = jax.eval_shape(delta_step, state, *now)
    assert (output.dtype, stepped.dtype) == (jnp.bfloat16, jnp.float32)


QUERY, KEY, VALUE, RATE, STATE = arguments(5, (2,), np.float32)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(query=QUERY[..., :2]), r"query must have shape \(2, 5, 4\), got \(2, 5, 2\)"),
        (dict(value=VALUE[:, :4]), r"value must have shape \(2, 5, 3\), got \(2, 4, 3\)"),
        (dict(rate=RATE[:, :4]), r"rate must have shape \(2, 5\), got \(2, 4\)"),
        (dict(state=STATE[0]), r"state must have shape \(2, 3, 4\), got \(3, 4\)"),
        (dict(key=KEY.astype(int)), "key must be real floating point, got int64; cast"),
        (dict(query=QUERY[0, 0, 0]), r"query must have shape \[..., t, i\], got \(\)"),
        (dict(rate=2 * RATE + 1), r"rate must lie in \[0, 2\], got .*; use 2 \* sigmoid"),
        (dict(rate=RATE - 2), r"rate must lie in \[0, 2\]"),
        (dict(chunk_size=0), "chunk_size must be at least 1, got 0"),
        (
            dict(query=QUERY[:, :0], key=KEY[:, :0], value=VALUE[:, :0], rate=RATE[:, :0]),
            "must hold a step and a feature at least",
        ),
    ],
)
def test_bad_arguments(change, message):
    inputs = dict(query=QUERY, key=KEY, value=VALUE, rate=RATE, state=STATE) | change
    with pytest.raises(ValueError, match=message):
        delta_rule(**inputs)


@pytest.mark.error_message
def test_bad_arguments_of_a_step():
    with pytest.raises(ValueError, match=r"key \(0,\) and value \(3,\) must hold a step"):
        delta_step(STATE[0], QUERY[0, 0, :0], KEY[0, 0, :0], VALUE[0, 0], RATE[0, 0])
    with pytest.raises(ValueError, match=r"state must have shape \(3, 4\), got \(4, 3\)"):
        delta_step(STATE[0].T, QUERY[0, 0], KEY[0, 0], VALUE[0, 0], RATE[0, 0])
