"""Loss, accuracy and confusion matrix of a model on a whole split."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from resonance_jax.data.iterator import evaluation_batches
from resonance_jax.data.split import Split
from resonance_jax.training.losses import classification_loss
from resonance_jax.training.step import eval_step


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a model scores on a split."""

    loss: float
    """Mean loss over the examples."""
    accuracy: float
    """Part of the examples classified correctly."""
    confusion: list[list[int]]
    """Examples by class: rows true, columns predicted."""


def evaluate(
    apply_fn: Callable[..., Any], variables: Any, split: Split, batch_size: int, num_classes: int
) -> Evaluation:
    """Evaluates a classifier, without dropout or label smoothing, on every example of a split once.

    Args:
        apply_fn: the model's `apply`.
        variables: its parameters and other collections, as `TrainState.eval_variables`.
        split: the examples.
        batch_size: rows in a batch; the last is filled with rows of weight 0.
        num_classes: size of the confusion matrix.
    Returns:
        Loss, accuracy and confusion matrix, each over the whole split.
    """
    loss = 0.0
    confusion = np.zeros((num_classes, num_classes), np.int64)
    for batch in evaluation_batches(split, batch_size):
        found = eval_step(variables, batch, apply_fn=apply_fn, loss_fn=classification_loss)
        found = jax.device_get(found)
        rows = batch["weight"] > 0
        predictions = found["outputs"].argmax(axis=-1)
        np.add.at(confusion, (batch["labels"][rows], predictions[rows]), 1)
        loss += float(found["loss"]) * int(rows.sum())
    accuracy = int(np.trace(confusion)) / len(split)
    return Evaluation(loss / len(split), accuracy, confusion.tolist())
