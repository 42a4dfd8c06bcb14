"""R10: a resonator costs O(n) per operation against O(n²), its FFT is paid once for T layers, and the time ratio grows
as n.

Source: R (attention as a frequency-domain resonator).
Decided by: XLA's count of operations over n, of `resonator` and of attention without projections; the log-log slope,
with its 95 % interval, of the time of a `ResonatorStack`, of as many layers of multi-head attention, and of their
ratio; and 16 layers of FFT → filter → inverse FFT against the stack that transforms once.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.filters import separate_filters, stacked_attention, stacked_filters
from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.scaling import count_operations, fastest_seconds, fit_slope
from resonance_jax.layers.resonator import ResonatorStack
from resonance_jax.ops.resonator import resonator

SIZES = {  # lengths, layers, features, repeats
    "quick": ((256, 384, 512, 1024, 1536, 2048), 2, 16, 3),
    "full": ((256, 512, 1024, 2048, 4096, 8192), 4, 64, 5),
}
HEADS, TIMES_PAID = 2, 16
WIDE = 1.5  # an interval of a slope that tells 0 from 1 no longer
COUNTED = (1024, 2048)


def seconds(draw, lengths, layers: int, features: int, repeats: int) -> Numbers:
    """Times of the forward pass of a `ResonatorStack` and of attention, and their ratio, for any parameters.

    Taken up to three times, until the ratio's slope is known well enough to decide something.
    """
    stack = ResonatorStack(features, layers, num_heads=HEADS)
    mix, attend = jax.jit(stack.apply), jax.jit(partial(stacked_attention, num_heads=HEADS))
    shapes = jax.eval_shape(stack.init, jax.random.key(0), draw(1, lengths[0], features))
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1, leaf.dtype), shapes)
    weights = draw(layers, 4, features, features) / features**0.5
    inputs = [draw(1, n, features) for n in lengths]
    found: Numbers = {}
    for _ in range(3):
        found = {"resonator": [], "attention": []}
        for x in inputs:
            found["attention"].append(fastest_seconds(attend, x, weights, repeats=repeats))
            found["resonator"].append(fastest_seconds(mix, variables, x, repeats=5 * repeats))
        found["ratio"] = np.divide(found["attention"], found["resonator"]).tolist()
        fit = fit_slope(lengths, found["ratio"])
        if fit.high - fit.low < WIDE:
            break
    return found


def operations(draw, features: int) -> Numbers:
    """Exponents of the operations that one layer counts, between two lengths; nothing is run."""

    def attend(x):
        return jax.nn.softmax(x @ x.T) @ x

    def filter_by(spectrum, pattern):
        return resonator(spectrum, pattern, pattern[:1], scores="input")

    counts = {"resonator": [], "attention": []}
    for n in COUNTED:
        spectrum = jnp.zeros((features, n // 2 + 1), jnp.complex64)
        counts["resonator"].append(count_operations(jax.jit(filter_by), spectrum, spectrum[:4]))
        counts["attention"].append(count_operations(jax.jit(attend), draw(n, features)))
    exponent = np.log(COUNTED[1] / COUNTED[0])
    return {
        f"operations_{name}": float(np.log(many / few) / exponent)
        for name, (few, many) in counts.items()
    }


def measure(seed: int, size: str) -> Numbers:
    lengths, layers, features, repeats = SIZES[size]
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    found: Numbers = {"lengths": list(lengths)}
    for name, values in seconds(draw, lengths, layers, features, repeats).items():
        fit = fit_slope(lengths, values)
        found |= {f"{name}_slope": fit.slope, f"{name}_low": fit.low, f"{name}_high": fit.high}
        found |= {name: values}
    found |= operations(draw, features)
    bins = lengths[-1] // 2 + 1
    arguments = (
        draw(1, features, lengths[-1]),
        jax.lax.complex(draw(4, bins), draw(4, bins)) / 4,
        jax.lax.complex(draw(TIMES_PAID, bins), draw(TIMES_PAID, bins)),
    )
    once, each = (
        fastest_seconds(jax.jit(f), *arguments, repeats=5 * repeats)
        for f in (stacked_filters, separate_filters)
    )
    return {**found, "gain_of_one_transform": each / once}


def decide(runs: Sequence[Numbers]) -> Decision:
    def mean(name: str) -> float:
        return float(np.mean([run[name] for run in runs]))

    def interval(name: str) -> str:
        return (
            f"{mean(f'{name}_slope'):.2f} ({mean(f'{name}_low'):.2f} to {mean(f'{name}_high'):.2f})"
        )

    number = (
        f"operations ∝ n^{mean('operations_resonator'):.2f} and n^{mean('operations_attention'):.2f}; time ∝ n^a, "
        f"a = {interval('resonator')} for the resonator, {interval('attention')} for attention, {interval('ratio')} "
        f"for the ratio; one transform for {TIMES_PAID} layers is {mean('gain_of_one_transform'):.1f} times as fast"
    )
    width = mean("ratio_high") - mean("ratio_low")
    # An exponent is told by the integer that it is nearest to.
    if round(mean("operations_resonator")) != 1 or round(mean("operations_attention")) != 2:
        return Decision("fails", number, "The operations do not grow as n and as n².")
    if mean("gain_of_one_transform") <= 1 or (width < WIDE and mean("ratio_high") <= 0.5):
        return Decision("fails", number, "The time does not follow the operations.")
    if width > WIDE:
        statement = "The operations do; the times scatter too much to say, other work runs beside."
        return Decision("holds when", number, statement)
    if mean("gain_of_one_transform") < 2 or not mean("ratio_low") <= 1 <= mean("ratio_high"):
        statement = "Operations are counted: the times follow them, but not as far as a ratio that grows as n."
        return Decision("holds when", number, statement)
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
