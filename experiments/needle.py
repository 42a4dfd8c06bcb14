"""Needles in documents of 131,072 bytes: evidence that lies more than 100,000 bytes apart, put together.

Found, one seed: 0.96 of 200 documents of 131,072 bytes (target 0.95) and 1.00 of 4,096; 0.90 of 32,768, which it was
    not trained at, and 0.37 of 262,144, beyond all lengths of the training.
Time: half an hour of one core a seed
Disclosed: seed 0 was run before `model` and `quiet` were fields of the budget, with the same values; they were added to
    the file by hand.
Command: python -m experiments.needle --linux-doc FOLDER [--seeds 0 1]
    (on a CPU with XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type= MALLOC_MMAP_THRESHOLD_=1073741824
    MALLOC_TRIM_THRESHOLD_=8589934592: half the time, of which a third went to pages fetched anew in every step)

Two kinds of needle are planted in bytes of Linux's documentation, each anywhere in its part of the document:

    [?B]    in the first tenth: which key is asked for
    [B=7]   in the last tenth, for each of the keys A, B, C, D: their values

The answer is the value of the key that is asked for, 1 of 10. What says which, and what says the value, are at least
eight tenths of the document apart.

A `LongContextResonanceNet` is trained on short documents, first with two of the keys, then on longer ones, and tested
on documents of the test split, up to twice as long as any it was trained on. What was tried before:

- With four keys from the first step networks named the value of any of the four, for as long as 5,000 steps (with
  weights bounded to e^±24 in place of e^±12); with two they learn to match keys in 500 to 1,000, and more in 100 each.
- With all magnitudes near 1 at the start, and chunks of 256, short documents were learned as fast, but each longer
  length anew: 0.35 of the first 100 documents of 65,536 bytes, and after all training 0.91 of 200 of 131,072, 0.53 of
  32,768. Over 256 bytes low frequencies, and means over chunks, are as good as the mean; over 131,072 they are not.
  Hence `start_as_mean`: frequencies other than 0, and the bridge, start at e^−6 and are raised slowly.
"""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from experiments.budget import OptimizerBudget
from experiments.result_file import ResultFile, open_results, work
from resonance_jax.data.corpus import load_corpus
from resonance_jax.models.long_context import LongContextConfig, LongContextResonanceNet
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.result import surroundings, write_atomically
from resonance_jax.training.step import TrainState, eval_step, init_state, train_step

RESULTS = Path(__file__).parent / "results" / "needle.json"
KEYS, VALUES = 4, 10
WINDOW, SOLVED = 50, 0.99
QUIET = -6.0

MODEL = LongContextConfig(
    input_dim=1,
    output_dim=VALUES,
    vocab_size=256,
    hidden_dim=32,
    num_layers=2,
    mlp_dim=64,
    dropout=0.0,
    chunk_size=64,
    overlap=16,
    chunks_at_once=32,
    num_heads=4,
    local_frequencies=16,
    rematerialize="none",
)


class Stage(NamedTuple):
    """Documents of one length, until `SOLVED` of those of `WINDOW` steps are answered, or the steps are up."""

    length: int
    """Bytes of a document."""
    batch_size: int
    steps: int
    keys: int = KEYS
    """Statements in a document."""


class Phase(NamedTuple):
    """Stages with an optimizer of their own."""

    stages: tuple[Stage, ...]
    rate: float = 1.0
    """The learning rates' part of the budget's."""
    schedule: str = "constant"


PHASES = (
    Phase(tuple(Stage(256, 32, 2000, keys) for keys in (2, 3, 4))),
    Phase(
        (
            Stage(1024, 16, 200),
            Stage(4096, 8, 200),
            Stage(16384, 4, 250),
            Stage(65536, 2, 200),
            Stage(131072, 1, 200),
        ),
        rate=0.5,
    ),
    Phase((Stage(131072, 1, 300),), rate=0.3, schedule="cosine"),
)


