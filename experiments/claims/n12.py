"""N12: from 8K to 256K tokens memory grows sub-linearly (425 MB to 3.5 GB), at 1.8 to 3.7 times a Transformer's speed.

Source: N (resonance networks with holographic memory).
Decided by: the memory that XLA plans for the long-context model (for a forward pass; at full size for gradients) over
the length, the exponent between the two longest sequences, and what a further token takes there and before; and
forward passes timed beside Transformers of the same width and depth, with all scores at once and with some at a time.
"""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.memory import forward_seconds, make_configs, program_bytes
from resonance_jax.claims.numbers import largest, smallest

SIZES = {  # width, layers, lengths of memory, lengths of time
    "quick": (16, 1, (1024, 4096, 8192), (256, 1024)),
    "full": (256, 2, (8192, 32768, 131072, 262144), (2048, 4096, 8192)),
}
SUBLINEAR = 0.95  # of the exponent, and of what a further token takes


def measure(seed: int, size: str) -> Numbers:
    width, layers, lengths, timed = SIZES[size]
    configs = make_configs(lengths[-1], width, layers)
    used = [program_bytes(configs["resonance"], n, training=size == "full") for n in lengths]
    found: Numbers = {
        "lengths": list(lengths),
        "bytes_resonance": used,
        "exponent": float(np.log(used[-1] / used[-2]) / np.log(lengths[-1] / lengths[-2])),
        "timed": list(timed),
    }
    further = np.diff(used) / np.diff(lengths)
    found["growth_of_bytes_per_token"] = float(further[-1] / further[0])
    seconds = {
        name: [forward_seconds(config, n) for n in timed] for name, config in configs.items()
    }
    for name in ("attention", "chunked_attention"):
        found[f"speed_over_{name}"] = [
            theirs / ours for theirs, ours in zip(seconds[name], seconds["resonance"], strict=True)
        ]
    return found


def decide(runs: Sequence[Numbers]) -> Decision:
    exponent = largest(runs, "exponent")
    first, last = (
        {
            name: smallest(
                [{"x": run[f"speed_over_{name}"][place]} for run in runs],
                "x",
            )
            for name in ("attention", "chunked_attention")
        }
        for place in (0, -1)
    )
    lengths, used = runs[0]["lengths"], runs[0]["bytes_resonance"]
    timed = runs[0]["timed"]
    number = (
        f"memory ∝ n^{exponent:.2f} from n = {lengths[-2]:,} to {lengths[-1]:,}, {used[0] / 2**20:.0f} to "
        f"{used[-1] / 2**20:.0f} MB from {lengths[0]:,}; {first['attention']:.2g} and {last['attention']:.2g} times as "
        f"fast as attention at {timed[0]:,} and {timed[-1]:,}, {first['chunked_attention']:.2g} and "
        f"{last['chunked_attention']:.2g} times as fast as attention with some scores at a time"
    )
    faster = min(*last.values()) > 1
    if (
        max(exponent, largest(runs, "growth_of_bytes_per_token")) < SUBLINEAR
        and min(*first.values()) > 1
    ):
        return Decision("holds", number)
    if faster and exponent < 1.05:
        return Decision(
            "holds when",
            number,
            "The sequence is long enough: attention's time grows as n². Memory is no less than linear once parameters "
            "and tables no longer count: a further token takes "
            f"{smallest(runs, 'growth_of_bytes_per_token'):.2f} times as many bytes at the longest sequences as at the "
            "shortest.",
        )
    return Decision(
        "fails", number, "It is slower than attention, or its memory grows faster than the length."
    )


def draw(runs: Sequence[Numbers]) -> Plot:
    n = runs[0]["lengths"]
    series = (
        Series("long-context model", n, runs[0]["bytes_resonance"]),
        Series("linear", n, [runs[0]["bytes_resonance"][-1] * m / n[-1] for m in n]),
    )
    return Plot("tokens n", "bytes that XLA plans", series, log_x=True, log_y=True)
