"""LongContextResonanceNet: sequences of up to a quarter of a million steps, a chunk at a time."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from resonance_jax.array_typing import Array
from resonance_jax.layers._long_context import TAPS
from resonance_jax.layers.long_context import REMATERIALIZATIONS, LongContextBlock
from resonance_jax.models.sequence_model import SequenceConfig, SequenceModel
from resonance_jax.ops._checks import check_choice


@dataclasses.dataclass(frozen=True)
class LongContextConfig(SequenceConfig):
    """A `SequenceConfig` and what the blocks need (see `LongContextBlock`)."""

    max_context_length: int = 262144
    """Most tokens of a sequence."""
    chunk_size: int = 2048
    """Tokens T of a chunk; a divisor of max_context_length."""
    overlap: int = 128
    """Tokens of the next chunk that a chunk sees, 0 … chunk_size."""
    num_frequencies: int = 32
    """Frequencies of the whole sequence."""
    local_frequencies: int = 32
    """Frequencies of a chunk."""
    bridge_frequencies: int = 8
    """Frequencies of the sequence of summaries, one a chunk."""
    num_heads: int = 4
    """Weights of a token in the sums over the sequence, each for hidden_dim / num_heads features."""
    bidirectional: bool = True
    """Let every chunk hear the whole sequence; else what came before it, as a stream does."""
    chunks_at_once: int = 1
    """Chunks in one step of the loop over them; 0 is all, without a loop: more memory, more to do at once."""
    rematerialize: str = "chunk"
    """"none", "products" or "chunk": what gradients compute again in place of keeping it."""

    def __post_init__(self):
        """Checks each field."""
        super().__post_init__()
        size, longest = self.chunk_size, self.max_context_length
        if size < TAPS - 1 or longest < size or longest % size or not 0 <= self.overlap <= size:
            raise ValueError(
                f"expected chunk_size >= {TAPS - 1} that divides max_context_length and 0 <= overlap <= chunk_size, "
                f"got {size}, {longest} and {self.overlap}."
            )
        frame, chunks = size + self.overlap, longest // size
        for name, length in (
            ("num_frequencies", longest),
            ("local_frequencies", frame),
            ("bridge_frequencies", chunks),
        ):
            if not 1 <= getattr(self, name) <= length // 2 + 1:
                raise ValueError(
                    f"{name} must be in 1 .. {length // 2 + 1}, the bins of {length} steps, got {getattr(self, name)}."
                )
        if self.num_heads < 1 or self.hidden_dim % self.num_heads:
            raise ValueError(
                f"num_heads = {self.num_heads} must divide hidden_dim = {self.hidden_dim}."
            )
        if self.chunks_at_once < 0:
            raise ValueError(f"chunks_at_once must not be negative, got {self.chunks_at_once}.")
        check_choice("rematerialize", self.rematerialize, REMATERIALIZATIONS)
        if self.scan_layers or self.rematerialize_blocks:
            raise ValueError(
                "scan_layers and rematerialize_blocks are not for this model: its blocks loop over chunks, and "
                "`rematerialize` says what of them is computed again."
            )


class StreamState(NamedTuple):
    """What `LongContextResonanceNet.stream` keeps between chunks."""

    blocks: tuple[Any, ...]
    """A `ChunkState` for each block."""
    total: Any
    """Sum over the observed tokens that came out so far, float32 [b, hidden_dim]."""
    count: Any
    """Their number, [b]."""
    largest: Any
    """The largest of each feature among them, [b, hidden_dim]."""


class LongContextResonanceNet(SequenceModel):
    """A `SequenceModel` of `LongContextBlock`s: work and memory grow with the length, by a chunk's at a time.

    The frequencies of the whole sequence are those of max_context_length, at every length: a model that was trained on
    short sequences goes on with long ones, and what is padded and masked changes nothing (but the places of learned
    positions, which are stretched over all that is given).

    With bidirectional=False it streams, chunk by chunk, each block a chunk behind the one before:

        state = None
        for chunk in chunks:  # then num_layers more, hidden by their mask, to bring out the last ones
            outputs, observed, state = model.apply(variables, chunk, None, state, method="stream")

    `outputs` are those of the chunk num_layers before (head="per_token") or of all that came out so far (pooled).

    >>> import jax, jax.numpy as jnp
    >>> config = LongContextConfig(input_dim=1, output_dim=2, vocab_size=256, hidden_dim=8, num_layers=1,
    ...                            max_context_length=1024, chunk_size=128, overlap=16, bridge_frequencies=4)
    >>> model = LongContextResonanceNet(config)
    >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 128), int))
    >>> jax.jit(model.apply)(variables, jnp.zeros((3, 1000), int)).shape
    (3, 2)
    """

    config: LongContextConfig

    def make_block(self, name: str) -> LongContextBlock:
        """Returns a `LongContextBlock`."""
        names = {field.name for field in dataclasses.fields(LongContextBlock)}
        shared = {
            field.name: getattr(self.config, field.name)
            for field in dataclasses.fields(self.config)
            if field.name in names
        }
        return LongContextBlock(
            self.config.hidden_dim,
            **shared,
            axis_name=self.axis_name,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    @nn.compact
    def stream(
        self, inputs: Array, mask: Array | None = None, state: StreamState | None = None
    ) -> tuple[Array, Array, StreamState]:
        """Takes the next chunk of the inputs; see the class.

        Args:
            inputs: ids [b, T], or [b, T · patch_size, c]; fill the last chunk up and hide that by the mask.
            mask: bool, True = observed; None is all.
            state: of the call before; None starts.
        Returns:
            The outputs; the mask [b, T] of the chunk that came out; the state.
        Raises:
            ValueError: if the model is bidirectional, has positions or overlapping patches, or it is not a chunk.
        """
        config = self.config
        if config.position != "none" or config.patch_stride not in (0, config.patch_size):
            raise ValueError(
                "a stream takes position='none' and patches that do not overlap, got "
                f"{config.position!r}, patch_size={config.patch_size} and patch_stride={config.patch_stride}."
            )
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        mask = None if mask is None else jnp.asarray(mask)  # a chunk may be hidden as a whole
        x, mask = self._stem(inputs, mask, dtypes)
        mask = jnp.ones(x.shape[:2], bool) if mask is None else mask
        blocks = (None,) * config.num_layers
        total, count, largest = 0, 0, jnp.finfo(x.dtype).min
        if state is not None:
            blocks, total, count, largest = state
        after = []
        for layer, block in enumerate(blocks):
            x, mask, block = self.make_block(f"layer_{layer}").stream(x, mask, block, layer)
            after.append(block)
        x = nn.LayerNorm(name="norm", **dtypes)(x)
        head = nn.Dense(config.output_dim, name="head", dtype=self.param_dtype)
        seen = mask[..., None]
        state = StreamState(
            tuple(after),
            total + jnp.sum(jnp.where(seen, x, 0).astype(jnp.float32), axis=1),
            count + jnp.sum(mask, axis=1),
            jnp.maximum(largest, jnp.max(jnp.where(seen, x, jnp.finfo(x.dtype).min), axis=1)),
        )
        if config.head == "per_token":
            return head(x), mask, state
        count = state.count[:, None]
        pooled = []
        if "mean" in config.pooling:
            pooled.append(state.total / jnp.maximum(count, 1))
        if "max" in config.pooling:
            pooled.append(jnp.where(count > 0, state.largest, 0))
        return head(jnp.concatenate(pooled, axis=-1)), mask, state


def estimate_memory(
    config: LongContextConfig,
    length: int,
    *,
    batch_size: int = 1,
    training: bool = True,
    dtype: Any = None,
) -> int:
    """Estimates the peak memory of a forward pass or of a training step, in bytes, by compiling it; nothing is run.

    It is XLA's own plan on the default device: arguments, outputs and temporaries of the model's outputs or, for
    training, of a loss and its gradients, and AdamW's two moments and updates. What Python, JAX and the compiler need
    themselves, 0.3 to 1.4 GiB on a CPU, comes on top; as do the buffers of the library YNN on CPUs, in training up to
    half as much again, unless XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type= takes it out. Without it, training
    steps of 8K to 256K tokens grew a process by 0.99 to 1.00 of the estimate, forward passes by 1.00 to 1.18
    (`benchmarks.long_context`).

    Args:
        config: of the model.
        length: steps of each sequence.
        batch_size: sequences at a time.
        training: a training step; else a forward pass.
        dtype: of the model, as `LongContextResonanceNet`'s.
    Raises:
        ValueError: if the length does not fit the configuration, or XLA does not say what it needs.

    >>> config = LongContextConfig(input_dim=1, output_dim=2, vocab_size=256, hidden_dim=8, num_layers=1,
    ...                            max_context_length=8192, chunk_size=512, overlap=16)
    >>> 2 * 4096 * 8 * 4 < estimate_memory(config, 4096, training=False)
    True
    """
    model = LongContextResonanceNet(config, dtype=dtype)
    shape = (batch_size, length) if config.vocab_size else (batch_size, length, config.input_dim)
    inputs = jax.ShapeDtypeStruct(shape, jnp.int32 if config.vocab_size else jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), inputs)

    def loss(variables, inputs):
        outputs: Any = model.apply(variables, inputs)
        return jnp.sum(jnp.square(outputs))

    call = jax.value_and_grad(loss) if training else model.apply
    sizes: Any = jax.jit(call).lower(variables, inputs).compile().memory_analysis()
    if sizes is None:
        raise ValueError("XLA does not say how much memory a program needs on this device.")
    used = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    parameters = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables))
    return int(used + (3 * parameters if training else 0))
