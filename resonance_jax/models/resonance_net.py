"""ResonanceNet: a stack of resonance blocks."""

import dataclasses

import flax.linen as nn

from resonance_jax.layers.block import ResonanceBlock
from resonance_jax.layers.resonance import (
    COMPONENTS,
    PARAMETRIZATIONS,
    SELECTIONS,
    check_weights,
)
from resonance_jax.models.sequence_model import SequenceConfig, SequenceModel
from resonance_jax.ops.resonance import UNSELECTED


@dataclasses.dataclass(frozen=True)
class ResonanceNetConfig(SequenceConfig):
    """A `SequenceConfig` and what the resonance blocks need."""

    num_frequencies: int = 16
    """Frequencies k of each layer."""
    selection: str = "low"
    """"low", "log", "uniform", "learned" or "continuous" (see ResonanceLayer)."""
    num_candidates: int = 0
    """Bins that selection="learned" chooses from; 0 is 2 · num_frequencies."""
    num_scales: int = 1
    """Parallel octave bands; 1 is a single ResonanceLayer."""
    reference_length: int = 0
    """Tokens of the length whose frequencies are kept at every length; 0 follows each sequence's own length."""
    interference: bool = True
    """Let frequencies mix through a learned complex matrix."""
    unselected: str = "drop"
    """"drop" or "pass" the frequencies that were not selected."""
    component: str = "complex"
    """"complex", or learn the "magnitude" or the "phase" of the weights alone (see ResonanceLayer)."""
    parametrization: str = "polar"
    """"polar" (log-magnitude and phase) or "cartesian" (real and imaginary part)."""
    initial_spread: float = 0.02
    """Standard deviation of the log-magnitudes and phases that training starts from."""
    gate: bool = True
    """Multiply by a gate computed from the block's input."""

    def __post_init__(self):
        """Checks each field."""
        super().__post_init__()
        if self.num_frequencies < 1 or self.num_scales < 1 or self.reference_length < 0:
            raise ValueError(
                "expected num_frequencies >= 1, num_scales >= 1 and reference_length >= 0, got "
                f"{self.num_frequencies}, {self.num_scales} and {self.reference_length}."
            )
        if self.num_frequencies % self.num_scales:
            raise ValueError(
                f"num_frequencies = {self.num_frequencies} must be a multiple of num_scales = {self.num_scales}."
            )
        if self.num_scales > 1 and (self.unselected == "pass" or self.num_candidates):
            raise ValueError(
                "unselected='pass' and num_candidates need num_scales=1: parallel bands are concatenated."
            )
        if self.num_candidates and (
            self.selection != "learned" or self.num_candidates < self.num_frequencies
        ):
            raise ValueError(
                "num_candidates is for selection='learned' and at least num_frequencies, got "
                f"{self.num_candidates} with selection={self.selection!r} and "
                f"num_frequencies = {self.num_frequencies}."
            )
        for name, choices in (
            ("selection", SELECTIONS),
            ("unselected", UNSELECTED),
            ("component", COMPONENTS),
            ("parametrization", PARAMETRIZATIONS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(choices)}."
                )
        check_weights(self.component, self.parametrization, self.initial_spread)


class ResonanceNet(SequenceModel):
    """A `SequenceModel` whose mixer is resonance.

    >>> import jax, jax.numpy as jnp
    >>> config = ResonanceNetConfig(input_dim=1, output_dim=2, num_frequencies=4, hidden_dim=8, num_layers=2)
    >>> model = ResonanceNet(config)
    >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 1)))
    >>> jax.jit(model.apply)({"params": variables["params"]}, jnp.ones((5, 48, 1))).shape
    (5, 2)
    """

    config: ResonanceNetConfig

    def make_block(self, name: str) -> nn.Module:
        """Returns a `ResonanceBlock`."""
        config = self.config
        return ResonanceBlock(
            config.hidden_dim,
            config.num_frequencies,
            selection=config.selection,
            dropout=config.dropout,
            num_candidates=config.num_candidates or None,
            num_scales=config.num_scales,
            reference_length=config.reference_length or None,
            use_interference=config.interference,
            unselected=config.unselected,
            component=config.component,
            parametrization=config.parametrization,
            initial_spread=config.initial_spread,
            mlp_dim=config.mlp_dim,
            gate=config.gate,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )
