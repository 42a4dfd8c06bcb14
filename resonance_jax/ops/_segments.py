"""Checks of what says which steps of a batch of sequences count: segments, masks, lengths."""

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.ops._checks import is_concrete


def check_step_mask(mask, shape) -> None:
    """Requires booleans of a shape; a row that is hidden as a whole is nothing unusual to a filter that goes on."""
    if mask.dtype != bool or tuple(mask.shape) != tuple(shape):
        raise ValueError(
            f"mask must be boolean (True = observed) of shape {shape}, got {mask.dtype} {mask.shape}."
        )


def check_segments(segments, shape) -> jax.Array:
    """Requires integers that do not decrease along the last axis, from 0."""
    if tuple(segments.shape) != tuple(shape) or not jnp.issubdtype(segments.dtype, jnp.integer):
        raise ValueError(
            f"segments must be integers {shape}, got {segments.dtype} {segments.shape}."
        )
    if is_concrete(segments):
        values = np.asarray(segments)
        if values.min() < 0 or np.any(values[..., 1:] < values[..., :-1]):
            raise ValueError(
                "segments must not be negative and not decrease along time: number the documents of a row in "
                "their order, 0 for what goes on from the state."
            )
    return jnp.asarray(segments)


def count_segments(segments, num_segments: int | None) -> int:
    """Counts known segments where num_segments is not given, and requires that a given one is enough."""
    if not is_concrete(segments):
        if num_segments is None:
            raise ValueError(
                "the segments are traced: pass num_segments, or use chunked, which needs no bound."
            )
        return num_segments
    needed = int(np.max(np.asarray(segments))) + 1
    if num_segments is not None and num_segments < needed:
        raise ValueError(
            f"num_segments must be above every segment, got {num_segments} for segments up to {needed - 1}."
        )
    return needed if num_segments is None else num_segments


def check_lengths(lengths, batch, length: int) -> jax.Array:
    """Requires an integer 0 … t a row."""
    if tuple(lengths.shape) != tuple(batch) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths must be integers {batch}, got {lengths.dtype} {lengths.shape}.")
    if is_concrete(lengths) and np.size(lengths):
        low, high = int(np.min(np.asarray(lengths))), int(np.max(np.asarray(lengths)))
        if low < 0 or high > length:
            raise ValueError(f"lengths must lie in 0 .. {length}, got {low} .. {high}.")
    return jnp.asarray(lengths, jnp.int32)  # unsigned ones would wrap below 0


def last_segment(segments, lengths):
    """The segment of each row's last step, [b]; 0, which keeps the state, for a row of length 0."""
    if lengths is None:
        return segments[:, -1]
    last = jnp.take_along_axis(segments, jnp.maximum(lengths - 1, 0)[:, None], axis=1)[:, 0]
    return jnp.where(lengths == 0, 0, last)
