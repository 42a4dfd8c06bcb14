"""The resonance layer and its multi-scale and adaptive forms."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import RealSequence, SequenceMask
from resonance_jax.layers import initializers
from resonance_jax.layers.dropout import Dropout
from resonance_jax.ops._checks import check_real_sequence
from resonance_jax.ops.fourier import STRATEGIES, fast_length, select_bins
from resonance_jax.ops.polar import from_polar
from resonance_jax.ops.resonance import METHODS, resonate, resonate_at

SELECTIONS = (*STRATEGIES, "learned", "continuous")
COMPONENTS = ("complex", "magnitude", "phase")
PARAMETRIZATIONS = ("polar", "cartesian")


class ResonanceLayer(nn.Module):
    """Filters a sequence at k frequencies: pad, rfft, select, weight, interfere, put back, irfft, residual + norm.

    y = LayerNorm(x + dropout(resonate(x))) with W = exp(log_magnitude + i·phase); `post_norm=False` gives resonate(x)
    with dropout alone, for use inside a block. Bins follow from the sequence length: N = fast_length(t), f = bin / N.
    With `reference_length` they are those of that length, in cycles per sample, at every length: the layer then means
    the same thing for a longer or shorter stretch of the same signal. Where frequencies do not follow the length, with
    this or selection="continuous", the sum over t is divided by the observed steps of a row alone, and steps that were
    added and hidden change nothing.

    Parameters: `log_magnitude`, `phase` (radians) [k, d], or one of them (component), or `real`, `imag` [k, d]
    (cartesian); `interference` [2, k, k] (real and imaginary part); `gate_logit` (learned) or `frequency_logit`
    (continuous).

    Attributes:
        features: d.
        num_frequencies: k.
        selection: "low", "log" or "uniform" (see `fourier.select_bins`); "learned": the k of `num_candidates` bins with
            the highest gate, hard forwards and sigmoid backwards (straight-through), so every candidate gets a
            gradient; "continuous": k frequencies f = ½ sigmoid(frequency_logit), trained by gradient off the grid.
        num_candidates: bins that the learned gate chooses from, the lowest ones; None is 2k.
        band: the part of the spectrum that bins are selected from, as fractions of the bins 0 … N//2.
        reference_length: keep the frequencies of this length at every length; None follows the sequence.
        use_interference: let the selected frequencies mix through a learned complex k × k matrix.
        component: "complex" learns magnitudes and phases; "magnitude" leaves every phase at 0 and "phase" every
            magnitude at 1, without a parameter for it. The interference is complex in any case.
        parametrization: "polar" learns log |W| and arg W, "cartesian" Re W and Im W, from the same distribution of W.
        initial_spread: standard deviation of the log-magnitudes and phases that training starts from.
        unselected: "drop" zeroes the other frequencies, "pass" keeps them.
        dropout: rate on the filter's output.
        post_norm: add the residual and LayerNorm.
        method: "auto", "fft" or "matrix" (see `resonance.resonate`); off the grid always the matrix form.
        axis_name: in shard_map or pmap, the axis along which x is one of equal parts of a sequence, in their order;
            the layer filters the whole sequence (see `resonance.resonate`). Not used while initialising: initialise
            with an input of the whole length, from which learned frequencies start, or give `reference_length`.
        dtype: of the computation outside the transform, and of the result; None is the input's.
        param_dtype: of the parameters.
    """

    features: int
    num_frequencies: int
    selection: str = "low"
    dropout: float = 0.0
    num_candidates: int | None = None
    band: tuple[float, float] = (0.0, 1.0)
    reference_length: int | None = None
    use_interference: bool = True
    unselected: str = "drop"
    component: str = "complex"
    parametrization: str = "polar"
    initial_spread: float = 0.02
    post_norm: bool = True
    method: str = "auto"
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: RealSequence, mask: SequenceMask | None = None, *, deterministic: bool = True
    ) -> RealSequence:
        """Maps x [b, t, d] to y [b, t, d]; hidden steps of the mask neither speak nor hear.

        Raises:
            ValueError: if x is not real [b, t, features], an option is not as stated, or there are too few bins.
        """
        x = jnp.asarray(x, self.dtype or x.dtype)
        _check_input(self, x)
        learned = self.selection == "learned"
        k = (self.num_candidates or 2 * self.num_frequencies) if learned else self.num_frequencies
        weights = self._weights((k, self.features))
        interference = None
        if self.use_interference:
            parts = self.param(
                "interference", initializers.small_interference, (2, k, k), self.param_dtype
            )
            parts = jnp.asarray(parts, jnp.promote_types(parts.dtype, jnp.float32))
            interference = jax.lax.complex(parts[0], parts[1])
        if learned:
            weights, interference = self._gated(weights, interference)
        y = self._filter(x, k, weights, interference, mask)
        if mask is not None and (self.reference_length or self.selection == "continuous"):
            y = self._over_observed(x, y, mask)
        y = Dropout(self.dropout)(y, deterministic=deterministic)
        if not self.post_norm:
            return y
        return nn.LayerNorm(dtype=x.dtype, param_dtype=self.param_dtype)(x + y)

    def _weights(self, shape):
        """Declares the parameters of W and returns it, complex, of this shape [k, d]."""
        if self.parametrization == "cartesian":
            starts = nn.initializers.zeros, nn.initializers.zeros
            if not self.has_variable("params", "real"):
                key = self.make_rng("params")
                starts = initializers.exp_normal(self.initial_spread, key)
            parts = [
                self.param(name, start, shape, self.param_dtype)
                for name, start in zip(("real", "imag"), starts, strict=True)
            ]
            dtype = jnp.promote_types(self.param_dtype, jnp.float32)
            return jax.lax.complex(*(jnp.asarray(part, dtype) for part in parts))
        small = initializers.small_normal(self.initial_spread)
        log_magnitude = phase = jnp.zeros(shape, self.param_dtype)
        if self.component != "phase":
            log_magnitude = self.param("log_magnitude", small, shape, self.param_dtype)
        if self.component != "magnitude":
            phase = self.param("phase", small, shape, self.param_dtype)
        return from_polar(jnp.exp(log_magnitude), phase)

    def _filter(self, x, k, weights, interference, mask):
        """Calls the op on the grid of this length, or off it where the frequencies are fixed or learned."""
        axis_name = None if self.is_initializing() else self.axis_name
        length = x.shape[-2] * (1 if axis_name is None else jax.lax.axis_size(axis_name))
        n = fast_length(length)
        reference = fast_length(self.reference_length or length)
        options: dict[str, Any] = dict(
            interference=interference, unselected=self.unselected, mask=mask, axis_name=axis_name
        )
        if self.selection == "continuous":
            start = nn.initializers.zeros  # once trained, the frequencies fit any length
            if not self.has_variable("params", "frequency_logit"):
                between = (self._bins(reference, k) + 0.5) / (reference + 2)  # inside (0, 1/2)
                start = initializers.frequency_logit(between)
            logit = self.param("frequency_logit", start, (k,), self.param_dtype)
            frequencies = 0.5 * jax.nn.sigmoid(logit)
            self.sow("intermediates", "frequencies", frequencies)
            return resonate_at(x, weights, frequencies, **options)
        bins = self._bins(reference, k)
        self.sow("intermediates", "frequencies", jnp.asarray(bins / reference, jnp.float32))
        padded = self.reference_length is not None and length != n  # would scale y by length / n
        if reference != n or padded:
            return resonate_at(x, weights, bins / reference, **options)
        return resonate(x, weights, bins, fft_length=n, method=self.method, **options)

    def _over_observed(self, x, y, mask):
        """Divides what the filter put in by a row's observed steps, in place of all."""
        axis_name = None if self.is_initializing() else self.axis_name
        count = jnp.sum(mask, axis=-1)
        length = mask.shape[-1]
        if axis_name is not None:
            count, length = jax.lax.psum(count, axis_name), length * jax.lax.axis_size(axis_name)
        scale = (length / jnp.maximum(count, 1))[..., None, None].astype(y.dtype)
        if self.unselected == "drop":
            return scale * y
        kept = jnp.where(mask[..., None], x, 0)
        return kept + scale * (y - kept)

    def _bins(self, n, k) -> np.ndarray:
        low, high = (round(edge * (n // 2 + 1)) for edge in self.band)
        if k > high - low:
            name = "num_candidates" if self.selection == "learned" else "num_frequencies"
            raise ValueError(
                f"{name} = {k} is more than the {high - low} bins that length {n} has in band "
                f"{self.band}; ask for fewer, or use a longer sequence or a wider band."
            )
        strategy = self.selection if self.selection in STRATEGIES else "low"
        return low + select_bins(high - low, k, strategy)

    def _gated(self, weights, interference):
        """Multiplies by the straight-through gate; where it is 0 a frequency counts as unselected."""
        logit = self.param("gate_logit", nn.initializers.zeros, weights.shape[:1], self.param_dtype)
        soft = jax.nn.sigmoid(logit)
        chosen = jax.lax.top_k(logit, self.num_frequencies)[1]
        hard = jnp.zeros_like(soft).at[chosen].set(1)
        gate = hard + (soft - jax.lax.stop_gradient(soft))  # exactly hard forwards
        self.sow("intermediates", "gate", hard)
        if interference is not None:
            interference = gate[:, None] * interference * gate[None, :]
        rest = 1 - gate[:, None] if self.unselected == "pass" else 0
        return gate[:, None] * weights + rest, interference


def _check_input(layer: ResonanceLayer, x) -> None:
    """Requires a real x [..., t, features] and options that mean something."""
    check_real_sequence("x", x)
    if x.shape[-1] != layer.features:
        raise ValueError(f"expected {layer.features} features, got x of shape {x.shape}.")
    for name, choices in (
        ("selection", SELECTIONS),
        ("method", METHODS),
        ("component", COMPONENTS),
        ("parametrization", PARAMETRIZATIONS),
    ):
        if getattr(layer, name) not in choices:
            raise ValueError(
                f"unknown {name} {getattr(layer, name)!r}; choose one of {', '.join(choices)}."
            )
    check_weights(layer.component, layer.parametrization, layer.initial_spread)
    k, candidates, band = layer.num_frequencies, layer.num_candidates, layer.band
    if k < 1:
        raise ValueError(f"num_frequencies must be at least 1, got {k}.")
    if candidates is not None and (layer.selection != "learned" or candidates < k):
        raise ValueError(
            "num_candidates is for selection='learned' and at least num_frequencies, got "
            f"{candidates} with selection={layer.selection!r} and num_frequencies = {k}."
        )
    if not 0 <= band[0] < band[1] <= 1:
        raise ValueError(
            f"band must be fractions (low, high) with 0 <= low < high <= 1, got {band}."
        )


def check_weights(component: str, parametrization: str, initial_spread: float) -> None:
    """Requires options of the weights that go together."""
    if parametrization == "cartesian" and component != "complex":
        raise ValueError(
            f"component = {component!r} needs parametrization='polar': a real and an imaginary part are magnitude "
            "and phase at once."
        )
    if not 0 <= initial_spread < float("inf"):
        raise ValueError(f"initial_spread must be finite and at least 0, got {initial_spread}.")


AdaptiveResonance = functools.partial(ResonanceLayer, selection="learned")
AdaptiveResonance.__doc__ = (
    """`ResonanceLayer` that learns which frequencies it keeps: selection="learned"."""
)


class MultiScaleResonance(nn.Module):
    """Filters in parallel octave bands, concatenates and projects them: y = LayerNorm(x + dropout(P [r_1 … r_s])).

    Band j of s covers the fractions (2^−(j+1), 2^−j] of the spectrum, the last one all that is left down to DC; each
    has k/s frequencies, so low bands resolve finely and high ones coarsely. Each band is a `ResonanceLayer` without
    residual, with its own weights and interference.

    Attributes:
        num_frequencies: k, over all bands; a multiple of num_scales.
        num_scales: s.
        Others: as `ResonanceLayer`.
    """

    features: int
    num_frequencies: int
    selection: str = "uniform"
    dropout: float = 0.0
    num_scales: int = 3
    post_norm: bool = True
    reference_length: int | None = None
    use_interference: bool = True
    component: str = "complex"
    parametrization: str = "polar"
    initial_spread: float = 0.02
    method: str = "auto"
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: RealSequence, mask: SequenceMask | None = None, *, deterministic: bool = True
    ) -> RealSequence:
        """Maps x [b, t, d] to y [b, t, d].

        Raises:
            ValueError: if k is not a multiple of the number of scales, or a band has too few bins.
        """
        if self.num_scales < 1 or self.num_frequencies % self.num_scales:
            raise ValueError(
                f"num_frequencies = {self.num_frequencies} must be a multiple of "
                f"num_scales = {self.num_scales}."
            )
        x = jnp.asarray(x, self.dtype or x.dtype)
        edges = [2.0**-scale for scale in range(self.num_scales)] + [0.0]
        bands = [
            ResonanceLayer(
                self.features,
                self.num_frequencies // self.num_scales,
                selection=self.selection,
                band=(edges[scale + 1], edges[scale]),
                reference_length=self.reference_length,
                use_interference=self.use_interference,
                component=self.component,
                parametrization=self.parametrization,
                initial_spread=self.initial_spread,
                post_norm=False,
                method=self.method,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f"scale_{scale}",
            )(x, mask)
            for scale in range(self.num_scales)
        ]
        dense = nn.Dense(self.features, dtype=x.dtype, param_dtype=self.param_dtype)
        y = dense(jnp.concatenate(bands, axis=-1))
        y = Dropout(self.dropout)(y, deterministic=deterministic)
        if not self.post_norm:
            return y
        return nn.LayerNorm(dtype=x.dtype, param_dtype=self.param_dtype)(x + y)
