"""Loss and scores of a model on a whole split, with its confusion matrix and a few examples to look at."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from resonance_jax.data.iterator import evaluation_batches
from resonance_jax.data.split import Split
from resonance_jax.training.losses import LossFunction, classification_loss
from resonance_jax.training.step import eval_step

FORECASTS, MISTAKES = 3, 12
"""Examples that an evaluation keeps, of windows and of images."""
LARGEST_PICTURE = 64 * 64
"""Pixels of an image that is kept."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model scores on a split."""

    loss: float
    """Mean loss over the examples, or over the observed targets."""
    scores: dict[str, float]
    """{"accuracy"} of classes, {"mse", "mae"} of forecasts: means likewise."""
    confusion: list[list[int]]
    """Examples by class: rows true, columns predicted; empty of forecasts."""
    examples: list[dict[str, Any]]
    """To be looked at, in JSON's values. Of forecasts a few windows of the split, evenly spaced, their first channel:
    "inputs" [t], "targets" [h], "forecast" [h] or [h, q], None where missing. Of images that are not large those that
    are wrong with the highest probability: "image" [h, w, c] of 0 … 255, "label", "predicted", "probability". Else
    none."""


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
    total, first = 0, 0
    forecasts: list[dict[str, Any]] = []
    mistakes: list[dict[str, Any]] = []
    confusion = np.zeros((num_classes, num_classes), np.int64)
    shown = np.linspace(0, len(split) - 1, FORECASTS).astype(int)
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
            mistakes = _worst(mistakes, batch, outputs)
        else:
            places = [row - first for row in shown if 0 <= row - first < batch_size]
            forecasts += [_example(batch, outputs, place) for place in places]
        first += batch_size
    means = {name: value / max(total, 1) for name, value in sums.items()}
    loss = means.pop("loss")
    if num_classes:
        means["accuracy"] = int(np.trace(confusion)) / len(split)  # exact
    for mistake in mistakes:
        mistake["image"] = _brightness(mistake["image"])
    return Evaluation(loss, means, confusion.tolist(), forecasts or mistakes)


def _worst(
    mistakes: list[dict[str, Any]], batch: dict[str, np.ndarray], outputs: np.ndarray
) -> list[dict[str, Any]]:
    """Those of the mistakes so far and of a batch of images that have the highest probability."""
    images = batch["inputs"]
    if images.ndim != 4 or images[0, ..., 0].size > LARGEST_PICTURE:
        return []
    predicted = outputs.argmax(axis=-1)
    outputs = outputs.astype(np.float64)
    spread = np.exp(outputs - outputs.max(axis=-1, keepdims=True)).sum(axis=-1)
    found = [
        {
            "image": images[row],
            "label": int(batch["labels"][row]),
            "predicted": int(predicted[row]),
            "probability": round(float(1 / spread[row]), 4),
        }
        for row in np.flatnonzero((batch["weight"] > 0) & (predicted != batch["labels"]))
        if np.isfinite(spread[row])
    ]
    return sorted([*mistakes, *found], key=lambda one: -one["probability"])[:MISTAKES]


def _brightness(image: np.ndarray) -> list[Any]:
    """An image from its darkest, 0, to its brightest value, 255."""
    low, high = float(image.min()), float(image.max())
    return np.round(255 * (image - low) / max(high - low, 1e-12)).astype(int).tolist()


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
