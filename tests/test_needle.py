"""The documents of the needle experiment, and its training in small."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
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


def test_a_training_goes_on_where_it_was_cut_off(quick_compile, monkeypatch, tmp_path):
    config = dataclasses.replace(needle.MODEL, hidden_dim=4, num_layers=1, mlp_dim=4)
    phases = (needle.Phase((needle.Stage(256, 1, 2, 2), needle.Stage(256, 1, 1))),)
    budget = dataclasses.replace(needle.BUDGET, model=config, phases=phases, lengths=((256, 2),))
    monkeypatch.setattr(needle, "BUDGET", budget)
    monkeypatch.setattr(needle.Results, "BUDGET", budget)
    corpus = SimpleNamespace(train=[TEXT.tobytes()], test=[TEXT.tobytes()])
    monkeypatch.setattr(needle, "load_corpus", lambda *_: corpus)
    results = needle.Results(tmp_path / "needle.json")
    with monkeypatch.context() as cut_off:
        cut_off.setattr(needle, "test", None)
        with pytest.raises(TypeError):
            needle.run(results, None, 0)
    steps = [[row["steps"] for row in phase["stages"]] for phase in results.record["phases"]]
    assert steps == [[2, 1]] and results.network(0, 0).exists()
    monkeypatch.setattr(needle, "train_phase", None)  # it is done
    needle.run(needle.Results(tmp_path / "needle.json"), None, 0)
    (found,) = needle.Results(tmp_path / "needle.json").record["runs"]
    assert found["accuracy"]["256"]["documents"] == 2
    assert found["accuracy"]["256"]["accuracy"] in (0.0, 0.5, 1.0)
    assert not results.network(0, 0).exists()


def test_a_phase_has_its_own_rates():
    budget = needle.BUDGET.of(needle.Phase((), rate=0.1, schedule="cosine"))
    assert budget.learning_rate == pytest.approx(0.1 * needle.BUDGET.learning_rate)
    assert budget.learning_rate_phase == pytest.approx(0.1 * needle.BUDGET.learning_rate_phase)
    assert budget.schedule == "cosine"


def test_a_network_starts_as_a_mean_over_the_document():
    phases = (needle.Phase((needle.Stage(256, 1, 1),)),)
    config = dataclasses.replace(needle.MODEL, hidden_dim=4, num_layers=1, mlp_dim=4)
    budget = dataclasses.replace(needle.BUDGET, phases=phases, model=config)
    shapes = jax.eval_shape(lambda: needle.make_state(0, budget).params)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    block = needle.start_as_mean(zeros, budget.quiet)["layer_0"]
    of_all = np.exp(block["spectrum"].pop("log_magnitude"))
    assert np.all(of_all[0] == 1) and np.all(of_all[1:] < 0.01)
    assert np.all(np.exp(block["bridge"].pop("log_magnitude")) < 0.01)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(block))
