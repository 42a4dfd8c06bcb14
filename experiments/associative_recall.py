"""Multi-query associative recall: which mixers can look up what a sequence showed before, over length and pairs.

Claim: a memory written by the delta rule recalls 32 pairs with d = 64, which no fixed mixer does.
Found, one seed, at 32 pairs and lengths 256, 512, 1024: delta rule 0.997, 0.996, 0.994; additive writes 0.990, 0.963,
0.896; every fixed mixer below 0.02; attention 1.000 (results/associative_recall.json).
Time: 1 to 3 minutes of CPU a network, on one core beside other work
Command: python -m experiments.associative_recall, and python -m experiments.associative_recall --plot

A sequence shows p pairs (key, value), each a token, then tokens that mean nothing (values drawn at random), and among
them, at places drawn at random, each key once more: there the network has to name the value. Keys are one half of the
vocabulary, values the other. The task is Zoology's, but with 2,048 tokens (the paper has 8,192), and
with queries spread evenly over the rest of the sequence, where the paper draws more of them near.

Every network has two blocks of width 64 and logits tied to the embedding. All go through the same stages: short
sequences with few pairs and nothing between them, where recall is learned within a few hundred steps, then longer ones,
at last length 256 with 8 to 64 pairs. Lengths 512 and 1024 are not trained: there the test is one of generalisation.

    delta        FastWeightMemory, one head: a matrix 64 × 64, written by the delta rule
    hebbian      the same with additive writes: linear attention
    convolution  the short convolution that the two above have, and nothing else along time
    resonance    ResonanceLayer behind that convolution; bidirectional
    fnet         FNet's mixing behind that convolution; bidirectional
    attention    causal softmax attention, one head, with the memory's convolution of q, k and v
    delta-gated  "delta" with silu after the convolution and an output gate, as is usual in language models

The fixed mixers (convolution, resonance, fnet) have a gate and an MLP besides, which the others do without.

References:
    Arora, Eyuboglu, Timalsina, Johnson, Poli, Zou, Rudra, Ré, Zoology: Measuring and Improving Recall in Efficient
        Language Models, arXiv:2312.04927.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from experiments.budget import OptimizerBudget
from experiments.result_file import ResultFile, open_results, work
from resonance_jax.layers.block import MixerBlock
from resonance_jax.layers.fast_weights import CausalConvolution, FastWeightMemory
from resonance_jax.layers.resonance import ResonanceLayer
from resonance_jax.models.baselines import FourierMixing
from resonance_jax.training import plots
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.result import surroundings
from resonance_jax.training.step import TrainState, eval_step, init_state, train_step

RESULTS = Path(__file__).parent / "results" / "associative_recall.json"
WIDTH = 64
PAIRS = (8, 16, 32, 64)
LENGTHS = (256, 512, 1024)
SEEDS = (0, 1, 2)
PUBLISHED = ("delta", 8192)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Steps on sequences of one length, with several numbers of pairs in every batch."""

    length: int
    pairs: tuple[int, ...]
    rows: int
    """Sequences of each number of pairs in a batch."""
    steps: int


@dataclasses.dataclass(frozen=True)
class Budget(OptimizerBudget):
    """What every network is trained with."""

    vocabulary: int = 2048
    stages: tuple[Stage, ...] = (
        Stage(12, (4,), 60, 400),
        Stage(64, (4, 8, 16), 10, 250),
        Stage(256, PAIRS, 2, 800),
    )
    test_batches: int = 8
    """Batches tested at each length, of four sequences of each number of pairs."""
    learning_rate: float = 4e-3
    learning_rate_magnitude: float = 4e-3
    learning_rate_phase: float = 4e-3


BUDGET = Budget()


class CausalAttention(nn.Module):
    """Softmax attention to the present and the earlier steps, one head; q, k and v convolved as in the memory."""

    @nn.compact
    def __call__(self, x, mask=None, *, deterministic: bool = True):
        """Maps x [b, t, d] to y [b, t, d]."""
        projected, _ = CausalConvolution()(nn.Dense(3 * x.shape[-1], use_bias=False)(x))
        query, key, value = jnp.split(projected[..., None, :], 3, axis=-1)
        query, key = nn.LayerNorm()(query), nn.LayerNorm()(key)
        earlier = nn.make_causal_mask(x[..., 0])
        read = nn.dot_product_attention(query, key, value, mask=earlier)
        return nn.Dense(x.shape[-1], use_bias=False)(read[..., 0, :])


class Unmixed(nn.Module):
    """y = P x: nothing along time."""

    @nn.compact
    def __call__(self, x, mask=None, *, deterministic: bool = True):
        """Maps x [b, t, d] to y [b, t, d]."""
        return nn.Dense(x.shape[-1])(x)


class Convolved(nn.Module):
    """A mixer behind the short convolution that `FastWeightMemory` has of its own."""

    mixer: nn.Module

    @nn.compact
    def __call__(self, x, mask=None, *, deterministic: bool = True):
        """Maps x [b, t, d] to y [b, t, d]."""
        return self.mixer(CausalConvolution()(x)[0], mask, deterministic=deterministic)


