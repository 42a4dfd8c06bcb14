"""Bits per byte of language models in equal time: causal resonance beside a Transformer, and what each part adds.

    taskset -c 0 python -m experiments.text [--only kjv-resonance-0 ...] [--results PATH] [--linux-doc FOLDER]

Equal time is equal CPU time of one core, compilation and evaluation apart: 20 minutes, 10 on Linux documentation, 5 in
runs called short. Other work on the machine slows that too, by what the cores share: `tokens` says what each run got.
Both models have 1.4 M parameters, the same blocks, MLP, optimiser and schedule (linear to 0), each with its own context
and rate. The test text is read once, from its first byte to its last: by resonance with its state carried on, by
attention in windows of which the last eighth counts. Of a longer text the first 300,000 bytes are scored, by the short
runs 50,000. Runs that the file has are not repeated. The compressors are given the training text; a mark before each
document, which only the models get, is not counted.

Found on the King James text, bits a byte of the test: resonance 1.655 and 1.652, the Transformer 1.744 and 1.739 (seeds
0 and 1, resonance at twice its rate in the first), each beside runs of the other kind; bzip2 1.903, xz 1.958. Resonance
reads 1.65 times as many bytes in the time. Other runs of seed 0, at other times: resonance 1.669, the Transformer 1.723
and at twice its rate 1.764; of resonance with dropout 1.706, with its state carried from window to window 1.665. On
Linux documentation after 10 minutes, one seed: resonance 2.148, the Transformer 2.224, bzip2 2.117, xz 1.807. After 5
minutes on the King James text, while more was running, 2.011 and 2.207 (at twice the rate, the Transformer's best
there); while less was running resonance 1.946, without the gate 1.964, without the convolution 2.023, with one rate for
all 1.948, with magnitudes alone 1.944, with a delta-rule memory as the third block 1.993.

Settings: the Transformer's rate is 3e-3. Its first run of seed 0 at it and the one at twice the rate read 6.1 and 4.8
million bytes, the second on a busier machine, and do not decide between the rates. After 5 minutes twice the rate was
the best of three; the run at the rate itself was lost before it was scored. Resonance's other settings were tried for a
few runs of up to 5 minutes. The Transformer's context was shortened from 512, where it was slower. Rows were renamed
when the base rate changed back, and when seed 0 was run again ("earlier"); the rate of poles, which a Transformer does
not have, was set to 0 in its rows. The row "before-the-convolution-was-mended", 1.653, is from before resonance's
convolution began as it should.

Data: first 90 % of the text to train, last 5 % to test. Device: CPU, one core.
"""

import argparse
import dataclasses
import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from resonance_jax.data.corpus import Corpus, compression_bits_per_byte, load_corpus
from resonance_jax.data.packing import PackedBatches, Tokens, encode_corpus
from resonance_jax.data.tokenizer import make_tokenizer
from resonance_jax.models.generation import generate
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig
from resonance_jax.training.language_evaluation import score_text
from resonance_jax.training.optimizer import make_paced_optimizer, with_learning_rates
from resonance_jax.training.result import surroundings, write_atomically

RESULTS = Path(__file__).parent / "results" / "text.json"
BUDGET, LINUX, SHORT = 1200.0, 600.0, 300.0  # CPU seconds
SCORED, SCORED_SHORT = 300_000, 50_000  # bytes of the validation and the test text at most
WARMUP = 100  # steps
PROMPT = "And it came to pass"


@dataclasses.dataclass(frozen=True)
class Job:
    """One training run."""

    corpus: str
    model: LanguageModelConfig
    context: int
    batch: int
    rate: float
    pole_rate: float
    """Of magnitudes and phases."""
    seed: int = 0
    budget: float = BUDGET
    carried: bool = False
    """Each row reads on where it was, with the state that it had, from a place of its own; else shuffled windows."""

    @property
    def scored(self) -> int:
        """Bytes of the validation and the test text that are scored, at most."""
        return SCORED_SHORT if self.budget == SHORT else SCORED


RESONANCE = Job(
    "kjv",
    LanguageModelConfig(hidden_dim=192, mlp_dim=384, max_radius=0.995, dtype="bfloat16"),
    context=512,
    batch=8,
    rate=4e-3,
    pole_rate=2e-3,
)
TRANSFORMER = Job(
    "kjv",
    LanguageModelConfig(
        hidden_dim=192,
        mlp_dim=320,
        mixer="attention",
        num_heads=6,
        max_length=256,
        dtype="bfloat16",
    ),
    context=256,
    batch=16,
    rate=3e-3,
    pole_rate=0.0,  # it has none
)


def variant(**changes: Any) -> Job:
    """The resonance model with other fields, for a quarter of the time."""
    model = dataclasses.replace(RESONANCE.model, **changes)
    return dataclasses.replace(RESONANCE, model=model, budget=SHORT)


