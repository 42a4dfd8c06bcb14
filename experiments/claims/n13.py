"""N13: sequences 30 times longer than a Transformer's fit into the same memory.

Source: N (resonance networks with holographic memory).
Decided by: the memory that XLA plans for Transformers of some lengths, with all scores at once and with some at a time;
and the length at which the long-context model of their width and depth is planned to take the same.
"""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.memory import make_configs, program_bytes
from resonance_jax.claims.numbers import smallest

SIZES = {  # width, layers, lengths of attention, lengths of resonance
    "quick": (16, 1, (512, 2048), (1024, 8192)),
    "full": (256, 2, (512, 2048, 8192), (8192, 32768, 131072)),
}
CLAIMED = 30


def measure(seed: int, size: str) -> Numbers:
    width, layers, lengths, ours = SIZES[size]
    configs = make_configs(max(ours), width, layers)
    training = size == "full"
    used = [program_bytes(configs["resonance"], n, training=training) for n in ours]
    per_token, at_zero = np.polyfit(ours, used, 1)
    found: Numbers = {"lengths": list(lengths)}
    for name in ("attention", "chunked_attention"):
        theirs = [program_bytes(configs[name], n, training=training) for n in lengths]
        found[f"bytes_{name}"] = theirs
        found[f"times_{name}"] = [
            float((b - at_zero) / per_token / n) for b, n in zip(theirs, lengths, strict=True)
        ]
    return found


def decide(runs: Sequence[Numbers]) -> Decision:
    last = runs[0]["lengths"][-1]
    plain, chunked = (
        smallest([{"x": run[f"times_{name}"][-1]} for run in runs], "x")
        for name in ("attention", "chunked_attention")
    )
    number = (
        f"in the memory of attention over {last:,} tokens, {plain:.0f} times as many; in that of attention with some "
        f"scores at a time, {chunked:.1f} times as many"
    )
    if chunked >= CLAIMED:
        return Decision("holds", number)
    if plain >= CLAIMED:
        return Decision(
            "holds when",
            number,
            "Attention keeps all its scores, n² of them, and n is large; it needn't keep them.",
        )
    return Decision(
        "fails", number, "Even attention that keeps all its scores is not so far behind."
    )


def draw(runs: Sequence[Numbers]) -> Plot:
    n = runs[0]["lengths"]
    labels = {"attention": "all scores kept", "chunked_attention": "some scores at a time"}
    series = tuple(Series(label, n, runs[0][f"times_{name}"]) for name, label in labels.items())
    return Plot(
        "tokens n of attention",
        "tokens of the long-context model in its memory, over n",
        series,
        log_x=True,
        log_y=True,
    )
