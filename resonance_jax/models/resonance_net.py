"""ResonanceNet: a stack of resonance blocks."""

import dataclasses

import flax.linen as nn

from resonance_jax.array_typing import Array
from resonance_jax.layers._hologram import RULES
from resonance_jax.layers.block import ResonanceBlock
from resonance_jax.layers.recall import HolographicRecall
from resonance_jax.layers.resonance import (
    COMPONENTS,
    PARAMETRIZATIONS,
    SELECTIONS,
    check_weights,
)
from resonance_jax.models.sequence_model import SequenceConfig, SequenceModel
from resonance_jax.ops._checks import check_choice
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
    holographic_capacity: int = 0
    """Pages of hidden_dim numbers in the memory of each row; 0 is no memory."""
    memory_rule: str = "add"
    """"add" what is stored, or write by the "delta" rule, at least two pages (see HolographicMemory)."""
    memory_decay: float = 1.0
    """Factor in [0, 1] on all that is stored before each write."""

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
        self._check_memory()

    def _check_memory(self):
        if self.holographic_capacity < 0:
            raise ValueError(
                f"holographic_capacity must be 0 (no memory) or more pages, got {self.holographic_capacity}."
            )
        check_choice("memory_rule", self.memory_rule, RULES)
        if not 0 <= self.memory_decay <= 1:
            raise ValueError(f"memory_decay must be in [0, 1], got {self.memory_decay}.")
        if self.memory_rule == "delta" and self.holographic_capacity == 1:
            raise ValueError("memory_rule='delta' needs holographic_capacity of at least 2 pages.")
        if self.holographic_capacity and self.hidden_dim < 3:
            raise ValueError(f"a memory needs hidden_dim of at least 3, got {self.hidden_dim}.")


class ResonanceNet(SequenceModel):
    """A `SequenceModel` whose mixer is resonance.

    With holographic_capacity it can go through a long document in pieces: tokens of one piece are stored, tokens of
    the next read them, between blocks and head (`layers.recall.HolographicRecall`). Each row of the batch has a
    memory of its own, in the collection "hologram", which starts empty where it is left out:

        state = {}
        for piece in pieces:
            outputs, state = model.apply({"params": params, **state}, piece, use_memory=True, store_to_memory=True,
                                         mutable=["hologram"])

    `train_step` calls the model with defaults, without memory. It trains on pieces, row for row one after another, if
    the state's `apply_fn` is functools.partial(model.apply, use_memory=True, store_to_memory=True) and its
    `collections` hold a memory that `clear_memory` made.

    >>> import jax, jax.numpy as jnp
    >>> config = ResonanceNetConfig(input_dim=1, output_dim=2, num_frequencies=4, hidden_dim=8, num_layers=2)
    >>> model = ResonanceNet(config)
    >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 1)))
    >>> jax.jit(model.apply)({"params": variables["params"]}, jnp.ones((5, 48, 1))).shape
    (5, 2)
    """

    config: ResonanceNetConfig

    def setup(self):
        """Declares the memory.

        Raises:
            ValueError: if there is one, and axis_name.
        """
        config = self.config
        if config.holographic_capacity and self.axis_name is not None:
            raise ValueError(
                "a memory stores whole sequences: leave axis_name out, or set holographic_capacity=0."
            )
        if config.holographic_capacity:
            self.memory = HolographicRecall(
                config.hidden_dim,
                config.holographic_capacity,
                rule=config.memory_rule,
                decay=config.memory_decay,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
            )

    def __call__(
        self,
        inputs: Array,
        mask: Array | None = None,
        *,
        deterministic: bool = True,
        use_memory: bool = False,
        store_to_memory: bool = False,
    ):
        """Computes the outputs.

        Args:
            inputs, mask, deterministic: as `SequenceModel`.
            use_memory: let every token read what earlier calls stored.
            store_to_memory: store the observed tokens; needs apply(..., mutable=["hologram"]).
        Raises:
            ValueError: as `SequenceModel`; if the configuration has no memory, or the memory is of other rows.
        """
        if use_memory or store_to_memory:
            self._require_memory()
        elif not (self.config.holographic_capacity and self.is_initializing()):
            return self._outputs(inputs, mask, deterministic)

        def before_head(x, mask):
            return self.memory(x, mask, recall=use_memory, store=store_to_memory)

        return self._outputs(inputs, mask, deterministic, before_head)

    def clear_memory(self, rows: Array | None = None) -> None:
        """Empties the memory, or that of the rows marked by bool [b], or makes one (see `HolographicMemory.clear`)."""
        self._require_memory()
        self.memory.memory.clear(rows)

    def memory_utilization(self) -> Array:
        """Computes the tokens stored as a share of the memory's capacity, [b]; above 1 it warns."""
        self._require_memory()
        return self.memory.memory.utilization()

    def _require_memory(self) -> None:
        if not self.config.holographic_capacity:
            raise ValueError(
                "this configuration has no memory; set holographic_capacity to its number of pages, such as 16."
            )

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
            axis_name=self.axis_name,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )
