"""The devices that a run trains on: one by itself, or several that share each batch."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from resonance_jax.training.sharding import DataParallel
from resonance_jax.training.step import Batch, TrainState, train_step


@dataclasses.dataclass(frozen=True)
class OneDevice:
    """The default device by itself: the methods of `DataParallel` that a run calls, with nothing to share."""

    def place(self, state: TrainState) -> TrainState:
        """Returns the state."""
        return state

    def shard(self, batch: Batch) -> Batch:
        """Returns the batch."""
        return batch

    def fetch(self, state: TrainState) -> TrainState:
        """Returns the state."""
        return state

    def spread(self, values: Mapping[str, float]) -> dict[str, Any]:
        """Returns the numbers."""
        return dict(values)

    def read(self, values: Any) -> Any:
        """Copies scalars of a state to the host."""
        return jax.device_get(values)

    def compile(self, state: TrainState, batch: Batch) -> tuple[Any, Any]:
        """Compiles `train_step` ahead of time: (what to call, what was compiled), here the same."""
        compiled = train_step.lower(state, batch).compile()
        return compiled, compiled


def choose_devices(config: Any) -> OneDevice | DataParallel:
    """Returns the devices that a `TrainConfig` or `LanguageTrainConfig` asks for.

    Raises:
        ValueError: as `DataParallel`.
    """
    if config.num_devices == 1 and jax.process_count() == 1:
        return OneDevice()
    return DataParallel(
        config.strategy, num_devices=config.num_devices or None, parameters=config.parameters
    )
