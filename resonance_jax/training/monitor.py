"""What is watched while training: gradient norms by group, and steps that are not finite."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from resonance_jax.training.optimizer import GROUPS


class NonFiniteGradientError(RuntimeError):
    """Training stopped: too many steps in a row had a loss or gradients that were not finite."""


def gradient_norms(gradients: Any, labels: Sequence[str]) -> dict[str, jax.Array]:
    """Computes the global norm of the gradient, whole and by group.

    Args:
        gradients: tree of gradients.
        labels: group of each leaf, in the order of `jax.tree.leaves`.
    Returns:
        "grad_norm" and "grad_norm_<group>" for every group, float32 scalars; 0 for no leaves.
    """
    squares = {group: jnp.zeros((), jnp.float32) for group in GROUPS}
    for label, leaf in zip(labels, jax.tree.leaves(gradients), strict=True):
        squares[label] += jnp.square(leaf.astype(jnp.float32)).sum()
    norms = {f"grad_norm_{group}": jnp.sqrt(square) for group, square in squares.items()}
    return {"grad_norm": jnp.sqrt(sum(squares.values(), start=jnp.zeros(()))), **norms}


def all_finite(loss: jax.Array, norms: Mapping[str, jax.Array]) -> jax.Array:
    """Says whether loss and gradients are finite; a norm too large for float32 counts as not."""
    return jnp.isfinite(loss) & jnp.isfinite(norms["grad_norm"])


def check_finite(records: Iterable[Mapping[str, Any]], limit: int, last_step: int) -> None:
    """Raises if any of the latest steps was the `limit`-th skipped in a row.

    Args:
        records: metrics of consecutive steps, fetched to the host, the last being `last_step`'s.
        limit: skipped steps in a row at which to stop.
        last_step: number of the last step in `records`.
    Raises:
        NonFiniteGradientError: saying at which step, after how many, in which groups, what to do.
    """
    records = list(records)
    for index, record in enumerate(records):
        if int(record["consecutive_skipped"]) >= limit:
            step = last_step - len(records) + 1 + index
            raise NonFiniteGradientError(_explain(record, step))


def non_finite_groups(record: Mapping[str, Any]) -> list[str]:
    """Names the groups of parameters whose gradient norm is not finite."""
    return [group for group in GROUPS if not jnp.isfinite(record[f"grad_norm_{group}"])]


def _explain(record: Mapping[str, Any], step: int) -> str:
    groups = non_finite_groups(record)
    where = f"the gradients of group {', '.join(groups)}" if groups else "the loss"
    rates = {"magnitude": "learning_rate_magnitude", "phase": "learning_rate_phase"}
    rate = " or ".join(rates.get(group, "learning_rate") for group in groups) or "learning_rate"
    return (
        f"{int(record['consecutive_skipped'])} steps in a row had to be skipped, the last at step "
        f"{step}: {where} not finite (loss {float(record['loss'])}). The parameters are those of the "
        f"last good step. Lower {rate}, lower gradient_clip or lengthen warmup_fraction; "
        "jax.config.update('jax_debug_nans', True) finds the operation."
    )
