"""What causal resonance can look up far back, beside attention, an LRU and resonance with a delta-rule memory.

Found, one seed, percent at 256, 512, 1,024, 2,048:
    recall      delta 95, 94, 94, 94; attention 100, 92, 75, 47; resonance and LRU at chance (3)
    induction   delta 100, 100, 94, 75; attention 83, 48, 26, 5; resonance and LRU at chance (2)
    copy        delta 89, 89, 89, 89; attention 100, 2, 2, 2; LRU 48, 2, 2, 2; resonance at chance (2)
    selective   delta 31, 26, 21, 16; attention 39, 7, 7, 2; LRU 7, 5, 3, 3; resonance at chance (2)
Time: 2 to 5 minutes of CPU a network, on one core
Command: python -m experiments.long_range_recall [--only copy-resonance ...]

Four tasks, 64 tokens, of which the last few ids are signs:

    copy        16 tokens, then blanks, then a sign: the 16 have to be repeated
    selective   the same, but the 16 lie anywhere among the blanks
    induction   random tokens; a mark and the token behind it once, and the mark again at the end: what was behind it?
    recall      8 pairs of key and value, then noise; each key once more somewhere: which value?

Every network is a `LanguageModel` of two blocks, width 64, trained with the same batches: first short sequences, then
length 256. It is tested at 256 to 2,048: more than 256 is generalisation.

    resonance   gate, convolution, 8 heads of 16 resonators
    lru         the linear recurrent unit's form: each channel has 16 resonators of its own; no gate, no convolution
    delta       resonance in the first block, a delta-rule memory in the second
    attention   softmax attention, rotary positions, 4 heads
"""

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.budget import OptimizerBudget
from experiments.result_file import ResultFile, open_results, work
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.result import surroundings
from resonance_jax.training.step import TrainState, eval_step, init_state, train_step

RESULTS = Path(__file__).parent / "results" / "long_range_recall.json"
VOCABULARY, BLANK, SIGN, TOKENS = 64, 63, 62, 60
ITEMS, PAIRS = 16, 8
LENGTHS = (256, 512, 1024, 2048)
TRAINED = 256

_SHAPE = LanguageModelConfig(
    vocab_size=VOCABULARY,
    hidden_dim=64,
    num_layers=2,
    mlp_dim=128,
    max_radius=0.999,
    dtype="bfloat16",
)
MODELS = {
    "resonance": _SHAPE,
    "lru": dataclasses.replace(_SHAPE, num_heads=64, gate=False, conv_size=0, method="fft"),
    "delta": dataclasses.replace(_SHAPE, memory_layers=(1,)),
    "attention": dataclasses.replace(_SHAPE, mixer="attention", num_heads=4),
}


@dataclasses.dataclass(frozen=True)
class Budget(OptimizerBudget):
    """What every network is trained with."""

    stages: tuple[tuple[int, int], ...] = ((48, 400), (96, 200), (TRAINED, 400))
    """Length and steps."""
    batch_size: int = 32
    test_batches: int = 8
    learning_rate: float = 3e-3
    learning_rate_magnitude: float = 3e-3
    learning_rate_phase: float = 3e-3


BUDGET = Budget()
Row = tuple[np.ndarray, np.ndarray, np.ndarray]


def copy_row(rng: np.random.Generator, length: int) -> Row:
    """Tokens [t], the steps [q] after which an answer is due, and the answers [q]."""
    return _repeat(rng, length, np.arange(ITEMS))


def selective_row(rng: np.random.Generator, length: int) -> Row:
    """As `copy_row`, with the items anywhere among the blanks."""
    return _repeat(rng, length, np.sort(rng.permutation(length - ITEMS - 1)[:ITEMS]))


def _repeat(rng: np.random.Generator, length: int, places: np.ndarray) -> Row:
    items = rng.integers(0, TOKENS, ITEMS)
    tokens = np.full(length, BLANK)
    tokens[places] = items
    steps = length - ITEMS - 1 + np.arange(ITEMS)
    tokens[steps[0]] = SIGN
    tokens[steps[1:]] = items[:-1]
    return tokens[: length - 1], steps, items


def induction_row(rng: np.random.Generator, length: int) -> Row:
    """As `copy_row`: one answer, at the end."""
    tokens = rng.integers(0, TOKENS, length)
    at = rng.integers(0, length - 3)
    tokens[at] = tokens[-1] = SIGN
    return tokens, np.array([length - 1]), tokens[[at + 1]]


