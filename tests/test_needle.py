"""The documents of the needle experiment, and its training in small."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import needle

TEXT = np.full(4000, ord("."), np.uint8)


@pytest.mark.parametrize("length", [256, 2000])
def test_needles_lie_whole_in_their_tenths_and_say_the_answer(length):
    rng = np.random.default_rng(0)
    answers = set()
    for keys in (1, 2):
        text = needle.make_document(rng, TEXT, length, keys)[0].tobytes()
        assert text.count(b"=") == keys and text[text.index(b"[?") + 2 :][:1] + b"=" in text
    for _ in range(50):
        document, answer = needle.make_document(rng, TEXT, length)
        text = document.tobytes().decode()
        tenth = length // 10
        key = text[text.index("[?") + 2]
        assert text.index("[?") <= tenth - 4 and len(text) == length
        assert text.index("=") > length - tenth and text.count("[") == needle.KEYS + 1
        assert text[text.index(f"[{key}=") + 3] == str(answer)
        answers.add(int(answer))
    assert answers == set(range(needle.VALUES))


def test_a_training_in_small(quick_compile):
    config = dataclasses.replace(needle.MODEL, hidden_dim=4, num_layers=1, mlp_dim=4)
    start, later = needle.Stage(256, 2, 2), needle.Stage(512, 1, 1)
    budget = dataclasses.replace(needle.BUDGET, start=(start,), stages=(later,))
    state, stages = needle.train(TEXT, 0, config, budget)
    assert int(state.step) == 3 and int(state.skipped) == 0
    assert [(row["length"], row["steps"]) for row in stages] == [(256, 2), (512, 1)]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    found = needle.test(state, TEXT, 0, 256, 2)
    assert found["documents"] == 2 and found["accuracy"] in (0.0, 0.5, 1.0)
