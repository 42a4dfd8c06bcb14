"""MultimodalResonanceNet: images, sound and text, any of them, in one space of unit vectors.

outputs = model.apply(variables, vision=images, text=ids, text_mask=mask)     # fused [b, e], and one of each sense
query = model.apply(variables, text=ids, text_mask=mask, method="encode")     # one sense alone, for retrieval
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from resonance_jax.array_typing import Array
from resonance_jax.layers.dropout import Dropout
from resonance_jax.layers.fusion import CrossModalResonance
from resonance_jax.models._multimodal import (
    MODALITIES,
    TOWERS,
    Tokens,
    check_inputs,
    one_form,
    with_absent,
)
from resonance_jax.models.sequence_model import POOLINGS, pool
from resonance_jax.ops import hologram
from resonance_jax.ops._checks import check_choice
from resonance_jax.ops._vectors import norm

FUSIONS = ("resonance", "binding", "mean")


@dataclasses.dataclass(frozen=True)
class MultimodalConfig:
    """The shape of a `MultimodalResonanceNet`."""

    text_vocab_size: int = 500_000
    """Ids of the text."""
    vision_input_size: tuple[int, int] = (224, 224)
    """Height and width of the images that it is made for; it takes others."""
    hidden_dim: int = 64
    """Width of the tokens of every sense; the first stage of images is narrower by 2 for each further one."""
    num_layers: int = 2
    """Resonance blocks of sound and of text."""
    embedding_dim: int = 128
    """Size e of the unit vectors."""
    modalities: tuple[str, ...] = MODALITIES
    """The senses that it has encoders for."""
    fusion: str = "resonance"
    """"resonance" (spectra modulate each other), "binding" (a bundle of vectors bound to roles) or "mean"."""
    num_classes: int = 0
    """Classes of a head on the fused vector; 0 is no head."""
    text_num_frequent: int = 16_384
    """Ids with rows of their own (see `HierarchicalEmbedding`: ids are ranks by frequency); 0 is a table of all."""
    text_reference: int = 64
    """Tokens of the text whose lowest frequencies the blocks take."""
    input_channels: int = 3
    """Channels of an image."""
    vision_stages: tuple[int, ...] = (1, 1)
    """Blocks of each stage of images."""
    patch_size: int = 8
    """Pixels a side of a patch."""
    patch_stride: int = 8
    """Pixels between patches, at most patch_size."""
    vision_frequencies: int = 7
    """Waves along either axis of an image."""
    sample_rate: int = 16_000
    """Of the sound, in Hz."""
    audio_features: int = 64
    """Resonators."""
    audio_stride: int = 160
    """Samples of a frame."""
    audio_reads: int = 2
    """Readings of the resonators in a frame, a divisor of audio_stride."""
    audio_reference: int = 128
    """Frames of the sound whose lowest frequencies the blocks take."""
    num_frequencies: int = 16
    """Frequencies of each block of sound and text."""
    fusion_frequencies: int = 8
    """Cycles 0 … k − 1 at which senses modulate each other."""
    mlp_ratio: int = 2
    """Hidden width of each block's MLP over its width; 0 leaves it out."""
    pooling: str = "mean_max"
    """"mean", "max" or both, over the tokens of a sense; the mean hears modulations of the mean alone."""
    temperature: float = 0.07
    """Of the contrastive loss at the start; its logarithm is learned."""
    dropout: float = 0.1
    """Rate inside blocks, on modulations and before the head."""

    def __post_init__(self):
        """Checks each field; the encoders' modules check theirs."""
        for name in (
            "text_vocab_size", "hidden_dim", "num_layers", "embedding_dim", "text_reference", "sample_rate",
            "audio_features", "audio_stride", "audio_reads", "audio_reference", "num_frequencies", "fusion_frequencies",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("num_classes", "text_num_frequent", "mlp_ratio"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities must be different ones, got {self.modalities}.")
        for name in self.modalities:
            check_choice("modality", name, MODALITIES)
        check_choice("fusion", self.fusion, FUSIONS)
        check_choice("pooling", self.pooling, POOLINGS)
        if self.hidden_dim % 2 ** max(len(self.vision_stages) - 1, 0):
            raise ValueError(
                f"hidden_dim = {self.hidden_dim} must be a multiple of 2 for each stage of vision_stages = "
                f"{self.vision_stages} after the first."
            )
        if self.text_num_frequent >= self.text_vocab_size:
            raise ValueError(
                f"text_num_frequent must be below text_vocab_size = {self.text_vocab_size}, got "
                f"{self.text_num_frequent}; 0 is a table of all ids."
            )
        if not 0 < self.temperature or not 0 <= self.dropout < 1:
            raise ValueError(
                f"expected temperature > 0 and dropout in [0, 1), got {self.temperature} and {self.dropout}."
            )


class MultimodalOutputs(NamedTuple):
    """What a `MultimodalResonanceNet` returns; rows are 0 where nothing of what a vector is made of is there."""

    fused: Array
    """Unit vectors [b, e] of all senses that a row has."""
    embeddings: dict[str, Array]
    """Unit vectors [b, e] of each sense alone and, of three senses (not "binding"), of two fused: "audio+text". Of two
    senses there is none that is fused: a loss of these alone, as the contrastive one is, does not train the fusion."""
    present: dict[str, Array]
    """bool [b], which rows have what the vector of a name is made of."""
    log_temperature: Array
    """Of the contrastive loss, []."""
    logits: Array | None
    """[b, num_classes] of the fused vector; None without a head."""


class MultimodalResonanceNet(nn.Module):
    """Encoders of images, sound and text, their fusion and unit vectors.

    With tokens x_m of each sense m, e_m = unit(P_m pool(x_m)) the vector of the sense alone, and senses m, s that are
    there, the fused vector is unit(Σ_m f_m) with

        "resonance"  f_m = unit(P_m pool(x_m + Σ_{s≠m} r_ms)),  r_ms the modulation of m by s (`CrossModalResonance`)
        "binding"    f_m = bind(e_m, role_m), fixed unitary roles: `unbind(fused, role)` is similar to e_m
        "mean"       f_m = e_m

    A sense that is not given, or that a row does not have, takes no part: nothing is put in its place, and what its
    array holds in such a row changes nothing. Senses modulate what the others were before fusion, so their order does
    not matter; one sense alone is fused to its own vector (but for "binding").

    Attributes:
        config: the shape.
        dtype, param_dtype: as in `ResonanceLayer`; unit vectors are at least float32.

    >>> config = MultimodalConfig(1000, (16, 16), 8, 1, 16, text_num_frequent=100, modalities=("vision", "text"))
    >>> model = MultimodalResonanceNet(config)
    >>> image, ids = jnp.zeros((2, 16, 16, 3)), jnp.array([[4, 1, 7], [2, 9, 0]])
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), vision=image, text=ids)  # all parameters
    >>> jax.eval_shape(model.apply, variables, text=ids, text_mask=ids > 0).fused.shape
    (2, 16)
    """

    config: MultimodalConfig
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        """Declares encoders, fusions, projections and the head."""
        config, names = self.config, self.config.modalities
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.encoders = {name: self.make_encoder(name, dtypes) for name in names}
        # In the parameters' precision: a softmax of bfloat16 scores loses small differences.
        wide: dict[str, Any] = dict(dtype=self.param_dtype, param_dtype=self.param_dtype)
        self.projections = {name: nn.Dense(config.embedding_dim, **wide) for name in names}
        if config.fusion == "resonance":
            k = config.fusion_frequencies
            self.fusions = {
                f"{target}_by_{source}": CrossModalResonance(
                    config.hidden_dim, k, dropout=config.dropout, residual=False, **dtypes
                )
                for target in names
                for source in names
                if source != target
            }
        start = nn.initializers.constant(math.log(config.temperature))
        self.log_temperature = self.param("log_temperature", start, (), self.param_dtype)
        if config.num_classes:
            self.dropout = Dropout(config.dropout)
            self.head = nn.Dense(config.num_classes, **wide)

    def make_encoder(self, name: str, dtypes: dict[str, Any]) -> nn.Module:
        """Returns the encoder of a sense, called as encoder(array, mask, deterministic=…), to `Tokens`."""
        return TOWERS[name](self.config, **dtypes)

    def __call__(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        vision: Array | None = None,
        audio: Array | None = None,
        text: Array | None = None,
        audio_mask: Array | None = None,
        text_mask: Array | None = None,
        present: Mapping[str, Array] | None = None,
        deterministic: bool = True,
    ) -> MultimodalOutputs:
        """Embeds the senses that are given, each alone and together.

        Args:
            inputs: all arguments below in a dict, as a batch's "inputs" has them; or None.
            vision: real images [b, h, w, c].
            audio: sound [b, t] at `sample_rate`, at least a frame.
            text: ids [b, t].
            audio_mask, text_mask: bool [b, t], True = observed.
            present: of senses that are given, bool [b]: which rows have them; a mask without any step says it too.
            deterministic: no dropout.
        Raises:
            ValueError: if no sense is given or an unknown one, shapes or dtypes do not fit, or inputs are given twice.
        """
        given: dict[str, Any] = dict(
            vision=vision, audio=audio, text=text, audio_mask=audio_mask, text_mask=text_mask,
            present=present,
        )  # fmt: skip
        given = one_form(inputs, given)
        senses, masks = check_inputs(given, self.config)
        if self.is_initializing():
            senses, masks = with_absent(senses, masks, self.config)
        tokens = {
            name: self.encoders[name](array, masks[name], deterministic=deterministic)
            for name, array in senses.items()
        }
        there = {name: jnp.any(each.mask, axis=1) for name, each in tokens.items()}
        vectors = {name: self._embed(name, each) for name, each in tokens.items()}
        changes = self._modulations(tokens, deterministic)
        fused = self._fuse(tokens, vectors, changes)
        embeddings: dict[str, Any] = dict(vectors)
        known: dict[str, Any] = dict(there)
        if len(tokens) > 2 and self.config.fusion != "binding":
            for left_out in tokens:
                kept = sorted(set(tokens) - {left_out})
                name = "+".join(kept)
                some = {sense: tokens[sense] for sense in kept}
                own = {sense: vectors[sense] for sense in kept}
                embeddings[name] = self._fuse(some, own, changes)
                known[name] = there[kept[0]] | there[kept[1]]
        logits = None
        if self.config.num_classes:
            logits = self.head(self.dropout(fused, deterministic=deterministic))
        return MultimodalOutputs(fused, embeddings, known, self.log_temperature, logits)

    def encode(self, inputs: Mapping[str, Any] | None = None, **given: Any) -> Array:
        """Returns the unit vectors [b, e] of one sense, without any fusion: arguments as of a call, one sense alone.

        Raises:
            ValueError: as a call, and if more than one sense is given.
        """
        senses, masks = check_inputs(one_form(inputs, given), self.config)
        if len(senses) > 1:
            raise ValueError(f"encode takes one sense, got {', '.join(senses)}; call the model.")
        ((name, array),) = senses.items()
        return self._embed(name, self.encoders[name](array, masks[name]))

    def _embed(self, name: str, tokens: Tokens):
        """e_m, 0 in rows without the sense."""
        pooled = pool(tokens.values, tokens.mask, self.config.pooling)
        vector = _unit(self.projections[name](pooled))
        return jnp.where(jnp.any(tokens.mask, axis=1)[:, None], vector, 0)

    def _modulations(self, tokens: dict[str, Tokens], deterministic: bool):
        """r_ms of each two senses, for fusion="resonance"; else none."""
        if self.config.fusion != "resonance":
            return {}
        return {
            (target, source): self.fusions[f"{target}_by_{source}"](
                x, other.values, mask, other.mask, deterministic=deterministic
            )
            for target, (x, mask) in tokens.items()
            for source, other in tokens.items()
            if source != target
        }

    def _fuse(self, tokens: dict[str, Tokens], vectors: dict[str, Any], changes: dict[Any, Any]):
        """Fuses the senses of `tokens`; `vectors` are their e_m, `changes` the r_ms."""
        if self.config.fusion == "binding":
            keys = roles(self.config)
            bound = [hologram.bind(e, keys[name]) for name, e in vectors.items()]
            return _unit(hologram.bundle(jnp.stack(bound)))
        if self.config.fusion == "mean":
            return _unit(sum(vectors.values()))
        total: Any = 0
        for target, (x, mask) in tokens.items():
            y = x + sum(changes[target, source] for source in tokens if source != target)
            total = total + self._embed(target, Tokens(y, mask))
        return _unit(total)


def roles(config: MultimodalConfig) -> dict[str, Array]:
    """Returns the fixed role of each sense for fusion="binding": unitary keys [e], equal in all models of this size.

    >>> config = MultimodalConfig(embedding_dim=16)
    >>> sorted(roles(config)), roles(config)["text"].shape
    (['audio', 'text', 'vision'], (16,))
    """
    keys = hologram.unitary_key(jax.random.key(0), (len(MODALITIES), config.embedding_dim))
    return dict(zip(MODALITIES, keys, strict=True))


def _unit(x):
    length = norm(x)[..., None]
    return x / jnp.where(length > 0, length, 1)
