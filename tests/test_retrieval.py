"""The batches of the retrieval experiment, its scores, and a training in small."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments import retrieval
from resonance_jax.data.stamps import Stamps, make_folds
from resonance_jax.models.multimodal import MODALITIES, MultimodalOutputs

RNG = np.random.default_rng(0)
COUNT = 10
NAMES = tuple(f"animals/{i}" for i in range(COUNT))
STAMPS = Stamps(
    NAMES,
    RNG.integers(0, 256, (COUNT, 8, 8, 3)).astype(np.uint8),
    {lang: tuple(f"{lang} {i}" for i in range(COUNT)) for lang in ("fr", "es")},
    {
        lang: tuple(
            RNG.normal(size=0 if i == 3 else 400 + i).astype(np.float32) for i in range(COUNT)
        )
        for lang in ("fr", "es")
    },
    make_folds(NAMES),
    {},
)
CONFIG = dataclasses.replace(
    retrieval.MODEL, vision_input_size=(8, 8), text_vocab_size=64, hidden_dim=4, embedding_dim=8
)
BUDGET = dataclasses.replace(retrieval.BUDGET, epochs=2, rows=4, shift=1)


def test_caption_and_reading_are_of_one_language_and_what_is_not_read_is_absent():
    rows, spoken = np.array([3, 5]), ["fr", "es"]
    inputs = retrieval.make_inputs(STAMPS, rows, CONFIG, spoken)
    own = retrieval.trigrams("es 5", 64, retrieval.TEXT_LENGTH)
    np.testing.assert_array_equal(inputs["text"][1][inputs["text_mask"][1]], own)
    sound = STAMPS.speech["es"][5]
    heard = inputs["audio"][1][inputs["audio_mask"][1]]
    np.testing.assert_allclose(heard, 0.1 * sound / np.sqrt(np.mean(sound**2)), rtol=1e-5)
    assert inputs["present"]["audio"].tolist() == [False, True]
    assert -1 <= inputs["vision"].min() < inputs["vision"].max() <= 1


def test_batches_hold_the_training_rows_alone_in_an_order_of_their_own():
    rows = np.flatnonzero(STAMPS.folds != 0)
    one, again, other = (
        [
            batch["inputs"]["text"]
            for batch in retrieval.training_batches(STAMPS, rows, CONFIG, BUDGET, seed)
        ]
        for seed in (0, 0, 1)
    )
    assert len(one) == BUDGET.epochs * (len(rows) // BUDGET.rows)
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


class Linear(nn.Module):
    """A model with the outputs of the real ones that compiles at once."""

    @nn.compact
    def __call__(self, inputs, *, deterministic: bool = True):
        senses = {name: inputs[name].reshape(len(inputs[name]), -1) for name in MODALITIES}
        vectors = {name: nn.Dense(4, name=name)(x * 1.0) for name, x in senses.items()}
        present: Any = {name: jnp.ones(len(x), bool) for name, x in senses.items()}
        temperature = self.param("log_temperature", nn.initializers.zeros, ())
        return MultimodalOutputs(vectors["text"], vectors, present, temperature, None)


def test_a_training_in_small(quick_compile, monkeypatch):
    monkeypatch.setattr(retrieval, "SECONDS", 0.08)
    monkeypatch.setattr(retrieval, "make_model", lambda arm, config: Linear())
    rows = np.flatnonzero(STAMPS.folds != 0)
    state = retrieval.train(STAMPS, rows, "towers", 0, CONFIG, BUDGET)
    assert int(state.step) == 4 and int(state.skipped) == 0
    vectors = retrieval.embed(state, STAMPS, rows, CONFIG)
    assert set(vectors) == set(MODALITIES) and len(vectors["text"]) == len(rows)


def test_recalls_are_those_of_the_own_row():
    eye = np.eye(12, dtype=np.float32)
    names = {name for query in retrieval.QUERIES for name in query.split(">")}
    vectors = dict.fromkeys(names, eye) | {"audio": np.roll(eye, 1, axis=0)}
    found = retrieval.recalls(vectors)
    assert found["text>vision"] == [1.0, 1.0, 1.0]
    assert found["audio>vision"] == [0.0, 0.0, 0.0]  # ties are counted against it
    same = retrieval.recalls(dict.fromkeys(names, np.ones((12, 3), np.float32)))
    assert same["vision>text"] == [0.0, 0.0, 0.0]


def test_neighbours_are_drawn():
    vectors = {name: RNG.normal(size=(8, 4)).astype(np.float32) for name in ("vision", "text")}
    figure = retrieval.draw_neighbours(STAMPS, vectors | {"rows": np.arange(8)}, "title")
    assert isinstance(figure, Figure) and len(figure.axes) == 40


def test_arms_are_of_one_size_and_say_the_same():
    inputs = retrieval.make_inputs(STAMPS, np.array([3, 5]), CONFIG, ["fr", "es"])
    inputs["vision"] = np.zeros((2, 48, 48, 3), np.float32)
    sizes = []
    for arm in retrieval.ARMS:
        init = retrieval.make_model(arm).init_with_output
        outputs, tree = jax.eval_shape(init, jax.random.key(0), inputs)
        names = {name for query in retrieval.QUERIES for name in query.split(">")}
        assert set(outputs.embeddings) == names, arm
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(tree["params"])))
    assert max(sizes) < 1.1 * min(sizes), sizes
