"""Times embedding and softmax of large vocabularies in two levels beside a full table.

    python -m benchmarks.vocabulary [--quick] [--out FILE]

V = 100K, 500K and 1M ids, d = 512, 256 tokens, float32 parameters. A step embeds 256 ids, scores the ids that follow,
takes the gradient of the mean loss and subtracts it (SGD) in place. Ids are drawn by Zipf's law, p ∝ 1/rank, so that
17 to 32 % of them are of the tail. The table is one [V, d] for embedding and head, which is the least that a full
softmax can have; its products are float32, or bfloat16 with sums in float32: the target is taken against the faster.
Ours has tables of its own for embedding and head, and shares them ("tied"). Ratios are medians over rounds.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Case, environment, ratio, time_interleaved
from resonance_jax.layers.embedding import HierarchicalEmbedding, HierarchicalSoftmax

SIZES = (100_000, 500_000, 1_000_000)
FEATURES, TOKENS, FREQUENT = 512, 256, 16_384
PARAMETERS, TIME = 0.05, 0.10  # of a full table and of its step
RATE = 0.1
RESULTS = Path(__file__).parent / "results"


class Hierarchical(nn.Module):
    """Mean loss of the ids that follow, from the vectors of those before, without a body."""

    vocab_size: int
    dtype: Any
    tied: bool

    @nn.compact
    def __call__(self, ids, following):
        make = functools.partial(HierarchicalEmbedding, self.vocab_size, FEATURES, FREQUENT)
        embedding = make(name="embedding")
        head = HierarchicalSoftmax(
            embedding if self.tied else make(name="output"), dtype=self.dtype, name="head"
        )
        return -jnp.mean(jnp.asarray(head(embedding(ids) * FEATURES**0.5, following)))


class FullTable(nn.Module):
    """The same by one table [V, d] and a bias."""

    vocab_size: int
    dtype: Any

    @nn.compact
    def __call__(self, ids, following):
        start = nn.initializers.normal(FEATURES**-0.5)
        table = self.param("embedding", start, (self.vocab_size, FEATURES))
        bias = self.param("bias", nn.initializers.zeros, (self.vocab_size,))
        hidden = (table[ids] * FEATURES**0.5).astype(self.dtype)
        rows = table.astype(self.dtype)
        scores = jnp.einsum("td,vd->tv", hidden, rows, preferred_element_type=jnp.float32) + bias
        chosen = jnp.take_along_axis(scores, following[:, None], axis=-1)[:, 0]
        return jnp.mean(jax.nn.logsumexp(scores, axis=-1) - chosen)


def draw_ids(vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws two rows of ids by p ∝ 1 / rank."""
    weights = 1 / np.arange(1, vocab_size + 1)
    draws = np.random.default_rng(0).choice(vocab_size, size=(2, TOKENS), p=weights / weights.sum())
    return draws[0].astype(np.int32), draws[1].astype(np.int32)


def step_case(name: str, model: nn.Module, ids: tuple, repeats: int) -> Case:
    """Compiles a step that owns its parameters and updates them in place."""
    params = jax.jit(model.init)(jax.random.key(0), *ids)["params"]
    held = [jax.block_until_ready(params)]

    def step(params):
        loss, gradient = jax.value_and_grad(lambda p: model.apply({"params": p}, *ids))(params)
        return loss, jax.tree.map(lambda p, g: p - RATE * g, params, gradient)

    start = time.perf_counter()
    program = jax.jit(step, donate_argnums=0).lower(params).compile()
    info = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "compile_s": round(time.perf_counter() - start, 3),
        "temp_bytes": getattr(program.memory_analysis(), "temp_size_in_bytes", None),
        "flops": (program.cost_analysis() or {}).get("flops"),
    }
    del params

    def call():
        loss, updated = program(held.pop())
        held.append(jax.block_until_ready(updated))
        return loss

    return Case(name, call, repeats, info)


def cases_of(vocab_size: int, repeats: int, full_repeats: int) -> list[Case]:
    ids = draw_ids(vocab_size)
    makers: list[tuple[str, Callable[[], nn.Module], int]] = [
        (f"two levels, {kind}, {np.dtype(dtype).name}", make, repeats)
        for kind, tied in (("own tables", False), ("tied", True))
        for dtype in (jnp.float32, jnp.bfloat16)
        for make in [functools.partial(Hierarchical, vocab_size, dtype, tied)]
    ]
    makers += [
        (
            f"full table, {np.dtype(dtype).name}",
            functools.partial(FullTable, vocab_size, dtype),
            full_repeats,
        )
        for dtype in (jnp.float32, jnp.bfloat16)
    ]
    return [step_case(name, make(), ids, count) for name, make, count in makers]


def measure(vocab_size: int, cases: list[Case]) -> list[dict[str, Any]]:
    """Times the cases side by side; prints each with its share of the full table's parameters and time."""
    time_interleaved(cases)
    table, full = vocab_size * FEATURES, [case for case in cases if case.name.startswith("full")]
    print(
        f"\n{vocab_size:,} ids\n{'':34}{'parameters':>14}{'of V d':>9}{'median ms':>11}{'of full step':>14}"
    )
    rows = []
    for case in cases:
        row = {"ids": vocab_size, "name": case.name, **case.row()}
        row["tail_share"] = round(float(np.mean(np.array(draw_ids(vocab_size)) >= FREQUENT)), 3)
        row["of_table"] = round(row["parameters"] / table, 4)
        row["of_full_step"] = round(ratio(case, *full), 4)
        rows.append(row)
        print(
            f"{case.name:34}{row['parameters']:>14,}{row['of_table']:>9.2%}{row['median_ms']:>11.1f}"
            f"{row['of_full_step']:>14.2%}",
            flush=True,
        )
    return rows


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At the largest V, with tables of their own for embedding and head."""
    largest = max(row["ids"] for row in rows)
    found = []
    for row in rows:
        if row["ids"] == largest and row["name"].startswith("two levels, own"):
            for key, limit, what in (
                ("of_table", PARAMETERS, "of a full table's parameters"),
                ("of_full_step", TIME, "of the faster full softmax's step"),
            ):
                result = "PASS" if row[key] <= limit else "MISS"
                target = f"{largest:,} ids, {row['name']}: <= {limit:.0%} {what}"
                found.append({"target": target, "measured": row[key], "result": result})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="100K ids, few repeats")
    parser.add_argument("--out", type=Path, help="JSON file (default: benchmarks/results)")
    args = parser.parse_args()
    about = environment()
    print(json.dumps(about, indent=1))
    rows = []
    for vocab_size in SIZES[:1] if args.quick else SIZES:
        rows += measure(vocab_size, cases_of(vocab_size, 5 if args.quick else 9, 3))
    print("\nTargets")
    found = targets(rows)
    for entry in found:
        print(f"  {entry['result']:<6}{entry['target']:<88}{entry['measured']:>8}")
    name = f"vocabulary-{about['platform']}{'-quick' if args.quick else ''}.json"
    out = args.out or RESULTS / name
    out.parent.mkdir(parents=True, exist_ok=True)
    sizes = {"features": FEATURES, "tokens": TOKENS, "num_frequent": FREQUENT}
    record = {**about, **sizes, "rows": rows, "targets": found}
    out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"written to {out.name}")


if __name__ == "__main__":
    main()
