"""How long a model's training step takes to compile, and runs, with 2 and 12 layers: each compiled, or one in a loop.

`train_step` of a ResonanceNet (width 64, 32 frequencies that mix, MLP of 128, dropout, AdamW by groups) on 16 series
of 1,024 samples, and of a LanguageModel (width 64, 4 heads of 8 resonators, MLP of 128) on 16 texts of 256 bytes.
Seconds to trace and compile are medians of three, with all caches of JAX emptied before each; the step is then timed
in turns. "again" computes the blocks again for the gradient.
"""

import statistics
import time
from typing import Any

import jax
import numpy as np

from benchmarks.harness import Record
from benchmarks.timing import Case, ratio
from resonance_jax.models.language_model import LanguageModelConfig
from resonance_jax.models.resonance_net import ResonanceNet, ResonanceNetConfig
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.language_config import LanguageTrainConfig
from resonance_jax.training.language_program import get_language_program
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.step import Batch, TrainState, init_state, train_step

DEPTHS = (2, 12)
FORMS: dict[str, dict[str, Any]] = {
    "each": {},
    "loop": {"scan_layers": True},
    "loop, again": {"scan_layers": True, "rematerialize_blocks": True},
}
MOST = 1.5


def series(**form: Any) -> tuple[TrainState, Batch]:
    """A ResonanceNet before its first step, and a batch."""
    config = ResonanceNetConfig(input_dim=1, output_dim=2, num_frequencies=32, **form)
    rng = np.random.default_rng(0)
    batch = {
        "inputs": rng.standard_normal((16, 1024, 1)).astype(np.float32),
        "labels": rng.integers(0, 2, 16).astype(np.int32),
    }
    optimizer = make_optimizer(TrainConfig(), 100)
    return init_state(ResonanceNet(config), optimizer, jax.random.key(0), batch), batch


def text(**form: Any) -> tuple[TrainState, Batch]:
    """A LanguageModel before its first step, and a batch."""
    model = LanguageModelConfig(
        hidden_dim=64, mlp_dim=128, num_heads=4, num_resonators=8, dropout=0.1, **form
    )
    ids = np.random.default_rng(0).integers(0, 256, (2, 16, 256)).astype(np.uint16)
    state = get_language_program(LanguageTrainConfig(model=model)).init_state(0)
    return state, {"inputs": {"ids": ids[0], "labels": ids[1]}}


MODELS = {"ResonanceNet": series, "LanguageModel": text}


def step_case(model: str, depth: int, form: str, repeats: int) -> Case:
    """Compiles the step three times from nothing, and keeps the last."""
    state, batch = MODELS[model](num_layers=depth, **FORMS[form])
    seconds: list[dict[str, float]] = []
    program: Any = None
    for _ in range(3):
        jax.clear_caches()
        started = time.perf_counter()
        lowered = train_step.lower(state, batch)
        traced = time.perf_counter()
        program = lowered.compile()
        seconds.append({"trace_s": traced - started, "compile_s": time.perf_counter() - traced})
    info: dict[str, Any] = {
        name: round(statistics.median(row[name] for row in seconds), 3) for name in seconds[0]
    }
    memory: Any = program.memory_analysis()
    info["temp_bytes"] = getattr(memory, "temp_size_in_bytes", None)
    info["flops"] = (program.cost_analysis() or {}).get("flops")
    held = [state]

    def call():
        held[0], metrics = program(held[0], batch)
        return jax.block_until_ready(metrics)

    return Case(f"{depth} layers, {form}", call, repeats, info)


def run(record: Record) -> None:
    """Compiles and times all of them."""
    jax.config.update("jax_enable_compilation_cache", False)
    for model in MODELS:
        run_model(record, model, 3 if record.quick else 15)


def run_model(record: Record, model: str, repeats: int) -> None:
    """Compiles and times the forms of one model."""
    cases = [step_case(model, depth, form, repeats) for depth in DEPTHS for form in FORMS]
    case = record.time({"model": model}, cases, "2 layers, each")
    few, many = DEPTHS
    for form in FORMS:
        seconds = {
            depth: sum(case[f"{depth} layers, {form}"].info[k] for k in ("trace_s", "compile_s"))
            for depth in DEPTHS
        }
        print(
            f"    {form}: {seconds[few]:.2f} s to compile {few} layers, {seconds[many]:.2f} s {many}"
        )
        limit = MOST if form == "loop" else None
        what = f"{model}, {form}: compile time of {many} layers / of {few}"
        record.target(what, seconds[many] / seconds[few], at_most=limit)
    for form in list(FORMS)[1:]:
        slower = ratio(case[f"{many} layers, {form}"], case[f"{many} layers, each"])
        record.target(f"{model}, {many} layers: a step, {form} / each", slower, at_most=1.2)
        memory = [case[f"{many} layers, {name}"].info["temp_bytes"] for name in (form, "each")]
        if all(memory):
            what = f"{model}, {many} layers: memory of a step, {form} / each"
            record.target(what, memory[0] / memory[1], at_most=1)
