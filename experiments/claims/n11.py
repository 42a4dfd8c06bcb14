"""N11: 5.7 times less memory, 4.5 times faster training and 2.1 times faster inference than a Transformer.

Source: N (resonance networks with holographic memory).
Decided by: XLA's peak memory of a training step, the CPU time of a step and that of an answer, beside Flax's own
attention; at matched accuracy on real data (the models of N10), and at matched parameters over the length.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.matched import ratios
from resonance_jax.claims.trials import KINDS, Trial, median_milliseconds, size_records
from resonance_jax.models.baselines import TransformerConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig

CLAIMED = {"memory": 5.7, "training": 4.5, "inference": 2.1}
COSTS = {"memory": "peak_memory_bytes", "training": "train_seconds", "inference": "inference_ms"}
SHAPE: dict[str, Any] = dict(input_dim=1, output_dim=2, hidden_dim=32, num_layers=1, dropout=0.0)
MODELS = {
    "resonance": ResonanceNetConfig(**SHAPE, mlp_dim=64, num_frequencies=16),
    "transformer": TransformerConfig(**SHAPE, mlp_dim=52),
}


def cost_at(kind: str, n: int) -> dict[str, float]:
    """Measures a model of 8,000 parameters on batches of 2 sequences of length n."""
    inputs = np.random.default_rng(0).normal(size=(2, n, 1)).astype(np.float32)
    trial, labels = Trial(MODELS[kind], inputs), np.array([0, 1], np.int32)
    params = trial.params
    if not trial.peak_memory_bytes:
        raise ValueError("this back end does not say how much memory a step takes; use the CPU.")
    return {
        "memory": float(trial.peak_memory_bytes),
        "training": median_milliseconds(lambda: trial.step(inputs, labels), 3),
        "inference": median_milliseconds(lambda: trial.scores(params, inputs), 3),
    }


def measure(seed: int, size: str) -> Numbers:
    lengths = [64, 1024] if size == "quick" else [64, 128, 256, 512, 1024, 2048, 4096]
    numbers: Numbers = {"lengths": lengths}
    costs = {kind: [cost_at(kind, n) for n in lengths] for kind in KINDS}
    for name in CLAIMED:
        pairs = zip(costs["transformer"], costs["resonance"], strict=True)
        numbers[f"{name}_ratio"] = [theirs[name] / ours[name] for theirs, ours in pairs]
    matched = ratios(size_records("digits", size, seed), *KINDS)
    for name, cost in COSTS.items():
        numbers[f"matched_{name}_ratio"] = matched[cost]
    return numbers


def decide(runs: Sequence[Numbers]) -> Decision:
    def mean(name: str) -> np.ndarray:
        return np.exp(np.mean([np.log(run[name]) for run in runs], axis=0))

    lengths = runs[0]["lengths"]
    matched = {name: float(mean(f"matched_{name}_ratio")) for name in CLAIMED}
    at = {name: mean(f"{name}_ratio") for name in CLAIMED}
    number = (
        "at matched accuracy on 16 tokens: "
        + ", ".join(f"{name} {value:.1f}" for name, value in matched.items())
        + " times less; at matched parameters: "
        + "; ".join(
            f"n = {n}: " + ", ".join(f"{name} {at[name][i]:.1f}" for name in CLAIMED)
            for i, n in enumerate(lengths)
        )
    )
    enough = [
        all(at[name][i] >= least for name, least in CLAIMED.items()) for i in range(len(lengths))
    ]
    at_matched = all(matched[name] >= least for name, least in CLAIMED.items())
    if all(enough) and at_matched:
        return Decision("holds", number)
    if enough[-1]:
        first = len(enough) - enough[::-1].index(False) if False in enough else 0
        statement = (
            f"At matched parameters and from n = {lengths[first]} of the lengths measured on: attention's scores grow "
            "as n². Not at matched accuracy on short sequences."
            if not at_matched
            else f"From n = {lengths[first]} of the lengths measured on: attention's scores grow as n²."
        )
        return Decision("holds when", number, statement)
    short = [name for name, least in CLAIMED.items() if at[name][-1] < least]
    return Decision(
        "fails", number, f"Up to n = {lengths[-1]} it is not reached in {', '.join(short)}."
    )


def draw(runs: Sequence[Numbers]) -> Plot:
    lengths = runs[0]["lengths"]
    series = [Series(name, lengths, runs[0][f"{name}_ratio"]) for name in CLAIMED]
    one = Series("equal", lengths, [1.0] * len(lengths), "reference")
    return Plot("length n", "Transformer / resonance", (*series, one), log_x=True, log_y=True)
