"""Model, optimizer and compiled step of a language model, shared by runs that differ in seed or data only."""

import dataclasses
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.models.language_model import LanguageModel
from resonance_jax.training.config import RESUMABLE_FIELDS
from resonance_jax.training.language_config import LanguageTrainConfig
from resonance_jax.training.language_evaluation import to_segments
from resonance_jax.training.losses import mean_share
from resonance_jax.training.optimizer import make_paced_optimizer
from resonance_jax.training.program import Program
from resonance_jax.training.step import TrainState, init_state

# Fields that neither the model nor a step depends on: rates are set from outside, batches tell their size.
_OUTSIDE = {
    *("experiment", "corpus", "tokenizer", "seed", "num_steps", "time_budget", "warmup_steps"),
    *("learning_rate", "learning_rate_magnitude", "learning_rate_phase"),
    *("context_length", "batch_size", "resets", "max_skipped_steps", "eval_length", "eval_rows"),
}


class LanguageProgram(Program):
    """What a configuration makes of a state and a batch of windows.

    Args:
        config: the configuration.
    """

    def __init__(self, config: LanguageTrainConfig) -> None:
        self._config: Any = config
        self.model = LanguageModel(config.model)
        self.optimizer = make_paced_optimizer(
            weight_decay=config.weight_decay,
            gradient_clip=config.gradient_clip,
            adam_b2=config.adam_b2,
        )
        self._steps = {}

    def init_state(self, seed: int, batch: Any = None) -> TrainState:
        """Returns the state before the first step, whatever the batch."""
        del batch  # No parameter depends on the length.
        state = init_state(
            self.model,
            self.optimizer,
            jax.random.key(seed),
            {"inputs": jnp.zeros((1, 8), jnp.int32)},
            loss=_mean_loss,
            ema_decay=self._config.ema_decay,
        )
        return state.replace(apply_fn=self._token_losses)

    def _token_losses(self, variables, inputs, *, mutable, **options):
        """The model's `losses` in the form that `train_step` calls."""
        (losses, _), collections = self.model.apply(
            variables, **inputs, mutable=mutable, method="losses", **options
        )
        return losses, collections


def step_batch(batch: dict[str, np.ndarray], *, resets: bool) -> dict[str, Any]:
    """Returns what `LanguageProgram`'s step takes of a batch of `PackedBatches`."""
    inputs = {"ids": batch["inputs"], "labels": batch["labels"]}
    weight = {name: batch[name] for name in ("weight",) if name in batch}
    segments = {"segments": to_segments(batch["resets"])} if resets else {}
    return {"inputs": inputs | segments, **weight}


def get_language_program(config: LanguageTrainConfig) -> LanguageProgram:
    """Returns the program of a configuration, the same one for all its seeds, lengths and rates."""
    default = LanguageTrainConfig()
    names = {field.name for field in dataclasses.fields(config)} & (RESUMABLE_FIELDS | _OUTSIDE)
    # Resets would be refused beside a model that has none.
    outside = {name: getattr(default, name) for name in names} | {"resets": False}
    return _programs(dataclasses.replace(config, **outside))


@lru_cache(maxsize=4)
def _programs(config: LanguageTrainConfig) -> LanguageProgram:
    return LanguageProgram(config)


def _mean_loss(
    losses: jax.Array, batch: Any, *, axis: str | None = None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    return mean_share(losses, batch.get("weight"), axis), {}