@dataclasses.dataclass(frozen=True)
class Budget(OptimizerBudget):
    """What a network is, and what it is trained with."""

    model: LongContextConfig = MODEL
    quiet: float = QUIET
    """Log-magnitude that the frequencies other than 0 start from, and the bridge's."""
    phases: tuple[Phase, ...] = PHASES
    lengths: tuple[tuple[int, int], ...] = ((4096, 200), (32768, 200), (131072, 200), (262144, 100))
    """Bytes of a document, and how many documents it is tested with."""
    learning_rate: float = 5e-3
    learning_rate_magnitude: float = 2e-3
    learning_rate_phase: float = 1e-2

    def of(self, phase: Phase) -> "Budget":
        """What the optimizer of a phase is made from."""
        rates = ("learning_rate", "learning_rate_magnitude", "learning_rate_phase")
        scaled = {name: phase.rate * getattr(self, name) for name in rates}
        return dataclasses.replace(self, schedule=phase.schedule, **scaled)


BUDGET = Budget()


def make_document(rng: np.random.Generator, text: np.ndarray, length: int, keys: int = KEYS):
    """Returns bytes [t] with needles, statements of the first keys, and the answer."""
    start = rng.integers(0, len(text) - length)
    document = text[start : start + length].copy()
    stated = rng.permutation(keys)
    values, asked = rng.integers(0, VALUES, KEYS), rng.choice(stated)
    tenth = length // 10
    statements = [f"[{'ABCD'[key]}={values[key]}]" for key in stated]
    plant(rng, document[:tenth], [f"[?{'ABCD'[asked]}]"])
    plant(rng, document[-tenth:], statements)
    return document, values[asked]


def plant(rng: np.random.Generator, place: np.ndarray, needles: list[str]) -> None:
    """Writes needles over a place, in their order and apart, all ways of it alike."""
    free = len(place) - sum(map(len, needles))
    gaps = np.sort(rng.integers(0, free + 1, len(needles)))
    written = 0
    for gap, needle in zip(gaps, needles, strict=True):
        at = gap + written
        place[at : at + len(needle)] = np.frombuffer(needle.encode(), np.uint8)
        written += len(needle)


def make_batch(
    rng: np.random.Generator, text: np.ndarray, length: int, size: int, keys: int = KEYS
):
    """Returns "inputs" [b, t] and "labels" [b]."""
    rows = [make_document(rng, text, length, keys) for _ in range(size)]
    inputs, labels = (np.stack(part).astype(np.int32) for part in zip(*rows, strict=True))
    return {"inputs": inputs, "labels": labels}


def make_state(seed: int, budget: Budget) -> TrainState:
    """Makes a network that has seen nothing, whose global resonance starts as a mean."""
    ids = np.zeros((1, budget.phases[0].stages[0].length), np.int32)
    batch = {"inputs": ids, "labels": np.zeros(1, np.int32)}
    optimizer = make_optimizer(budget, 1)
    model = LongContextResonanceNet(budget.model)
    state = init_state(model, optimizer, jax.random.key(seed), batch)
    return state.replace(params=start_as_mean(state.params, budget.quiet))


def start_as_mean(params: Any, quiet: float) -> Any:
    """Lowers the log-magnitudes of the global frequencies but 0, and all of the bridge's."""

    def lowered(path, leaf):
        names = [part.key for part in path]
        if names[-2:] == ["spectrum", "log_magnitude"]:
            return leaf.at[1:].add(quiet)
        return leaf + quiet if names[-2:] == ["bridge", "log_magnitude"] else leaf

    return jax.tree_util.tree_map_with_path(lowered, params)


def train_phase(
    state: TrainState, text: np.ndarray, seed: int, number: int, budget: Budget
) -> tuple[TrainState, list[dict[str, Any]]]:
    """Trains a network through a phase on documents that are never shown twice; returns it and its stages."""
    phase = budget.phases[number]
    rng = np.random.default_rng([seed, 0, number])
    steps = sum(stage.steps for stage in phase.stages)
    optimizer = make_optimizer(budget.of(phase), steps)
    state = state.replace(optimizer=optimizer, opt_state=optimizer.init(state.params))
    rows = []
    for stage in phase.stages:
        state, row = train_stage(state, rng, text, stage)
        rows.append(row)
    return state, rows


