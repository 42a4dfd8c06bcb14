"""The log-phase filter as a layer, with an α that is fixed, learned, or follows the fractal dimension of the data."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import QuaternionSequence, SequenceMask
from resonance_jax.ops._checks import check_choice, check_mask, check_quaternions
from resonance_jax.ops.fractal import alpha_from_dimension, higuchi
from resonance_jax.ops.phase_filter import AMPLITUDES, SYMMETRIES, UNITS, log_phase_filter
from resonance_jax.ops.quaternion import from_complex_pair

ALPHA_MODES = ("fixed", "learned", "fractal")
_PLANE = 2  # the graph of a signal lies in the plane


class LogPhaseFilter(nn.Module):
    """Filters quaternion sequences along time by exp(iα arctan(ln |k|)) (`ops.phase_filter.log_phase_filter`).

    "hermitian" filters the four components as real signals; "even" the complex pair (w + ix, y + iz), which it mixes
    within themselves. With amplitude="unit" and no hidden steps both conserve Σ_t |x_t|² up to rounding: the transform
    has the sequence's own length, without padding, and is slow where that is a large prime. The filter is
    bidirectional: it has no causal form of finite order, since from DC to Nyquist the phase of a causal all-pass filter
    falls by a multiple of π, and this one's does not.

    Parameters: `alpha` [] or [d] (alpha_mode="learned"). Collection `fractal` (alpha_mode="fractal"): `dimension` and
    `updates`, scalars, the moving average of the dimension of the graphs of the inputs' components by Higuchi's method,
    updated where the collection is mutable and `deterministic` is False; sequences with hidden steps do not count.

    Attributes:
        alpha: α, or what it starts from; with "fractal" the α₀ of α₀ (1 + λ (D − 2)/2).
        alpha_mode: "fixed", "learned" by gradient, or "fractal": following the dimension D of the data.
        per_feature: learn an α for each quaternion.
        strength: λ.
        bounds: smallest and largest α that D can lead to.
        decay: of the moving average of D, at most (1 + updates)/(10 + updates).
        symmetry, unit, amplitude: of the filter.
        dtype, param_dtype: as in `ResonanceLayer`; the transform is of at least float32.
    """

    alpha: float = 1.0
    alpha_mode: str = "fixed"
    per_feature: bool = False
    strength: float = 0.8
    bounds: tuple[float, float] = (0.1, 3.0)
    decay: float = 0.99
    symmetry: str = "hermitian"
    unit: str = "index"
    amplitude: str = "unit"
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: QuaternionSequence, mask: SequenceMask | None = None, *, deterministic: bool = True
    ) -> QuaternionSequence:
        """Maps x [b, t, d, 4] to [b, t, d, 4]; hidden steps of the mask are read as 0 and stay hidden (0).

        Raises:
            ValueError: if x is not real [b, t, d, 4], the mask does not fit, or an option is not as stated.
        """
        check_filter(self)
        x = check_quaternions("x", jnp.asarray(x, self.dtype or jnp.asarray(x).dtype))
        if x.ndim < 3 or 0 in x.shape:
            raise ValueError(f"x must have shape [b, t, d, 4], nothing empty, got {x.shape}.")
        if mask is not None:
            check_mask(mask, x[..., 0])
            x = jnp.where(mask[..., None, None], x, 0)
        series = jnp.moveaxis(x, -3, -1)  # [b, d, 4, t]
        series = series.astype(jnp.promote_types(x.dtype, jnp.float32))
        alpha = self._alpha(x.shape[-2], series, mask, deterministic)
        self.sow("intermediates", "alpha", alpha)
        length = x.shape[-3]
        frequency = np.fft.rfftfreq if self.symmetry == "hermitian" else np.fft.fftfreq
        response = log_phase_filter(
            frequency(length),
            alpha,
            symmetry=self.symmetry,
            length=length,
            unit=self.unit,
            amplitude=self.amplitude,
        )
        if response.ndim == 2:
            response = response[:, None]  # [d, 1, k]
        if self.symmetry == "hermitian":
            y = jnp.fft.irfft(jnp.fft.rfft(series) * response, n=length)
            y = jnp.moveaxis(y, -1, -3)
        else:
            pair = jax.lax.complex(series[..., 0::2, :], series[..., 1::2, :])
            pair = jnp.fft.ifft(jnp.fft.fft(pair) * response)
            y = from_complex_pair(jnp.moveaxis(pair, -1, -3))
        y = y.astype(x.dtype)
        return y if mask is None else jnp.where(mask[..., None, None], y, 0)

    def _alpha(self, features, series, mask, deterministic):
        if self.alpha_mode == "fixed":
            return jnp.asarray(self.alpha, series.dtype)
        if self.alpha_mode == "learned":
            shape = (features,) if self.per_feature else ()
            start = nn.initializers.constant(self.alpha)
            return self.param("alpha", start, shape, self.param_dtype).astype(series.dtype)
        dimension = self.variable("fractal", "dimension", lambda: jnp.float32(_PLANE))
        updates = self.variable("fractal", "updates", lambda: jnp.int32(0))
        if (
            not deterministic
            and self.is_mutable_collection("fractal")
            and not self.is_initializing()
        ):
            found, count = _mean_dimension(jax.lax.stop_gradient(series), mask)
            n = updates.value.astype(jnp.float32)
            rate = jnp.where(count > 0, 1 - jnp.minimum(self.decay, (1 + n) / (10 + n)), 0)
            rate = jnp.where((count > 0) & (updates.value == 0), 1, rate)
            dimension.value = dimension.value + rate * (found - dimension.value)
            updates.value = updates.value + (count > 0)
        return alpha_from_dimension(
            dimension.value,
            euclidean_dimension=_PLANE,
            base=self.alpha,
            strength=self.strength,
            bounds=self.bounds,
        ).astype(series.dtype)


def _mean_dimension(series, mask):
    """Returns the mean dimension of the fully observed rows of [b, d, 4, t], and the number of those rows."""
    dimension = jnp.mean(higuchi(series).dimension, axis=(-2, -1))
    whole = jnp.isfinite(dimension)
    if mask is not None:
        whole &= jnp.all(mask, axis=-1)
    count = jnp.sum(whole)
    return jnp.sum(jnp.where(whole, dimension, 0)) / jnp.maximum(count, 1), count


def check_filter(options: Any) -> None:
    """Requires options of the filter that mean something, of a module or configuration that has them."""
    for name, choices in (
        ("alpha_mode", ALPHA_MODES),
        ("symmetry", SYMMETRIES),
        ("unit", UNITS),
        ("amplitude", AMPLITUDES),
    ):
        check_choice(name, getattr(options, name), choices)
    if not np.isfinite(options.alpha):
        raise ValueError(f"alpha must be finite, got {options.alpha}.")
    if options.per_feature and options.alpha_mode != "learned":
        raise ValueError(f"per_feature needs alpha_mode='learned', got {options.alpha_mode!r}.")
