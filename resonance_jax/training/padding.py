"""Rows and steps that are added to a batch and count for nothing, until devices divide it."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from resonance_jax.training.step import Batch


def pad_steps(batch: Batch, multiple: int) -> dict[str, Any]:
    """Adds hidden steps at the end of sequences until `multiple` divides their length.

    For models with axis_name, whose parts have to be equal, and of whole chunks for `LongContextResonanceNet`: take
    devices · chunk_size. Models that hear no hidden step give what they give for the batch as it is: all with a fixed
    `max_context_length` or `reference_length`; others choose their frequencies by the length. Learned positions are
    stretched over the steps that are given, hidden ones too: with position="learned" padding is not exact.

    Args:
        batch: "inputs" [b, t, …]; "mask" bool [b, t] or none, which is all; other entries [b, t, …] are padded with 0,
            those without an axis of t steps stay.
        multiple: ≥ 1.
    Returns:
        The batch with its mask, [b, t'].
    Raises:
        ValueError: if there are no inputs [b, t, …], or the multiple is below 1.
    """
    shape = np.shape(batch.get("inputs", ()))
    if multiple < 1 or len(shape) < 2:
        raise ValueError(
            f"expected inputs [b, t, ...] and a multiple of at least 1, got shape {shape} and {multiple}."
        )
    missing = -shape[1] % multiple

    def padded(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        if leaf.shape[:2] != shape[:2]:
            return leaf
        return np.pad(leaf, [(0, 0), (0, missing)] + [(0, 0)] * (leaf.ndim - 2))

    mask = batch.get("mask")
    given = {name: value for name, value in batch.items() if value is not None}
    given["mask"] = np.ones(shape[:2], bool) if mask is None else mask
    return {name: padded(value) for name, value in given.items()}


def pad_rows(batch: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Repeats the last row, with weight 0, until `count` divides the rows."""
    rows = {leaf.shape[:1] for leaf in jax.tree.leaves(batch)}
    if len(rows) != 1 or rows in ({()}, {(0,)}):
        raise ValueError(
            "every entry of a batch must have the same number of rows, at least 1, got shapes "
            f"{jax.tree.map(np.shape, dict(batch))}."
        )
    ((number,),) = rows
    missing = -number % count
    if not missing:
        return dict(batch)
    weight = batch.get("weight", np.ones(number, np.float32))
    padded = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf[-1:].repeat(missing, 0)]), batch)
    none = np.zeros((missing, *weight.shape[1:]), weight.dtype)
    return {**padded, "weight": np.concatenate([weight, none])}
