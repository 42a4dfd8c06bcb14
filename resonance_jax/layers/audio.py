"""Front ends for raw sound [b, t]: learned damped resonators, and the fixed log-mel spectrum beside them."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import FrameCounts, FrameMask, Waveforms
from resonance_jax.ops import filter_bank, mel
from resonance_jax.ops.filter_bank import FilterBankState, Frames


class ResonatorFilterBank(nn.Module):
    """Turns sound [b, t] into frames [b, m, k] by damped resonators whose frequencies and bandwidths are learned.

    With h of resonator j as in `ops.filter_bank`, read `reads` times in each frame of `stride` samples:

        y_j = log(1 + mean |h_j|² / floor),    h_t = a h_{t−1} + (1 − |a|) x_t,    a = exp(−e^ν + iθ)

    or order such filters one after another.

    A cosine of amplitude A at a resonator's frequency gives |h|² ≈ A² / 4; silence gives 0. The frequencies
    θ sample_rate / 2π need not lie on any grid, and start evenly spaced in mel (`ops.mel.hz_to_mel`) between
    min_frequency and max_frequency; bandwidths e^ν sample_rate / π start as half the way between neighbours. A frame
    reads the samples up to its end and nothing after them: a sound in parts, of any sizes, gives what the whole gives.

    Parameters: `log_decay` ν and `phase` θ, [k]. With the collection "intermediates" mutable, `frequencies` and
    `bandwidths` [k] are recorded, in Hz.

    Attributes:
        features: k.
        sample_rate: of the sound, in Hz.
        stride: samples in a frame.
        reads: readings in a frame, a divisor of stride. A resonator forgets in 1 / (π bandwidth) seconds: where that is
            less than the time between readings, some of the sound is not heard.
        order: filters in a resonator. From far off a band with n of them is heard n · 6 dB less for twice the distance:
            with one alone the low tones of a voice fill the high bands.
        min_frequency, max_frequency: in Hz, of the start; None is sample_rate / 2.
        floor: power, relative to that of x, below which sound counts as silence.
        phases: append the real and the imaginary part of h / √(floor + |h|²) at each frame's end: [b, m, 3k].
        dtype: of the frames; None is x's. Inside float32 or wider.
        param_dtype: of the parameters.
    """

    features: int
    sample_rate: int
    stride: int
    reads: int = 1
    order: int = 1
    min_frequency: float = 50.0
    max_frequency: float | None = None
    floor: float = 1e-5
    phases: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.nowrap
    def initial_state(self, batch: int) -> FilterBankState:
        """Returns the state of a layer that has read nothing."""
        memory = jnp.zeros((batch, self.order, self.features), jnp.complex64)
        return filter_bank.initial_state(self.stride, memory)

    @nn.compact
    def __call__(
        self,
        x: Waveforms,
        mask: FrameMask | None = None,
        *,
        lengths: FrameCounts | None = None,
        initial_state: FilterBankState | None = None,
    ) -> Frames:
        """Maps x [b, t] to the frames [b, m, k] that are whole, and the state after x.

        Args:
            x: real [b, t].
            mask: bool [b, t]: hidden samples are read as 0; those after a row's last observed one are padding.
            lengths: int [b], the same as a mask that is true before them.
            initial_state: what an earlier part returned; None has read nothing.
        Returns:
            `Frames`: m is t // stride without a state, else the most that there can be, ⌈t / stride⌉, and each row's
            length says how many there are.
        Raises:
            ValueError: if a shape, dtype or option does not fit, mask and lengths are both given, or a sound without a
                state is shorter than a frame.
        """
        _check_floor(self.floor)
        start = filter_bank.mel_resonators(
            self.features, self.sample_rate, self.min_frequency, self.max_frequency, self.order
        )
        log_decay, phase = (
            self.param(name, lambda _, values=values: jnp.asarray(values, self.param_dtype))
            for name, values in zip(("log_decay", "phase"), start, strict=True)
        )
        self.sow("intermediates", "frequencies", phase * (self.sample_rate / (2 * np.pi)))
        bandwidths = filter_bank.bandwidths(log_decay, self.sample_rate, self.order)
        self.sow("intermediates", "bandwidths", bandwidths)
        x, lengths = _observed(x, mask, lengths)
        power, ends, frames, state = filter_bank.resonator_power(
            x, log_decay, phase, self.stride,
            reads=self.reads, order=self.order, state=initial_state, lengths=lengths,
        )  # fmt: skip
        values = [jnp.log1p(power / self.floor)]
        if self.phases:
            size = jnp.sqrt(self.floor + jnp.square(ends.real) + jnp.square(ends.imag))
            values += [ends.real / size, ends.imag / size]
        return _frames(jnp.concatenate(values, axis=-1), frames, state, self.dtype or x.dtype)


class LogMel(nn.Module):
    """Turns sound [b, t] into frames [b, m, k] by the log-mel spectrum: what `ResonatorFilterBank` is compared with.

        y = log(1 + |rfft(w x)|² M / ((Σ w)² floor)),

    w a Hann window of `window` samples that ends where the frame ends, M triangles evenly spaced in mel. A cosine of
    amplitude A gives |rfft|² / (Σ w)² ≈ A² / 4 at its bin. No parameters.

    Attributes:
        features, sample_rate, stride, min_frequency, max_frequency, floor, dtype: as `ResonatorFilterBank`.
        window: samples, at least stride; 0 is 2.5 · stride. The FFT is the next power of two.
        param_dtype: of nothing.
    """

    features: int
    sample_rate: int
    stride: int
    window: int = 0
    min_frequency: float = 50.0
    max_frequency: float | None = None
    floor: float = 1e-5
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.nowrap
    def initial_state(self, batch: int) -> FilterBankState:
        """Returns the state of a layer that has read nothing."""
        return filter_bank.initial_state(
            self.stride, jnp.zeros((batch, self._window() - self.stride))
        )

    @nn.nowrap
    def _window(self) -> int:
        return self.window or 5 * self.stride // 2

    def __call__(
        self,
        x: Waveforms,
        mask: FrameMask | None = None,
        *,
        lengths: FrameCounts | None = None,
        initial_state: FilterBankState | None = None,
    ) -> Frames:
        """Maps x [b, t] to frames [b, m, k] and the state after x; arguments and Raises as `ResonatorFilterBank`."""
        _check_floor(self.floor)
        size = self._window()
        filters = mel.mel_filters(
            self.features, 1 << max(size - 1, 1).bit_length(), self.sample_rate, self.min_frequency,
            self.max_frequency,
        )  # fmt: skip
        window = np.square(np.sin(np.pi * (np.arange(size) + 0.5) / size))
        x, lengths = _observed(x, mask, lengths)
        power, frames, state = filter_bank.mel_power(
            x, filters, window, self.stride, state=initial_state, lengths=lengths
        )
        return _frames(jnp.log1p(power / self.floor), frames, state, self.dtype or x.dtype)


def _check_floor(floor: float) -> None:
    if not floor > 0:
        raise ValueError(f"floor must be above 0, got {floor}.")


def _observed(x, mask, lengths):
    """x with hidden samples 0, and how many of each row are not padding."""
    x = jnp.asarray(x)
    if mask is None:
        return x, lengths
    if lengths is not None:
        raise ValueError("give a mask or lengths, not both.")
    if mask.dtype != bool or mask.shape != x.shape:
        raise ValueError(
            f"mask must be boolean (True = observed) of shape {x.shape}, got {mask.dtype} {mask.shape}."
        )
    after = 1 + jnp.arange(x.shape[1], dtype=jnp.int32)
    return jnp.where(mask, x, 0), jnp.max(jnp.where(mask, after, 0), axis=1)


def _frames(values, lengths, state, dtype) -> Frames:
    whole = jnp.arange(values.shape[1]) < lengths[:, None]
    return Frames(jnp.where(whole[..., None], values, 0).astype(dtype), lengths, state)
