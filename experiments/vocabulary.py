"""Embedding and softmax in two levels against a full table, on the King James text in 100,257 byte pairs (N14).

Question: what does a vocabulary cost in loss when 2 % of the parameters of its table are left?
Found, one seed: after 250 steps each 5.88 against the full table's 5.85, at 27 times its tokens a second; after 1,000,
in a seventh of its time, 5.61. Neither is trained to its end.
Command: python -m experiments.vocabulary [--seeds 0 1 …]
Needs: the packages of the extra `data`.

Ids are ranked by frequency in the training split. Both models have the same causal body, of width 128, and share one
table between embedding and head: the full table has a row and a bias for each id, ours 1,024 rows, 316 codes, and a
spectrum and a row for each of 315 groups. The full softmax multiplies in bfloat16 with sums in float32, here slightly
faster than float32; ours in float32. Same windows in the same order, same steps; "two levels, longer" takes four times
as many. Each head gets the same search for its learning rate, on the validation split. The loss is in nats a token over
the same first part of the test split, also apart for frequent ids and those of the tail. "counts" is how often each id
is in the training split.

Only about 9,600 of the ids are in the training split: the text is small for its vocabulary, and the rest of the tail is
learnt as absent. Every run is written when it ends; one that is there is not repeated.
"""

import argparse
import dataclasses
import functools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.result_file import ResultFile, open_results, work
from resonance_jax.data.corpus import load_corpus
from resonance_jax.data.tokenizer import BytePairTokenizer
from resonance_jax.layers.block import MixerBlock
from resonance_jax.layers.embedding import HierarchicalEmbedding, HierarchicalSoftmax
from resonance_jax.layers.fast_weights import CausalConvolution
from resonance_jax.ops.vocabulary import rank_by_frequency
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.optimizer import make_optimizer

RESULTS = Path(__file__).parent / "results" / "vocabulary.json"
RATES = (3e-3, 1e-2)


@dataclasses.dataclass(frozen=True)
class Budget:
    """What all runs have in common."""

    features: int = 128
    num_frequent: int = 1024
    num_layers: int = 2
    taps: int = 8
    window: int = 64
    batch_size: int = 8
    steps: int = 250
    search_steps: int = 80
    longer: int = 4
    validation_tokens: int = 4096
    test_tokens: int = 16_384


