"""Losses of the heads: (outputs, batch) → (mean loss, metrics), with weights and masks.

With `axis`, the name of a mapped axis of devices that share a batch, each returns this device's share: of the sum over
its own rows, divided by the weight of all. The sum of the shares over the axis is the mean over the whole batch.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

LossFunction = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]


def classification_loss(
    outputs: jax.Array,
    batch: Mapping[str, Any],
    *,
    label_smoothing: float = 0.0,
    axis: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the weighted mean cross-entropy −Σ_c q_c log p_c and the accuracy.

    Args:
        outputs: logits [b, classes].
        batch: "labels" int [b] in 0 … classes − 1; "weight" [b], optional.
        label_smoothing: ε in q = (1 − ε) one-hot + ε / classes.
        axis: of devices, see this module.
    Returns:
        The loss and {"accuracy"}, float32; 0 where all weights are 0.
    """
    _check_shapes(outputs.shape[:-1], batch["labels"].shape)
    return _cross_entropy(outputs, batch["labels"], batch.get("weight"), label_smoothing, axis)


def token_loss(
    outputs: jax.Array,
    batch: Mapping[str, Any],
    *,
    label_smoothing: float = 0.0,
    axis: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the mean cross-entropy and accuracy over the tokens that the mask keeps.

    Args:
        outputs: logits [b, t, classes].
        batch: "labels" int [b, t]; "mask" bool [b, t] and "weight" [b] or [b, t], both optional.
        label_smoothing, axis: as in `classification_loss`.
    Returns:
        The loss and {"accuracy"}, float32.
    """
    _check_shapes(outputs.shape[:-1], batch["labels"].shape)
    weight = batch.get("mask")
    if batch.get("weight") is not None:
        rows = jnp.asarray(batch["weight"])
        rows = rows[:, None] if rows.ndim == 1 else rows
        weight = rows if weight is None else rows * weight
    return _cross_entropy(outputs, batch["labels"], weight, label_smoothing, axis)


def regression_loss(
    outputs: jax.Array,
    batch: Mapping[str, Any],
    *,
    label_smoothing: float = 0.0,
    axis: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the weighted mean over rows of the mean squared error.

    Args:
        outputs: predictions [b, output_dim].
        batch: "labels" float [b, output_dim], or [b] when output_dim is 1; "weight" [b], optional.
        label_smoothing: must be 0.
        axis: as in `classification_loss`.
    Returns:
        The loss, float32, and no metrics.
    """
    _check_no_smoothing(label_smoothing)
    labels = jnp.asarray(batch["labels"])
    labels = labels[:, None] if labels.ndim == 1 else labels
    _check_shapes(outputs.shape, labels.shape)
    error = jnp.square(outputs.astype(jnp.float32) - labels)
    return mean_share(error.mean(axis=-1), batch.get("weight"), axis), {}


def middle_quantile(quantiles: Sequence[float]) -> int:
    """Returns the place of the quantile nearest to 1/2, the first of several, which stands for a forecast.

    >>> middle_quantile((0.05, 0.1, 0.5))
    2
    """
    return min(range(len(quantiles)), key=lambda place: abs(quantiles[place] - 0.5))


def forecast_loss(
    outputs: jax.Array,
    batch: Mapping[str, Any],
    *,
    quantiles: tuple[float, ...] = (),
    label_smoothing: float = 0.0,
    axis: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the mean squared error, or the pinball loss of quantiles, over the observed targets.

    Of quantile p forecast as z, y costs max(p (y − z), (p − 1)(y − z)); the loss is the mean over quantiles too.

    Args:
        outputs: forecasts [b, h, c], or [b, h, c, q] with quantiles.
        batch: "labels" float [b, h, c], NaN where missing, which weighs 0; "weight" [b], optional.
        quantiles: p of each output, in (0, 1).
        label_smoothing: must be 0.
        axis: as in `classification_loss`.
    Returns:
        The loss and {"mse", "mae"} of the forecast, or of its quantile nearest to 1/2, float32.
    References:
        Koenker and Bassett, Regression Quantiles, Econometrica 46 (1978).
    """
    _check_no_smoothing(label_smoothing)
    labels = jnp.asarray(batch["labels"])
    _check_shapes(outputs.shape, (*labels.shape, len(quantiles)) if quantiles else labels.shape)
    seen = ~jnp.isnan(labels)
    weight = seen.astype(jnp.float32)
    if batch.get("weight") is not None:
        weight = weight * jnp.asarray(batch["weight"])[:, None, None]
    labels = jnp.where(seen, labels, 0)
    outputs = outputs.astype(jnp.float32)
    middle = outputs
    if quantiles:
        middle = outputs[..., middle_quantile(quantiles)]
    mse = mean_share(jnp.square(labels - middle), weight, axis)
    metrics = {"mse": mse, "mae": mean_share(jnp.abs(labels - middle), weight, axis)}
    if not quantiles:
        return mse, metrics
    p, error = jnp.array(quantiles), labels[..., None] - outputs
    pinball = jnp.maximum(p * error, (p - 1) * error).mean(axis=-1)
    return mean_share(pinball, weight, axis), metrics


def contrastive_loss(
    outputs: Any,
    batch: Mapping[str, Any],
    *,
    label_smoothing: float = 0.0,
    axis: str | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Computes the symmetric InfoNCE between the embeddings of each pair of senses.

    For senses p and q with unit vectors of the same rows and s_ij = ⟨p_i, q_j⟩ / T, T = max(e^log_temperature, 0.01),
    with the gradient of e^log_temperature also below the bound:

        ½ Σ_i w_i [ −log softmax_j(s_ij)_i − log softmax_j(s_ji)_i ],    over the sum of all w_i

    summed over pairs, each with the rows that have both senses: j runs over the rows in which the other sense is there,
    and not over those of i's own group. The two sides of a pair share no sense: "vision" and "audio+text" are one,
    "audio" and "audio+text" are none.

    Args:
        outputs: what `models.multimodal.MultimodalResonanceNet` returns: `embeddings`, of each name unit vectors
            [b, e]; `present`, of each name bool [b]; `log_temperature` [].
        batch: both optional: "weight" [b], a row of weight 0 is no negative either; "group" int [b], rows of one group
            say the same and are not told apart.
        label_smoothing: must be 0.
        axis: must be None: negatives are not gathered across devices. `DataParallel("jit")` sees the whole batch.
    Returns:
        The loss and {"accuracy"}, the share of rows whose own partner is the nearest; 0 where there is no pair.
    Raises:
        ValueError: if there are no two senses to tell apart, or an option is not as stated.
    References:
        van den Oord et al., Contrastive predictive coding, arXiv:1807.03748. Radford et al., CLIP, arXiv:2103.00020.
    """
    if label_smoothing or axis is not None:
        raise ValueError(
            f"a contrastive loss takes label_smoothing=0 and no axis, got {label_smoothing} and {axis!r}: its "
            "negatives are those of the whole batch, which DataParallel(strategy='jit') sees."
        )
    names = sorted(outputs.embeddings)
    pairs = [
        (p, q) for p in names for q in names if p < q and not {*p.split("+")} & {*q.split("+")}
    ]
    if not pairs:
        raise ValueError(f"a contrastive loss needs two senses that differ, got {names}.")
    rows = outputs.embeddings[names[0]].shape[0]
    weight = jnp.asarray(batch.get("weight", jnp.ones(rows)), jnp.float32)
    group = batch.get("group")
    alike = jnp.zeros((rows, rows), bool) if group is None else group[:, None] == group[None]
    temperature = jnp.exp(outputs.log_temperature.astype(jnp.float32))
    # The bound has no gradient: a temperature below it would stay there.
    temperature += jax.lax.stop_gradient(jnp.maximum(temperature, 0.01) - temperature)
    loss = right = whole = jnp.zeros(())
    for pair in pairs:
        there = [outputs.present[name] & (weight > 0) for name in pair]
        # Where, not only a product: a row of weight 0 may hold anything, NaN included.
        vectors = [
            jnp.where(here[:, None], outputs.embeddings[name].astype(jnp.float32), 0)
            for name, here in zip(pair, there, strict=True)
        ]
        scores = vectors[0] @ vectors[1].T / temperature
        share = jnp.where(there[0] & there[1], weight, 0)
        for logits, columns in ((scores, there[1]), (scores.T, there[0])):
            losses, correct = _nearest(logits, columns & ~alike)
            loss, right = loss + 0.5 * share @ losses, right + 0.5 * share @ correct
        whole = whole + share.sum()
    whole = jnp.maximum(whole, jnp.finfo(jnp.float32).tiny)
    return loss / whole, {"accuracy": right / whole}


def _nearest(logits: jax.Array, others: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of each row's own column among it and `others` [b, b], and whether it is the largest; float32."""
    own = jnp.eye(len(logits), dtype=bool)
    logits = jnp.where(own | others, logits, -jnp.inf)
    found = logits.argmax(axis=-1) == jnp.arange(len(logits))
    return -jnp.diagonal(jax.nn.log_softmax(logits)), found.astype(jnp.float32)


LOSSES: Mapping[str, LossFunction] = {
    "classify": classification_loss,
    "regress": regression_loss,
    "per_token": token_loss,
    "forecast": forecast_loss,
    "contrastive": contrastive_loss,
}

SCORES: Mapping[str, tuple[str, ...]] = {"classify": ("accuracy",), "forecast": ("mse", "mae")}
"""What runs of a head are scored by, beside the loss; the first decides."""


@lru_cache(maxsize=32)  # One object per loss, so that equal states share a compiled step.
def make_loss(
    head: str, label_smoothing: float = 0.0, quantiles: tuple[float, ...] = ()
) -> LossFunction:
    """Returns the loss of a head.

    Raises:
        ValueError: if the head has none.
    """
    if head not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)} or a function, got {head!r}")
    options = {"quantiles": quantiles} if quantiles else {}
    return partial(LOSSES[head], label_smoothing=label_smoothing, **options)


def is_better(name: str, score: float, other: float) -> bool:
    """Says whether a score is better than another: an accuracy is when it is higher, an error when it is lower."""
    return score > other if name == "accuracy" else score < other


def mean_share(values: jax.Array, weight: Any, axis: str | None) -> jax.Array:
    """Computes this device's share of the weighted mean of values, or all of it where axis is None; 0 of weight 0."""
    if weight is None:
        share = values.mean()
        return share if axis is None else share / jax.lax.axis_size(axis)
    weight = jnp.asarray(weight).astype(jnp.float32)
    missing = (1,) * (values.ndim - weight.ndim)  # [b] weighs rows
    weight = jnp.broadcast_to(weight.reshape(*weight.shape, *missing), values.shape)
    # Where, not only a product: a row of weight 0 may hold anything, NaN included.
    total, whole = jnp.where(weight > 0, values * weight, 0.0).sum(), weight.sum()
    whole = whole if axis is None else jax.lax.psum(whole, axis)
    return total / jnp.maximum(whole, jnp.finfo(jnp.float32).tiny)


def _cross_entropy(
    logits: jax.Array, labels: Any, weight: Any, label_smoothing: float, axis: str | None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    logits = logits.astype(jnp.float32)
    labels = jnp.asarray(labels)
    # (1 − ε) of the class's own term and ε of the mean over classes: no one-hot array.
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if label_smoothing:
        even = -jax.nn.log_softmax(logits).mean(axis=-1)
        losses = (1.0 - label_smoothing) * losses + label_smoothing * even
    correct = (logits.argmax(axis=-1) == labels).astype(jnp.float32)
    return mean_share(losses, weight, axis), {"accuracy": mean_share(correct, weight, axis)}


def _check_no_smoothing(label_smoothing: float) -> None:
    if label_smoothing:
        raise ValueError(
            f"label_smoothing is for classes, a regression takes 0, got {label_smoothing}"
        )


def _check_shapes(outputs: tuple[int, ...], labels: tuple[int, ...]) -> None:
    if tuple(outputs) != tuple(labels):
        raise ValueError(
            f"the model's outputs are for {tuple(outputs)} labels, the batch has {tuple(labels)}; "
            "check the model's head and output_dim"
        )
