"""Evaluates a language model on a whole text: bits per byte, and perplexity per token."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.data.packing import Tokens, sequential_windows
from resonance_jax.models.language_model import LanguageModel


@dataclass(frozen=True)
class TextScore:
    """How well a model predicts a text.

    Attributes:
        bits: −Σ log₂ p over the text's tokens.
        num_tokens: of the text, without the marks between documents.
        num_bytes: of the text.
    """

    bits: float
    num_tokens: int
    num_bytes: int

    @property
    def bits_per_byte(self) -> float:
        """Returns the bits that a byte of the text costs, whatever the tokens are."""
        return self.bits / self.num_bytes

    @property
    def perplexity(self) -> float:
        """Returns 2^(bits per token)."""
        return 2.0 ** (self.bits / self.num_tokens)


def to_segments(resets: Any) -> Any:
    """Numbers the documents of each row: bool [b, n], True where one starts → int32 [b, n]."""
    return np.cumsum(resets, axis=1, dtype=np.int32)


def score_text(
    model: LanguageModel,
    variables: Any,
    tokens: Tokens,
    *,
    length: int,
    batch_size: int,
    resets: bool,
    stride: int | None = None,
) -> TextScore:
    """Scores each token of a text once, given what the model can read of the tokens before it.

    Resonance carries its state along the text. Attention has none to carry: it reads windows that overlap, so that a
    token is given length − stride tokens at least, and all before it near the beginning.

    Args:
        model: the model.
        variables: its variables.
        tokens: the text.
        length: n, tokens in a window, ≥ 2 for attention.
        batch_size: b, parts of the text, or windows, that are read side by side.
        resets: forget the state where a document starts.
        stride: of attention's windows; None is half their length. A smaller one takes longer and scores better.
    Raises:
        ValueError: if an argument is out of range.
    """
    carried = model.config.mixer == "resonance"
    state = model.initial_state(batch_size) if carried else None
    stride = length // 2 if stride is None else stride
    read = sequential_windows if carried else partial(overlapping_windows, stride=stride)
    nats, count = 0.0, 0
    for batch in read(tokens, length, batch_size):
        segments = to_segments(batch["resets"]) if resets else None
        labels, weight = batch["labels"], batch["weight"]
        part, after = _sum_losses(
            model, variables, batch["inputs"], labels, weight, segments, state
        )
        state = after if carried else None
        nats += float(part)
        count += int(weight.sum())
    return TextScore(nats / math.log(2), count, tokens.num_bytes)


@partial(jax.jit, static_argnames="model")
def _sum_losses(model, variables, ids, labels, weight, segments, state):
    losses, state = model.apply(variables, ids, labels, state, segments=segments, method="losses")
    return jnp.sum(jnp.where(weight > 0, losses, 0.0)), state


def overlapping_windows(
    tokens: Tokens, length: int, batch_size: int, stride: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yields batches of windows that begin every `stride` tokens, as those of `sequential_windows`.

    The weight is 1 for each token of the text in one window only, the one in which it has most before it.

    Raises:
        ValueError: if the stride is not in 1 … length − 1 or the batch size is less than 1.
    """
    if not 1 <= stride < length or batch_size < 1:
        raise ValueError(
            f"expected windows of 2 tokens or more, a stride below that, and 1 or more at once, got {length}, "
            f"{stride} and {batch_size}."
        )
    labels = len(tokens) - 1
    windows = 1 + max(0, -(-(labels - length) // stride))

    def batch(first: int) -> dict[str, np.ndarray]:
        numbers = first + np.arange(batch_size)
        places = numbers[:, None] * stride + np.arange(length)
        fresh = (np.arange(length) >= length - stride) | (numbers[:, None] == 0)
        inside = (places < labels) & (numbers[:, None] < windows)
        places = np.where(inside, places, 0)
        inputs = np.where(inside, tokens.ids[places], tokens.end_of_text).astype(np.int32)
        targets = np.where(inside, tokens.ids[places + 1], tokens.end_of_text).astype(np.int32)
        weight = (fresh & (targets != tokens.end_of_text)).astype(np.float32)
        resets = inputs == tokens.end_of_text
        return {"inputs": inputs, "labels": targets, "resets": resets, "weight": weight}

    return (batch(first) for first in range(0, windows, batch_size))
