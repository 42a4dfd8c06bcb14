"""QRHNet: a stack of quaternion blocks with log-phase filters (ΨQRH)."""

import dataclasses

import flax.linen as nn

from resonance_jax.layers.phase_filter import check_filter
from resonance_jax.layers.quaternion import ROTATIONS, QRHBlock
from resonance_jax.models.sequence_model import SequenceConfig, SequenceModel
from resonance_jax.ops._checks import check_choice


@dataclasses.dataclass(frozen=True)
class QRHNetConfig(SequenceConfig):
    """A `SequenceConfig` and what the quaternion blocks need. hidden_dim and mlp_dim are multiples of 4."""

    alpha: float = 1.0
    """α of the log-phase filters, or what it starts from."""
    alpha_mode: str = "fixed"
    """"fixed", "learned" by gradient, or "fractal": following the fractal dimension of the data."""
    per_feature: bool = False
    """Learn an α for each quaternion."""
    symmetry: str = "hermitian"
    """"hermitian" filters four real signals, "even" the complex pair (see LogPhaseFilter)."""
    unit: str = "index"
    """Unit of the frequency whose logarithm is taken: "index", "cycles" or "radians"."""
    amplitude: str = "unit"
    """"unit", or "power_law": multiply by |k|^(−α/2)."""
    rotation: str = "channel"
    """One rotation of ℝ⁴ for each "channel" or for the "layer", or "none"."""
    use_quaternion: bool = True
    """False: real matrices in the place of Hamilton products."""
    use_filter: bool = True
    """False: no filter, and nothing mixes along time before the pooling."""
    gate: bool = True
    """Multiply by a gate computed from the block's input."""

    def __post_init__(self):
        """Checks each field."""
        super().__post_init__()
        for name in ("hidden_dim", "mlp_dim"):
            if getattr(self, name) % 4:
                raise ValueError(
                    f"{name} must be a multiple of 4, four numbers to a quaternion, got {getattr(self, name)}."
                )
        if self.use_quaternion and self.hidden_dim < 8:
            raise ValueError(
                f"hidden_dim must be at least 8, two quaternions, which the norm needs; got {self.hidden_dim}."
            )
        check_filter(self)
        check_choice("rotation", self.rotation, ROTATIONS)


class QRHNet(SequenceModel):
    """A `SequenceModel` of quaternion blocks.

    >>> import jax, jax.numpy as jnp
    >>> config = QRHNetConfig(input_dim=1, output_dim=2, hidden_dim=8, mlp_dim=16, num_layers=2)
    >>> model = QRHNet(config)
    >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 1)))
    >>> jax.jit(model.apply)(variables, jnp.ones((5, 48, 1))).shape
    (5, 2)
    """

    config: QRHNetConfig

    def make_block(self, name: str) -> nn.Module:
        """Returns a `QRHBlock`."""
        config = self.config
        return QRHBlock(
            config.hidden_dim // 4,
            config.mlp_dim,
            gate=config.gate,
            alpha=config.alpha,
            alpha_mode=config.alpha_mode,
            per_feature=config.per_feature,
            symmetry=config.symmetry,
            unit=config.unit,
            amplitude=config.amplitude,
            rotation=config.rotation,
            use_quaternion=config.use_quaternion,
            use_filter=config.use_filter,
            dropout=config.dropout,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )
