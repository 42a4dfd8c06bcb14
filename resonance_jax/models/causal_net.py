"""CausalNet: a `SequenceModel` whose blocks read the past alone, by damped resonators."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from resonance_jax.array_typing import RealSequence, SequenceMask
from resonance_jax.layers.recurrence import CausalResonance
from resonance_jax.models.sequence_model import SequenceConfig, SequenceModel


@dataclasses.dataclass(frozen=True)
class CausalNetConfig(SequenceConfig):
    """A `SequenceConfig` and what `CausalResonance` needs."""

    num_heads: int = 8
    """Heads, a divisor of hidden_dim; each has poles of its own."""
    num_resonators: int = 16
    """Damped resonators of each head."""
    max_radius: float = 0.99
    """Largest |λ| at the start: about how far back, 1 / (1 − |λ|) steps, is heard from there on."""
    conv_size: int = 4
    """Taps of the convolution before the resonators; 0 leaves it out."""
    gate: bool = True
    """Multiply by a gate computed from the mixer's input."""

    def __post_init__(self):
        """Checks each field."""
        super().__post_init__()
        if self.num_heads < 1 or self.hidden_dim % self.num_heads or self.num_resonators < 1:
            raise ValueError(
                f"num_heads = {self.num_heads} must divide hidden_dim = {self.hidden_dim}, and num_resonators = "
                f"{self.num_resonators} be at least 1."
            )
        if not 0.5 < self.max_radius < 1 or self.conv_size < 0:
            raise ValueError(
                f"expected max_radius in (0.5, 1) and conv_size >= 0, got {self.max_radius} and {self.conv_size}."
            )


@dataclasses.dataclass(frozen=True)
class LRUNetConfig(CausalNetConfig):
    """A `CausalNetConfig` of the linear recurrent unit's form: poles of each channel alone, no convolution before them.

    Without the gate too it is the layer of Orvieto et al., arXiv:2303.06349, but for what follows it: the MLP here.
    """

    num_heads: int = 64
    """As many as hidden_dim."""
    conv_size: int = 0
    """0."""
    gate: bool = False
    """False."""

    def __post_init__(self):
        """Checks each field, and that the form is the one that it is named after."""
        if self.num_heads != self.hidden_dim or self.conv_size or self.gate:
            raise ValueError(
                f"the form of the LRU has num_heads = hidden_dim = {self.hidden_dim}, conv_size = 0 and gate = False, "
                f"got {self.num_heads}, {self.conv_size} and {self.gate}; take a CausalNetConfig."
            )
        super().__post_init__()


class CausalMixer(nn.Module):
    """`CausalResonance` as the mixer of a block: hidden steps are read as 0."""

    config: CausalNetConfig
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: RealSequence, mask: SequenceMask | None = None, *, deterministic: bool = True
    ) -> RealSequence:
        """Maps x [b, t, d] to y [b, t, d]; y_t depends on x_0 … x_t alone."""
        config = self.config
        x = x if mask is None else jnp.where(mask[..., None], x, 0)
        mixer = CausalResonance(
            config.hidden_dim,
            config.num_heads,
            config.num_resonators,
            conv_size=config.conv_size,
            gate=config.gate,
            max_radius=config.max_radius,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="resonance",
        )
        return mixer(x)


class CausalNet(SequenceModel):
    """A `SequenceModel` of causal blocks: with head="per_token", what it says of a step it says without those after it.

    >>> import jax, jax.numpy as jnp
    >>> config = CausalNetConfig(input_dim=1, output_dim=2, hidden_dim=8, num_layers=1, num_resonators=4)
    >>> model = CausalNet(config)
    >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 1)))
    >>> jax.jit(model.apply)(variables, jnp.ones((5, 32, 1))).shape
    (5, 2)
    """

    config: CausalNetConfig

    def make_mixer(self) -> nn.Module:
        """Returns a `CausalMixer`."""
        return CausalMixer(self.config, self.dtype, self.param_dtype)
