"""Where a training step's time goes, and whether the host keeps up: ResonanceNet on series, LanguageModel on text.

As in `train`: AdamW by groups, clipping, an average of the weights, checks for what is not finite. ResonanceNet: four
layers of width 256, 64 frequencies that mix, on 16 series of 1,024 samples, augmented; LanguageModel: four layers of
width 256 on 16 windows of 512 bytes with resets. "loss" is the forward pass, "gradients" value and gradients of
all parameters, each also without dropout; "step" the whole step on one batch, four times; "loop" as many steps with
their batches drawn, and waited for at the end, as a run does; "batches" draws them alone. What a step takes beyond its
gradients is the optimizer, the average and the checks; what a loop takes beyond its steps is the host.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Record
from benchmarks.timing import Case, compiled_case, ratio
from resonance_jax.data.dataset import Split
from resonance_jax.data.iterator import BatchIterator
from resonance_jax.data.packing import PackedBatches, Tokens
from resonance_jax.models.language_model import LanguageModelConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.language_config import LanguageTrainConfig
from resonance_jax.training.language_program import get_language_program, step_batch
from resonance_jax.training.program import get_program
from resonance_jax.training.step import Batch, TrainState, train_step

STEPS, DEPTH, WIDTH = 4, 4, 256


def series(rng: np.random.Generator) -> tuple[TrainState, Iterator[Batch]]:
    """A ResonanceNet before its first step, and its batches."""
    model = ResonanceNetConfig(
        input_dim=1,
        output_dim=2,
        hidden_dim=WIDTH,
        mlp_dim=2 * WIDTH,
        num_layers=DEPTH,
        num_frequencies=64,
    )
    config = TrainConfig(model=model, ema_decay=0.999)
    inputs = rng.standard_normal((256, 1024, 1)).astype(np.float32)
    split = Split(inputs, rng.integers(0, 2, 256).astype(np.int32))
    batches = BatchIterator(split, 16, seed=0, augment=("circular_shift", "jitter"))
    return get_program(config, 1000).init_state(0, batches.peek()), batches


def text(rng: np.random.Generator) -> tuple[TrainState, Iterator[Batch]]:
    """A LanguageModel before its first step, and its batches."""
    model = LanguageModelConfig(
        vocab_size=257, hidden_dim=WIDTH, mlp_dim=2 * WIDTH, num_layers=DEPTH
    )
    config = LanguageTrainConfig(model=model, ema_decay=0.999)
    ids = rng.integers(0, 256, 1_000_000).astype(np.uint16)
    starts = np.arange(0, len(ids), 5000, dtype=np.int64)
    ids[starts] = 256
    tokens = Tokens("drawn", ids, starts, 256, len(ids), "")
    batches = PackedBatches(tokens, 512, 16, seed=0)
    state = get_language_program(config).init_state(0)
    return state, (step_batch(batch, resets=True) for batch in batches)


MODELS = {"ResonanceNet": series, "LanguageModel": text}


def cases_of(name: str, repeats: int) -> list[Case]:
    """The parts of one model's step."""
    state, batches = MODELS[name](np.random.default_rng(0))
    batch = next(batches)
    program = train_step.lower(state, batch).compile()

    def loss(params: Any, deterministic: bool = False) -> Any:
        outputs, _ = state.apply_fn(
            {"params": params, **state.collections},
            batch["inputs"],
            deterministic=deterministic,
            rngs={"dropout": state.rng},
            mutable=list(state.collections),
        )
        return state.loss_fn(outputs, batch)[0]

    def without(params: Any) -> Any:
        return loss(params, deterministic=True)

    held = [jax.tree.map(jnp.copy, state)]  # each step takes the arrays of the one before

    def steps(source: Iterator[Batch] | None) -> None:
        metrics: list[Any] = []
        for _ in range(STEPS):
            held[0], found = program(held[0], batch if source is None else next(source))
            metrics.append(found)
        jax.device_get(metrics)

    return [
        compiled_case("loss", loss, (state.params,), repeats),
        compiled_case("loss, no dropout", without, (state.params,), repeats),
        compiled_case("gradients", jax.value_and_grad(loss), (state.params,), repeats),
        compiled_case(
            "gradients, no dropout", jax.value_and_grad(without), (state.params,), repeats
        ),
        Case(f"step × {STEPS}", lambda: steps(None), repeats),
        Case(f"loop × {STEPS}", lambda: steps(batches), repeats),
        Case(f"batches × {STEPS}", lambda: [next(batches) for _ in range(STEPS)], repeats),
    ]


def run(record: Record) -> None:
    """Times the parts of both models' steps."""
    for name in MODELS:
        cases = cases_of(name, 3 if record.quick else 5)
        case = record.time({"model": name}, cases, "gradients")
        step, loop = case[f"step × {STEPS}"], case[f"loop × {STEPS}"]
        without = case["gradients, no dropout"]
        record.target(
            f"{name}: gradients / without dropout",
            ratio(case["gradients"], without),
            better="lower",
        )
        record.target(f"{name}: loop / steps", ratio(loop, step), at_most=1.05)
        whole = ratio(step, case["gradients"])
        whole = None if whole is None else whole / STEPS
        record.target(f"{name}: a step / its gradients", whole, at_most=1.1)
