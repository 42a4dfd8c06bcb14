"""A convolutional net of the log-mel spectrum: the usual baseline for sound."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from resonance_jax.array_typing import Array, ClassScores
from resonance_jax.layers.audio import LogMel
from resonance_jax.layers.dropout import Dropout
from resonance_jax.ops._checks import check_rate


@dataclasses.dataclass(frozen=True)
class ConvolutionalAudioConfig:
    """The shape of a `ConvolutionalAudioNet`."""

    num_classes: int
    """Classes."""
    sample_rate: int = 8000
    """Of the sound, in Hz."""
    num_bands: int = 40
    """Bands of the log-mel spectrum."""
    stride: int = 80
    """Samples in a frame."""
    min_frequency: float = 60.0
    """In Hz, of the lowest band."""
    floor: float = 1e-5
    """Power below which sound counts as silence."""
    widths: tuple[int, ...] = (16, 32, 64, 64)
    """Channels of each convolution of 3 × 3; all but the last halve time and frequency."""
    dropout: float = 0.1
    """Rate before the head."""

    @property
    def head(self) -> str:
        """Always "classify"."""
        return "classify"

    @property
    def input_dim(self) -> int:
        """Always 1: one channel of sound."""
        return 1

    @property
    def output_dim(self) -> int:
        """Its `num_classes`, by the name that the trainer knows."""
        return self.num_classes

    @property
    def vocab_size(self) -> int:
        """Always 0: inputs are real."""
        return 0

    def __post_init__(self):
        """Checks what the front end does not."""
        object.__setattr__(self, "widths", tuple(self.widths))  # a list where it comes from JSON
        if self.num_classes < 1 or not self.widths or min(self.widths) < 1:
            raise ValueError(
                f"num_classes and each of widths must be at least 1, got {self.num_classes} and {self.widths}."
            )
        check_rate("dropout", self.dropout)


class ConvolutionalAudioNet(nn.Module):
    """LogMel → (convolution of 3 × 3 → LayerNorm → gelu) × widths → mean over whole frames and bands → head.

    Called as `ResonanceAudioNet`. What padding there is after a row's last frame is 0 before the first convolution and
    left out of the mean, but for a frame at the edge.

    >>> import jax, jax.numpy as jnp
    >>> model = ConvolutionalAudioNet(ConvolutionalAudioConfig(num_classes=10, widths=(4, 8)))
    >>> jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((2, 1000)))[0].shape
    (2, 10)
    """

    config: ConvolutionalAudioConfig
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Array, mask: Array | None = None, *, deterministic: bool = True
    ) -> ClassScores:
        """Maps sound [b, t, 1] or [b, t] to logits [b, num_classes]."""
        config = self.config
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        inputs = jnp.asarray(inputs)
        sound = inputs[..., 0] if inputs.ndim == 3 else inputs
        front_end = LogMel(
            config.num_bands, config.sample_rate, config.stride,
            min_frequency=config.min_frequency, floor=config.floor,
        )  # fmt: skip
        frames = front_end(sound, mask)
        x = frames.values[..., None] / jnp.log1p(1 / config.floor)
        lengths = frames.lengths
        for place, width in enumerate(config.widths):
            step = 1 if place == len(config.widths) - 1 else 2
            x = nn.Conv(width, (3, 3), (step, step), name=f"conv_{place}", **dtypes)(x)
            x = nn.gelu(nn.LayerNorm(name=f"norm_{place}", **dtypes)(x))
            lengths = -(-lengths // step)
        seen = (jnp.arange(x.shape[1]) < lengths[:, None])[..., None]
        total = jnp.sum(jnp.where(seen, x.mean(axis=2), 0), axis=1)
        x = total / jnp.maximum(lengths, 1)[:, None]
        x = Dropout(config.dropout)(x, deterministic=deterministic)
        return nn.Dense(config.num_classes, name="head", dtype=self.param_dtype)(x)
