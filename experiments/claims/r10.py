"""R10: a resonator costs O(n) per operation against O(n²), its FFT is paid once for T layers, and the time ratio grows
as n.

Source: R (attention as a frequency-domain resonator).
Decided by: log-log slopes of the time over n, with their 95 % intervals, of a `ResonatorStack` and of as many layers of
multi-head attention, and of their ratio; and 16 layers of FFT → filter → inverse FFT against the stack that transforms
once.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.filters import separate_filters, stacked_filters
from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.scaling import fit_slope, median_seconds
from resonance_jax.layers.resonator import ResonatorStack

SIZES = {  # lengths, layers, features, repeats
    "quick": ((256, 512, 1024, 2048), 2, 16, 3),
    "full": ((256, 512, 1024, 2048, 4096, 8192), 4, 64, 5),
}
HEADS, TIMES_PAID = 2, 16


class AttentionStack(nn.Module):
    """Layers of multi-head attention, each added to its input."""

    num_layers: int

    @nn.compact
    def __call__(self, x):
        for _ in range(self.num_layers):
            x = x + nn.MultiHeadDotProductAttention(HEADS)(x)
        return x


def seconds_of(module: nn.Module, x: jax.Array, repeats: int) -> float:
    """Time of the forward pass; which parameters does not matter to it."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1, leaf.dtype), shapes)
    return median_seconds(jax.jit(module.apply), variables, x, repeats=repeats)


def measure(seed: int, size: str) -> Numbers:
    lengths, layers, features, repeats = SIZES[size]
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    resonator, attention = [], []
    for n in lengths:
        x = draw(1, n, features)
        stack = ResonatorStack(features, layers, num_heads=HEADS)
        resonator.append(seconds_of(stack, x, 5 * repeats))
        attention.append(seconds_of(AttentionStack(layers), x, repeats))
    ratio = [slow / fast for slow, fast in zip(attention, resonator, strict=True)]
    found: Numbers = {"lengths": list(lengths), "resonator": resonator, "attention": attention}
    for name, values in (("resonator", resonator), ("attention", attention), ("ratio", ratio)):
        fit = fit_slope(lengths, values)
        found |= {f"{name}_slope": fit.slope, f"{name}_low": fit.low, f"{name}_high": fit.high}
    bins = lengths[-1] // 2 + 1
    arguments = (
        draw(1, features, lengths[-1]),
        jax.lax.complex(draw(4, bins), draw(4, bins)) / 4,
        jax.lax.complex(draw(TIMES_PAID, bins), draw(TIMES_PAID, bins)),
    )
    once, each = (
        median_seconds(jax.jit(f), *arguments, repeats=5 * repeats)
        for f in (stacked_filters, separate_filters)
    )
    return {**found, "gain_of_one_transform": each / once, "last_ratio": ratio[-1]}


def decide(runs: Sequence[Numbers]) -> Decision:
    def mean(name: str) -> float:
        return float(np.mean([run[name] for run in runs]))

    def interval(name: str) -> str:
        return (
            f"{mean(f'{name}_slope'):.2f} ({mean(f'{name}_low'):.2f} to {mean(f'{name}_high'):.2f})"
        )

    number = (
        f"time ∝ n^a with a = {interval('resonator')} for the resonator, {interval('attention')} for attention, "
        f"{interval('ratio')} for the ratio, which is {mean('last_ratio'):.0f} at n = {runs[0]['lengths'][-1]}; one "
        f"transform for {TIMES_PAID} layers is {mean('gain_of_one_transform'):.1f} times as fast"
    )
    if mean("gain_of_one_transform") <= 1:
        return Decision("fails", number, "Transforming once for all layers saves nothing.")
    # Exponents are told apart by what they are nearer to: 1 or 2 for a time, 0 or 1 for the ratio.
    if mean("resonator_slope") >= 1.5 or mean("ratio_slope") <= 0.5:
        return Decision(
            "fails", number, "The resonator's time does not grow as n, or the ratio does not."
        )
    return Decision(
        "holds",
        number,
        "With the FFT, which is n log n, the whole stack is a little more than linear; fixed costs flatten both slopes "
        "at small n, and projections, linear in n, that of attention.",
    )


def draw(runs: Sequence[Numbers]) -> Plot:
    n = runs[0]["lengths"]

    def mean(name: str) -> list[float]:
        return np.mean([run[name] for run in runs], axis=0).tolist()

    series = tuple(Series(name, n, mean(name)) for name in ("attention", "resonator"))
    linear = Series("∝ n", n, [mean("resonator")[0] * value / n[0] for value in n], "reference")
    return Plot("sequence length n", "seconds", (*series, linear), log_x=True, log_y=True)
