"""Resonators as sequence mixers, and a classifier that matches patterns in the spectrum."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resonance_jax.array_typing import (
    AnyComplex,
    ClassScores,
    FeatureSpectrum,
    RealSequence,
    SequenceMask,
)
from resonance_jax.layers import initializers
from resonance_jax.layers.dropout import Dropout
from resonance_jax.ops._checks import check_mask, check_real_sequence
from resonance_jax.ops.fourier import fast_length
from resonance_jax.ops.polar import from_polar, to_polar
from resonance_jax.ops.resonator import (
    SCORES,
    frequency_resonator,
    interpolate_patterns,
    keep_component,
    resonator,
)

FORMS = ("patterns", "frequencies")


class SpectralPatterns(nn.Module):
    """Complex patterns over frequency, given at knots from 0 to ½ cycle per sample and read at the bins of any length.

    P = exp(log_magnitude + i·phase), both linear between the knots, so that a pattern means the same at every length.

    Parameters: `log_magnitude` and `phase` (radians), each [*shape, K].

    Attributes:
        shape: of the pool: (patterns,), (layers, heads), …
        num_knots: K.
        use_magnitude: False leaves log_magnitude out: |P| = 1.
        param_dtype: of the parameters.
    """

    shape: tuple[int, ...]
    num_knots: int
    use_magnitude: bool = True
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, n: int) -> AnyComplex:
        """Returns the patterns at the rfft bins of length n, complex [*shape, n//2 + 1]."""
        shape = (*self.shape, self.num_knots)
        start = initializers.small_normal(0.1)  # alike patterns would stay alike
        phase = self.param("phase", start, shape, self.param_dtype)
        log_magnitude = jnp.zeros_like(phase)
        if self.use_magnitude:
            log_magnitude = self.param("log_magnitude", start, shape, self.param_dtype)
        knots = jnp.stack([log_magnitude, phase]).astype(jnp.promote_types(phase.dtype, "float32"))
        log_magnitude, phase = interpolate_patterns(knots, n)
        return from_polar(jnp.exp(log_magnitude), phase)


class ResonatorStack(nn.Module):
    """Projects, transforms once, filters by T resonator layers, transforms back and projects.

    v = D_in x → V = rfft(v) of length N = fast_length(t), 1/√N → T layers of `ops.resonator` → irfft, cut to t → D_out.

    Patterns are `SpectralPatterns`: the layer takes any length, and filters the same stretch of signal alike at each.
    Scores are scaled so that their size does not depend on the length: by 1/√F for the input's and by √K/F for the
    parameters', F the number of bins. With form="frequencies" every layer has a residual, without which it would
    shrink the signal by its attention, about 1/F.

    Parameters: `value` and `out` (Dense), and `SpectralPatterns`: `patterns` [h, m, K] and `layer_patterns`
    [T, h, K]; or `query_patterns`, `key_patterns` and `value_patterns`.

    Attributes:
        features: d.
        num_layers: T.
        num_patterns: m, in the pool of each head; for form="patterns".
        num_knots: K, of each pattern; more resolve finer: 2 (K − 1) samples of impulse response.
        num_heads: h, a divisor of d.
        form: "patterns" (`resonator`: softmax over the pool) or "frequencies" (`frequency_resonator`).
        scores: "input" or "parameters", for form="patterns"; the latter makes the stack one fixed filter.
        normalize, log_domain, complex_weights: of the op. With `normalize` but not `log_domain` magnitudes have no
            effect, and the pool has no `log_magnitude`; `complex_weights` is for form="patterns".
        component: "complex", "phase" or "magnitude": what is kept of the input's spectrum.
        dropout: rate on the output.
        dtype: of the projections and the result; None is the input's. Transforms are of at least float32.
        param_dtype: of the parameters.
    """

    features: int
    num_layers: int
    num_patterns: int = 8
    num_knots: int = 33
    num_heads: int = 1
    form: str = "patterns"
    scores: str = "input"
    normalize: bool = False
    log_domain: bool = False
    complex_weights: bool = False
    component: str = "complex"
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: RealSequence, mask: SequenceMask | None = None, *, deterministic: bool = True
    ) -> RealSequence:
        """Maps x [b, t, d] to y [b, t, d]; hidden steps of the mask neither speak nor hear.

        Raises:
            ValueError: if x is not real [b, t, features], the mask does not fit, or an option is not as stated.
        """
        x = jnp.asarray(x, self.dtype or x.dtype)
        _check_stack(self)
        _check_sequence(self.features, x, mask)
        dense = functools.partial(
            nn.Dense, self.features, dtype=x.dtype, param_dtype=self.param_dtype
        )
        t, n = x.shape[-2], fast_length(x.shape[-2])
        spectrum = keep_component(_spectrum(dense(name="value")(x), n, mask), self.component)
        filtered = self._frequencies if self.form == "frequencies" else self._patterns
        y = _signal(filtered(spectrum, n), n)[..., :t, :].astype(x.dtype)
        y = Dropout(self.dropout)(dense(name="out")(y), deterministic=deterministic)
        return y if mask is None else jnp.where(mask[..., None], y, 0)

    def _patterns(self, spectrum, n):
        use_magnitude = self.log_domain or not self.normalize
        pool = self._make("patterns", (self.num_heads, self.num_patterns), use_magnitude)(n)
        layers = self._make("layer_patterns", (self.num_layers, self.num_heads))(n)
        f = spectrum.shape[-1]
        return resonator(
            spectrum,
            pool,
            layers,
            scores=self.scores,
            normalize=self.normalize,
            log_domain=self.log_domain,
            complex_weights=self.complex_weights,
            scale=f**-0.5 if self.scores == "input" else self.num_knots**0.5 / f,
        )

    def _frequencies(self, spectrum, n):
        query, key, value = (
            self._make(f"{name}_patterns", (self.num_layers, self.num_heads))(n)
            for name in ("query", "key", "value")
        )
        options = {"normalize": self.normalize, "log_domain": self.log_domain}
        return frequency_resonator(spectrum, query, key, value, residual=True, **options)

    def _make(self, name, shape, use_magnitude=True):
        return SpectralPatterns(shape, self.num_knots, use_magnitude, self.param_dtype, name=name)