JOBS = (
    {
        f"{corpus}-{name}-{seed}": dataclasses.replace(job, corpus=corpus, seed=seed, budget=budget)
        for seed in (0, 1, 2)
        for corpus, budget in (("kjv", BUDGET), ("linux_doc", LINUX))
        for name, job in (("resonance", RESONANCE), ("transformer", TRANSFORMER))
    }
    | {
        "kjv-resonance-dropout-0": dataclasses.replace(
            RESONANCE, model=dataclasses.replace(RESONANCE.model, dropout=0.1)
        ),
        "kjv-resonance-rate-2-0": dataclasses.replace(RESONANCE, rate=2 * RESONANCE.rate),
        "kjv-resonance-carried-0": dataclasses.replace(
            RESONANCE, rate=2 * RESONANCE.rate, carried=True
        ),
        "kjv-transformer-rate-2-0": dataclasses.replace(TRANSFORMER, rate=2 * TRANSFORMER.rate),
        "short-resonance": variant(),
        "short-transformer": dataclasses.replace(TRANSFORMER, budget=SHORT),
        "short-no-gate": variant(gate=False),
        "short-no-convolution": variant(conv_size=0),
        "short-one-rate": dataclasses.replace(variant(), pole_rate=RESONANCE.rate),
        "short-magnitude-only": variant(component="magnitude"),
        "short-delta-memory": variant(memory_layers=(2,)),
    }
    | {
        f"short-{name}-rate-{factor:g}": dataclasses.replace(
            job, budget=SHORT, rate=factor * job.rate
        )
        for name, job, factors in (
            ("resonance", RESONANCE, (0.5, 2.0)),
            ("transformer", TRANSFORMER, (0.5, 2.0, 4.0)),
        )
        for factor in factors
    }
)


def read_on(tokens: Tokens, length: int, rows: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Yields windows without end, of rows that go on around the text from evenly spaced places."""
    labels = len(tokens) - 1
    start = np.random.default_rng(seed).integers(labels)
    places = start + labels // rows * np.arange(rows)[:, None] + np.arange(length)
    while True:
        places = places % labels
        yield {
            "inputs": tokens.ids[places].astype(np.int32),
            "labels": tokens.ids[places + 1].astype(np.int32),
        }
        places = places + length


def train(job: Job, tokens: Tokens) -> tuple[LanguageModel, Any, dict[str, Any]]:
    """Trains for the job's budget; returns the model, its parameters and what it took."""
    model = LanguageModel(job.model)
    params = jax.jit(model.init)(jax.random.key(job.seed), np.zeros((1, 8), np.int32))["params"]
    optimizer = make_paced_optimizer(weight_decay=0.1, gradient_clip=1.0, adam_b2=0.98)
    state = jax.jit(optimizer.init)(params)
    rates = {"other": job.rate, "magnitude": job.pole_rate, "phase": job.pole_rate}

    def step(params, state, carry, ids, labels, scale, count):
        keys = {"dropout": jax.random.fold_in(jax.random.key(job.seed), count)}

        def loss(params):
            losses, after = model.apply(
                {"params": params}, ids, labels, carry,
                deterministic=False, rngs=keys, method="losses",
            )  # fmt: skip
            return losses.mean(), after if job.carried else None

        (value, carry), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        paced = with_learning_rates(state, {name: scale * rate for name, rate in rates.items()})
        updates, state = optimizer.update(gradient, paced, params)
        return optax.apply_updates(params, updates), state, carry, value

    make_batches = read_on if job.carried else PackedBatches
    batches = make_batches(tokens, job.context, job.batch, seed=job.seed)
    first, carry = next(batches), model.initial_state(job.batch) if job.carried else None
    compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(
        params, state, carry, first["inputs"], first["labels"], jnp.float32(1), jnp.int32(0)
    )
    compiled = compiled.compile()
    curve, losses, steps, seconds = [], [], 0, 0.0
    start, wall = time.process_time(), time.time()
    while seconds < job.budget:
        scale = min(1.0, (steps + 1) / WARMUP) * (1 - seconds / job.budget)
        batch = next(batches)
        text = batch["inputs"], batch["labels"]
        params, state, carry, loss = compiled(
            params, state, carry, *text, jnp.float32(scale), jnp.int32(steps)
        )
        losses.append(float(loss) / np.log(2))
        steps += 1
        seconds = time.process_time() - start
        if seconds // 60 > len(curve):
            curve.append(round(float(np.mean(losses[-50:])), 4))
            print(f"  {seconds:.0f} s, {steps} steps: {curve[-1]:.3f} bits", flush=True)
    taken = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "steps": steps,
        "tokens": steps * job.context * job.batch,
        "cpu_seconds": seconds,
        "wall_seconds": time.time() - wall,
        "training_bits_by_minute": curve,
    }
    return model, params, taken


