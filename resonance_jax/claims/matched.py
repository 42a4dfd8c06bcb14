"""Models of several sizes at matched accuracy: the smallest that reaches it, and what it costs.

A record is one trained model: {"model", "parameters", "accuracy", and any further costs}; records of one model with the
same number of parameters are its seeds.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

Record = Mapping[str, Any]

COSTS = ("parameters", "train_seconds", "peak_memory_bytes", "inference_ms")


def curve(records: Sequence[Record], model: str) -> list[dict[str, Any]]:
    """Summarises each size of a model over its seeds.

    Args:
        records: of any models.
        model: the one to summarise.
    Returns:
        A dict a size, the smallest first: "parameters", "accuracy" (mean), "accuracy_std" (sample standard deviation,
        None for a single seed), "seeds" (how many), and the median of every other cost in `COSTS` that is known.
    Raises:
        ValueError: if there is no record of the model.
    """
    mine = [record for record in records if record["model"] == model]
    if not mine:
        known = ", ".join(sorted({record["model"] for record in records})) or "none"
        raise ValueError(f"there is no record of model {model!r}; there are records of: {known}.")
    sizes = sorted({record["parameters"] for record in mine})
    return [_summary([r for r in mine if r["parameters"] == size]) for size in sizes]


def matched_accuracy(records: Sequence[Record], models: Sequence[str]) -> float:
    """Returns the best mean accuracy that the weakest of the models attains: all of them reach it at some size.

    a = min over models of (max over sizes of (mean over seeds of the accuracy))
    """
    return min(max(size["accuracy"] for size in curve(records, model)) for model in models)


def smallest_at(records: Sequence[Record], model: str, accuracy: float) -> dict[str, Any] | None:
    """Summarises (see `curve`) the smallest size of a model whose mean accuracy reaches this; None if none does."""
    reached = (size for size in curve(records, model) if size["accuracy"] >= accuracy)
    return next(reached, None)


def ratios(
    records: Sequence[Record], model: str, other: str, accuracy: float | None = None
) -> dict[str, float]:
    """How many times less a model costs than another, both at the smallest size that reaches an accuracy.

    Args:
        records: of both models.
        model, other: their names.
        accuracy: what to reach; None takes their `matched_accuracy`.
    Returns:
        {"accuracy": what was to be reached, and for each of `COSTS` that both know: cost of `other` / cost of `model`}.
    Raises:
        ValueError: if one of them does not reach the accuracy at any size.
    """
    if accuracy is None:
        accuracy = matched_accuracy(records, (model, other))
    mine, theirs = (smallest_at(records, name, accuracy) for name in (model, other))
    if mine is None or theirs is None:
        missing = model if mine is None else other
        best = max(size["accuracy"] for size in curve(records, missing))
        raise ValueError(
            f"{missing} reaches {best:.4f} at most, not {accuracy:.4f}: compare at a lower accuracy."
        )
    known = [cost for cost in COSTS if cost in mine and cost in theirs]
    return {"accuracy": accuracy} | {cost: theirs[cost] / mine[cost] for cost in known}


def _summary(seeds: Sequence[Record]) -> dict[str, Any]:
    accuracies = [record["accuracy"] for record in seeds]
    costs = {
        cost: median(record[cost] for record in seeds)
        for cost in COSTS
        if all(record.get(cost) is not None for record in seeds)
    }
    return costs | {
        "accuracy": fmean(accuracies),
        "accuracy_std": stdev(accuracies) if len(accuracies) > 1 else None,
        "seeds": len(accuracies),
    }
