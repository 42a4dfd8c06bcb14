"""The two-level vocabulary: laws, against NumPy loops in float64, gradients, transformations and errors."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops import hologram, vocabulary
from resonance_jax.ops.vocabulary import CodeTables, LevelTables, Partition

pytestmark = pytest.mark.usefixtures("quick_compile")
SMALL = Partition(23, 4)  # 19 ids of the tail: 4 groups of 5, the last one of 4


def draw(partition=SMALL, features=6, dtype: Any = np.float32):
    rng = np.random.default_rng(0)
    groups, size, frequent = partition.num_groups, partition.group_size, partition.num_frequent
    shapes = (
        *((frequent, features), (size, features)),
        *((groups, features // 2 + 1), (groups, (features - 1) // 2)),
        *((groups, features), (frequent + groups,), (size,)),
    )
    arrays = [np.asarray(0.7 * rng.normal(size=shape), dtype) for shape in shapes]
    return CodeTables(*arrays[:4]), LevelTables(*arrays[4:])


def hidden_and_ids(shape=(3, 4), features=6, dtype: Any = np.float32):
    rng = np.random.default_rng(1)
    hidden = np.asarray(rng.normal(size=(*shape, features)), dtype)
    return hidden, rng.integers(SMALL.vocab_size, size=shape)


def key_of(tables, group):
    """w_a in time, by the sum over frequencies: for the bins f and d − f, twice the real part of one of them."""
    features = tables.codes.shape[1]
    times, w = np.arange(features), np.zeros(features)
    for f, log_magnitude in enumerate(tables.log_magnitude[group].astype(float)):
        paired = 0 < f and 2 * f < features
        angle = 2 * np.pi * f * times / features + (tables.phase[group][f - 1] if paired else 0)
        w += (2 if paired else 1) * np.exp(log_magnitude) * np.cos(angle) / features
    return w


def vector_of(tables, rank, partition=SMALL):
    if rank < partition.num_frequent:
        return tables.frequent[rank].astype(float)
    group, code = divmod(rank - partition.num_frequent, partition.group_size)
    w, v = key_of(tables, group), tables.codes[code].astype(float)
    d = len(v)
    return np.array([sum(w[j] * v[(i - j) % d] for j in range(d)) for i in range(d)])


def log_softmax(scores):
    return scores - np.log(np.sum(np.exp(scores)))


def log_probs_of(tables, levels, hidden, temperature=1.0, partition=SMALL):
    """All log-probabilities of one hidden vector, from the vectors of all ids."""
    frequent, size = partition.num_frequent, partition.group_size
    vectors = np.array([vector_of(tables, rank) for rank in range(partition.vocab_size)])
    rows = np.concatenate([tables.frequent, levels.groups])
    first = log_softmax((rows @ hidden + levels.bias) / temperature)
    result = list(first[:frequent])
    for group in range(partition.num_groups):
        members = vectors[frequent + group * size :][:size]
        scores = members @ hidden + levels.code_bias[: len(members)]
        result += list(first[frequent + group] + log_softmax(scores / temperature))
    return np.array(result)


@pytest.mark.parametrize(("size", "frequent"), [(2, 1), (23, 4), (100_256, 4096), (1_000_000, 1)])
def test_partition_covers_the_tail_with_square_tables(size, frequent):
    partition = Partition(size, frequent)
    tail, groups, codes = size - frequent, partition.num_groups, partition.group_size
    assert (codes - 1) ** 2 < tail <= codes**2
    assert (groups - 1) * codes < tail <= groups * codes


def test_ranks_are_those_of_a_stable_sort():
    counts = np.random.default_rng(0).integers(5, size=40).astype(np.uint8)
    order = sorted(range(40), key=lambda i: (-int(counts[i]), i))
    np.testing.assert_array_equal(vocabulary.rank_by_frequency(counts)[order], np.arange(40))


@pytest.mark.parametrize("features", [5, 6])
def test_vectors_equal_rows_and_direct_convolutions(features):
    tables, _ = draw(features=features)
    vectors = jax.jit(vocabulary.compose, static_argnums=2)(tables, np.arange(23), SMALL)
    expected = np.array([vector_of(tables, rank) for rank in range(23)])
    np.testing.assert_allclose(vectors, expected, atol=2e-6)
    bound = hologram.bind(tables.codes[4], key_of(tables, 2).astype(np.float32))
    np.testing.assert_allclose(vectors[4 + 2 * 5 + 4], bound, atol=2e-6)


def test_vectors_keep_the_norm_of_their_code_where_magnitudes_are_one():
    tables, _ = draw()
    tables = tables._replace(log_magnitude=0 * tables.log_magnitude)
    vectors = jax.jit(vocabulary.compose, static_argnums=2)(tables, np.arange(4, 23), SMALL)
    # DC and Nyquist are kept as they are, all other bins only turned.
    norms = np.linalg.norm(tables.codes, axis=1)[np.arange(19) % 5]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), norms, rtol=1e-5)


def test_log_probabilities_equal_those_from_all_vectors_and_sum_to_one():
    (tables, levels), (hidden, ids) = draw(), hidden_and_ids()
    every = np.asarray(
        jax.jit(vocabulary.log_probs, static_argnums=3)(tables, levels, hidden, SMALL)
    )
    expected = np.apply_along_axis(partial(log_probs_of, tables, levels), -1, hidden)
    np.testing.assert_allclose(every, expected, atol=1e-5)
    np.testing.assert_allclose(np.exp(every).sum(axis=-1), 1, rtol=1e-6)
    one = jax.jit(vocabulary.log_prob, static_argnums=4)
    for rank in range(23):
        found = one(tables, levels, hidden, np.full_like(ids, rank), SMALL)
        np.testing.assert_allclose(found, expected[..., rank], atol=1e-5)


def test_large_scores_stay_finite():
    (tables, levels), (hidden, ids) = draw(), hidden_and_ids()
    run = jax.jit(
        jax.value_and_grad(lambda h: jnp.sum(vocabulary.log_prob(tables, levels, h, ids, SMALL)))
    )
    for leaf in run(1e4 * hidden):
        assert np.all(np.isfinite(leaf))


def test_gradients(x64):
    (tables, levels), (hidden, ids) = (
        draw(features=5, dtype=np.float64),
        hidden_and_ids((7,), 5, float),
    )
    ids = np.array([0, 3, 4, 9, 21, 22, 22])

    @jax.jit
    def both(tables, levels, hidden):
        vectors = vocabulary.compose(tables, ids, SMALL)
        return vectors, vocabulary.log_prob(tables, levels, hidden, ids, SMALL)

    check_grads(both, (tables, levels, hidden), order=1, modes=["rev"], rtol=1e-5)

    def of_one(tables, levels, hidden):
        return jnp.sum(vocabulary.log_prob(tables, levels, hidden, ids, SMALL))

    def of_all(tables, levels, hidden):
        every = vocabulary.log_probs(tables, levels, hidden, SMALL)
        return jnp.sum(every[np.arange(7), ids])

    run = jax.jit(lambda *arrays: [jax.grad(f, (0, 1, 2))(*arrays) for f in (of_one, of_all)])
    found, expected = run(tables, levels, hidden)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-12), found, expected)


def test_vmap_and_batch_shapes_agree():
    (tables, levels), (hidden, ids) = draw(), hidden_and_ids()

    @jax.jit
    def run(hidden, ids):
        one = partial(vocabulary.log_prob, tables, levels, partition=SMALL)
        return one(hidden, ids), jax.vmap(one)(hidden, ids), one(hidden[1, 2], ids[1, 2])

    whole, mapped, single = run(hidden, ids)
    np.testing.assert_allclose(whole, mapped, atol=1e-6)
    np.testing.assert_allclose(whole[1, 2], single, atol=1e-6)


def test_samples_follow_the_probabilities_at_any_temperature_of_the_levels():
    (tables, levels), (hidden, _) = draw(), hidden_and_ids()
    one, number = hidden[0, 0], 40_000
    run = jax.jit(
        lambda key, temperature: vocabulary.sample(
            tables, levels, jnp.broadcast_to(one, (number, 6)), key, SMALL, temperature
        )
    )
    for temperature in (1.0, 0.5):
        ids = run(jax.random.key(0), temperature)
        p = np.exp(log_probs_of(tables, levels, one, temperature))
        seen = np.bincount(ids, minlength=23) / number
        assert np.all(np.abs(seen - p) <= 4.5 * np.sqrt(p * (1 - p) / number))
    cold = set(np.unique(run(jax.random.key(1), 0.0)).tolist())  # the most probable of each level
    assert cold == {int(np.argmax(log_probs_of(tables, levels, one, 0.05)))}


def test_ids_out_of_range_raise_or_give_nan():
    (tables, levels), (hidden, _) = draw(), hidden_and_ids((4,))
    ids = np.array([0, -1, 23, 22])
    expected = [False, True, True, False]
    vectors = jax.jit(vocabulary.compose, static_argnums=2)(tables, ids, SMALL)
    np.testing.assert_array_equal(np.isnan(vectors), np.repeat(expected, 6).reshape(4, 6))
    run = jax.jit(vocabulary.log_prob, static_argnums=4)
    np.testing.assert_array_equal(np.isnan(run(tables, levels, hidden, ids, SMALL)), expected)


def largest_array(jaxpr) -> int:
    """Elements of the largest array that a program makes, inside its calls as well."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [v.aval.size for v in equation.outvars]
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                sizes.append(largest_array(inner))
    return max(sizes)