def make_memory(**options: Any) -> nn.Module:
    """Returns the memory without the gate and the silu, which make this task slow to learn ("delta-gated" has them)."""
    return FastWeightMemory(WIDTH, gate=False, activation="none", **options)


def make_resonance() -> nn.Module:
    """Returns the resonance layer, its frequencies those of the longest training sequences."""
    layer = ResonanceLayer(WIDTH, 64, post_norm=False, reference_length=256)
    return Convolved(layer)


MIXERS: dict[str, Callable[[], nn.Module]] = {
    "delta": make_memory,
    "hebbian": lambda: make_memory(error_correcting=False),
    "convolution": lambda: Convolved(Unmixed()),
    "resonance": make_resonance,
    "fnet": lambda: Convolved(FourierMixing()),
    "attention": CausalAttention,
    "delta-gated": lambda: FastWeightMemory(WIDTH),
}
ORDER = {kind: index for index, kind in enumerate(MIXERS)}
FIXED = ("convolution", "resonance", "fnet")


class RecallNet(nn.Module):
    """Embeds tokens [b, t] and mixes them in two blocks; logits are products with the embedding.

    Embeddings start at N(0, 1), not at 1/√d, so that Adam's first steps do not make all keys alike.
    """

    kind: str
    vocabulary: int

    @nn.compact
    def __call__(self, tokens, *, deterministic: bool = True):
        """Returns the features [b, t, d] and the output embedding [v, d]: logits are made where they are asked for."""
        embed = nn.Embed(self.vocabulary, WIDTH, embedding_init=nn.initializers.normal(1.0))
        x, fixed = embed(tokens), self.kind in FIXED
        for _ in range(2):
            block = MixerBlock(MIXERS[self.kind](), 2 * WIDTH if fixed else 0, gate=fixed)
            x = block(x, deterministic=deterministic)
        return nn.LayerNorm()(x), embed.embedding * WIDTH**-0.5


def recall_loss(outputs: Any, batch: Mapping[str, Any]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the mean cross-entropy at the queries, their mean accuracy, and which of them are right."""
    features, embedding = outputs
    rows, steps = batch["positions"].T
    logits = jnp.matmul(features[rows, steps], embedding.T)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
    correct = (logits.argmax(axis=-1) == batch["labels"]).astype(jnp.float32)
    return losses.mean(), {"accuracy": correct.mean(), "correct": correct}


def make_row(
    rng: np.random.Generator, length: int, pairs: int, vocabulary: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the tokens [t] of a sequence, the steps of its queries [p] and what is to be named there [p].

    Raises:
        ValueError: if p pairs and their queries do not fit in t steps, or there are fewer than p keys.
    """
    half = vocabulary // 2
    if 3 * pairs > length or pairs > half:
        raise ValueError(
            f"{pairs} pairs need a length of {3 * pairs} and a vocabulary of {2 * pairs} at least, got {length} and "
            f"{vocabulary}."
        )
    keys, values = rng.permutation(half)[:pairs], rng.integers(half, 2 * half, pairs)
    tokens = rng.integers(half, 2 * half, length)
    tokens[: 2 * pairs : 2], tokens[1 : 2 * pairs : 2] = keys, values
    steps = 2 * pairs + rng.permutation(length - 2 * pairs)[:pairs]
    tokens[steps] = keys
    return tokens, steps, values


def make_batch(
    rng: np.random.Generator, length: int, pairs: Sequence[int], vocabulary: int
) -> dict[str, np.ndarray]:
    """Makes a sequence for each number of pairs.

    Returns:
        "inputs" [b, t], and of the q queries of all of them "positions" (row, step) [q, 2], "labels" [q], and "pairs"
        [q], how many their sequence has.
    """
    made = [make_row(rng, length, count, vocabulary) for count in pairs]
    tokens, steps, values = (list(part) for part in zip(*made, strict=True))
    rows = np.repeat(np.arange(len(pairs)), pairs)
    return {
        "inputs": np.stack(tokens).astype(np.int32),
        "positions": np.stack([rows, np.concatenate(steps)], axis=1).astype(np.int32),
        "labels": np.concatenate(values).astype(np.int32),
        "pairs": np.asarray(pairs, np.int32)[rows],
    }


def train(kind: str, seed: int, budget: Budget = BUDGET) -> TrainState:
    """Trains a network through all stages on sequences that are never shown twice."""
    rng = np.random.default_rng([seed, 0])
    optimizer = make_optimizer(budget, sum(stage.steps for stage in budget.stages))
    model, state = RecallNet(kind, budget.vocabulary), None
    for stage in budget.stages:
        pairs = np.repeat(stage.pairs, stage.rows).tolist()
        for step in range(stage.steps):
            batch = make_batch(rng, stage.length, pairs, budget.vocabulary)
            if state is None:
                state = init_state(model, optimizer, jax.random.key(seed), batch, loss=recall_loss)
            state, metrics = train_step(state, batch)
            if step % 100 == 99 or step == stage.steps - 1:
                loss, accuracy = float(metrics["loss"]), float(metrics["accuracy"])
                print(f"  {stage.length:4} {step + 1:4}: {loss:.3f} {accuracy:.3f}", flush=True)
    if state is None:
        raise ValueError("expected stages with steps, got none.")
    return state


def test(state: TrainState, seed: int, length: int, budget: Budget = BUDGET) -> dict[str, float]:
    """Returns the accuracy on new sequences of a length, for each number of pairs."""
    rng = np.random.default_rng([seed, 1, length])
    right: dict[int, list[float]] = {count: [] for count in PAIRS}
    for _ in range(budget.test_batches):
        batch = make_batch(rng, length, np.repeat(PAIRS, 4).tolist(), budget.vocabulary)
        options = dict(apply_fn=state.apply_fn, loss_fn=recall_loss)
        correct = np.asarray(eval_step(state.eval_variables, batch, **options)["correct"])
        for count in PAIRS:
            right[count] += correct[batch["pairs"] == count].tolist()
    return {str(count): statistics.fmean(values) for count, values in right.items()}


def run(results: "Results", kind: str, vocabulary: int, seed: int) -> None:
    """Trains and tests a network, unless the file has it."""
    key = {"model": kind, "vocabulary": vocabulary, "seed": seed}
    if results.find("runs", **key):
        return
    budget = dataclasses.replace(BUDGET, vocabulary=vocabulary)
    started = time.process_time()
    state = train(kind, seed, budget)
    seconds = time.process_time() - started
    values = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "train_cpu_seconds": round(seconds, 1),
        "accuracy": {str(length): test(state, seed, length, budget) for length in LENGTHS},
        "commit": surroundings()["commit"],
    }
    results.add("runs", key, values)


class Results(ResultFile):
    """The JSON file of this experiment."""

    TABLES = ("runs",)

    def summary(self) -> dict[str, Any]:
        """Returns the budget and the mean accuracies."""
        return {"budget": dataclasses.asdict(BUDGET), "scores": analyse(self.record)}


def analyse(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns for each model and vocabulary: seeds, and by length and pairs the mean and the least accuracy."""
    groups: dict[str, list[Any]] = {}
    for row in sorted(record["runs"], key=lambda row: (row["vocabulary"], ORDER[row["model"]])):
        other = f", {row['vocabulary']} tokens" if row["vocabulary"] != BUDGET.vocabulary else ""
        groups.setdefault(row["model"] + other, []).append(row["accuracy"])
    found = {}
    for name, runs in groups.items():
        cells = {
            f"{length}, {count}": [run[str(length)][str(count)] for run in runs]
            for length in LENGTHS
            for count in PAIRS
        }
        found[name] = {
            "seeds": len(runs),
            "mean": {cell: statistics.fmean(values) for cell, values in cells.items()},
            "least": {cell: min(values) for cell, values in cells.items()},
        }
    return found


def table(record: Mapping[str, Any]) -> str:
    """Writes mean accuracies in percent, a line a model and length."""
    lines = [f"{'model':18} {'length':>6}" + "".join(f"{count:>8}" for count in PAIRS) + "  pairs"]
    for name, found in analyse(record).items():
        for length in LENGTHS:
            cells = (100 * found["mean"][f"{length}, {count}"] for count in PAIRS)
            lines.append(f"{name:18} {length:6}" + "".join(f"{cell:8.2f}" for cell in cells))
    return "\n".join(lines)


def draw(record: Mapping[str, Any]) -> Figure:
    """Draws accuracy over pairs, mean over seeds and dotted the worst of them, a panel a length."""
    found, figure = analyse(record), Figure(figsize=(9, 3.2), layout="constrained")
    for panel, length in zip(figure.subplots(1, len(LENGTHS), sharey=True), LENGTHS, strict=True):
        for index, (name, scores) in enumerate(found.items()):
            lap, color = divmod(index, len(plots.PALETTE))
            color, marker = plots.PALETTE[color], "os"[lap]
            mean, least = (
                [scores[key][f"{length}, {count}"] for count in PAIRS] for key in ("mean", "least")
            )
            panel.plot(PAIRS, mean, f"{marker}-", markersize=4, color=color, label=name)
            panel.plot(PAIRS, least, ":", color=color, linewidth=1)
        panel.set(xscale="log", xlabel="pairs", title=f"length {length}", ylim=(-0.03, 1.03))
        panel.set_xticks(PAIRS, [str(count) for count in PAIRS])
        panel.minorticks_off()
    figure.axes[0].set_ylabel("accuracy at the queries")
    figure.axes[0].legend(fontsize=7)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=list(MIXERS), default=list(MIXERS))
    options, results = open_results(parser, Results, RESULTS, draw)
    jobs = [(run, kind, BUDGET.vocabulary, seed) for seed in SEEDS for kind in options.only]
    jobs.insert(len(options.only), (run, *PUBLISHED, SEEDS[0]))
    work(results, jobs)
    print(table(results.record))


if __name__ == "__main__":
    main()
