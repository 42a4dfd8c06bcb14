"""The batches of the newsgroups experiment, and its training in small."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import newsgroups
from resonance_jax.data.text import UNKNOWN

RNG = np.random.default_rng(0)
DOCUMENTS = [
    (RNG.integers(2, 50, length).astype(np.int32), index % 20)
    for index, length in enumerate([3, 70, 64, 65, 700, 130, 5, 9])
]
BUDGET = dataclasses.replace(newsgroups.BUDGET, words=256, epochs=1)


def rows_of(batches):
    """Ids and class of each document in the batches, those of weight 0 left out."""
    return [
        (ids[mask].tolist(), int(label))
        for batch in batches
        for ids, mask, label, weight in zip(
            batch["inputs"], batch["mask"], batch["labels"], batch["weight"], strict=True
        )
        if weight
    ]


def test_batches_hold_every_document_once_and_whole():
    batches = list(newsgroups.make_batches(DOCUMENTS, 16384, BUDGET))
    wanted = [(ids.tolist(), label) for ids, label in DOCUMENTS]
    assert sorted(rows_of(batches)) == sorted(wanted)
    assert all(batch["inputs"].size <= 256 or len(batch["inputs"]) == 1 for batch in batches)
    cut = list(newsgroups.make_batches(DOCUMENTS, 65, BUDGET))
    assert sorted(rows_of(cut)) == sorted((ids[:65], label) for ids, label in wanted)
    for whole, shorter in zip(batches, cut, strict=True):
        np.testing.assert_array_equal(whole["labels"], shorter["labels"])


def test_training_batches_are_shuffled_and_hide_words():
    one, other = (
        rows_of(newsgroups.make_batches(DOCUMENTS, 16384, BUDGET, np.random.default_rng(seed)))
        for seed in (0, 1)
    )
    assert [label for _, label in one] != [label for _, label in other]
    words = np.concatenate([ids for ids, _ in one])
    assert len(words) == sum(len(ids) for ids, _ in DOCUMENTS)
    assert 0.1 < np.mean(words == UNKNOWN) < 0.3


def test_a_training_in_small(quick_compile):
    config = dataclasses.replace(newsgroups.MODEL, hidden_dim=4, num_layers=1, mlp_dim=4)
    documents = [DOCUMENTS[0], DOCUMENTS[6]]  # of one length, padded
    state = newsgroups.train(documents, 512, 0, config, BUDGET)
    assert int(state.step) == 1 and int(state.skipped) == 0
    assert newsgroups.test(state, documents, 512, BUDGET) in (0.0, 0.5, 1.0)
    # Rows without a document have class 0.
    always_7 = state.replace(apply_fn=lambda variables, x, **_: jnp.eye(20)[jnp.full(len(x), 7)])
    seven = [(ids, 7) for ids, _ in documents]
    assert newsgroups.test(always_7, [*seven, DOCUMENTS[0]], 512, BUDGET) == pytest.approx(2 / 3)