def test_no_array_has_the_size_of_a_full_table():
    partition, tokens, d = Partition(1_000_000, 16_384), 256, 512
    tables, levels = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, draw(partition, d)))
    hidden = jax.ShapeDtypeStruct((tokens, d), jnp.float32)
    ids = jax.ShapeDtypeStruct((tokens,), jnp.int32)

    def loss(tables, levels, hidden, ids):
        vectors = vocabulary.compose(tables, ids, partition)
        return jnp.sum(vocabulary.log_prob(tables, levels, hidden + vectors, ids, partition))

    program = jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(tables, levels, hidden, ids)
    assert largest_array(program.jaxpr) == partition.num_frequent * d  # the gradient of those rows
    drawing = jax.make_jaxpr(partial(vocabulary.sample, partition=partition))
    key = jax.eval_shape(lambda: jax.random.key(0))
    assert largest_array(drawing(tables, levels, hidden, key).jaxpr) <= partition.num_frequent * d


def test_dtypes():
    (tables, levels), (hidden, ids) = draw(), hidden_and_ids()
    narrow = tables._replace(frequent=jnp.asarray(tables.frequent, jnp.bfloat16))
    assert jax.eval_shape(lambda: vocabulary.compose(narrow, ids, SMALL)).dtype == jnp.bfloat16

    @jax.jit
    def run(hidden):
        half = hidden.astype(jnp.bfloat16)
        return [vocabulary.log_prob(tables, levels, h, ids, SMALL) for h in (hidden, half)]

    exact, rounded = run(hidden)
    assert exact.dtype == rounded.dtype == jnp.float32
    assert 1e-5 < np.max(np.abs(exact - rounded)) < 0.05


