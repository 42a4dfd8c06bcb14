"""Models with another mixer: Transformers (attention), FNet (plain Fourier mixing); and every model by name."""

import dataclasses
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resonance_jax.layers.block import MixerBlock
from resonance_jax.models.audio import AudioConfig, LogMelAudioConfig, ResonanceAudioNet
from resonance_jax.models.causal_net import CausalNet, CausalNetConfig, LRUNetConfig
from resonance_jax.models.convolutional import ConvolutionalAudioConfig, ConvolutionalAudioNet
from resonance_jax.models.dlinear import DLinear, DLinearConfig
from resonance_jax.models.long_context import LongContextConfig, LongContextResonanceNet
from resonance_jax.models.quaternion_net import QRHNet, QRHNetConfig
from resonance_jax.models.resonance_net import ResonanceNet, ResonanceNetConfig
from resonance_jax.models.sequence_model import SequenceConfig, SequenceModel
from resonance_jax.models.time_series import ResonanceTimeSeriesNet, TimeSeriesConfig
from resonance_jax.models.vision import ResonanceVisionNet, VisionConfig


@dataclasses.dataclass(frozen=True)
class TransformerConfig(SequenceConfig):
    """A `SequenceConfig` with attention heads."""

    num_heads: int = 4
    """Heads; a divisor of hidden_dim."""
    queries_at_once: int = 0
    """Queries whose scores are made at a time, and made again for the gradient: memory ∝ n, not n²; 0 is all."""

    def __post_init__(self):
        """Checks each field."""
        super().__post_init__()
        if self.queries_at_once < 0:
            raise ValueError(f"queries_at_once must not be negative, got {self.queries_at_once}.")
        if self.num_heads < 1 or self.hidden_dim % self.num_heads:
            raise ValueError(
                f"num_heads = {self.num_heads} must divide hidden_dim = {self.hidden_dim}."
            )


@dataclasses.dataclass(frozen=True)
class FNetConfig(SequenceConfig):
    """A `SequenceConfig`: FNet's mixer has no parameters."""


class SelfAttention(nn.Module):
    """Softmax self-attention [b, t, d] → [b, t, d] as a mixer (Vaswani et al., arXiv:1706.03762).

    With queries_at_once, the scores of some queries at a time (Rabe and Staats, arXiv:2112.05682, without the loop over
    keys); it has no dropout then.
    """

    num_heads: int
    queries_at_once: int = 0
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, mask=None, *, deterministic: bool = True):
        """Attends to the observed steps."""
        attention = nn.MultiHeadDotProductAttention(
            self.num_heads,
            dropout_rate=self.dropout,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            attention_fn=partial(_attend, size=self.queries_at_once)
            if self.queries_at_once
            else nn.dot_product_attention,
            name="attention",
        )
        pairs = None if mask is None else mask[:, None, None, :]
        return attention(x, mask=pairs, deterministic=deterministic)


def _attend(query, key, value, *, mask=None, size: int, **_):
    """softmax(q k / √e) v for queries [b, t, h, e], `size` at a time."""
    batch, length, *rest = query.shape
    missing = -length % size
    q = jnp.pad(query / query.shape[-1] ** 0.5, [(0, 0), (0, missing), (0, 0), (0, 0)])
    q = jnp.swapaxes(q.reshape(batch, -1, size, *rest), 0, 1)

    @jax.checkpoint
    def rows(q):
        scores = jnp.einsum("bqhe,bkhe->bhqk", q, key)
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        return jnp.einsum("bhqk,bkhe->bqhe", jax.nn.softmax(scores), value)

    y = jnp.swapaxes(jax.lax.map(rows, q), 0, 1)
    return y.reshape(batch, -1, *rest)[:, :length]


class FourierMixing(nn.Module):
    """y = Re F_t F_d x, the orthonormal DFT over time and features (FNet: Lee-Thorp et al., arXiv:2105.03824).

    The paper's transform is unnormalised and sits in a post-norm block; before a residual sum in a pre-norm block the
    orthonormal one keeps the variance of x.
    """

    @nn.compact
    def __call__(self, x, mask=None, *, deterministic: bool = True):
        """Mixes the observed steps, hidden ones read as 0."""
        signal = jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
        if mask is not None:
            signal = jnp.where(mask[..., None], signal, 0)
        return jnp.fft.fft2(signal, axes=(-2, -1), norm="ortho").real.astype(x.dtype)