def recall_row(rng: np.random.Generator, length: int) -> Row:
    """As `copy_row`: an answer a pair."""
    half = TOKENS // 2
    keys, values = rng.permutation(half)[:PAIRS], rng.integers(half, TOKENS, PAIRS)
    tokens = rng.integers(half, TOKENS, length)
    tokens[: 2 * PAIRS : 2], tokens[1 : 2 * PAIRS : 2] = keys, values
    steps = 2 * PAIRS + rng.permutation(length - 2 * PAIRS)[:PAIRS]
    tokens[steps] = keys
    return tokens, steps, values


TASKS: dict[str, Callable[[np.random.Generator, int], Row]] = {
    "copy": copy_row,
    "selective": selective_row,
    "induction": induction_row,
    "recall": recall_row,
}


def make_batch(task: str, rng: np.random.Generator, length: int, size: int) -> dict[str, Any]:
    """Returns "inputs" [b, t], "steps" and "labels" [b, q]."""
    rows = [TASKS[task](rng, length) for _ in range(size)]
    inputs, steps, labels = (np.stack(part).astype(np.int32) for part in zip(*rows, strict=True))
    return {"inputs": inputs, "steps": steps, "labels": labels}


def answer_loss(logits: Any, batch: Mapping[str, Any]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns the mean cross-entropy and accuracy of the answers."""
    asked = jnp.take_along_axis(logits, batch["steps"][..., None], axis=1)
    losses = optax.softmax_cross_entropy_with_integer_labels(asked, batch["labels"])
    return losses.mean(), {"accuracy": (asked.argmax(-1) == batch["labels"]).mean()}


def train(task: str, kind: str, seed: int, budget: Budget = BUDGET) -> TrainState:
    """Trains a network through all stages on sequences that are never shown twice."""
    rng = np.random.default_rng([seed, 0])
    optimizer = make_optimizer(budget, sum(steps for _, steps in budget.stages))
    batch = make_batch(task, rng, budget.stages[0][0], budget.batch_size)
    model = LanguageModel(MODELS[kind])
    state = init_state(model, optimizer, jax.random.key(seed), batch, loss=answer_loss)
    for length, steps in budget.stages:
        metrics = {}
        for _ in range(steps):
            batch = make_batch(task, rng, length, budget.batch_size)
            state, metrics = train_step(state, batch)
        shown = (float(metrics["loss"]), float(metrics["accuracy"]))
        print(f"  {task} {kind} {length:4} {steps:4}: {shown[0]:.3f} {shown[1]:.3f}", flush=True)
    return state


def test(state: TrainState, task: str, seed: int, length: int, budget: Budget = BUDGET) -> float:
    """Returns the accuracy on new sequences of a length."""
    rng = np.random.default_rng([seed, 1, length])
    scores = []
    for _ in range(budget.test_batches):
        batch = make_batch(task, rng, length, 32)
        options = dict(apply_fn=state.apply_fn, loss_fn=answer_loss)
        scores.append(float(eval_step(state.eval_variables, batch, **options)["accuracy"]))
    return float(np.mean(scores))


class Results(ResultFile):
    """The JSON file of this experiment."""

    BUDGET = BUDGET


def run(results: Results, task: str, kind: str, seed: int) -> None:
    """Trains and tests a network, unless the file has it."""
    key = {"task": task, "model": kind, "seed": seed}
    if results.find("runs", **key):
        return
    started = time.process_time()
    state = train(task, kind, seed)
    seconds = time.process_time() - started
    values = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "train_cpu_seconds": round(seconds, 1),
        "accuracy": {str(length): test(state, task, seed, length) for length in LENGTHS},
        "commit": surroundings()["commit"],
    }
    results.add("runs", key, values)


def table(record: Mapping[str, Any]) -> str:
    """Writes accuracies in percent, a line a task and model."""
    lines = [f"{'task':10} {'model':10}" + "".join(f"{length:>8}" for length in LENGTHS)]
    for task in TASKS:
        for kind in MODELS:
            runs = [r for r in record["runs"] if (r["task"], r["model"]) == (task, kind)]
            if runs:
                means = [np.mean([run["accuracy"][str(n)] for run in runs]) for n in LENGTHS]
                cells = "".join(f"{100 * mean:8.1f}" for mean in means)
                lines.append(f"{task:10} {kind:10}{cells}")
    return "\n".join(lines)


def main() -> None:
    """Runs what the file does not have, and prints its table."""
    names = [f"{task}-{kind}" for task in TASKS for kind in MODELS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    options, results = open_results(parser, Results, RESULTS)
    work(
        results,
        [(run, *name.split("-"), seed) for seed in options.seeds for name in options.only],
    )
    print(table(results.record))


if __name__ == "__main__":
    main()
