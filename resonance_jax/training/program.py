"""Model, optimizer and compiled step of a configuration, shared by runs that differ in seed or data only."""

import dataclasses
import time
from functools import lru_cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resonance_jax.models.baselines import make_model
from resonance_jax.training.config import RESUMABLE_FIELDS, ModelConfig, TrainConfig
from resonance_jax.training.devices import OneDevice
from resonance_jax.training.losses import LossFunction, make_loss
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.sharding import DataParallel
from resonance_jax.training.step import Batch, TrainState, init_state

# Fields that neither the model nor a step depends on (num_epochs only through the number of steps).
_OUTSIDE = RESUMABLE_FIELDS | {
    *("experiment", "dataset", "seed", "num_epochs", "augment"),
    *("validation_fraction", "max_skipped_steps"),
}


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """A training step for batches of one shape."""

    call: Any
    """(state, batch) -> (state, metrics), as `train_step`."""
    seconds: float
    """Time to trace and compile it."""
    peak_memory: int | None
    """Bytes on one device: arguments + outputs + temporaries − aliased; None if XLA does not say."""


class Program:
    """What a configuration makes of a state and a batch.

    Args:
        config: the configuration.
        num_steps: steps of the whole run.
    """

    def __init__(self, config: TrainConfig, num_steps: int) -> None:
        self._config = config
        self.model = shared_model(config.model, config.dtype)
        self.optimizer = make_optimizer(config, num_steps)
        self._steps: dict[Any, CompiledStep] = {}

    def init_state(self, seed: int, batch: Batch) -> TrainState:
        """Returns the state before the first step."""
        config = self._config
        return init_state(
            self.model,
            self.optimizer,
            jax.random.key(seed),
            batch,
            loss=model_loss(config.model, config.label_smoothing),
            ema_decay=config.ema_decay,
            accumulation_steps=config.accumulation_steps,
            monitor_stability=config.monitor_stability,
        )

    def compile(
        self, state: TrainState, batch: Batch, devices: OneDevice | DataParallel
    ) -> CompiledStep:
        """Compiles the step ahead of time, once for each shape of batch and choice of devices.

        Args:
            state: placed on the devices.
            batch: sharded over them.
            devices: one, or those that share a batch.
        """
        leaves, structure = jax.tree.flatten(batch)
        shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)
        key = devices, structure, shapes
        if key not in self._steps:
            started = time.perf_counter()
            call, compiled = devices.compile(state, batch)
            seconds = time.perf_counter() - started
            self._steps[key] = CompiledStep(call, seconds, _peak_memory(compiled))
        return self._steps[key]


def get_program(config: TrainConfig, num_steps: int) -> Program:
    """Returns the program of a configuration, the same one for all its seeds."""
    default = TrainConfig()
    outside = {name: getattr(default, name) for name in _OUTSIDE}
    return _programs(dataclasses.replace(config, **outside), num_steps)


@lru_cache(maxsize=8)
def shared_model(config: ModelConfig, dtype: str = "float32") -> nn.Module:
    """Returns a configuration's module, the same one each time, which shares what is compiled for it."""
    return make_model(config, dtype=None if dtype == "float32" else jnp.dtype(dtype))


def model_loss(config: ModelConfig, label_smoothing: float = 0.0) -> LossFunction:
    """Returns the loss of a configuration's head, and of the quantiles that it forecasts."""
    return make_loss(config.head, label_smoothing, getattr(config, "quantiles", ()))


@lru_cache(maxsize=4)
def _programs(config: TrainConfig, num_steps: int) -> Program:
    return Program(config, num_steps)


def _peak_memory(compiled: Any) -> int | None:
    sizes = compiled.memory_analysis()
    if sizes is None:
        return None
    used = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return int(used - sizes.alias_size_in_bytes)
