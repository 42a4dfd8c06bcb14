"""N14: vocabularies of 500K to 1M tokens by hierarchical frequency embeddings.

Source: N (resonance networks with holographic memory).
Decided by: the parameters of embedding and softmax beside those of a full table, at 512 features; how many ids have a
vector of their own; and the loss of both on pairs of ids of which each belongs to a class drawn at random, so that the
codes of an id say nothing about it.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.layers.embedding import HierarchicalEmbedding, HierarchicalSoftmax

VOCABULARIES = (500_000, 1_000_000)
FEATURES, NUM_FREQUENT = 512, 16_384
CLASSES = 8


class NextId(nn.Module):
    """log p of the second id of pairs, given the first: by two levels, or by a full table."""

    vocab_size: int
    features: int
    num_frequent: int | None
    """Of the two levels; None is a full table."""

    @nn.compact
    def __call__(self, first, second):
        if self.num_frequent is None:
            table = nn.Embed(self.vocab_size, self.features, name="embedding")
            scores = table.attend(self._hidden(table(first)))
            scores += self.param("bias", nn.initializers.zeros, (self.vocab_size,))
            return jnp.take_along_axis(jax.nn.log_softmax(scores), second[:, None], axis=1)[:, 0]
        table = HierarchicalEmbedding(self.vocab_size, self.features, self.num_frequent)
        return HierarchicalSoftmax(table).log_prob(self._hidden(table(first)), second)

    def _hidden(self, vectors):
        return nn.Dense(self.features)(
            nn.gelu(nn.Dense(2 * self.features)(nn.LayerNorm()(vectors)))
        )


def share_of_parameters(vocab_size: int) -> float:
    """Counts the parameters of embedding and softmax, and divides by those of a full table and its biases."""
    table = HierarchicalEmbedding(vocab_size, FEATURES, NUM_FREQUENT)
    hidden, ids = np.zeros((1, FEATURES), np.float32), np.zeros(1, np.int32)
    shapes = jax.eval_shape(HierarchicalSoftmax(table).init, jax.random.key(0), hidden, ids)
    ours = sum(
        leaf.size for leaf in jax.tree.leaves(shapes)
    )  # the head holds the embedding's tables
    return ours / (vocab_size * (FEATURES + 1))


def draw_pairs(seed: int, vocab_size: int, count: int) -> np.ndarray:
    """Draws pairs of ids [2, count]: the first by Zipf's law, the second by it and by the classes of both."""
    rng = np.random.default_rng(seed)
    zipf = 1 / (np.arange(vocab_size) + 2.7)
    classes = rng.integers(CLASSES, size=vocab_size)
    affinity = rng.normal(size=(CLASSES, CLASSES))
    first = np.searchsorted(np.cumsum(zipf / zipf.sum()), rng.random(count))
    second, places = np.empty(count, np.int64), rng.random(count)
    for a in range(CLASSES):
        law = zipf * np.exp(affinity[a, classes])
        here = classes[np.minimum(first, vocab_size - 1)] == a
        second[here] = np.searchsorted(np.cumsum(law / law.sum()), places[here])
    return np.minimum([first, second], vocab_size - 1).astype(np.int32)


def train(
    model: NextId, splits: list[np.ndarray], steps: int, rate: float, seed: int
) -> list[float]:
    """Trains on the first split; returns the losses on the other two, validation and test, in nats."""
    train, *held_out = splits
    params = jax.jit(model.init)(jax.random.key(seed), *train[:, :2])
    optimizer = optax.adam(optax.linear_schedule(rate, 0.0, steps))

    def loss(params, batch):
        return -jnp.mean(jnp.asarray(model.apply(params, *batch)))

    @jax.jit
    def step(params, state, batch):
        updates, state = optimizer.update(jax.grad(loss)(params, batch), state)
        return optax.apply_updates(params, updates), state

    state, score = optimizer.init(params), jax.jit(loss)
    for pairs in np.split(train, steps, axis=1):
        params, state = step(params, state, pairs)
    return [
        float(np.mean([score(params, part) for part in np.split(split, 8, axis=1)]))
        for split in held_out
    ]


def count_distinct(vocab_size: int, features: int, num_frequent: int) -> int:
    """Counts the ids whose vectors, as they start, differ in a hundredth of the standard deviation."""
    layer, ids = HierarchicalEmbedding(vocab_size, features, num_frequent), np.arange(vocab_size)
    variables = jax.jit(layer.init)(jax.random.key(0), ids[:2])
    vectors = jax.jit(layer.apply)(variables, ids)
    cells = np.round(100 * features**0.5 * np.asarray(vectors)).astype(np.int32)
    return len(np.unique(cells, axis=0))


def measure(seed: int, size: str) -> Numbers:
    quick = size == "quick"
    vocab_size, features, steps, batch = (1000, 16, 300, 512) if quick else (30_000, 64, 2000, 512)
    pairs = draw_pairs(seed, vocab_size, (steps + 16) * batch)
    splits = np.split(pairs, [-16 * batch, -8 * batch], axis=1)
    unigram = np.bincount(splits[0][1], minlength=vocab_size) + 1.0
    numbers: dict[str, Any] = {
        "vocabularies": list(VOCABULARIES),
        "share_of_parameters": [share_of_parameters(v) for v in VOCABULARIES],
        "ids": 20_000 if quick else 1_000_000,
        "features": 8 if quick else 32,
        "loss_unigram": -float(np.mean(np.log(unigram / unigram.sum())[splits[2][1]])),
    }
    numbers["distinct"] = count_distinct(numbers["ids"], numbers["features"], 128)
    for name, num_frequent in (("full", None), ("two_levels", vocab_size // 16)):
        model = NextId(vocab_size, features, num_frequent)
        rates = (1e-2,) if quick else (3e-3, 1e-2)
        found = [train(model, splits, steps, rate, seed) for rate in rates]
        numbers[f"loss_{name}"] = min(found)[1]  # of the rate with the least validation loss
    return numbers


def decide(runs: Sequence[Numbers]) -> Decision:
    def mean(name: str) -> float:
        return float(np.mean([run[name] for run in runs]))

    first = runs[0]
    full, ours, unigram = (mean(f"loss_{name}") for name in ("full", "two_levels", "unigram"))
    share = max(first["share_of_parameters"])
    number = (
        f"{share:.1%} of the parameters of a table of {VOCABULARIES[0]:,} ids, "
        f"{min(first['share_of_parameters']):.1%} of {VOCABULARIES[1]:,}; {first['distinct']:,} of {first['ids']:,} "
        f"vectors of {first['features']} numbers distinct; "
        f"loss {ours:.3f} nats, full table {full:.3f}, frequencies alone {unigram:.3f}"
    )
    if share > 0.1 or any(run["distinct"] < run["ids"] for run in runs) or ours >= unigram:
        return Decision(
            "fails",
            number,
            "A vector for each id, of few parameters, that learns: one of these is missing.",
        )
    if ours <= full + 0.01:
        return Decision("holds", number)
    return Decision(
        "holds when",
        number,
        f"Sizes and distinct vectors hold. It costs {ours - full:.2f} nats where the codes say nothing about the ids: "
        "vectors of the tail cannot all be chosen freely.",
    )
