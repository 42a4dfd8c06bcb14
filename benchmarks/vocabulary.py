"""Embedding and softmax of large vocabularies in two levels beside a full table.

V = 100K, 500K and 1M ids, d = 512, 256 tokens, float32 parameters. A step embeds 256 ids, scores the ids that follow,
takes the gradient of the mean loss and subtracts it (SGD) in place. Ids are drawn by Zipf's law, p ∝ 1/rank, so that
17 to 32 % of them are of the tail. The table is one [V, d] for embedding and head, which is the least that a full
softmax can have; its products are float32, or bfloat16 with sums in float32: the target is taken against the faster.
Ours has tables of its own for embedding and head, and shares them ("tied"). Ratios are medians over rounds.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Record
from benchmarks.timing import Case, ratio
from resonance_jax.layers.embedding import HierarchicalEmbedding, HierarchicalSoftmax

SIZES = (100_000, 500_000, 1_000_000)
FEATURES, TOKENS, FREQUENT = 512, 256, 16_384
PARAMETERS, TIME = 0.05, 0.10  # of a full table and of its step
RATE = 0.1


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


def run(record: Record) -> None:
    """Times all of them at each size; asked, at a million ids with tables of their own, of parameters and of time."""
    for vocab_size in SIZES[:1] if record.quick else SIZES:
        cases = cases_of(vocab_size, 5 if record.quick else 9, 3)
        tail = float(np.mean(np.array(draw_ids(vocab_size)) >= FREQUENT))
        key = {"ids": vocab_size, "tail_share": round(tail, 3), "features": FEATURES}
        found = record.time(key, cases, "full table, float32")
        full = [case for name, case in found.items() if name.startswith("full")]
        largest = vocab_size == SIZES[-1]
        for name, case in found.items():
            if name.startswith("two levels"):
                asked = largest and "own" in name
                of_table = case.info["parameters"] / (vocab_size * FEATURES)
                what = f"{vocab_size:,} ids, {name}"
                record.target(
                    f"{what}: of a full table's parameters",
                    of_table,
                    at_most=PARAMETERS if asked else 1,
                )
                record.target(
                    f"{what}: of the faster full softmax's step",
                    ratio(case, *full),
                    at_most=TIME if asked else 1,
                )