Resonator = functools.partial(ResonatorStack, num_layers=1)
Resonator.__doc__ = """`ResonatorStack` of a single layer."""


class PatternClassifier(nn.Module):
    """Classifies a sequence by its filtered spectrum: T resonator layers, then a pattern for each class.

    With Y the filtered spectrum (1/√N, features d, F bins) and class patterns C and Φ over frequency,

        z_c = (1/√F) Σ_{d,f} C_c[d,f] |Y[d,f]| + b_c  (+ (1/√q) Σ_d Σ_{f ∈ top q} Re(U[d,f] conj Φ_c[d,f]))

    The bracket is the selective-phase head: U = Y/|Y| at the q bins where the sample's |Y|, over all features, is
    largest; elsewhere a phase is mostly noise. A phase turns with a shift in time, so it tells classes apart only where
    examples are aligned.

    Parameters: `patterns` [m, K], `layer_patterns` [T, K]; `kernel` [C, d, K] and `bias` [C]; with the phase head
    `class_phases` [C, d, K].

    Attributes:
        num_classes: C.
        num_layers, num_patterns, num_knots: T, m, K, as in `ResonatorStack`.
        num_phase_bins: q; 0 leaves the phase head out. Fewer bins than q are all taken.
        component, dtype, param_dtype: as in `ResonatorStack`; component="magnitude" leaves no phases to select.
    """

    num_classes: int
    num_layers: int = 1
    num_patterns: int = 8
    num_knots: int = 33
    num_phase_bins: int = 0
    component: str = "complex"
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: RealSequence, mask: SequenceMask | None = None, *, deterministic: bool = True
    ) -> ClassScores:
        """Maps x [b, t, d] to logits [b, C]; hidden steps read as 0.

        Raises:
            ValueError: if x is not real [b, t, d], the mask does not fit, or an option is not as stated.
        """
        del deterministic  # nothing here is random
        x = jnp.asarray(x, self.dtype or x.dtype)
        _check_classifier(self)
        _check_sequence(None, x, mask)
        n = fast_length(x.shape[-2])
        make = functools.partial(
            SpectralPatterns, num_knots=self.num_knots, param_dtype=self.param_dtype
        )
        spectrum = keep_component(_spectrum(x, n, mask), self.component)
        f, d = spectrum.shape[-1], x.shape[-1]
        pool = make((self.num_patterns,), name="patterns")(n)
        layers = make((self.num_layers,), name="layer_patterns")(n)
        spectrum = resonator(spectrum, pool, layers, scores="input", scale=f**-0.5)
        magnitude, phase = to_polar(spectrum)
        shape = (self.num_classes, d, self.num_knots)
        scale = nn.initializers.normal((d * self.num_knots) ** -0.5)
        kernel = self.param("kernel", scale, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape[:1], self.param_dtype)
        weights = interpolate_patterns(jnp.asarray(kernel, magnitude.dtype), n) * f**-0.5
        logits = jnp.einsum("...df,cdf->...c", magnitude, weights, precision="highest") + bias
        if self.num_phase_bins:
            phases = make((self.num_classes, d), name="class_phases")(n)
            logits = logits + _phase_scores(magnitude, phase, phases, self.num_phase_bins)
        return logits.astype(x.dtype)


