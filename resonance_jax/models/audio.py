"""ResonanceAudioNet: raw sound through a filter bank and blocks of resonance along its frames, whole or as a stream."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from resonance_jax.array_typing import Array, ClassScores, FrameCounts, TokenVectors
from resonance_jax.layers.audio import LogMel, ResonatorFilterBank
from resonance_jax.layers.block import ResonanceBlock
from resonance_jax.layers.channels_first import ChannelDense, ChannelNorm
from resonance_jax.layers.dropout import Dropout
from resonance_jax.layers.recurrence import CausalResonance
from resonance_jax.ops._checks import check_choice, check_shape
from resonance_jax.ops.filter_bank import FilterBankState, Frames

FRONT_ENDS = ("resonators", "log_mel")


@dataclasses.dataclass(frozen=True)
class AudioConfig:
    """The shape of a `ResonanceAudioNet`."""

    num_classes: int
    """Classes."""
    sample_rate: int = 8000
    """Of the sound, in Hz."""
    front_end: str = "resonators"
    """"resonators" (`ResonatorFilterBank`, learned) or "log_mel" (`LogMel`, fixed)."""
    num_bands: int = 40
    """Resonators, or bands of the log-mel spectrum."""
    stride: int = 80
    """Samples in a frame."""
    reads: int = 4
    """Readings of the resonators in a frame, a divisor of stride."""
    order: int = 2
    """Filters of one pole in each resonator."""
    min_frequency: float = 60.0
    """In Hz, of the lowest band at the start; the highest reaches sample_rate / 2."""
    floor: float = 1e-5
    """Power, relative to that of the training sounds, below which sound counts as silence."""
    causal: bool = True
    """Blocks that read the past alone, and stream; False: both ways, by frequencies of the whole (padded) length."""
    hidden_dim: int = 48
    """Width d of the blocks."""
    num_layers: int = 3
    """Blocks."""
    mlp_dim: int = 64
    """Hidden width of each block's MLP; 0 leaves it out."""
    num_heads: int = 8
    """Heads of causal blocks, a divisor of hidden_dim."""
    num_resonators: int = 16
    """Resonators of each head of causal blocks."""
    num_frequencies: int = 16
    """Frequencies of each block that reads both ways."""
    dropout: float = 0.1
    """Rate inside blocks and before the head."""

    @property
    def head(self) -> str:
        """Always "classify"."""
        return "classify"

    @property
    def input_dim(self) -> int:
        """Always 1: one channel of sound."""
        return 1

    @property
    def output_dim(self) -> int:
        """Its `num_classes`, by the name that the trainer knows."""
        return self.num_classes

    @property
    def vocab_size(self) -> int:
        """Always 0: inputs are real."""
        return 0

    def __post_init__(self):
        """Checks each field."""
        for name in (
            *("num_classes", "sample_rate", "num_bands", "stride", "reads", "order", "hidden_dim"),
            *("num_layers", "num_heads", "num_resonators", "num_frequencies"),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.stride % self.reads:
            raise ValueError(f"reads = {self.reads} must divide stride = {self.stride}.")
        if self.hidden_dim % self.num_heads:
            raise ValueError(
                f"num_heads = {self.num_heads} must divide hidden_dim = {self.hidden_dim}."
            )
        if not 0 <= self.min_frequency < self.sample_rate / 2:
            raise ValueError(
                f"min_frequency must be in [0, {self.sample_rate / 2:g}) Hz, below half the sample rate, got "
                f"{self.min_frequency:g}."
            )
        if self.mlp_dim < 0 or not 0 <= self.dropout < 1 or not self.floor > 0:
            raise ValueError(
                f"expected mlp_dim >= 0, dropout in [0, 1) and floor > 0, got {self.mlp_dim}, {self.dropout} and "
                f"{self.floor}."
            )
        check_choice("front_end", self.front_end, FRONT_ENDS)


@dataclasses.dataclass(frozen=True)
class LogMelAudioConfig(AudioConfig):
    """An `AudioConfig` with the fixed front end, under a name of its own: what learned resonators are compared with."""

    front_end: str = "log_mel"
    """"log_mel"; "resonators" would make it an `AudioConfig`."""


class AudioStreamState(NamedTuple):
    """What a causal `ResonanceAudioNet` carries through a stream: its size does not depend on the samples read."""

    front_end: FilterBankState
    """With the samples after the last whole frame."""
    blocks: Any
    """A `CausalResonanceState` a block."""
    total: TokenVectors
    """Sum of the frames so far, [b, d]."""
    frames: FrameCounts
    """How many, int32 [b]."""


class ResonanceAudioNet(nn.Module):
    """Filter bank → dense → num_layers × (norm → resonance ⊙ gate → residual → norm → MLP → residual) → mean → head.

    Called with sound [b, t, 1] or [b, t] and a mask bool [b, t] (hidden samples are read as 0, and those after a row's
    last observed one are padding); returns logits [b, num_classes] of the mean over whole frames. Causal ones do not
    depend on padding, and `stream_step` gives after each part of a sound what the call gives for all that came so far;
    it waits for `stride` samples at most. Other blocks filter the padded length: pad as in training.

    >>> import jax, jax.numpy as jnp
    >>> model = ResonanceAudioNet(AudioConfig(num_classes=10, hidden_dim=16, num_layers=1))
    >>> sound = jnp.sin(0.3 * jnp.arange(1000.0))[None]
    >>> variables = jax.jit(model.init)(jax.random.key(0), sound)
    >>> step = jax.jit(lambda part, state: model.apply(variables, part, state, method="stream_step"))
    >>> state = model.initial_state(1)
    >>> for start in range(0, 1000, 250):
    ...     so_far, state = step(sound[:, start : start + 250], state)
    >>> so_far.shape, int(state.frames[0])
    ((1, 10), 12)
    """

    config: AudioConfig
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        """Declares the front end, the blocks and the head."""
        config = self.config
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.front_end: Any = _make_front_end(config, self.param_dtype)
        self.stem = nn.Dense(config.hidden_dim, **dtypes)
        make: Any = _CausalBlock if config.causal else _make_block
        self.blocks = [make(config, name=f"layer_{i}", **dtypes) for i in range(config.num_layers)]
        self.norm = nn.LayerNorm(**dtypes)
        self.drop = Dropout(config.dropout)
        self.classifier = nn.Dense(config.num_classes, name="head", dtype=self.param_dtype)

    def __call__(
        self,
        inputs: Array,
        mask: Array | None = None,
        *,
        deterministic: bool = True,
        sample_rate: int | None = None,
    ) -> ClassScores:
        """Computes the logits [b, num_classes].

        Args:
            inputs: real [b, t, 1] or [b, t], at least a frame long.
            mask: bool [b, t].
            deterministic: False draws dropout.
            sample_rate: of the inputs, in Hz, checked; None trusts the caller.
        Raises:
            ValueError: if a shape or dtype does not fit, or the inputs are of another sample rate than the model's.
        """
        sound = self._sound(inputs, sample_rate)
        frames = self.front_end(sound, mask)
        if mask is None:  # every frame is whole
            frames = frames._replace(lengths=None)
        x, _ = self._blocks(frames, None, deterministic)
        total, count = _sum(x, frames.lengths)
        return self._logits(total, count, deterministic)

    @nn.nowrap
    def initial_state(self, batch: int) -> AudioStreamState:
        """Returns the state of a stream that has not begun.

        Raises:
            ValueError: if the model is not causal.
        """
        config = self.config
        self._check_causal()
        front = _make_front_end(config, self.param_dtype, parent=None).initial_state(batch)
        block = _make_mixer(config, self.param_dtype, None, parent=None).initial_state(batch)
        total = jnp.zeros((batch, config.hidden_dim))
        return AudioStreamState(
            front, (block,) * config.num_layers, total, jnp.zeros(batch, jnp.int32)
        )

    def stream_step(
        self, samples: Array, state: AudioStreamState, *, sample_rate: int | None = None
    ) -> tuple[ClassScores, AudioStreamState]:
        """Reads the next samples of a stream.

        Under jit one program for each number of samples, which may be any.

        Args:
            samples: real [b, t, 1] or [b, t], t >= 1.
            state: of `initial_state` or of the step before.
            sample_rate: as in a call.
        Returns:
            Logits [b, num_classes] of all whole frames so far, and the state. Before the first frame they say nothing.
        Raises:
            ValueError: if the model is not causal, or something does not fit.
        """
        self._check_causal()
        sound = self._sound(samples, sample_rate)
        check_shape("the state's total", state.total, (sound.shape[0], self.config.hidden_dim))
        frames = self.front_end(sound, initial_state=state.front_end)
        x, blocks = self._blocks(frames, state.blocks, True)
        total, count = _sum(x, frames.lengths)
        total, count = state.total + total, state.frames + count
        state = AudioStreamState(frames.state, blocks, total, count)
        return self._logits(total, count, True), state

    def _sound(self, inputs, sample_rate: int | None):
        inputs, expected = jnp.asarray(inputs), self.config.sample_rate
        if sample_rate not in (None, expected):
            raise ValueError(
                f"the model hears sound of {expected} Hz, got {sample_rate} Hz: resample it first, "
                f"resonance_jax.data.audio.resample(samples, {sample_rate}, {expected})."
            )
        if inputs.ndim == 3 and inputs.shape[-1] == 1:
            inputs = inputs[..., 0]
        if inputs.ndim != 2 or not jnp.issubdtype(inputs.dtype, jnp.floating):
            raise ValueError(
                f"inputs must be real sound [b, t, 1] or [b, t], got {inputs.dtype} {inputs.shape}; scale integers to "
                "about 0 ± 1, and take the mean of several channels."
            )
        return inputs

    def _blocks(self, frames: Frames, states, deterministic: bool):
        """The last norm's output [b, m, d], and the states after it."""
        values = frames.values / jnp.log1p(1 / self.config.floor)  # silence is 0, full power 1
        x = self.drop(self.stem(values), deterministic=deterministic)
        if not self.config.causal:
            mask = None
            if frames.lengths is not None:
                mask = jnp.arange(x.shape[1]) < frames.lengths[:, None]
            for block in self.blocks:
                x = block(x, mask, deterministic=deterministic)
            return self.norm(x), None
        x = jnp.moveaxis(x, -1, 0)
        after = []
        for block, state in zip(self.blocks, states or (None,) * len(self.blocks), strict=True):
            x, state = block(x, state, frames.lengths, deterministic)
            after.append(state)
        return self.norm(jnp.moveaxis(x, 0, -1)), tuple(after)

    def _logits(self, total, count, deterministic: bool):
        mean = total / jnp.maximum(count, 1)[:, None]
        return self.classifier(self.drop(mean, deterministic=deterministic))

    def _check_causal(self) -> None:
        if not self.config.causal:
            raise ValueError("a stream needs causal=True: the other blocks read the whole sound.")


class _CausalBlock(nn.Module):
    """norm → resonance ⊙ gate → residual → norm → gated MLP → residual, on [d, b, t]."""

    config: AudioConfig
    dtype: Any
    param_dtype: Any

    @nn.compact
    def __call__(self, x, state, lengths, deterministic: bool):
        config = self.config
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        mixer = _make_mixer(config, self.param_dtype, self.dtype, name="mixer")
        u = ChannelNorm(self.param_dtype, name="mixer_norm")(x)
        y, state = mixer.extend(u, state, lengths=lengths, deterministic=deterministic)
        x = x + y
        if config.mlp_dim:
            u = ChannelNorm(self.param_dtype, name="mlp_norm")(x)
            gate, u = jnp.split(ChannelDense(2 * config.mlp_dim, name="mlp_in", **dtypes)(u), 2)
            u = ChannelDense(config.hidden_dim, name="mlp_out", **dtypes)(nn.silu(gate) * u)
            x = x + Dropout(config.dropout)(u, deterministic=deterministic).astype(x.dtype)
        return x, state


def _make_mixer(config: AudioConfig, param_dtype, dtype, **place: Any) -> CausalResonance:
    return CausalResonance(
        config.hidden_dim,
        config.num_heads,
        config.num_resonators,
        dropout=config.dropout,
        channels_first=True,
        dtype=dtype,
        param_dtype=param_dtype,
        **place,
    )


def _make_block(config: AudioConfig, **options: Any) -> ResonanceBlock:
    return ResonanceBlock(
        config.hidden_dim,
        config.num_frequencies,
        mlp_dim=config.mlp_dim,
        dropout=config.dropout,
        **options,
    )


def _make_front_end(config: AudioConfig, param_dtype, **place: Any) -> ResonatorFilterBank | LogMel:
    shared: dict[str, Any] = dict(
        min_frequency=config.min_frequency, floor=config.floor, param_dtype=param_dtype, **place
    )
    shape = config.num_bands, config.sample_rate, config.stride
    if config.front_end == "log_mel":
        return LogMel(*shape, **shared)
    return ResonatorFilterBank(*shape, reads=config.reads, order=config.order, **shared)


def _sum(x, lengths):
    """The sum of each row's whole frames, in float32 or wider, and how many there are."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if lengths is None:
        return x.sum(axis=1), jnp.full(x.shape[0], x.shape[1], jnp.int32)
    whole = jnp.arange(x.shape[1]) < lengths[:, None]
    return jnp.sum(jnp.where(whole[..., None], x, 0), axis=1), lengths
