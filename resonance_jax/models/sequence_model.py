"""What every sequence model shares: stem, positions, blocks, pooling, head. A model adds its mixer."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import Array
from resonance_jax.layers.block import MixerBlock
from resonance_jax.layers.dropout import Dropout
from resonance_jax.ops._checks import check_mask, check_rate

HEADS = ("classify", "per_token", "regress")
POOLINGS = ("mean", "max", "mean_max")
POSITIONS = ("none", "sinusoidal", "learned")
STACKED = "layers"
"""Name of the blocks of a model with scan_layers: an axis of layers goes before those of each parameter."""


@dataclasses.dataclass(frozen=True)
class SequenceConfig:
    """The shape of a model, whatever its mixer."""

    input_dim: int
    """Channels c of an input [b, t, c] or [b, h, w, c]; unused with vocab_size, where the inputs are ids [b, t]."""
    output_dim: int
    """Classes, or values to regress."""
    hidden_dim: int = 64
    """Width d of the blocks."""
    num_layers: int = 3
    """Blocks."""
    mlp_dim: int = 128
    """Hidden width of each block's MLP; 0 leaves it out."""
    dropout: float = 0.1
    """Rate inside blocks and before the head."""
    head: str = "classify"
    """"classify" or "regress" (pooled, [b, output_dim]), or "per_token" ([b, t, output_dim])."""
    pooling: str = "mean"
    """"mean", "max" or both, over observed steps."""
    position: str = "none"
    """"none", "sinusoidal", or "learned" (interpolated at other lengths)."""
    patch_size: int = 1
    """Steps (or pixels a side) in one token."""
    patch_stride: int = 0
    """Steps between the starts of two patches, at most patch_size; 0 is patch_size (no overlap)."""
    vocab_size: int = 0
    """Ids of an embedding; 0 takes real inputs."""
    scan_layers: bool = False
    """Loop over the blocks, their parameters stacked as "layers" [num_layers, …] (see `stack_layers`): one block is
    compiled, however many there are."""
    rematerialize_blocks: bool = False
    """Keep the inputs of blocks alone for the gradient, and compute the rest again. Without scan_layers XLA's scheduler
    for CPUs may do that for all blocks at once, and save nothing."""

    def __post_init__(self):
        """Checks each field."""
        for name in ("input_dim", "output_dim", "hidden_dim", "num_layers", "patch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("mlp_dim", "patch_stride", "vocab_size"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        check_rate("dropout", self.dropout)
        for name, choices in (("head", HEADS), ("pooling", POOLINGS), ("position", POSITIONS)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(choices)}."
                )
        if self.patch_stride > self.patch_size:
            raise ValueError(
                f"patch_stride = {self.patch_stride} would skip samples between patches of "
                f"patch_size = {self.patch_size}; it must not be larger."
            )
        if self.vocab_size and self.patch_size > 1:
            raise ValueError(
                "patches of token ids make no sense; use patch_size=1 with vocab_size."
            )
        if self.head == "per_token" and self.patch_size > 1:
            raise ValueError("head='per_token' needs one token per step; use patch_size=1.")


def stack_layers(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Stacks the layers of a model without scan_layers for the same model with it.

    Args:
        variables: a collection, such as `variables["params"]`: {"layer_0": …, "layer_1": …, …}, and other entries.
    Returns:
        {"layers": leaves [num_layers, …], …} and the other entries as they are.
    Raises:
        ValueError: if there is no "layer_0".

    >>> stack_layers({"layer_0": {"bias": np.zeros(2)}, "layer_1": {"bias": np.ones(2)}})["layers"]["bias"].shape
    (2, 2)
    """
    names = [name for name in map("layer_{}".format, range(len(variables))) if name in variables]
    if not names:
        raise ValueError(f"expected layer_0, layer_1, … among {', '.join(variables)}.")
    layers = [variables[name] for name in names]
    rest = {name: tree for name, tree in variables.items() if name not in names}
    return {**rest, STACKED: jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)}


def unstack_layers(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes `stack_layers`; what is not stacked stays as it is.

    >>> sorted(unstack_layers({"layers": {"bias": np.zeros((2, 3))}, "head": {}}))
    ['head', 'layer_0', 'layer_1']
    """
    rest = {name: tree for name, tree in variables.items() if name != STACKED}
    stacked = variables.get(STACKED, {})
    count = len(jax.tree.leaves(stacked)[0]) if stacked else 0
    parts = {f"layer_{i}": jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)}
    return {**rest, **parts}


