"""Causal language models over bytes or tokens: trained in parallel, generated token by token from a state.

model = LanguageModel(LanguageModelConfig(vocab_size=256))
logits = model.apply(variables, ids)                                          # [b, t, vocab_size]
state = model.initial_state(batch)
logits, state = model.apply(variables, ids, state, method="extend")           # the same, in parts
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import dtypes

from resonance_jax.array_typing import (
    ClassScores,
    Segments,
    SequenceLengths,
    TokenLogits,
    TokenSequence,
)
from resonance_jax.layers.attention import CausalAttention
from resonance_jax.layers.channels_first import ChannelDense, ChannelNorm, channel_product
from resonance_jax.layers.dropout import Dropout
from resonance_jax.layers.embedding import HierarchicalEmbedding, HierarchicalSoftmax
from resonance_jax.layers.fast_weights import FastWeightMemory
from resonance_jax.layers.recurrence import COMPONENTS, METHODS, CausalResonance
from resonance_jax.models.sequence_model import STACKED
from resonance_jax.ops._checks import check_choice, check_rate, check_shape, is_concrete

MIXERS = ("resonance", "attention")


@dataclasses.dataclass(frozen=True)
class LanguageModelConfig:
    """The shape of a language model; the mixer says whether it resonates or attends."""

    vocab_size: int = 256
    """V, ids 0 … V − 1."""
    num_frequent: int = 0
    """0: the embedding is one table of V rows, which the head shares. Else ids are ranks by frequency, the first
    num_frequent have rows of their own, and embedding and head are hierarchical (`layers.embedding`)."""
    hidden_dim: int = 256
    """Width d of the blocks."""
    num_layers: int = 4
    """Blocks."""
    mlp_dim: int = 512
    """Hidden width of each block's gated MLP; 0 leaves it out."""
    mixer: str = "resonance"
    """"resonance" or "attention" (rotary positions and a key–value cache: the baseline)."""
    num_heads: int = 8
    """Heads, a divisor of hidden_dim; hidden_dim heads give each channel resonators of its own."""
    num_resonators: int = 16
    """Resonators of each head."""
    conv_size: int = 4
    """Taps of the causal convolution before the resonators; 0 leaves it out."""
    gate: bool = True
    """Whether the resonators' output is gated by the input."""
    component: str = "complex"
    """"magnitude" keeps all phases at 0."""
    min_radius: float = 0.5
    """Smallest |λ| at the start."""
    max_radius: float = 0.99
    """Largest |λ| at the start."""
    max_phase: float = float(np.pi / 10)
    """Largest phase at the start, radians a step."""
    method: str = "chunked"
    """Evaluation of the resonators: "chunked", "fft" or "scan"."""
    memory_layers: tuple[int, ...] = ()
    """Blocks whose mixer is a delta-rule memory (`FastWeightMemory`) instead."""
    max_length: int = 1024
    """Steps of the key–value cache; resonance has no limit."""
    dropout: float = 0.0
    """Rate on the output of both branches of each block."""
    scan_layers: bool = False
    """Loop over the blocks, whose parameters and states are stacked (`sequence_model.stack_layers`): one block is
    compiled, however many there are. Not with memory_layers, which are other blocks. The same seed starts from other
    values. To generate, take the model without it and `unstack_layers`: a loop copies its states at every step."""
    rematerialize_blocks: bool = False
    """Keep the inputs of blocks alone for the gradient, and compute the rest again. Without scan_layers XLA's scheduler
    for CPUs may do that for all blocks at once, and save nothing."""
    dtype: str = "float32"
    """Of the products' factors; sums, norms and states are float32, and so are dense layers of fewer than 64 steps in
    all, a mixer's single step, and memory_layers: with bfloat16 a step differs from the whole text by its rounding."""

    def __post_init__(self):
        """Checks each field."""
        for name in (
            "vocab_size",
            "hidden_dim",
            "num_layers",
            "num_heads",
            "num_resonators",
            "max_length",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("mlp_dim", "conv_size", "num_frequent"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                f"num_heads = {self.num_heads} must divide hidden_dim = {self.hidden_dim}."
            )
        if self.mixer == "attention" and self.hidden_dim // self.num_heads % 2:
            raise ValueError(
                f"rotary positions need an even hidden_dim / num_heads, got {self.hidden_dim} / {self.num_heads}."
            )
        if self.num_frequent >= self.vocab_size:
            raise ValueError(
                f"num_frequent must be below vocab_size = {self.vocab_size}, got {self.num_frequent}."
            )
        check_rate("dropout", self.dropout)
        for name, choices in (
            ("mixer", MIXERS), ("component", COMPONENTS), ("method", METHODS),
            ("dtype", ("float32", "bfloat16", "float64")),
        ):  # fmt: skip
            check_choice(name, getattr(self, name), choices)
        if not set(self.memory_layers) <= set(range(self.num_layers)):
            raise ValueError(
                f"memory_layers must lie in 0 .. {self.num_layers - 1}, got {self.memory_layers}."
            )
        if self.scan_layers and self.memory_layers:
            raise ValueError(
                "scan_layers loops over blocks of one kind, and memory_layers are of another; got "
                f"memory_layers={self.memory_layers}."
            )


class LanguageModel(nn.Module):
    """Embedding → num_layers × (norm → mixer → residual → norm → gated MLP → residual) → norm → head, the embedding's.

    Works on [d, b, t] inside (see `layers.channels_first`).

    With axis_name, in shard_map or pmap, the ids are one of equal parts of each sequence along that axis, in their
    order: every device reads its part after those before it (`ops.recurrence.chunked`). Dropout draws the same mask in
    every part unless its key is folded with the part's index. To generate, take the model without axis_name.
    """

    config: LanguageModelConfig
    param_dtype: Any = jnp.float32
    axis_name: str | None = None

    def setup(self):
        """Declares the embedding, the blocks and the last norm."""
        config = self.config
        if self.axis_name is not None and (config.mixer != "resonance" or config.memory_layers):
            raise ValueError(
                "axis_name needs mixer='resonance' without memory_layers: only resonators hand a state from part to "
                f"part, got mixer={config.mixer!r} and memory_layers={config.memory_layers}."
            )
        if config.num_frequent:
            self.codes = HierarchicalEmbedding(
                config.vocab_size,
                config.hidden_dim,
                config.num_frequent,
                param_dtype=self.param_dtype,
            )
            self.head = HierarchicalSoftmax(
                self.codes, dtype=jnp.dtype(config.dtype), param_dtype=self.param_dtype
            )
        else:
            # The head multiplies by the same table: logits start with variance 1.
            start = nn.initializers.normal(config.hidden_dim**-0.5)
            shape = config.vocab_size, config.hidden_dim
            self.table = self.param("embedding", start, shape, self.param_dtype)
        names = (
            [STACKED] if config.scan_layers else map("layer_{}".format, range(config.num_layers))
        )
        self.blocks = [
            _Block(config, layer, self.param_dtype, self.axis_name, name=name)
            for layer, name in enumerate(names)
        ]
        self.norm = ChannelNorm(self.param_dtype)

    def __call__(
        self,
        ids: TokenSequence,
        *,
        segments: Segments | None = None,
        deterministic: bool = True,
    ) -> TokenLogits:
        """Maps ids [b, t] to the logits of the ids that come next, [b, t, V].

        Args:
            ids: int [b, t], 0 … V − 1. Traced ids out of range give NaN, known ones an error.
            segments: int [b, t], non-decreasing from 0: documents do not read each other.
            deterministic: False draws dropout.
        Raises:
            ValueError: if a shape, dtype or value does not fit.
        """
        x, _ = self._hidden(ids, None, segments, None, deterministic)
        return jnp.transpose(self._logits(x), (1, 2, 0))

    def losses(
        self,
        ids: TokenSequence,
        labels: TokenSequence,
        state: Any = None,
        *,
        segments: Segments | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Maps ids and the ids that come next, both [b, t], to −log p in nats, [b, t], and the state after them.

        As the logits of `extend`, without laying them out. Traced ids and labels out of range give NaN.

        Raises:
            ValueError: if a shape, dtype or value does not fit.
        """
        check_shape("labels", labels, ids.shape)
        self._check_ids("labels", labels)
        labels = jnp.asarray(
            labels, jnp.int32
        )  # 8-bit ones would wrap in comparisons with the vocabulary
        x, state = self._hidden(ids, state, segments, None, deterministic)
        if self.config.num_frequent:
            return -self.head.log_prob(jnp.moveaxis(x, 0, -1), labels), state
        logits = self._logits(x)
        chosen = jax.nn.one_hot(labels, len(logits), axis=0, dtype=logits.dtype)
        losses = jax.nn.logsumexp(logits, axis=0) - jnp.sum(logits * chosen, axis=0)
        return jnp.where((labels >= 0) & (labels < len(logits)), losses, jnp.nan), state

    @nn.nowrap
    def initial_state(self, batch: int) -> Any:
        """Returns the state of a model that has read nothing: one entry a layer; stacked, with scan_layers."""
        mixers = [
            _make_mixer(self.config, layer, self.param_dtype, parent=None)
            for layer in range(self.config.num_layers)
        ]
        states = tuple(
            mixer.initial_state((batch,), jnp.float32)
            if isinstance(mixer, FastWeightMemory)
            else mixer.initial_state(batch)
            for mixer in mixers
        )
        if self.config.scan_layers:
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        return states

    def extend(
        self,
        ids: TokenSequence,
        state: Any,
        *,
        segments: Segments | None = None,
        lengths: SequenceLengths | None = None,
    ) -> tuple[TokenLogits, Any]:
        """Maps ids [b, t] and the state before them to logits [b, t, V] and the state after them.

        Args:
            ids: as in a call.
            state: of `initial_state` or of an earlier part.
            segments: as in a call; segment 0 goes on from the state.
            lengths: int [b]: the steps from there on are padding, and the state is that before them.
        Raises:
            ValueError: if a shape, dtype or value does not fit.
        """
        x, state = self._hidden(ids, state, segments, lengths, True)
        return jnp.transpose(self._logits(x), (1, 2, 0)), state

    def extend_last(
        self, ids: TokenSequence, state: Any, lengths: SequenceLengths | None = None
    ) -> tuple[ClassScores, Any]:
        """As `extend`, with the logits [b, V] of each row's last step alone: lengths are 1 or more."""
        if lengths is not None and is_concrete(lengths) and np.any(np.asarray(lengths) < 1):
            raise ValueError(
                f"an empty row has no last step: lengths must be 1 or more, got {lengths}."
            )
        x, state = self._hidden(ids, state, None, lengths, True)
        if lengths is None:
            last = x[..., -1:]
        else:
            last = jnp.take_along_axis(x, (lengths - 1)[None, :, None], axis=-1)
        return self._logits(last)[..., 0].T, state

    def _hidden(self, ids, state, segments, lengths, deterministic: bool):
        """The last norm's output [d, b, t] and the state after it."""
        self._check(ids, state)
        ids = jnp.asarray(ids, jnp.int32)
        rows = self._embed(ids)
        x = jnp.transpose(rows, (2, 0, 1)) * self.config.hidden_dim**0.5
        # The dtype that the branches' sums have, from the first block on: a loop carries one.
        wide = jnp.promote_types(jnp.promote_types(x.dtype, jnp.float32), self.config.dtype)
        x = x.astype(dtypes.canonicalize_dtype(wide))
        x, state = self._apply_blocks(x, state, segments, lengths, deterministic)
        return self.norm(x), state

    def _apply_blocks(self, x, state, *given):
        config = self.config

        def apply(block, x, state):
            return block(x, state, *given)

        if config.rematerialize_blocks:
            apply = nn.remat(apply, prevent_cse=not config.scan_layers)
        if config.scan_layers:
            scan = nn.scan(
                apply,
                variable_axes={True: 0},
                split_rngs={"params": True, "dropout": True},
                length=config.num_layers,
            )
            return scan(self.blocks[0], x, state)
        states = []
        for block, before in zip(self.blocks, state or (None,) * len(self.blocks), strict=True):
            x, after = apply(block, x, before)
            states.append(after)
        return x, tuple(states)

    def _embed(self, ids):
        if self.config.num_frequent:
            return self.codes(ids)
        # Not `take`, which reads a negative id from the table's end.
        return (
            jnp.asarray(self.table)
            .at[ids]
            .get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
        )

    def _logits(self, x):
        """Logits [V, b, t], in float32; of a hierarchical head log-probabilities."""
        if self.config.num_frequent:
            return jnp.moveaxis(self.head.log_probs(jnp.moveaxis(x, 0, -1)), -1, 0)
        dtype = jnp.dtype(self.config.dtype)
        return channel_product(self.table, x, dtype)

    def _check(self, ids, state) -> None:
        self._check_ids("ids", ids)
        if state is not None:
            expected = jax.eval_shape(lambda: self.initial_state(ids.shape[0]))
            given = jax.tree.map(lambda leaf: tuple(leaf.shape), state)
            wanted = jax.tree.map(lambda leaf: tuple(leaf.shape), expected)
            if given != wanted:
                raise ValueError(
                    f"the state belongs to another model or batch: expected {wanted}, got {given}; begin with "
                    "initial_state(batch)."
                )

    def _check_ids(self, name: str, ids) -> None:
        if ids.ndim != 2 or 0 in ids.shape or not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(
                f"{name} must be integers [b, t], not empty, got {ids.dtype} {ids.shape}."
            )
        if is_concrete(ids):
            low, high = int(np.min(np.asarray(ids))), int(np.max(np.asarray(ids)))
            if low < 0 or high >= self.config.vocab_size:
                raise ValueError(
                    f"{name} must lie in 0 .. {self.config.vocab_size - 1}, got {low} .. {high}: another tokenizer?"
                )


class _Block(nn.Module):
    """norm → mixer → residual → norm → gated MLP → residual, on [d, b, t]."""

    config: LanguageModelConfig
    layer: int
    param_dtype: Any
    axis_name: str | None

    @nn.compact
    def __call__(self, x, state, segments, lengths, deterministic: bool):
        config = self.config
        dtypes: dict[str, Any] = dict(dtype=jnp.dtype(config.dtype), param_dtype=self.param_dtype)
        mixer = _make_mixer(config, self.layer, self.param_dtype, self.axis_name, name="mixer")
        u = ChannelNorm(self.param_dtype, name="mixer_norm")(x)
        if self.layer in config.memory_layers:
            y, state = _remember(mixer, u, state, segments, lengths, deterministic)
        else:
            y, state = mixer.extend(
                u, state, segments=segments, lengths=lengths, deterministic=deterministic
            )
        x = x + y
        if config.mlp_dim:
            u = ChannelNorm(self.param_dtype, name="mlp_norm")(x)
            u = ChannelDense(2 * config.mlp_dim, name="mlp_in", **dtypes)(u)
            # Two slices would be put together again by sums of padded gradients, twice the time of the product.
            gate, u = jnp.split(u, 2)
            u = nn.silu(gate) * u
            u = ChannelDense(config.hidden_dim, name="mlp_out", **dtypes)(u)
            x = x + Dropout(config.dropout)(u, deterministic=deterministic)
        return x, state


def _make_mixer(
    config: LanguageModelConfig, layer: int, param_dtype, axis_name: str | None = None, **place: Any
) -> Any:
    shared: dict[str, Any] = dict(dropout=config.dropout, param_dtype=param_dtype, **place)
    dtype = jnp.dtype(config.dtype)
    if layer in config.memory_layers:
        return FastWeightMemory(config.hidden_dim, max(1, config.num_heads // 2), **shared)
    if config.mixer == "attention":
        return CausalAttention(
            config.hidden_dim, config.num_heads, config.max_length, dtype=dtype, **shared
        )
    return CausalResonance(
        config.hidden_dim,
        config.num_heads,
        config.num_resonators,
        conv_size=config.conv_size,
        gate=config.gate,
        component=config.component,
        min_radius=config.min_radius,
        max_radius=config.max_radius,
        max_phase=config.max_phase,
        method=config.method,
        channels_first=True,
        axis_name=axis_name,
        dtype=dtype,
        **shared,
    )


def _remember(memory, x, state, segments, lengths, deterministic: bool):
    """Runs a `FastWeightMemory` on [d, b, t]."""
    if segments is not None:
        raise ValueError("memory_layers take no segments: the memory has no resets.")
    y, state = memory.extend(
        jnp.moveaxis(x, 0, -1), state, lengths=lengths, deterministic=deterministic
    )
    return jnp.moveaxis(y, -1, 0), state