def bits_per_byte(model: LanguageModel, params: Any, tokens: Tokens, window: int) -> float:
    """−Σ log₂ p of every byte of a text, over its bytes."""
    options: dict[str, Any] = dict(length=4096, batch_size=1)
    if model.config.mixer == "attention":
        options = dict(length=window, batch_size=64, stride=window // 8)
    score = score_text(model, {"params": params}, tokens, resets=False, **options)
    return score.bits_per_byte


def cut(corpus: Corpus, size: int) -> Corpus:
    """The corpus with the first bytes of its validation and its test text."""

    def first(documents: list[bytes]) -> list[bytes]:
        room = np.clip(size - np.cumsum([0, *map(len, documents)]), 0, None)
        return [text[:left] for text, left in zip(documents, room[:-1], strict=True) if left]

    return dataclasses.replace(corpus, validation=first(corpus.validation), test=first(corpus.test))


def add(path: Path, table: str, name: str, row: dict[str, Any]) -> None:
    """Adds a row to the file; several processes may."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        record = json.loads(path.read_text()) if path.exists() else {"runs": {}, "compressors": {}}
        record[table][name] = row
        write_atomically(path, json.dumps(record, indent=1, allow_nan=False) + "\n")


def load(job: Job, path: Path) -> tuple[LanguageModel, Any]:
    """Reads the parameters that `run` saved."""
    model = LanguageModel(job.model)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 8), np.int32))["params"]
    with np.load(path) as arrays:
        return model, jax.tree_util.tree_map_with_path(
            lambda place, _: jnp.asarray(arrays[jax.tree_util.keystr(place)]), shapes
        )


def sample(model: LanguageModel, params: Any) -> str:
    """What the model writes behind `PROMPT`: the seed and the temperature were not chosen by the outcome."""
    prompt = np.frombuffer(PROMPT.encode(), np.uint8).astype(np.int32)
    count = (
        min(400, model.config.max_length - len(prompt))
        if model.config.mixer == "attention"
        else 400
    )
    written = generate(model, {"params": params}, [prompt], count, temperature=0.7, seed=0)
    return bytes(np.asarray(written.ids[0], np.uint8)).decode("utf-8", "replace")


def run(
    name: str,
    job: Job,
    corpus: Corpus,
    path: Path,
    saved: Path | None,
    again: dict[str, Any] | None = None,
) -> None:
    """Trains one job, or takes what was saved and its earlier row; measures it, and writes its row."""
    print(name, flush=True)
    tokenizer = make_tokenizer("bytes")
    corpus = cut(corpus, job.scored)
    splits = [
        encode_corpus(documents, tokenizer, corpus.name)
        for documents in (corpus.train, corpus.validation, corpus.test)
    ]
    if again is not None and saved is not None:
        model, params = load(job, saved / f"{name}.npz")
        row = again | {"trained_at": again.get("trained_at", again["commit"])}
    else:
        model, params, row = train(job, splits[0])
        row["job"] = dataclasses.asdict(job)
    if saved is not None and again is None:
        saved.mkdir(parents=True, exist_ok=True)
        flat = jax.tree_util.tree_leaves_with_path(params)
        arrays: dict[str, Any] = {jax.tree_util.keystr(place): leaf for place, leaf in flat}
        np.savez(saved / f"{name}.npz", **arrays)
    for split, tokens in zip(("validation", "test"), splits[1:], strict=True):
        row[f"{split}_bits_per_byte"] = bits_per_byte(model, params, tokens, job.context)
    row["sample"] = sample(model, params)
    add(path, "runs", name, row | surroundings())
    print(f"{name}: {row['test_bits_per_byte']:.4f} bits per byte", flush=True)


def main() -> None:
    """Runs the jobs that the file does not have."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(JOBS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--linux-doc", type=Path, default=None)
    parser.add_argument("--save", type=Path, default=None, help="folder for the parameters")
    parser.add_argument("--score", action="store_true", help="score what --save has, once more")
    arguments = parser.parse_args()
    if arguments.score and arguments.save is None:
        parser.error("--score needs the folder of --save")
    for name in arguments.only:
        job = JOBS[name]
        record = json.loads(arguments.results.read_text()) if arguments.results.exists() else {}
        row = record.get("runs", {}).get(name)
        defaults = {"carried": False}  # older rows have no such field
        if row is not None and defaults | row["job"] != json.loads(
            json.dumps(dataclasses.asdict(job))
        ):
            parser.error(f"{name} was trained with other settings: remove it from the file first")
        if (row is None) == arguments.score:
            continue
        folder = arguments.linux_doc if job.corpus == "linux_doc" else None
        corpus = load_corpus(job.corpus, folder)
        if job.corpus not in record.get("compressors", {}):
            scored = compression_bits_per_byte(cut(corpus, SCORED))
            add(arguments.results, "compressors", job.corpus, scored)
        run(name, job, corpus, arguments.results, arguments.save, row)


if __name__ == "__main__":
    main()
