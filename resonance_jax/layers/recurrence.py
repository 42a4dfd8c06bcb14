"""Causal resonance as a sequence mixer: damped resonators behind a short convolution, under a gate."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import (
    RecentSteps,
    ResonatorState,
    Segments,
    SequenceLengths,
    TimeSequence,
    Values,
)
from resonance_jax.layers.channels_first import ChannelConvolution, ChannelDense, per_channel
from resonance_jax.layers.dropout import Dropout
from resonance_jax.ops import recurrence
from resonance_jax.ops._checks import check_choice
from resonance_jax.ops._segments import check_lengths, check_segments
from resonance_jax.ops.polar import from_polar
from resonance_jax.ops.recurrence import ResonatorBank

METHODS = ("chunked", "fft", "scan")
COMPONENTS = ("complex", "magnitude")


class CausalResonanceState(NamedTuple):
    """What a `CausalResonance` carries from one step to the next: its size does not depend on the steps read."""

    recent: RecentSteps
    """The last conv_size − 1 projected steps, [b, conv_size − 1, d]."""
    resonators: ResonatorState
    """Complex [b, k, d]."""


class CausalResonance(nn.Module):
    """Mixes a sequence by damped resonators; reads the past alone, and streams with a state of fixed size.

        [v g] = P x,    u = conv(v),    s_k[t] = λ_k s_k[t−1] + γ_k u[t],    r = Re Σ_k c_k s_k + D u,
        y = O (r ⊙ silu(g))

    Each of h heads has k poles λ = exp(−exp(ν) + iθ) and readouts c, shared by its d / h channels; with h = d each
    channel has its own. conv is causal and depthwise.

    Parameters: `poles` (log_decay ν and phase θ, [h, k]), `readout` (log_magnitude and phase, [h, k]), `skip` D [d],
    `convolution`, `in_proj` and `out_proj` (kernels [features, d]).

    Attributes:
        features: d.
        num_heads: h, a divisor of d.
        num_resonators: k of each head.
        conv_size: taps of the convolution; 1 or 0 leaves it out.
        gate: False leaves silu(g) out.
        component: "magnitude" keeps all phases at 0: decaying averages, without oscillation.
        min_radius, max_radius, max_phase: of the poles at the start, as `ring_bank`.
        method: "chunked", "fft" or "scan"; they agree to rounding. With segments "fft" takes "chunked": it would need a
            transform for each of them.
        chunk_size: of "chunked"; None is its default.
        dropout: rate on the output.
        channels_first: x and y are [d, b, t], the layout without transposes.
        axis_name: in shard_map or pmap, the axis along which x is one of equal parts of a sequence, in their order; see
            `ops.recurrence.chunked`. Method "chunked", without segments and lengths. Not used while initialising.
        dtype: of the products' factors; sums and states are float32 or wider. None is x's.
        param_dtype: of the parameters.
    """

    features: int
    num_heads: int = 8
    num_resonators: int = 16
    conv_size: int = 4
    gate: bool = True
    component: str = "complex"
    min_radius: float = 0.5
    max_radius: float = 0.99
    max_phase: float = np.pi / 10
    method: str = "chunked"
    chunk_size: int | None = None
    dropout: float = 0.0
    channels_first: bool = False
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def __call__(
        self,
        x: TimeSequence,
        *,
        segments: Segments | None = None,
        lengths: SequenceLengths | None = None,
        deterministic: bool = True,
    ) -> TimeSequence:
        """Maps x [b, t, d] to y [b, t, d], from an empty state; arguments as `extend`."""
        return self.extend(
            x, None, segments=segments, lengths=lengths, deterministic=deterministic
        )[0]

    def initial_state(self, batch: int) -> CausalResonanceState:
        """Returns the state of a layer that has read nothing."""
        taps = max(self.conv_size - 1, 0)
        return CausalResonanceState(
            jnp.zeros((batch, taps, self.features)),
            jnp.zeros((batch, self.num_resonators, self.features), jnp.complex64),
        )

    @nn.compact
    def extend(
        self,
        x: TimeSequence,
        state: CausalResonanceState | None,
        *,
        segments: Segments | None = None,
        lengths: SequenceLengths | None = None,
        deterministic: bool = True,
    ) -> tuple[TimeSequence, CausalResonanceState]:
        """Maps x [b, t, d] and the state before it to y [b, t, d] and the state after it.

        Args:
            x: real [b, t, d], or [d, b, t] with channels_first.
            state: None is empty.
            segments: int [b, t], non-decreasing from 0 (what the state belongs to): documents do not read each other.
            lengths: int [b]: the steps from there on are padding; they give what must not be read, and the state is
                that before them.
            deterministic: False draws dropout.
        Raises:
            ValueError: if a shape, dtype or option does not fit.
        """
        self._check(x, segments, lengths)
        x = x if self.channels_first else jnp.moveaxis(x, -1, 0)
        dense = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        width = self.features * (2 if self.gate else 1)
        projected = ChannelDense(width, name="in_proj", **dense)(x)
        u, *gates = jnp.split(projected, width // self.features)
        recent, resonators = state if state is not None else (None, None)
        if self.conv_size > 1:
            convolution = ChannelConvolution(
                self.conv_size, self.param_dtype, self.axis_name, name="convolution"
            )
            u, recent = convolution(u, recent, segments, lengths)
        elif recent is None:
            recent = self.initial_state(x.shape[1]).recent
        y, resonators = self._resonate(u, resonators, segments, lengths)
        for gate in gates:
            y = y * nn.silu(gate)
        y = ChannelDense(self.features, name="out_proj", **dense)(y)
        y = Dropout(self.dropout)(y, deterministic=deterministic).astype(x.dtype)
        y = y if self.channels_first else jnp.moveaxis(y, 0, -1)
        return y, CausalResonanceState(recent, resonators)

    def step(self, x: Values, state: CausalResonanceState) -> tuple[Values, CausalResonanceState]:
        """Maps one step x [b, d] and the state before it to y [b, d] and the state after it."""
        x = x.T[..., None] if self.channels_first else x[:, None]
        y, state = self.extend(x, state)
        return (y[..., 0].T if self.channels_first else y[:, 0]), state

    def _resonate(self, u, state, segments, lengths):
        """Re Σ_k c_k s_k + D u for u [d, b, t]."""
        bank = _Bank(
            self.num_heads, self.num_resonators, self.component, self.min_radius, self.max_radius,
            self.max_phase, self.param_dtype, name="bank",
        )()  # fmt: skip
        skip = self.param("skip", nn.initializers.ones, (self.features,), self.param_dtype)
        direct = per_channel(skip, u) * u
        alone = self.axis_name is None and segments is None and lengths is None
        if u.shape[-1] == 1 and state is not None and alone:
            y, state = recurrence.step(u[..., 0].T, bank, state)
            return y.T[..., None] + direct, state
        options: dict[str, Any] = dict(segments=segments, lengths=lengths, channels_first=True)
        if self.method == "fft" and segments is None:
            y, state = recurrence.convolve(u, bank, state, **options)
        elif self.method == "scan":
            y, state = recurrence.scan(u, bank, state, **options)
        else:
            narrow = u.astype(self.dtype or u.dtype)
            if not self.is_initializing():
                options["axis_name"] = self.axis_name
            y, state = recurrence.chunked(
                narrow, bank, state, chunk_size=self.chunk_size, **options
            )
        return y.astype(u.dtype) + direct, state

    def _check(self, x, segments, lengths) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("component", self.component, COMPONENTS)
        if self.axis_name is not None and self.method != "chunked":
            raise ValueError(f"axis_name needs method='chunked', got method={self.method!r}.")
        if self.axis_name is not None and not (segments is None and lengths is None):
            raise ValueError(
                "a sequence in parts along an axis of devices takes neither segments nor lengths."
            )
        axis = 0 if self.channels_first else -1
        if x.ndim != 3 or x.shape[axis] != self.features or 0 in x.shape:
            layout = (
                f"[{self.features}, b, t]" if self.channels_first else f"[b, t, {self.features}]"
            )
            raise ValueError(f"x must be {layout} and not empty, got shape {x.shape}.")
        batch, length = x.shape[1:] if self.channels_first else x.shape[:2]
        # Here already: the convolution before the resonators reads them too.
        if segments is not None:
            check_segments(segments, (batch, length))
        if lengths is not None:
            check_lengths(lengths, (batch,), length)


class _Bank(nn.Module):
    """Declares the parameters of a `ResonatorBank`."""

    num_heads: int
    num_resonators: int
    component: str
    min_radius: float
    max_radius: float
    max_phase: float
    param_dtype: Any

    @nn.compact
    def __call__(self) -> ResonatorBank:
        def draw(key):
            return recurrence.ring_bank(
                key, self.num_heads, self.num_resonators, min_radius=self.min_radius,
                max_radius=self.max_radius, max_phase=self.max_phase,
            )  # fmt: skip

        log_decay, phase = _Polar(
            ("log_decay", "phase"),
            lambda key: (draw(key).log_decay, draw(key).phase),
            self.component,
            self.param_dtype,
            name="poles",
        )()

        def spread(key):
            ones = jnp.ones_like(phase) + 0j
            bank = recurrence.normalize(ResonatorBank(log_decay, phase, ones))
            noise = 0.02 * jax.random.normal(key, (2, *phase.shape))
            return jnp.log(jnp.abs(bank.readout)) + noise[0], noise[1]

        log_magnitude, angle = _Polar(
            ("log_magnitude", "phase"), spread, self.component, self.param_dtype, name="readout"
        )()
        return ResonatorBank(log_decay, phase, from_polar(jnp.exp(log_magnitude), angle))


class _Polar(nn.Module):
    """Declares a size and a phase; without the phase if only magnitudes are wanted."""

    names: tuple[str, str]
    start: Any
    component: str
    param_dtype: Any

    @nn.compact
    def __call__(self):
        first = self.param(self.names[0], lambda key: self.start(key)[0].astype(self.param_dtype))
        if self.component == "magnitude":
            return first, jnp.zeros_like(first)
        return first, self.param(
            self.names[1], lambda key: self.start(key)[1].astype(self.param_dtype)
        )
