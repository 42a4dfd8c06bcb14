"""A decoded id and the bytes of its state: resonance beside a Transformer with a key–value cache.

Both: width 256, 4 blocks, 8 heads, vocabulary 256, one row, float32, parameters as at the start. The context has been
read already: its length is that of the cache, which is filled with random numbers up to the steps that are timed (the
time does not depend on its values). The resonators' state is random too; their program is the same at every context,
and what varies there is the machine. 32 ids, the most probable each, are decoded in one compiled scan whose state is
donated. Ids a second are of the fastest of the interleaved rounds.
"""

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Record
from benchmarks.timing import Case
from resonance_jax.layers.attention import AttentionState
from resonance_jax.models.generation import decode_step
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig

CONTEXTS = (256, 1024, 4096, 8192, 16384, 65536)
MIXERS = ("resonance", "attention")
STEPS = 32


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
    info: dict[str, Any] = {"state_bytes": size}
    info["compile_s"] = round(time.perf_counter() - start, 3)
    info["temp_bytes"] = getattr(program.memory_analysis(), "temp_size_in_bytes", None)
    held = [jnp.zeros(1, jnp.int32), state]

    def call():
        held[:] = jax.block_until_ready(program(variables, *held))

    return Case(mixer, call, repeats, info)


def run(record: Record) -> None:
    """Times both models at each context; asked: a constant time and size, 5 times the Transformer's speed at 8K."""
    contexts, repeats = (CONTEXTS[:2], 3) if record.quick else (CONTEXTS, 5)
    speed: dict[tuple[int, str], float] = {}
    sizes = set()
    for context in contexts:
        cases = [decoding_case(mixer, context, repeats) for mixer in MIXERS]
        for mixer, case in record.time({"context": context}, cases, MIXERS[0]).items():
            speed[context, mixer] = STEPS / min(case.seconds)
            print(
                f"    {mixer}: {speed[context, mixer]:,.0f} ids/s, {case.info['state_bytes']:,} bytes"
            )
        sizes.add(cases[0].info["state_bytes"])
        faster = speed[context, "resonance"] / speed[context, "attention"]
        record.target(
            f"context {context}: Transformer / resonance, time of an id",
            faster,
            at_least=5 if context == 8192 else 1,
        )
    ours = [speed[context, "resonance"] for context in contexts]
    record.target("resonance: fastest / slowest context", max(ours) / min(ours), at_most=1.2)
    record.target("resonance: sizes of the state", len(sizes), at_most=1)