class SequenceModel(nn.Module):
    """Stem → num_layers blocks → LayerNorm → (pool) → head. Subclasses say what the mixer is.

    Called with inputs [b, t, c], images [b, h, w, c] or ids [b, t], and a mask bool [b, t] (True = observed); returns
    [b, output_dim], or [b, t, output_dim] with head="per_token". A token that covers several steps is observed if any
    of them is.

    With axis_name, in shard_map or pmap, the inputs are one of equal parts of each sequence along that axis, in their
    order (of an image, of its rows); pooled outputs are then the same in every part. Parameters are those of the model
    without it, for a learned position initialised with a whole sequence. Dropout needs a key of its own in each part:
    fold in the part's index.
    """

    config: Any
    dtype: Any = None
    param_dtype: Any = jnp.float32
    axis_name: str | None = None

    def make_block(self, name: str) -> nn.Module:
        """Returns one block, called as block(x, mask, deterministic=…); the default wraps `make_mixer`."""
        if self.axis_name is not None:
            raise ValueError(
                f"{type(self).__name__} does not take a sequence in parts: leave axis_name out, or use ResonanceNet or "
                "LongContextResonanceNet."
            )
        config = self.config
        return MixerBlock(
            self.make_mixer().clone(parent=None),  # the block's, in its parameters: "mixer"
            config.mlp_dim,
            dropout=config.dropout,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def make_mixer(self) -> nn.Module:
        """Returns the module that mixes along time."""
        raise TypeError("SequenceModel has no mixer; use ResonanceNet, Transformer or FNet.")

    def __call__(self, inputs: Array, mask: Array | None = None, *, deterministic: bool = True):
        """Computes the outputs.

        Raises:
            ValueError: if the inputs' rank, type, channels or mask do not fit the configuration.
        """
        return self._outputs(inputs, mask, deterministic)

    @nn.compact
    def _outputs(
        self,
        inputs,
        mask,
        deterministic: bool,
        before_head: Callable[[Any, Any], Any] = lambda x, mask: x,
    ):
        """Computes the outputs; `before_head` maps the blocks' tokens and their mask to tokens."""
        config = self.config
        axis_name = None if self.is_initializing() else self.axis_name
        if axis_name is not None:
            _check_parts(inputs, config)
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        x, mask = self._stem(inputs, mask, dtypes)
        x = self._add_position(x, axis_name)
        x = Dropout(config.dropout)(x, deterministic=deterministic)
        x = self._apply_blocks(x, mask, deterministic)
        x = before_head(x, mask)
        x = nn.LayerNorm(name="norm", **dtypes)(x)
        if config.head != "per_token":
            x = pool(x, mask, config.pooling, axis_name)
        x = Dropout(config.dropout)(x, deterministic=deterministic)
        # Logits in the parameters' precision: a softmax of bfloat16 scores loses small differences.
        return nn.Dense(config.output_dim, name="head", dtype=self.param_dtype)(x)

    def _apply_blocks(self, x, mask, deterministic: bool):
        config = self.config

        def apply(block, x, _):
            return block(x, mask, deterministic=deterministic), None

        if config.rematerialize_blocks:
            apply = nn.remat(apply, prevent_cse=not config.scan_layers)
        if not config.scan_layers:
            for layer in range(config.num_layers):
                x, _ = apply(self.make_block(f"layer_{layer}"), x, None)
            return x
        scan = nn.scan(
            apply,
            variable_axes={True: 0},
            split_rngs={"params": True, "dropout": True},
            length=config.num_layers,
        )
        return scan(self.make_block(STACKED), x, None)[0]

    def _stem(self, inputs, mask, dtypes):
        config = self.config
        inputs = jnp.asarray(inputs)
        _check_inputs(inputs, mask, config)
        if config.vocab_size:
            return nn.Embed(config.vocab_size, config.hidden_dim, name="stem", **dtypes)(
                inputs
            ), mask
        size, stride = config.patch_size, config.patch_stride or config.patch_size
        if mask is not None:
            inputs = jnp.where(mask[..., None], inputs, 0)
        axes = inputs.ndim - 2
        # "SAME"-like padding at the end, so that no sample is dropped
        padding = [_end_padding(length, size, stride) for length in inputs.shape[1:-1]]
        conv = nn.Conv(
            config.hidden_dim, (size,) * axes, (stride,) * axes, padding, name="stem", **dtypes
        )
        x = conv(inputs)
        x = x.reshape(x.shape[0], -1, x.shape[-1])  # images: rows of patches, one after another
        if mask is not None and (size, stride) != (1, 1):
            padded = jnp.pad(mask, [(0, 0), padding[0]])
            starts = stride * np.arange(x.shape[1])
            mask = jnp.any(padded[:, starts[:, None] + np.arange(size)], axis=-1)
        return x, mask

    def _add_position(self, x, axis_name: str | None = None):
        part, features = x.shape[-2:]
        length = part * _num_parts(axis_name)
        if self.config.position == "sinusoidal":
            position = jnp.asarray(sinusoidal_position(length, features), x.dtype)
        elif self.config.position == "learned":
            rows = length
            if self.has_variable("params", "position"):
                rows = self.get_variable("params", "position").shape[0]
            start = nn.initializers.normal(0.02)
            position = self.param("position", start, (rows, features), self.param_dtype)
            if rows != length:
                position = jax.image.resize(position, (length, features), "linear")
        else:
            return x
        if axis_name is not None:
            start = part * jax.lax.axis_index(axis_name)
            position = jax.lax.dynamic_slice_in_dim(position, start, part)
        return x + jnp.asarray(position, x.dtype)


def pool(x: Array, mask: Array | None, pooling: str, axis_name: str | None = None) -> Array:
    """Reduces x [b, t, d] over the observed steps to [b, d], or [b, 2d] for "mean_max"; 0 for a row without any.

    The gradient of a maximum goes to its first step alone. With axis_name over the steps of all parts of a sequence.
    """
    parts = []
    if mask is None:
        mask = jnp.ones(x.shape[:2], bool)

    def total(array):
        return array if axis_name is None else jax.lax.psum(array, axis_name)

    if "mean" in pooling:
        count = jnp.maximum(total(jnp.sum(mask, axis=1)), 1)[:, None]
        parts.append(total(jnp.sum(jnp.where(mask[..., None], x, 0), axis=1)) / count)
    if "max" in pooling:
        # Not jnp.max: its derivative divides by the number of entries equal to the maximum, and where XLA computes x
        # twice with different rounding there is none, and the gradient is NaN.
        seen = jnp.where(mask[..., None], jax.lax.stop_gradient(x), jnp.finfo(x.dtype).min)
        steps = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
        chosen = (steps == jnp.argmax(seen, axis=1)[:, None]) & mask[..., None]
        largest = jnp.sum(jnp.where(chosen, x, 0), axis=1)
        if axis_name is not None:
            of_parts = jax.lax.all_gather(jnp.max(seen, axis=1), axis_name)
            here = jnp.argmax(of_parts, axis=0) == jax.lax.axis_index(axis_name)
            largest = total(jnp.where(here, largest, 0))
        parts.append(largest)
    return jnp.concatenate(parts, axis=-1)


def sinusoidal_position(length: int, features: int) -> np.ndarray:
    """sin and cos of t / 10000^(2i/d), [length, features] (Vaswani et al., arXiv:1706.03762)."""
    rate = 10000.0 ** (-np.arange(0, features, 2) / features)
    angle = np.arange(length)[:, None] * rate
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, -1)[:, :features]