class Transformer(SequenceModel):
    """A `SequenceModel` whose mixer is softmax attention."""

    config: TransformerConfig

    def make_mixer(self) -> nn.Module:
        """Returns `SelfAttention`."""
        config = self.config
        return SelfAttention(
            config.num_heads,
            config.queries_at_once,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )


class FNet(SequenceModel):
    """A `SequenceModel` whose mixer is `FourierMixing`."""

    config: FNetConfig

    def make_mixer(self) -> nn.Module:
        """Returns `FourierMixing`."""
        return FourierMixing()


@dataclasses.dataclass(frozen=True)
class PatchTransformerConfig(TimeSeriesConfig):
    """A `TimeSeriesConfig` with attention heads, without a path through the spectrum."""

    interpolation: str = "none"
    """As in `TimeSeriesConfig`."""
    num_heads: int = 4
    """Heads; a divisor of hidden_dim."""

    def __post_init__(self):
        """Checks each field."""
        super().__post_init__()
        if self.num_heads < 1 or self.hidden_dim % self.num_heads:
            raise ValueError(
                f"num_heads = {self.num_heads} must divide hidden_dim = {self.hidden_dim}."
            )


class PatchTransformer(ResonanceTimeSeriesNet):
    """A `ResonanceTimeSeriesNet` whose blocks are those of a Transformer (Nie et al., PatchTST, arXiv:2211.14730).

    >>> import jax, jax.numpy as jnp
    >>> config = PatchTransformerConfig(pred_horizon=12, context_length=48, num_layers=1, hidden_dim=8)
    >>> model = PatchTransformer(config)
    >>> jax.eval_shape(model.init_with_output, jax.random.key(0), jnp.zeros((5, 48, 1)))[0].shape
    (5, 12, 1)
    """

    config: PatchTransformerConfig

    def make_block(self, name: str) -> nn.Module:
        """Returns a `MixerBlock` around `SelfAttention`."""
        config = self.config
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        mixer = SelfAttention(config.num_heads, dropout=config.dropout, **dtypes)
        return MixerBlock(mixer, config.mlp_dim, dropout=config.dropout, name=name, **dtypes)


MODELS: dict[str, tuple[type[Any], type[Any]]] = {
    "resonance": (ResonanceNetConfig, ResonanceNet),
    "transformer": (TransformerConfig, Transformer),
    "fnet": (FNetConfig, FNet),
    "qrh": (QRHNetConfig, QRHNet),
    "long_context": (LongContextConfig, LongContextResonanceNet),
    "causal": (CausalNetConfig, CausalNet),
    "lru": (LRUNetConfig, CausalNet),
    "vision": (VisionConfig, ResonanceVisionNet),
    "time_series": (TimeSeriesConfig, ResonanceTimeSeriesNet),
    "patch_transformer": (PatchTransformerConfig, PatchTransformer),
    "dlinear": (DLinearConfig, DLinear),
    "audio": (AudioConfig, ResonanceAudioNet),
    "audio_log_mel": (LogMelAudioConfig, ResonanceAudioNet),
    "audio_conv": (ConvolutionalAudioConfig, ConvolutionalAudioNet),
}


def make_model(config: Any, **dtypes: Any) -> Any:
    """Returns the module that a configuration belongs to.

    Args:
        config: of one of the types in `MODELS`.
        **dtypes: `dtype` and `param_dtype` of the module.
    Raises:
        ValueError: if the configuration is of another type.
    """
    return MODELS[model_name(config)][1](config, **dtypes)


def model_name(config: Any) -> str:
    """Returns the key of `MODELS`, such as "resonance".

    Raises:
        ValueError: if the configuration is of another type.
    """
    for name, (config_type, _) in MODELS.items():
        if type(config) is config_type:
            return name
    expected = ", ".join(config_type.__name__ for config_type, _ in MODELS.values())
    raise ValueError(f"no model for a {type(config).__name__}; expected one of {expected}.")