class Text(NamedTuple):
    """Ranks of the ids of each split, and how often each rank occurs in training."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    counts: np.ndarray


class FullSoftmax(nn.Module):
    """A row and a bias for each id; products in bfloat16, summed in float32."""

    table: nn.Embed

    @nn.compact
    def __call__(self, hidden, ids):
        bias = self.param("bias", nn.initializers.zeros, (self.table.num_embeddings,))
        rows, hidden = self.table.embedding.astype(jnp.bfloat16), hidden.astype(jnp.bfloat16)
        scores = (
            jnp.einsum("...d,vd->...v", hidden, rows, preferred_element_type=jnp.float32) + bias
        )
        chosen = jnp.take_along_axis(scores, ids[..., None], axis=-1)[..., 0]
        return chosen - jax.nn.logsumexp(scores, axis=-1)


class Filter(nn.Module):
    """A causal depthwise convolution as a mixer."""

    taps: int

    @nn.compact
    def __call__(self, x, mask=None, *, deterministic=True):
        return CausalConvolution(self.taps)(x)[0]


class Model(nn.Module):
    """Log-probability of each next id of windows [b, t + 1]."""

    kind: str
    vocab_size: int
    budget: Budget

    @nn.compact
    def __call__(self, windows):
        budget, d = self.budget, self.budget.features
        if self.kind == "full":
            embedding = nn.Embed(
                self.vocab_size, d, embedding_init=nn.initializers.normal(d**-0.5), name="embedding"
            )
            head: Any = FullSoftmax(embedding, name="head")
        else:
            embedding = HierarchicalEmbedding(
                self.vocab_size, d, budget.num_frequent, name="embedding"
            )
            head = HierarchicalSoftmax(embedding, name="head")
        x = jnp.asarray(embedding(windows[:, :-1])) * math.sqrt(d)
        for layer in range(budget.num_layers):
            mixer = Filter(budget.taps, parent=None)
            x = MixerBlock(mixer, 2 * d, gate=True, name=f"block_{layer}")(x)
        return head(nn.LayerNorm(name="norm")(x), windows[:, 1:])


@functools.cache
def load() -> Text:
    """Reads and encodes the text; ids become ranks by frequency in training."""
    corpus, tokenizer = load_corpus("kjv"), BytePairTokenizer()
    splits = (corpus.train, corpus.validation, corpus.test)
    train, validation, test = (
        np.concatenate([tokenizer.encode(document) for document in split]).astype(np.int64)
        for split in splits
    )
    counts = np.bincount(train, minlength=tokenizer.vocab_size)
    ranks = np.asarray(rank_by_frequency(counts))
    return Text(ranks[train], ranks[validation], ranks[test], np.sort(counts)[::-1])


def draw_windows(ids: np.ndarray, budget: Budget, seed: int) -> Iterator[np.ndarray]:
    """Draws batches [b, t + 1] without end."""
    rng = np.random.default_rng(seed)
    while True:
        starts = rng.integers(len(ids) - budget.window, size=budget.batch_size)
        yield ids[starts[:, None] + np.arange(budget.window + 1)].astype(np.int32)


def losses(
    model: Model, params: Any, ids: np.ndarray, tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the loss and the id of each of the first tokens, in windows that do not overlap."""
    budget = model.budget
    rows = np.arange(tokens // budget.window // budget.batch_size * budget.batch_size)
    windows = ids[rows[:, None] * budget.window + np.arange(budget.window + 1)].astype(np.int32)
    run = jax.jit(lambda params, batch: model.apply({"params": params}, batch))
    batches = np.split(windows, len(rows) // budget.batch_size)
    found = np.concatenate([np.asarray(run(params, batch)) for batch in batches])
    return -found.ravel(), windows[:, 1:].ravel()


def summarize(loss: np.ndarray, ids: np.ndarray, num_frequent: int) -> dict[str, float]:
    """Returns mean losses: of all tokens, of frequent ids and of the tail."""
    tail = ids >= num_frequent
    return {
        "loss": float(np.mean(loss)),
        "perplexity": float(np.exp(np.mean(loss))),
        "loss_frequent": float(np.mean(loss[~tail])),
        "loss_tail": float(np.mean(loss[tail])),
        "tail_share": float(np.mean(tail)),
    }


def train(
    kind: str, text: Text, budget: Budget, rate: float, seed: int, steps: int
) -> tuple[Model, Any, dict[str, Any]]:
    """Trains a model; returns it with its parameters, their number and the speed of training."""
    model = Model(kind, len(text.counts), budget)
    batches = draw_windows(text.train, budget, seed)
    params = jax.jit(model.init)(jax.random.key(seed), next(batches))["params"]
    rates: Any = dict(learning_rate=rate, learning_rate_magnitude=rate, learning_rate_phase=rate)
    optimizer = make_optimizer(TrainConfig(**rates), steps)
    state = jax.jit(optimizer.init)(params)

    def step(params, state, batch):
        def mean_loss(params):
            return -jnp.mean(jnp.asarray(model.apply({"params": params}, batch)))

        loss, gradient = jax.value_and_grad(mean_loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    run, seconds = jax.jit(step, donate_argnums=(0, 1)), []
    for _ in range(steps):
        started = time.perf_counter()
        params, state, _ = jax.block_until_ready(run(params, state, next(batches)))
        seconds.append(time.perf_counter() - started)
    tokens = budget.batch_size * budget.window
    in_tables = sum(
        leaf.size for key in ("embedding", "head") for leaf in jax.tree.leaves(params[key])
    )
    return model, params, {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "parameters_of_tables": in_tables,
        "train_seconds": sum(seconds[1:]),
        "tokens_per_second": tokens / statistics.median(seconds[1:]),
    }  # fmt: skip


class Results(ResultFile):
    """The JSON file of this experiment."""

    TABLES = ("distinct", "counts", "search", "runs")
    BUDGET = Budget()

    def summary(self) -> dict[str, Any]:
        """Returns the budget and the means over seeds."""
        return {"means": analyse(self.record["runs"])}


def analyse(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns of each model the mean over its seeds of every number, and the spread of the loss."""
    found = {}
    for name in dict.fromkeys(run["model"] for run in runs):
        rows = [run for run in runs if run["model"] == name]
        numbers = [key for key in rows[0] if key not in ("model", "seed")]
        means = {key: statistics.fmean(row[key] for row in rows) for key in numbers}
        spread = [row["loss"] for row in rows]
        deviation = statistics.stdev(spread) if len(rows) > 1 else None
        found[name] = {**means, "loss_std": deviation, "seeds": len(rows)}
    return found


def search(results: Results, kind: str, rate: float) -> None:
    """Tries a learning rate, unless the file has it."""
    key, budget = {"kind": kind, "rate": rate}, Budget()
    if results.find("search", **key):
        return
    model, params, _ = train(kind, load(), budget, rate, 0, budget.search_steps)
    loss, _ = losses(model, params, load().validation, budget.validation_tokens)
    results.add("search", key, {"validation_loss": float(np.mean(loss))})


def run(results: Results, kind: str, name: str, steps: int, seed: int) -> None:
    """Trains and tests one model, unless the file has it."""
    key, budget = {"model": name, "seed": seed}, Budget()
    if results.find("runs", **key):
        return
    tried = [row for row in results.record["search"] if row["kind"] == kind]
    rate = min(tried, key=lambda row: row["validation_loss"])["rate"]
    model, params, about = train(kind, load(), budget, rate, seed, steps)
    tested = summarize(*losses(model, params, load().test, budget.test_tokens), budget.num_frequent)
    results.add("runs", key, {**tested, **about, "steps": steps, "rate": rate})


def count(results: Results) -> None:
    """Adds what the counts of the training split, plus one, predict on the same tokens."""
    text, budget = load(), Budget()
    p = (text.counts + 1) / np.sum(text.counts + 1)
    ids = text.test[1 : budget.test_tokens + 1]
    values = summarize(-np.log(p[ids]), ids, budget.num_frequent)
    seen = int(np.sum(text.counts > 0))
    sizes = {"ids": len(text.counts), "ids_in_training": seen, "tokens": len(text.train)}
    results.add("counts", {"model": "counts"}, {**values, **sizes})


def count_distinct(results: Results, vocab_size: int = 1_000_000, features: int = 512) -> None:
    """Adds how many ids of a large vocabulary have a vector of their own, as it starts.

    What rounds to the same multiples of a hundredth of the standard deviation counts as one.
    """
    key = {"ids": vocab_size, "features": features}
    if results.find("distinct", **key):
        return
    layer = HierarchicalEmbedding(vocab_size, features, 16_384)
    variables = jax.jit(layer.init)(jax.random.key(0), np.arange(2))
    run, chunk = jax.jit(layer.apply), 10_000
    weights = np.random.default_rng(0).integers(2**63, size=features, dtype=np.uint64)
    seen = []
    for start in range(0, vocab_size, chunk):
        vectors = np.asarray(run(variables, np.arange(start, min(start + chunk, vocab_size))))
        cells = np.round(100 * math.sqrt(features) * vectors).astype(np.int64).astype(np.uint64)
        seen.append(np.sum(cells * weights, axis=-1))  # a hash: the sum wraps at 2⁶⁴
    distinct = len(np.unique(np.concatenate(seen)))
    results.add("distinct", key, {"distinct": distinct})


def print_table(record: Mapping[str, Any]) -> None:
    """Prints a row a model."""
    print(
        f"{'model':20}{'steps':>7}{'parameters':>12}{'tokens/s':>10}{'loss':>8}{'frequent':>10}{'tail':>8}{'perplexity':>12}"
    )
    for name, row in record["means"].items():
        print(
            f"{name:20}{row['steps']:>7.0f}{row['parameters']:>12,.0f}{row['tokens_per_second']:>10,.0f}"
            f"{row['loss']:>8.3f}{row['loss_frequent']:>10.3f}{row['loss_tail']:>8.3f}{row['perplexity']:>12.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    options, results = open_results(parser, Results, RESULTS)
    budget = Budget()
    jobs: list[tuple[Callable[..., None], Any]] = [(count_distinct, ()), (count, ())]
    jobs += [(search, (kind, rate)) for kind in ("two levels", "full") for rate in RATES]
    for seed in options.seeds:
        jobs.append((run, ("two levels", "two levels", budget.steps, seed)))
        jobs.append((run, ("full", "full table", budget.steps, seed)))
        longer = budget.longer * budget.steps
        jobs.append((run, ("two levels", "two levels, longer", longer, seed)))
    work(results, jobs)
    print_table(results.record)
    print(json.dumps(results.record["search"], indent=1))


if __name__ == "__main__":
    main()