def _end_padding(length: int, size: int, stride: int) -> tuple[int, int]:
    """Zeros after the end so that patches of this size and stride cover every sample."""
    steps = max(0, -(-(length - size) // stride))
    return 0, steps * stride + size - length


def _num_parts(axis_name: str | None) -> int:
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def _check_parts(inputs, config) -> None:
    """A part of a sequence must be of whole patches that do not overlap."""
    size, length = config.patch_size, jnp.shape(inputs)[1]
    if config.patch_stride not in (0, size) or length % size:
        raise ValueError(
            f"in parts along axis_name, patches must not overlap and must divide a part's {length} steps, got "
            f"patch_size={size} and patch_stride={config.patch_stride}."
        )


def _check_inputs(inputs, mask, config) -> None:
    if config.vocab_size:
        if inputs.ndim != 2 or not jnp.issubdtype(inputs.dtype, jnp.integer):
            raise ValueError(
                f"with vocab_size the inputs must be integer ids [b, t], got {inputs.dtype} {inputs.shape}."
            )
    elif inputs.ndim not in (3, 4) or not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(
            f"inputs must be real [b, t, c] or [b, h, w, c], got {inputs.dtype} {inputs.shape}."
        )
    elif inputs.shape[-1] != config.input_dim:
        raise ValueError(f"expected {config.input_dim} input channels, got inputs {inputs.shape}.")
    if 0 in inputs.shape:
        raise ValueError(f"inputs are empty: shape {inputs.shape}.")
    if inputs.ndim == 4 and config.head == "per_token":
        raise ValueError("head='per_token' takes sequences [b, t, c], not images.")
    if mask is not None:
        if inputs.ndim == 4:
            raise ValueError("images take no mask.")
        check_mask(mask, inputs if inputs.ndim == 3 else inputs[..., None])