@pytest.mark.error_message
def test_bad_ids():
    tables, levels = draw()
    hidden, ids = hidden_and_ids()
    with pytest.raises(ValueError, match=r"ids must lie in 0 .. 22 .* got -1 .. 2; was the text"):
        vocabulary.compose(tables, np.array([-1, 2]), SMALL)
    with pytest.raises(ValueError, match=r"ids must lie in 0 .. 22 .* got 23 .. 23"):
        vocabulary.log_prob(tables, levels, hidden[0, 0], np.array(23), SMALL)
    with pytest.raises(ValueError, match="ids must be integers, got float32"):
        vocabulary.compose(tables, np.array([1.0], np.float32), SMALL)
    with pytest.raises(ValueError, match=r"features, \(3, 4\), got \(4,\)"):
        vocabulary.log_prob(tables, levels, hidden, ids[0], SMALL)
    with pytest.raises(ValueError, match=r"counts must have shape \[V\], got \(2, 2\)"):
        vocabulary.rank_by_frequency(np.ones((2, 2), int))


@pytest.mark.error_message
@pytest.mark.parametrize("frequent", [0, 23, 24, -1])
def test_bad_partition(frequent):
    with pytest.raises(ValueError, match=f"below vocab_size = 23, got {frequent}; without a tail"):
        Partition(23, frequent)


@pytest.mark.error_message
def test_bad_tables_and_hidden():
    (tables, levels), (hidden, _) = draw(), hidden_and_ids()
    with pytest.raises(ValueError, match=r"codes must have shape \(5, 6\) .* got \(4, 6\)"):
        vocabulary.compose(tables._replace(codes=tables.codes[1:]), np.array([1]), SMALL)
    with pytest.raises(ValueError, match=r"bias must have shape \(8,\) .* got \(7,\)"):
        bias = levels._replace(bias=levels.bias[1:])
        vocabulary.log_probs(tables, bias, hidden, SMALL)
    with pytest.raises(ValueError, match=r"with 6 features last, got float32 of shape \(3, 4, 5\)"):
        vocabulary.log_probs(tables, levels, hidden[..., 1:], SMALL)
    with pytest.raises(ValueError, match="with 6 features last, got int64"):
        vocabulary.log_probs(tables, levels, hidden.astype(np.int64), SMALL)
    with pytest.raises(ValueError, match="temperature must be at least 0, got -1"):
        vocabulary.sample(tables, levels, hidden, jax.random.key(0), SMALL, -1)
    with pytest.raises(ValueError, match="binding needs at least 3 features, got 2"):
        vocabulary.compose(draw(features=2)[0], np.array([1]), SMALL)
