"""DLinear, a forecaster to compare with."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from resonance_jax.array_typing import Array
from resonance_jax.ops.forecast import observed_steps


@dataclasses.dataclass(frozen=True)
class DLinearConfig:
    """The shape of a `DLinear`."""

    pred_horizon: int = 96
    """Steps h to forecast."""
    context_length: int = 336
    """Steps t of the window that is read."""
    input_dim: int = 1
    """Channels c; all have the same weights."""
    average: int = 25
    """Steps of the moving average that is the trend."""
    # What every configuration says; no fields.
    head = "forecast"
    vocab_size = 0

    def __post_init__(self):
        """Checks each field."""
        for name in ("pred_horizon", "context_length", "input_dim", "average"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")

    @property
    def output_dim(self) -> int:
        """Steps to forecast."""
        return self.pred_horizon


class DLinear(nn.Module):
    """A linear map of a moving average and one of the rest (Zeng et al., arXiv:2205.13504).

    Windows [b, t, c] → forecasts [b, h, c]; what is missing is read as 0. Both maps start as the mean of the window.

    >>> import jax, jax.numpy as jnp
    >>> model = DLinear(DLinearConfig(pred_horizon=2, context_length=8))
    >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 1)))
    >>> print(jnp.round(2 * model.apply(variables, jnp.arange(8.0)[None, :, None])[0, :, 0]))
    [7. 7.]
    """

    config: DLinearConfig
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Array, mask: Array | None = None, *, deterministic: bool = True):
        """Computes the forecasts.

        Raises:
            ValueError: if the windows do not fit the configuration.
        """
        config = self.config
        x = jnp.asarray(inputs)
        if x.ndim != 3 or x.shape[1:] != (config.context_length, config.input_dim):
            raise ValueError(
                f"inputs must be [b, {config.context_length}, {config.input_dim}], got shape {x.shape}."
            )
        x = jnp.swapaxes(jnp.where(observed_steps(x, mask), x, 0), 1, 2)  # [b, c, t]
        ahead = (config.average - 1) // 2
        padded = jnp.pad(x, [(0, 0), (0, 0), (ahead, config.average - 1 - ahead)], mode="edge")
        sums = jnp.cumsum(jnp.pad(padded, [(0, 0), (0, 0), (1, 0)]), axis=-1)
        trend = (sums[..., config.average :] - sums[..., : -config.average]) / config.average
        y = sum(
            nn.Dense(
                config.pred_horizon,
                kernel_init=nn.initializers.constant(1 / config.context_length),
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=name,
            )(part)
            for name, part in (("trend", trend), ("rest", x - trend))
        )
        return jnp.swapaxes(jnp.asarray(y, self.param_dtype), 1, 2)