def train_stage(
    state: TrainState, rng: np.random.Generator, text: np.ndarray, stage: Stage
) -> tuple[TrainState, dict[str, Any]]:
    """Trains on the documents of a stage; returns the state, and what the last steps gave."""
    shown: list[Any] = []
    started, means, step = time.perf_counter(), {}, 0
    for step in range(1, stage.steps + 1):
        batch = make_batch(rng, text, stage.length, stage.batch_size, stage.keys)
        state, metrics = train_step(state, batch)
        shown.append(metrics)
        if step % WINDOW == 0 or step == stage.steps:
            means = {
                name: float(np.mean([float(m[name]) for m in shown]))
                for name in ("loss", "accuracy")
            }
            shown = []
            seconds = time.perf_counter() - started
            shape = f"{stage.length:7} bytes {stage.keys} keys"
            print(f"  {shape} {step:5} {seconds:6.0f} s {means}", flush=True)
            if means["accuracy"] >= SOLVED:
                break
    return state, stage._asdict() | {"steps": step, **means}


def test(state: TrainState, text: np.ndarray, seed: int, length: int, count: int) -> dict[str, Any]:
    """Returns the accuracy on new documents of a length."""
    rng = np.random.default_rng([seed, 1, length])
    right = []
    for _ in range(count):
        batch = make_batch(rng, text, length, 1)
        options = dict(apply_fn=state.apply_fn, loss_fn=state.loss_fn)
        right.append(float(eval_step(state.eval_variables, batch, **options)["accuracy"]))
    return {"documents": count, "accuracy": float(np.mean(right))}


class Results(ResultFile):
    """The JSON file of this experiment; the networks lie beside it until they are tested."""

    TABLES = ("phases", "runs")
    BUDGET = BUDGET

    def network(self, seed: int, phase: int) -> Path:
        """The file of a network's parameters after a phase."""
        return self.path.with_name(f"{self.path.stem}-seed{seed}-phase{phase}.msgpack")


def run(results: Results, folder: Path | None, seed: int) -> None:
    """Trains and tests a network, unless the file has it; goes on behind the last finished phase."""
    if results.find("runs", seed=seed):
        return
    corpus = load_corpus("linux_doc", folder)
    train_text, test_text = (
        np.frombuffer(b"".join(documents), np.uint8) for documents in (corpus.train, corpus.test)
    )
    state = make_state(seed, BUDGET)
    done = [row for row in results.record["phases"] if row["seed"] == seed]
    if done:
        saved = results.network(seed, len(done) - 1).read_bytes()
        params = flax.serialization.from_bytes(state.params, saved)
        state = state.replace(params=jax.tree.map(jnp.asarray, params))
    for number in range(len(done), len(BUDGET.phases)):
        started = time.process_time()
        state, stages = train_phase(state, train_text, seed, number, BUDGET)
        seconds = round(time.process_time() - started, 1)
        trained = flax.serialization.to_bytes(jax.device_get(state.params))
        write_atomically(results.network(seed, number), trained)
        values = {"cpu_seconds": seconds, "stages": stages}
        results.add("phases", {"seed": seed, "phase": number}, values)
    values = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "accuracy": {str(n): test(state, test_text, seed, n, c) for n, c in BUDGET.lengths},
        "commit": surroundings()["commit"],
    }
    results.add("runs", {"seed": seed}, values)
    for number in range(len(BUDGET.phases)):
        results.network(seed, number).unlink(missing_ok=True)


def main() -> None:
    """Runs what the file does not have, and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--linux-doc", type=Path, default=None, help="folder of the documentation")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    options, results = open_results(parser, Results, RESULTS)
    work(results, [(run, options.linux_doc, seed) for seed in options.seeds])
    for row in results.record["runs"]:
        for length, found in row["accuracy"].items():
            print(f"seed {row['seed']} {length:>7} bytes: {found}")


if __name__ == "__main__":
    main()
