"""Times a decoded id and counts the state's bytes: resonance beside a Transformer with a key–value cache.

    python -m benchmarks.decoding [--quick] [--out FILE]

Both: width 256, 4 blocks, 8 heads, vocabulary 256, one row, float32, parameters as at the start. The context has been
read already: its length is that of the cache, which is filled with random numbers up to the steps that are timed (the
time does not depend on its values). The resonators' state is random too; their program is the same at every context,
and what varies there is the machine. 32 ids, the most probable each, are decoded in one compiled scan whose state is
donated. Times are minima over interleaved rounds.
"""

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Case, environment, time_interleaved
from resonance_jax.layers.attention import AttentionState
from resonance_jax.models.generation import decode_step
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig

CONTEXTS = (256, 1024, 4096, 8192, 16384, 65536)
MIXERS = ("resonance", "attention")
STEPS = 32
RESULTS = Path(__file__).parent / "results"


def filled_state(model: LanguageModel, context: int) -> Any:
    """A state of random numbers that has room for STEPS more ids before the context is full."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        return jnp.asarray(rng.standard_normal(leaf.shape, np.float32), leaf.dtype)

    def fill(layer):
        if isinstance(layer, AttentionState):
            position = jnp.full_like(layer.position, context - STEPS)
            return AttentionState(draw(layer.keys), draw(layer.values), position)
        return jax.tree.map(draw, layer)

    return tuple(fill(layer) for layer in model.initial_state(1))


def decoding_case(mixer: str, context: int, repeats: int) -> Case:
    """32 steps as one call; each call goes on from the state of the last one, set back to its position."""
    model = LanguageModel(LanguageModelConfig(mixer=mixer, max_length=context))
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 2), np.int32))
    state = filled_state(model, context)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))

    @functools.partial(jax.jit, donate_argnums=2)
    def decode(variables, ids, state):
        def step(carry, _):
            logits, state = decode_step(model, variables, *carry)
            return (jnp.argmax(logits, axis=-1).astype(jnp.int32), state), None

        (ids, after), _ = jax.lax.scan(step, (ids, state), None, length=STEPS)
        back = [
            new._replace(position=old.position) if isinstance(new, AttentionState) else new
            for new, old in zip(after, state, strict=True)
        ]
        return ids, tuple(back)

    start = time.perf_counter()
    program = decode.lower(variables, jnp.zeros(1, jnp.int32), state).compile()
    info: dict[str, Any] = {"context": context, "mixer": mixer, "state_bytes": size}
    info["compile_s"] = round(time.perf_counter() - start, 3)
    info["temp_bytes"] = getattr(program.memory_analysis(), "temp_size_in_bytes", None)
    held = [jnp.zeros(1, jnp.int32), state]

    def call():
        held[:] = jax.block_until_ready(program(variables, *held))

    return Case(f"{mixer} {context}", call, repeats, info)


def measure(context: int, repeats: int) -> list[dict[str, Any]]:
    """Times both models at one context and prints a row of each."""
    cases = [decoding_case(mixer, context, repeats) for mixer in MIXERS]
    time_interleaved(cases)
    rows = []
    for case in cases:
        row = case.row() | {"tokens_per_s": round(STEPS / min(case.seconds), 1)}
        rows.append(row)
        print(
            f"{context:>8}  {row['mixer']:<12}{row['tokens_per_s']:>10.1f}{row['state_bytes']:>14}",
            flush=True,
        )
    return rows


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was asked: a constant time and size to the longest context, 5 times the Transformer at 8K."""
    speed = {(row["context"], row["mixer"]): row["tokens_per_s"] for row in rows}
    sizes = {row["state_bytes"] for row in rows if row["mixer"] == "resonance"}
    ours = [value for (_, mixer), value in speed.items() if mixer == "resonance"]
    found = [
        ("resonance: fastest / slowest context, <= 1.2", max(ours) / min(ours), 1.2),
        ("resonance: sizes of the state, = 1", len(sizes), 1),
    ]
    entries = [
        {"target": what, "measured": round(value, 2), "result": "PASS" if value <= most else "MISS"}
        for what, value, most in found
    ]
    if (8192, "attention") in speed:
        ratio = speed[8192, "resonance"] / speed[8192, "attention"]
        result = "PASS" if ratio >= 5 else "MISS"
        what = "resonance / Transformer, ids a second at 8K, >= 5"
        entries.append({"target": what, "measured": round(ratio, 2), "result": result})
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="the first two contexts, few repeats")
    parser.add_argument("--out", type=Path, help="JSON file (default: benchmarks/results)")
    args = parser.parse_args()
    about = environment()
    print(json.dumps(about, indent=1))
    contexts, repeats = (CONTEXTS[:2], 3) if args.quick else (CONTEXTS, 5)
    print(f"\n{'context':>8}  {'':<12}{'ids/s':>10}{'state bytes':>14}")
    rows = [row for context in contexts for row in measure(context, repeats)]
    found = targets(rows)
    for entry in found:
        print(f"  {entry['result']:<6}{entry['target']:<60}{entry['measured']:>8}")
    name = f"decoding-{about['platform']}{'-quick' if args.quick else ''}.json"
    out = args.out or RESULTS / name
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**about, "rows": rows, "targets": found}, indent=1) + "\n")
    print(f"written to {out.name}")


if __name__ == "__main__":
    main()
