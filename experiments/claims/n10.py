"""N10: 5.9 times fewer parameters than a Transformer at like accuracy.

Source: N (resonance networks with holographic memory).
Decided by: networks and Transformers of several widths with the same stem, depth and training on real data; each kind's
smallest model whose accuracy reaches the best that the weaker kind attains, to within the step from width to width.
`experiments/scaling.py` asks the same with a search for each kind's learning rate, and draws the curves.
"""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.matched import curve, ratios
from resonance_jax.claims.trials import KINDS, size_records

CLAIMED = 5.9
DATASETS = {"quick": ("digits",), "full": ("digits", "FordA")}


def measure(seed: int, size: str) -> Numbers:
    numbers: Numbers = {}
    for dataset in DATASETS[size]:
        for record in size_records(dataset, size, seed):
            for name in ("parameters", "accuracy"):
                numbers.setdefault(f"{dataset}_{record['model']}_{name}", []).append(record[name])
    return numbers


def read_records(runs: Sequence[Numbers], dataset: str) -> list[dict]:
    """Returns the records of a data set, from the numbers of all seeds."""
    return [
        {"model": kind, "parameters": parameters, "accuracy": accuracy}
        for run in runs
        for kind in KINDS
        for parameters, accuracy in zip(
            run[f"{dataset}_{kind}_parameters"], run[f"{dataset}_{kind}_accuracy"], strict=True
        )
    ]


def names(runs: Sequence[Numbers]) -> list[str]:
    return list(dict.fromkeys(name.split("_")[0] for name in runs[0]))


def decide(runs: Sequence[Numbers]) -> Decision:
    found = {name: ratios(read_records(runs, name), *KINDS) for name in names(runs)}
    number = "; ".join(
        f"{name}: {ratio['parameters']:.2f} times fewer at accuracy {ratio['accuracy']:.1%}"
        for name, ratio in found.items()
    )
    widths = len(read_records(runs, next(iter(found)))) // (len(runs) * len(KINDS))
    number += f" ({widths} widths a kind)"
    reached = [name for name, ratio in found.items() if ratio["parameters"] >= CLAIMED]
    if len(reached) == len(found):
        return Decision("holds", number)
    if reached:
        return Decision("holds when", number, f"It holds on {', '.join(reached)} only.")
    best = max(ratio["parameters"] for ratio in found.values())
    statement = f"At matched accuracy the ratio is {best:.1f} at best, where both kinds share stem, depth and training."
    return Decision("fails", number, statement)


def draw(runs: Sequence[Numbers]) -> Plot:
    series = []
    for name in names(runs):
        for kind in KINDS:
            line = curve(read_records(runs, name), kind)
            sizes = [point["parameters"] for point in line]
            accuracies = [float(np.round(point["accuracy"], 4)) for point in line]
            series.append(Series(f"{kind}, {name}", sizes, accuracies))
    return Plot("parameters", "test accuracy", tuple(series), log_x=True)