def _phase_scores(magnitude, phase, class_phases, count):
    """Re Σ U conj Φ_c over the bins where the magnitude over all features is largest, / √count."""
    count = min(count, magnitude.shape[-1])
    loudness = jnp.sum(magnitude**2, axis=-2)
    chosen = jax.lax.top_k(loudness, count)[1]  # [..., q]
    kept = jnp.sum(jax.nn.one_hot(chosen, magnitude.shape[-1], dtype=magnitude.dtype), axis=-2)
    kept = kept[..., None, :] * (magnitude > 0)
    unit = from_polar(kept, phase)
    scores = jnp.einsum("...df,cdf->...c", unit, jnp.conj(class_phases), precision="highest")
    return jnp.real(scores) * count**-0.5


def _spectrum(x, n: int, mask) -> FeatureSpectrum:
    """rfft of the observed steps of x [..., t, d], padded to n, over √n: [..., d, f]."""
    signal = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if mask is not None:
        signal = jnp.where(mask[..., None], signal, 0)
    return jnp.fft.rfft(jnp.swapaxes(signal, -1, -2), n=n, norm="ortho")


def _signal(spectrum, n: int):
    """The inverse of `_spectrum`, [..., n, d]."""
    bins = jnp.arange(spectrum.shape[-1])
    real_only = (bins == 0) | (2 * bins == n)
    spectrum = jax.lax.complex(spectrum.real, jnp.where(real_only, 0, spectrum.imag))
    return jnp.swapaxes(jnp.fft.irfft(spectrum, n=n, norm="ortho"), -1, -2)


def _check_sequence(features: int | None, x, mask) -> None:
    check_real_sequence("x", x)
    if features is not None and x.shape[-1] != features:
        raise ValueError(f"expected {features} features, got x of shape {x.shape}.")
    if mask is not None:
        check_mask(mask, x)


def _check_classifier(layer: PatternClassifier) -> None:
    _check_at_least_one(layer, ("num_classes", "num_layers", "num_patterns", "num_knots"))
    if layer.num_phase_bins < 0 or (layer.num_phase_bins and layer.component == "magnitude"):
        raise ValueError(
            "num_phase_bins must be 0 or more, and 0 with component='magnitude', which has no phases; got "
            f"{layer.num_phase_bins} with component={layer.component!r}."
        )


def _check_stack(layer: ResonatorStack) -> None:
    _check_at_least_one(layer, ("num_layers", "num_patterns", "num_knots", "num_heads"))
    for name, choices in (("form", FORMS), ("scores", SCORES)):
        if getattr(layer, name) not in choices:
            raise ValueError(
                f"unknown {name} {getattr(layer, name)!r}; choose one of {', '.join(choices)}."
            )
    if layer.form == "frequencies" and (layer.complex_weights or layer.scores != "input"):
        raise ValueError(
            "scores and complex_weights are for form='patterns': with form='frequencies' the scores come from the "
            f"input and are real, got {layer.scores!r} and {layer.complex_weights}."
        )


def _check_at_least_one(layer: nn.Module, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(layer, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(layer, name)}.")
