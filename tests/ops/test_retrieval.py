"""The index against sorting all scores, in chunks of any size; ranks that ties make worse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops.retrieval import build_index, ranks, recall_at, search

RNG = np.random.default_rng(0)
KEYS = RNG.integers(-2, 3, size=(11, 3)).astype(np.float64)  # with ties, and rows of zeros
KEYS[4] = 0
IDS = RNG.permutation(100)[:11]
QUERIES = RNG.integers(-2, 3, size=(2, 4, 3)).astype(np.float64)


def cosines():
    def unit(x):
        return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)

    return np.round(unit(QUERIES) @ unit(KEYS).T, 12)


@pytest.mark.parametrize("chunk", [1, 4, 11, 50])
def test_search_is_a_stable_sort_of_all_scores(chunk, x64):
    scores = cosines()
    order = np.argsort(-scores, axis=-1, kind="stable")[..., :5]
    index = build_index(KEYS, IDS)
    found = jax.jit(search, static_argnames=("k", "chunk"))(index, QUERIES, 5, chunk=chunk)
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, order, -1), atol=1e-12)
    # Scores that are equal but for rounding may change places.
    own = np.array([[np.flatnonzero(IDS == i)[0] for i in row] for row in found.ids.reshape(-1, 5)])
    again = np.take_along_axis(scores.reshape(-1, 11), own, -1)
    np.testing.assert_allclose(again, found.scores.reshape(-1, 5), atol=1e-12)
    assert all(len(set(row)) == 5 for row in own.tolist())


@pytest.mark.parametrize("chunk", [3, 50])
def test_ranks_count_ties_against_the_query(chunk, x64):
    keys = RNG.normal(size=(11, 3))
    keys[[2, 9]] = keys[5]
    places = np.array([[5, 9, 2, 0], [1, 3, 10, 7]])
    scores = QUERIES @ (keys / np.linalg.norm(keys, axis=1, keepdims=True)).T
    own = np.take_along_axis(scores, places[..., None], axis=-1)
    wanted = np.sum(scores > own - 1e-9, axis=-1)  # its own is one of them
    found = ranks(build_index(keys, IDS), QUERIES, IDS[places], chunk=chunk)
    np.testing.assert_array_equal(found, wanted)


def test_vectors_that_are_all_the_same_are_last():
    index = build_index(jnp.ones((6, 4)))
    assert ranks(index, jnp.ones((6, 4)), jnp.arange(6)).tolist() == [6] * 6
    assert ranks(index, jnp.full((1, 4), jnp.nan), jnp.array([2])).tolist() == [6]
    assert ranks(index, jnp.ones((1, 4)), jnp.array([9])).tolist() == [7]


def test_recall():
    found = [float(recall_at(np.array([[1, 2], [5, 11]]), k)) for k in (1, 5, 10)]
    assert found == [0.25, 0.75, 0.75]


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda i: build_index(np.zeros(3)), r"keys must be real \[n, d\]"),
        (lambda i: build_index(np.zeros((2, 3)), np.array([1, 1])), "ids must be distinct"),
        (lambda i: build_index(np.zeros((2, 3)), np.array([1.0, 2.0])), "ids must be 2 integers"),
        (lambda i: search(i, np.zeros((1, 4)), 1), "the 3 features of the keys"),
        (lambda i: search(i, np.zeros((1, 3)), 12), r"k must be in 1 .. 11, .* got 12"),
        (lambda i: search(i, np.zeros((1, 3)), 1, chunk=0), "chunk must be at least 1"),
        (lambda i: ranks(i, np.zeros((1, 3)), np.zeros(2, int)), "one a query"),
        (lambda i: recall_at(np.zeros(0, int), 1), "at least one rank"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    index = build_index(KEYS, IDS)
    with pytest.raises(ValueError, match=message):
        call(index)
