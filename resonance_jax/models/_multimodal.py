"""Inputs and encoders of `models.multimodal`: each sense becomes tokens of one width, with a mask."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from resonance_jax.array_typing import Array
from resonance_jax.layers.audio import ResonatorFilterBank
from resonance_jax.layers.block import MixerBlock
from resonance_jax.layers.dropout import Dropout
from resonance_jax.layers.embedding import HierarchicalEmbedding
from resonance_jax.layers.resonance import ResonanceLayer
from resonance_jax.models.vision import VisionConfig, VisionEncoder

MODALITIES = ("vision", "audio", "text")
_AXES = {"vision": "[b, h, w, c]", "audio": "[b, t]", "text": "[b, t]"}
_RANKS = {"vision": 4, "audio": 2, "text": 2}


class Tokens(NamedTuple):
    """What an encoder makes of a sense: values [b, t, d], and a mask bool [b, t], all False in rows without it."""

    values: Array
    mask: Array


class Blocks(nn.Module):
    """Gated resonance blocks on tokens of any number, blind to padding: frequencies are in cycles per token.

    Attributes:
        config: a `MultimodalConfig`.
        reference_length: tokens of the sequence whose lowest frequencies are taken.
        dtype, param_dtype: as in `ResonanceLayer`.
    """

    config: Any
    reference_length: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Tokens, *, deterministic: bool = True) -> Tokens:
        """Maps tokens to as many."""
        config, (x, mask) = self.config, tokens
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        for layer in range(config.num_layers):
            resonance = ResonanceLayer(
                config.hidden_dim,
                min(config.num_frequencies, self.reference_length // 2 + 1),
                reference_length=self.reference_length,
                post_norm=False,
                name=f"resonance_{layer}",
                **dtypes,
            )
            x = MixerBlock(
                resonance,
                config.mlp_ratio * config.hidden_dim,
                gate=True,
                dropout=config.dropout,
                name=f"layer_{layer}",
                **dtypes,
            )(x, mask, deterministic=deterministic)
        return Tokens(nn.LayerNorm(name="norm", **dtypes)(x), mask)


class VisionTower(nn.Module):
    """Images [b, h, w, c] to the tokens of `VisionEncoder`, row by row of the image."""

    config: Any
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: Array, mask: Array, *, deterministic: bool = True) -> Tokens:
        """Maps images and who has one, bool [b], to tokens."""
        config = self.config
        vision = VisionConfig(
            num_classes=1,  # not read by the encoder
            input_channels=config.input_channels,
            image_shape=config.vision_input_size,
            hidden_dim=config.hidden_dim // 2 ** (len(config.vision_stages) - 1),
            stages=config.vision_stages,
            patch_size=config.patch_size,
            patch_stride=config.patch_stride,
            num_frequencies=config.vision_frequencies,
            mlp_ratio=config.mlp_ratio,
            dropout=config.dropout,
        )
        encoder = VisionEncoder(vision, self.dtype, self.param_dtype, name="encoder")
        x = encoder(jnp.where(mask[:, None, None, None], images, 0), deterministic=deterministic)
        x = x.reshape(len(x), -1, config.hidden_dim)
        return Tokens(x, jnp.broadcast_to(mask[:, None], x.shape[:2]))


class AudioTower(nn.Module):
    """Sound [b, t] to frames of a learned resonator filter bank, to blocks."""

    config: Any
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, sound: Array, mask: Array, *, deterministic: bool = True) -> Tokens:
        """Maps sound and its mask bool [b, t] to tokens."""
        config = self.config
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        bank = ResonatorFilterBank(
            config.audio_features,
            config.sample_rate,
            config.audio_stride,
            reads=config.audio_reads,
            name="bank",
            **dtypes,
        )
        frames = bank(jnp.where(mask, sound, 0), mask)
        heard = jnp.arange(frames.values.shape[1]) < frames.lengths[:, None]
        x = nn.LayerNorm(name="frame_norm", **dtypes)(frames.values)
        x = nn.Dense(config.hidden_dim, name="stem", **dtypes)(x)
        blocks = Blocks(config, config.audio_reference, name="blocks", **dtypes)
        return blocks(Tokens(x, heard), deterministic=deterministic)


class TextTower(nn.Module):
    """Ids [b, t] to vectors, by a table or by two levels of codes, to blocks."""

    config: Any
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, ids: Array, mask: Array, *, deterministic: bool = True) -> Tokens:
        """Maps ids and their mask bool [b, t] to tokens."""
        config = self.config
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        size = config.text_vocab_size, config.hidden_dim
        if config.text_num_frequent:
            levels = (*size, config.text_num_frequent)
            table: nn.Module = HierarchicalEmbedding(*levels, name="table", **dtypes)
        else:
            table = nn.Embed(*size, name="table", **dtypes)
        x = table(jnp.where(mask, ids, 0))
        x = Dropout(config.dropout)(x, deterministic=deterministic)
        blocks = Blocks(config, config.text_reference, name="blocks", **dtypes)
        return blocks(Tokens(x, mask), deterministic=deterministic)


TOWERS = {"vision": VisionTower, "audio": AudioTower, "text": TextTower}


def one_form(inputs, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments as keywords, those that are not None."""
    given = {name: value for name, value in given.items() if value is not None}
    if inputs is None:
        return given
    if given:
        raise ValueError(f"give all inputs in a dict or none, got a dict and {', '.join(given)}.")
    return {name: value for name, value in inputs.items() if value is not None}


