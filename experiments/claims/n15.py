"""N15: cross-modal fusion in frequency space works without attention.

Source: N (resonance networks with holographic memory).
Decided by: what fusion in the frequency domain tells of two sequences of different lengths, beside attention from one
to the other and no fusion, at one width: whether waves in both have one sign, which neither says alone; and the value
that stands beside one key among those of the source, which the target names.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.layers.fusion import CrossModalResonance

LENGTHS = (12, 16)
CHANNELS, FEATURES, FREQUENCIES = 5, 16, 6
FUSIONS = ("resonance", "attention", "none")


class Compare(nn.Module):
    """Logit of a pair: embeddings, a fusion into the target, mean and maximum of each, a linear head.

    Without a fusion it is a sum of what is made of each, which cannot tell equal signs from different ones.
    """

    fusion: str

    @nn.compact
    def __call__(self, x, source):
        x, source = (nn.Dense(FEATURES, name=n)(a) for n, a in (("target", x), ("other", source)))
        if self.fusion == "resonance":
            x = CrossModalResonance(FEATURES, FREQUENCIES)(x, source)
        elif self.fusion == "attention":
            u, v = nn.LayerNorm()(x), nn.LayerNorm()(source)
            x = x + nn.MultiHeadDotProductAttention(2)(u, v)
        pooled = [p(a, axis=1) for a in (x, source) for p in (jnp.mean, jnp.max)]
        return nn.Dense(1)(jnp.concatenate(pooled, axis=-1))[:, 0]


def draw_waves(rng: np.random.Generator, count: int):
    """Draws pairs [count, n, 5] of noisy waves of random signs, each beside the same wave of sign +, and labels.

    Frequencies are drawn for each sequence; the label is whether the signs are equal.
    """
    signs = rng.choice([-1.0, 1.0], (2, count, 1))
    sequences = []
    for sign, n in zip(signs, LENGTHS, strict=True):
        wave = np.cos(2 * np.pi * rng.integers(0, FREQUENCIES, (count, 1)) * np.arange(n) / n)
        x = 0.3 * rng.normal(size=(count, n, CHANNELS))
        x[..., 0] += sign * wave
        x[..., 1] = wave
        sequences.append(x.astype(np.float32))
    return (*sequences, (signs[0, :, 0] == signs[1, :, 0]).astype(np.float32))


def draw_keys(rng: np.random.Generator, count: int):
    """Draws targets that are one key at every step, sources of keys with a value ± 1 each, and the target's value.

    Keys are random directions of 4 numbers; the value is the last channel.
    """
    n, m = LENGTHS
    keys = rng.normal(size=(count, m, CHANNELS - 1))
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    values = rng.choice([-1.0, 1.0], (count, m, 1))
    wanted = rng.integers(0, m, count)
    x = np.zeros((count, n, CHANNELS), np.float32)
    x[..., :-1] = keys[np.arange(count), wanted][:, None]
    source = np.concatenate([2 * keys, values], axis=-1).astype(np.float32)
    return x, source, (values[np.arange(count), wanted, 0] > 0).astype(np.float32)


TASKS = {"signs": draw_waves, "lookup": draw_keys}


@partial(jax.jit, static_argnames="fusion")
def fit(key, training, test, fusion: str):
    """Trains on batches [steps, b, …] and returns the accuracy on the test pairs."""
    model = Compare(fusion)
    schedule = optax.linear_schedule(1e-2, 0.0, len(training[0]))
    optimizer = optax.adam(schedule)

    def loss(params, x, source, label):
        logits = jnp.asarray(model.apply(params, x, source))
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, label))

    def step(carry, batch):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, *batch), state)
        return (optax.apply_updates(params, updates), state), None

    params: Any = model.init(key, *(part[0, :1] for part in training[:2]))
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), training)
    found = jnp.asarray(model.apply(params, *test[:2]))
    return jnp.mean((found > 0) == (test[2] > 0.5))


def measure(seed: int, size: str) -> Numbers:
    steps, batch = (200, 32) if size == "quick" else (5000, 128)
    numbers: dict[str, Any] = {}
    for task, draw in TASKS.items():
        pairs = draw(np.random.default_rng(seed), (steps + 16) * batch)
        split = [np.split(part, [steps * batch]) for part in pairs]
        training = tuple(part.reshape(steps, batch, *part.shape[1:]) for part, _ in split)
        test = tuple(part for _, part in split)
        for fusion in FUSIONS:
            found = fit(jax.random.key(seed), training, test, fusion)
            numbers[f"{task}_{fusion}"] = float(found)
    return numbers


def decide(runs: Sequence[Numbers]) -> Decision:
    def mean(task: str) -> dict[str, float]:
        return {name: float(np.mean([run[f"{task}_{name}"] for run in runs])) for name in FUSIONS}

    signs, lookup = mean("signs"), mean("lookup")
    number = "; ".join(
        f"{task}: " + ", ".join(f"{name} {found[name]:.3f}" for name in FUSIONS)
        for task, found in (("equal signs", signs), ("value beside a key", lookup))
    )

    def works(found: dict[str, float]) -> bool:
        # As good as attention, and it is the fusion that does it.
        return found["resonance"] >= max(found["attention"] - 0.02, found["none"] + 0.1)

    if works(signs) and works(lookup):
        return Decision("holds", number)
    if works(signs):
        return Decision(
            "holds when",
            number,
            "What is asked of the source is said by its spectrum as a whole. One step among others, found by what it "
            "holds, is what attention is for.",
        )
    return Decision("fails", number, "It does not tell what attention tells, or needs no fusion.")
