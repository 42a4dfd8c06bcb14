"""ResonanceVisionNet: images through stages of two-dimensional resonance."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resonance_jax.array_typing import Array
from resonance_jax.layers.dropout import Dropout
from resonance_jax.layers.resonance_2d import ResonanceBlock2D
from resonance_jax.models.sequence_model import POOLINGS, pool
from resonance_jax.ops._checks import check_choice

POSITIONS = ("learned", "none")
FREQUENCIES = ("per_image", "per_pixel")


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """The shape of a `ResonanceVisionNet`."""

    num_classes: int
    """Classes."""
    input_channels: int = 1
    """Channels c of an image [b, h, w, c]."""
    image_shape: tuple[int, int] = (28, 28)
    """Height and width of the images that it is made for; it takes others."""
    hidden_dim: int = 32
    """Width of the first stage; each further one has twice the width at half the height and width."""
    stages: tuple[int, ...] = (2, 2)
    """Blocks of each stage; one number is no pyramid."""
    patch_size: int = 4
    """Pixels a side in one token of the stem."""
    patch_stride: int = 2
    """Pixels between two tokens, at most patch_size."""
    num_frequencies: int = 7
    """Waves of 0 … k − 1 cycles along either axis, fewer where a stage has fewer; 0 leaves the local filter alone."""
    frequencies: str = "per_image"
    """What is kept at other sizes: cycles "per_image", for images that were scaled, or "per_pixel", for larger or
    smaller parts of the world."""
    interference: bool = True
    """Let frequencies mix."""
    local: bool = True
    """A depthwise convolution of 3 × 3 beside each resonance."""
    position: str = "learned"
    """"learned" (interpolated at other sizes), or "none": then pooling makes outputs blind to rolling."""
    mlp_ratio: int = 2
    """Hidden width of each block's MLP over the stage's width; 0 leaves it out."""
    pooling: str = "mean"
    """"mean", "max" or both."""
    dropout: float = 0.1
    """Rate inside blocks and before the head."""

    @property
    def head(self) -> str:
        """Always "classify"."""
        return "classify"

    @property
    def input_dim(self) -> int:
        """Its `input_channels`, by the name that the trainer knows."""
        return self.input_channels

    @property
    def output_dim(self) -> int:
        """Its `num_classes`, by the name that the trainer knows."""
        return self.num_classes

    @property
    def vocab_size(self) -> int:
        """Always 0: inputs are real."""
        return 0

    def __post_init__(self):
        """Checks each field."""
        for name in ("image_shape", "stages"):  # lists where they come from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in (
            "num_classes",
            "input_channels",
            "hidden_dim",
            "patch_size",
            "patch_stride",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not self.stages or min(self.stages) < 1:
            raise ValueError(
                f"stages must be numbers of blocks, at least 1 each, got {self.stages}."
            )
        if self.patch_stride > self.patch_size:
            raise ValueError(
                f"patch_stride = {self.patch_stride} would skip pixels between patches of {self.patch_size}."
            )
        if len(self.image_shape) != 2 or min(self.image_shape) < self.patch_size:
            raise ValueError(
                f"image_shape must be (height, width) of at least patch_size = {self.patch_size}, got "
                f"{self.image_shape}."
            )
        if self.num_frequencies < 0 or not (self.num_frequencies or self.local):
            raise ValueError(
                f"num_frequencies must be at least 1, or 0 with local=True, got {self.num_frequencies}."
            )
        if self.mlp_ratio < 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"expected mlp_ratio >= 0 and dropout in [0, 1), got {self.mlp_ratio} and {self.dropout}."
            )
        check_choice("frequencies", self.frequencies, FREQUENCIES)
        check_choice("position", self.position, POSITIONS)
        check_choice("pooling", self.pooling, POOLINGS)


class VisionEncoder(nn.Module):
    """Patches, positions, stages of blocks (norm → resonance ⊙ gate → residual → norm → MLP → residual), norm.

    Called with images [b, h, w, c]; returns features [b, rows, columns, d] of the last stage's width d. Neither
    `num_classes` nor `pooling` of the configuration is read.
    """

    config: VisionConfig
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: Array, mask: None = None, *, deterministic: bool = True):
        """Computes the features.

        Raises:
            ValueError: as `ResonanceVisionNet`.
        """
        return self._features(inputs, mask, deterministic)

    def _features(self, inputs, mask, deterministic: bool):
        """Declares everything but a head, in the compact method of this class or of one with a head."""
        config = self.config
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        inputs = jnp.asarray(inputs)
        _check_images(inputs, mask, config)
        x = self._stem(inputs, dtypes)
        x = Dropout(config.dropout)(x, deterministic=deterministic)
        reference = _tokens(config.image_shape, config)
        width = config.hidden_dim
        for stage, blocks in enumerate(config.stages):
            if stage:
                width = 2 * width
                reference = -(-reference[0] // 2), -(-reference[1] // 2)
                x = self._reduce(x, width, f"reduce_{stage}", dtypes)
            for block in range(blocks):
                x = ResonanceBlock2D(
                    width,
                    config.num_frequencies,
                    reference_shape=reference if config.frequencies == "per_pixel" else None,
                    use_interference=config.interference,
                    local=config.local,
                    mlp_dim=config.mlp_ratio * width,
                    dropout=config.dropout,
                    name=f"stage_{stage}_block_{block}",
                    **dtypes,
                )(x, deterministic=deterministic)
        return nn.LayerNorm(name="norm", **dtypes)(x)

    def _stem(self, inputs, dtypes):
        """Overlapping patches, all pixels in one, and their positions."""
        config = self.config
        size, stride = config.patch_size, config.patch_stride
        padding = [
            (0, (tokens - 1) * stride + size - length)
            for tokens, length in zip(
                _tokens(inputs.shape[1:3], config), inputs.shape[1:3], strict=True
            )
        ]
        conv = nn.Conv(
            config.hidden_dim, (size, size), (stride, stride), padding, name="stem", **dtypes
        )
        x = conv(inputs)
        if config.position == "none":
            return x
        shape = (*_tokens(config.image_shape, config), config.hidden_dim)
        start = nn.initializers.normal(0.02)
        position = self.param("position", start, shape, self.param_dtype)
        if shape != x.shape[1:]:
            position = jax.image.resize(position, x.shape[1:], "linear")
        return x + jnp.asarray(position, x.dtype)

    def _reduce(self, x, width: int, name: str, dtypes):
        """Half the height and width, by a convolution of 2 × 2."""
        padding = [(0, side % 2) for side in x.shape[1:3]]
        x = nn.LayerNorm(name=f"{name}_norm", **dtypes)(x)
        return nn.Conv(width, (2, 2), (2, 2), padding, name=name, **dtypes)(x)


class ResonanceVisionNet(VisionEncoder):
    """A `VisionEncoder`, pooled, with a head.

    Called with images [b, h, w, c]; returns logits [b, num_classes]. It knows where things are: with positions, and
    filters that are no mirror images of themselves, rolled or turned images give something else.

    >>> import jax, jax.numpy as jnp
    >>> config = VisionConfig(num_classes=10, hidden_dim=8, stages=(1, 1))
    >>> model = ResonanceVisionNet(config)
    >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    >>> jax.jit(model.apply)(variables, jnp.zeros((3, 36, 36, 1))).shape
    (3, 10)
    """

    @nn.compact
    def __call__(self, inputs: Array, mask: None = None, *, deterministic: bool = True):
        """Computes the logits.

        Raises:
            ValueError: if the inputs are no real images of the configuration's channels, at least of a patch's size, or
                there is a mask.
        """
        config = self.config
        x = self._features(inputs, mask, deterministic)
        x = pool(x.reshape(x.shape[0], -1, x.shape[-1]), None, config.pooling)
        x = Dropout(config.dropout)(x, deterministic=deterministic)
        return nn.Dense(config.num_classes, name="head", dtype=self.param_dtype)(x)


def _tokens(shape, config: VisionConfig) -> tuple[int, int]:
    """Tokens along height and width: as many as reach every pixel."""
    rows, columns = (
        1 + max(0, -(-(side - config.patch_size) // config.patch_stride)) for side in shape
    )
    return rows, columns


def _check_images(inputs, mask, config: VisionConfig) -> None:
    if inputs.ndim != 4 or not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(
            f"inputs must be real images [b, h, w, c], got {inputs.dtype} {inputs.shape}; scale bytes to about 0 ± 1."
        )
    if inputs.shape[-1] != config.input_channels:
        raise ValueError(
            f"expected {config.input_channels} channels (the last axis), got inputs {inputs.shape}."
        )
    if min(inputs.shape[1:3]) < config.patch_size or not inputs.shape[0]:
        raise ValueError(
            f"images must have at least patch_size = {config.patch_size} pixels a side, got inputs {inputs.shape}."
        )
    if mask is not None:
        raise ValueError("images take no mask: fill hidden pixels with 0.")