def check_inputs(given: Mapping[str, Any], config: Any):
    """The senses by name, in the order of `MODALITIES`, and of each what is there: [b, t], of images [b]."""
    known = {*MODALITIES, "audio_mask", "text_mask", "present"}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"unknown input {unknown[0]!r}; choose of {', '.join(sorted(known))}.")
    senses = {name: jnp.asarray(given[name]) for name in MODALITIES if name in given}
    if not senses:
        raise ValueError(f"give at least one of {', '.join(config.modalities)}, got none.")
    if absent := sorted(set(senses) - set(config.modalities)):
        raise ValueError(f"the model has no encoder for {absent[0]!r}: name it in modalities.")
    rows = {len(array) if array.ndim else 0 for array in senses.values()}
    if len(rows) > 1 or rows == {0}:
        shapes = {name: array.shape for name, array in senses.items()}
        raise ValueError(f"senses must have the same number of rows, at least 1, got {shapes}.")
    for name, array in senses.items():
        kind = jnp.integer if name == "text" else jnp.floating
        if array.ndim != _RANKS[name] or not jnp.issubdtype(array.dtype, kind) or 0 in array.shape:
            what = "integer ids" if name == "text" else "real"
            raise ValueError(
                f"{name} must be {what} {_AXES[name]}, not empty, got {array.dtype} {array.shape}."
            )
    present = dict(given.get("present", {}))
    for name in [*present, *(n.removesuffix("_mask") for n in given if n.endswith("_mask"))]:
        if name not in senses:
            raise ValueError(f"a mask or presence of {name!r} was given without {name!r} itself.")
    return senses, {name: _mask(name, array, given, present) for name, array in senses.items()}


def _mask(name: str, array, given: Mapping[str, Any], present: Mapping[str, Any]):
    shape = array.shape[: 1 if name == "vision" else 2]
    mask = _checked(f"{name}_mask", given.get(f"{name}_mask"), shape)
    rows = _checked(f"present[{name!r}]", present.get(name), shape[:1])
    return mask & (rows if name == "vision" else rows[:, None])


def _checked(name: str, given, shape: tuple[int, ...]):
    if given is None:
        return jnp.ones(shape, bool)
    given = jnp.asarray(given)  # not static: a row may be hidden as a whole
    if given.dtype != bool or given.shape != shape:
        raise ValueError(
            f"{name} must be boolean (True = there) {shape}, got {given.dtype} {given.shape}."
        )
    return given


def with_absent(senses, masks, config: Any):
    """Adds senses that no row has: all parameters are made, whatever the model is initialised with."""
    rows = len(next(iter(senses.values())))
    shapes = {
        "vision": (rows, *config.vision_input_size, config.input_channels),
        "audio": (rows, config.audio_stride),
        "text": (rows, 1),
    }
    added = {name: shapes[name] for name in config.modalities if name not in senses}
    kinds = {"text": jnp.int32}
    senses |= {name: jnp.zeros(s, kinds.get(name, jnp.float32)) for name, s in added.items()}
    hidden = {name: jnp.zeros(s[: 1 if name == "vision" else 2], bool) for name, s in added.items()}
    return senses, masks | hidden
