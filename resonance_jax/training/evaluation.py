"""Loss and scores of a model on a whole split, with its confusion matrix or a few of its forecasts."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from resonance_jax.data.iterator import evaluation_batches
from resonance_jax.data.split import Split
from resonance_jax.training.losses import LossFunction, classification_loss
from resonance_jax.training.step import eval_step

EXAMPLES = 3
"""Forecasts that an evaluation keeps."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model scores on a split."""

    loss: float
    """Mean loss over the examples, or over the observed targets."""
    scores: dict[str, float]
    """{"accuracy"} of classes, {"mse", "mae"} of forecasts: means likewise."""
    confusion: list[list[int]]
    """Examples by class: rows true, columns predicted; empty of forecasts."""
    forecasts: list[dict[str, Any]]
    """A few windows of the split, evenly spaced, their first channel: "inputs" [t], "targets" [h], "forecast" [h] or
    [h, q], None where missing; empty of classes."""


def evaluate(
    apply_fn: Callable[..., Any],
    variables: Any,
    split: Split,
    batch_size: int,
    num_classes: int,
    loss_fn: LossFunction = classification_loss,
) -> Evaluation:
    """Evaluates a model, without dropout, on every example of a split once.

    Args:
        apply_fn: the model's `apply`.
        variables: its parameters and other collections, as `TrainState.eval_variables`.
        split: the examples.
        batch_size: rows in a batch; the last is filled with rows of weight 0.
        num_classes: size of the confusion matrix; 0 of a forecast.
        loss_fn: what the loss and the scores are, without label smoothing.
    Returns:
        Each over the whole split.
    """
    sums: dict[str, float] = {}
    total, first, forecasts = 0, 0, []
    confusion = np.zeros((num_classes, num_classes), np.int64)
    shown = np.linspace(0, len(split) - 1, EXAMPLES).astype(int)
    for batch in evaluation_batches(split, batch_size):
        found = eval_step(variables, batch, apply_fn=apply_fn, loss_fn=loss_fn)
        found = jax.device_get(found)
        outputs, rows = found.pop("outputs"), batch["weight"] > 0
        count = int(np.isfinite(batch["labels"][rows]).sum())  # of targets, the observed ones
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + float(value) * count
        total += count
        if num_classes:
            np.add.at(confusion, (batch["labels"][rows], outputs[rows].argmax(axis=-1)), 1)
        else:
            places = [row - first for row in shown if 0 <= row - first < batch_size]
            forecasts += [_example(batch, outputs, place) for place in places]
        first += batch_size
    means = {name: value / max(total, 1) for name, value in sums.items()}
    loss = means.pop("loss")
    if num_classes:
        means["accuracy"] = int(np.trace(confusion)) / len(split)  # exact
    return Evaluation(loss, means, confusion.tolist(), forecasts)


def _example(batch: dict[str, np.ndarray], outputs: np.ndarray, place: int) -> dict[str, Any]:
    inputs = batch["inputs"][place, :, 0]
    if "mask" in batch:
        inputs = np.where(batch["mask"][place], inputs, np.nan)
    targets, forecast = batch["labels"][place, :, 0], outputs[place, :, 0]
    return {"inputs": _plain(inputs), "targets": _plain(targets), "forecast": _plain(forecast)}


def _plain(values: np.ndarray) -> list[Any]:
    """JSON values of four digits; None where a number is not finite."""
    if values.ndim > 1:
        return [_plain(row) for row in values]
    return [round(float(value), 4) if np.isfinite(value) else None for value in values]
