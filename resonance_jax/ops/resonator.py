"""The resonator, attention seen as filtering: layers that choose their filter from a pool, in the frequency domain."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import (
    AnyComplex,
    Array,
    FeatureSpectrum,
    LayerPatterns,
    PatternKnots,
    Patterns,
    RealSequence,
    SquareMatrix,
)
from resonance_jax.ops._checks import check_complex, check_real_sequence, check_shape
from resonance_jax.ops.polar import from_polar, to_polar

SCORES = ("parameters", "input")
COMPONENTS = ("complex", "phase", "magnitude")
EPSILON = 1e-6


def resonator(
    spectrum: FeatureSpectrum,
    patterns: Patterns,
    layer_patterns: LayerPatterns,
    *,
    scores: str = "parameters",
    normalize: bool = False,
    log_domain: bool = False,
    complex_weights: bool = False,
    scale: float = 1.0,
) -> FeatureSpectrum:
    """Filters a spectrum by T layers, each a mixture of patterns weighted by a softmax over them.

    From X = rfft(x) along the last axis, layer l = 1 … T with its pattern L_l computes

        s_p = scale · Σ_f Re(P_p[f] conj L_l[f]),   w = softmax_p(s),   X[f] ← (Σ_p w_p P_p[f]) X[f].

    With these scores="parameters" the stack is one fixed linear filter, whatever T. With scores="input" the filter
    depends on the data: L_l[f] is replaced by L_l[f] X̄[f], where X̄ = Σ_d X_d / √d sums the features of the head and
    X is the layer's own input. A head's features share their filters, so all layers together read and write the
    spectrum once.

    Args:
        spectrum: X, complex, [..., d, f]: features, then the rfft bins 0 … n//2.
        patterns: P, the pool, complex, [m, f]; or [h, m, f] for h heads, each with d/h features side by side.
        layer_patterns: L, complex, [T, f]; or [T, h, f].
        scores: "parameters" or "input".
        normalize: filter and score with P / (ε + |P|), ε = 1e-6: no layer amplifies.
        log_domain: w_p[f] = softmax_p(log(ε + |P_p[f]|) + s_p), one softmax a bin: a pattern weighs by its magnitude
            there. Magnitudes are those before `normalize`.
        complex_weights: the scores stay complex, and w = softmax of their moduli times their phases
            (see `polar.complex_softmax`).
        scale: of the scores.
    Returns:
        The filtered spectrum, [..., d, f], in its dtype.
    Raises:
        ValueError: if the patterns do not match the bins or the heads, or a dtype or option is not as stated.
    References:
        Lee-Thorp et al., FNet, arXiv:2105.03824; Guibas et al., Adaptive Fourier Neural Operators, arXiv:2111.13587.

    >>> import jax.numpy as jnp
    >>> spectrum = jnp.fft.rfft(jnp.array([[1.0, 2.0, 3.0, 4.0]]))
    >>> patterns = jnp.array([[0, 1, 1], [1, 1, 0]], complex)  # a high-pass and a low-pass
    >>> likes_the_second = jnp.array([[9.0, 0, 0]], complex)
    >>> y = jnp.fft.irfft(resonator(spectrum, patterns, likes_the_second), n=4)
    >>> print(jnp.round(y, 1))
    [[1.5 1.5 3.5 3.5]]
    """
    if scores not in SCORES:
        raise ValueError(f"unknown scores {scores!r}; choose one of {', '.join(SCORES)}.")
    _check_spectrum(spectrum, patterns, layer_patterns)
    pool = jnp.asarray(patterns, spectrum.dtype).reshape(-1, *patterns.shape[-2:])  # [h, m, f]
    layers = _split_layers(spectrum, layer_patterns)
    basis = pool / (EPSILON + to_polar(pool)[0]) if normalize else pool
    prior = jnp.log(EPSILON + to_polar(pool)[0]) if log_domain else None
    heads = _split_heads(spectrum, len(pool))
    signal = jnp.sum(heads, axis=-2) / np.sqrt(heads.shape[-2])

    def layer_filter(so_far, layer):
        # What filters all features of a head alike can filter their sum in their place.
        listener = layer if scores == "parameters" else layer * so_far * signal
        inner = jnp.einsum("hpf,...hf->...hp", basis, jnp.conj(listener), precision="highest")
        return _mixture(scale * inner, basis, prior, complex_weights)

    shape = layers.shape[1:] if scores == "parameters" else signal.shape
    return _filter_heads(heads, layer_filter, layers, shape, spectrum.shape)


def frequency_resonator(
    spectrum: FeatureSpectrum,
    query_patterns: LayerPatterns,
    key_patterns: LayerPatterns,
    value_patterns: LayerPatterns,
    *,
    normalize: bool = False,
    log_domain: bool = False,
    residual: bool = False,
) -> FeatureSpectrum:
    """Filters a spectrum by T layers, each weighting the frequencies by a softmax over them.

    From P = rfft(x) along the last axis, layer l = 1 … T with its patterns L_q, L_k and V computes

        S(f) = |P(f)|² Re(L_q(f) conj L_k(f)),   A = softmax_f(S),   P(f) ← A(f) V(f) P(f),

    |P|² averaged over the features of a head. A sums to 1 over the bins, so T layers shrink a signal by up to f^T.

    Args:
        spectrum: P, complex, [..., d, f]: features, then the rfft bins 0 … n//2.
        query_patterns, key_patterns, value_patterns: L_q, L_k, V, complex, [T, f]; or [T, h, f] for h heads, each with
            d/h features side by side.
        normalize: score with P / (ε + |P|), ε = 1e-6, hence |S| ≤ |L_q L_k| however loud the input is.
        log_domain: S(f) = log(ε + |P(f)|) + Re(L_q(f) conj L_k(f)): A is proportional to |P|.
        residual: P(f) ← P(f) + A(f) V(f) P(f).
    Returns:
        The filtered spectrum, [..., d, f], in its dtype.
    Raises:
        ValueError: if the patterns do not match the bins or each other, a dtype is not complex, or both
            `normalize` and `log_domain` are asked for.

    >>> import jax.numpy as jnp
    >>> spectrum = jnp.array([[3.0, 0, 0, 4.0]], complex)
    >>> ones = jnp.ones((1, 4), complex)
    >>> print(jnp.round(frequency_resonator(spectrum, ones, ones, ones).real, 2))  # the louder one stays
    [[0. 0. 0. 4.]]
    """
    if normalize and log_domain:
        raise ValueError(
            "normalize and log_domain are two ways to tame the same scores; ask for one of them."
        )
    for name, other in (("key_patterns", key_patterns), ("value_patterns", value_patterns)):
        check_complex(name, other)
        check_shape(name, other, query_patterns.shape)
    _check_spectrum(spectrum, None, query_patterns, "query_patterns")
    query, key, value = (
        _split_layers(spectrum, p) for p in (query_patterns, key_patterns, value_patterns)
    )
    heads = _split_heads(spectrum, query.shape[1])
    power = jnp.mean(heads.real**2 + heads.imag**2, axis=-2)

    def layer_filter(so_far, layer):
        match, value = layer
        energy = power * (so_far.real**2 + so_far.imag**2)
        if log_domain:
            scores = jnp.log(EPSILON + _root(energy)) + match
        elif normalize:
            scores = (_root(energy) / (EPSILON + _root(energy))) ** 2 * match
        else:
            scores = energy * match
        return jax.nn.softmax(scores) * value + (1 if residual else 0)

    layers = jnp.real(query * jnp.conj(key)), value
    return _filter_heads(heads, layer_filter, layers, power.shape, spectrum.shape)


def keep_component(z: AnyComplex, component: str) -> AnyComplex:
    """Keeps only the phase or only the magnitude of complex numbers, of a spectrum or of patterns.

        "phase": z / |z|, and 0 at 0;   "magnitude": |z|;   "complex": z

    Args:
        z: complex, [*shape].
        component: "complex", "phase" or "magnitude".
    Returns:
        Complex, [*shape], with finite gradients at 0.
    Raises:
        ValueError: if z is not complex or the component unknown.

    >>> import jax.numpy as jnp
    >>> print(keep_component(jnp.array([3 + 4j, 0]), "magnitude"))
    [5.+0.j 0.+0.j]
    """
    if component not in COMPONENTS:
        raise ValueError(f"unknown component {component!r}; choose one of {', '.join(COMPONENTS)}.")
    check_complex("z", z)
    z = jnp.asarray(z)
    if component == "complex":
        return z
    magnitude, phase = to_polar(z)
    if component == "magnitude":
        return jax.lax.complex(magnitude, jnp.zeros_like(magnitude))
    return from_polar(jnp.where(magnitude > 0, 1.0, 0.0).astype(magnitude.dtype), phase)


def interpolate_patterns(values: PatternKnots, n: int) -> PatternKnots:
    """Reads values given at K knots from 0 to ½ cycle per sample at the rfft bins of a length n.

    Knot j lies at j / (2 (K − 1)) cycles per sample, bin f at f / n; between knots the values are linear. So one set of
    knots means the same filter at every length, and n = 2 (K − 1) reads the knots themselves.

    Args:
        values: real, [..., K], K ≥ 1: log-magnitudes or phases, say. One knot is a constant.
        n: length, ≥ 1.
    Returns:
        Real, [..., n//2 + 1], in the dtype of the values.
    Raises:
        ValueError: if the values are not real, or n < 1.

    >>> import jax.numpy as jnp
    >>> print(interpolate_patterns(jnp.array([0.0, 1.0, 4.0]), 8))
    [0.  0.5 1.  2.5 4. ]
    """
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(
            f"values must be real floating point, got {values.dtype}; "
            "interpolate magnitudes and phases, each by itself."
        )
    if n < 1 or values.ndim < 1 or not values.shape[-1]:
        raise ValueError(f"expected n >= 1 and values [..., K], got {n} and {values.shape}.")
    values = jnp.asarray(values)
    last = values.shape[-1] - 1
    position = 2 * last * np.arange(n // 2 + 1) / n  # in knots
    left = np.minimum(position.astype(int), max(last - 1, 0))
    share = jnp.asarray(position - left, values.dtype)
    right = np.minimum(left + 1, last)
    return (1 - share) * values[..., left] + share * values[..., right]


def circulant_projection(matrix: SquareMatrix) -> SquareMatrix:
    """Returns the circulant matrix that is nearest in the Frobenius norm: the mean along each circular diagonal.

        Π(A)[i, j] = c[(i − j) mod n],   c[τ] = (1/n) Σ_j A[(j + τ) mod n, j]

    Π is an orthogonal projection, and ‖A V − Π(A) V‖ ≤ ‖A − Π(A)‖₂ ‖V‖.

    Args:
        matrix: A, real or complex floating, [..., n, n].
    Returns:
        Π(A), [..., n, n], in A's dtype; means are taken in at least float32.
    Raises:
        ValueError: if the matrix is not square or not of floating point.
    References:
        Chan, An optimal circulant preconditioner for Toeplitz systems, SIAM J. Sci. Stat. Comput. 9, 1988.

    >>> import jax.numpy as jnp
    >>> print(circulant_projection(jnp.array([[1.0, 2.0], [4.0, 3.0]])))
    [[2. 3.]
     [3. 2.]]
    """
    shape = matrix.shape
    if len(shape) < 2 or shape[-1] != shape[-2] or shape[-1] == 0:
        raise ValueError(
            f"matrix must be square, [..., n, n], got shape {shape}; a circulant has as many rows as columns."
        )
    if not jnp.issubdtype(matrix.dtype, jnp.inexact):
        raise ValueError(f"matrix must be of floating point, got {matrix.dtype}; cast it first.")
    matrix = jnp.asarray(matrix)
    index = np.arange(shape[-1])
    rows = (index[None, :] + index[:, None]) % shape[-1]  # [τ, j]
    wide = matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32))
    diagonals = jnp.mean(wide[..., rows, index[None, :]], axis=-1)
    return diagonals[..., (index[:, None] - index[None, :]) % shape[-1]].astype(matrix.dtype)


def circulant_attention(
    query: RealSequence, key: RealSequence, value: RealSequence, *, scale: float | None = None
) -> RealSequence:
    """Attends by offset: the weight of j for i depends on (i − j) mod n only, so that FFTs do all of it.

        c[τ] = (scale/n) Σ_j q[(j + τ) mod n] · k[j],   a = softmax_τ(c),   y[i] = Σ_j a[(i − j) mod n] v[j]

    This is softmax(Π(scale · Q Kᵀ)) V with Π the `circulant_projection`, in O(n log n): c is the inverse transform of
    Σ_d Q̂ conj(K̂), and ŷ = â ⊙ v̂.

    Args:
        query, key: real, [..., n, d].
        value: real, [..., n, d].
        scale: of the scores; None is 1/√d.
    Returns:
        y, real, [..., n, d], in the value's dtype; transforms are of at least float32.
    Raises:
        ValueError: if an argument is not real or the shapes differ.
    References:
        Wu et al., Autoformer, arXiv:2106.13008, which attends to a few offsets by the same correlation.

    >>> import jax.numpy as jnp
    >>> token = jnp.eye(4)  # each token is like itself only: all weight on offset 0
    >>> print(jnp.round(circulant_attention(token, token, token, scale=100.0)[0], 3))
    [1. 0. 0. 0.]
    """
    for name, array in (("query", query), ("key", key), ("value", value)):
        check_real_sequence(name, array)
        check_shape(name, array, query.shape)
    n, d = query.shape[-2:]
    dtype = jnp.promote_types(value.dtype, jnp.float32)
    q, k, v = (
        jnp.fft.rfft(jnp.swapaxes(jnp.asarray(a, dtype), -1, -2)) for a in (query, key, value)
    )  # [..., d, f]
    factor = (d**-0.5 if scale is None else scale) / n
    scores = jnp.fft.irfft(jnp.sum(q * jnp.conj(k), axis=-2), n=n) * factor
    weights = jnp.fft.rfft(jax.nn.softmax(scores))
    y = jnp.fft.irfft(weights[..., None, :] * v, n=n)
    return jnp.swapaxes(y, -1, -2).astype(value.dtype)


def _mixture(scores, basis, prior, complex_weights: bool):
    """Σ_p w_p P_p[f] from complex scores [..., h, m], pool [h, m, f] and its log-magnitudes or None."""
    size, turn = scores.real, jnp.ones_like(scores)
    if complex_weights:
        size, phase = to_polar(scores)
        turn = from_polar(jnp.ones_like(phase), phase)
    if prior is None:
        weights = jax.nn.softmax(size) * turn
        return jnp.einsum("...hp,hpf->...hf", weights, basis, precision="highest")
    weights = jax.nn.softmax(size[..., None] + prior, axis=-2) * turn[..., None]
    return jnp.sum(weights * basis, axis=-2)


def _filter_heads(heads, layer_filter: Callable, layers, shape, out_shape):
    """Multiplies the heads [..., h, d/h, f] by the product of all layers' filters, each told the product so far."""

    def layer(so_far, patterns):
        return so_far * layer_filter(so_far, patterns), None

    total, _ = jax.lax.scan(layer, jnp.ones(shape, heads.dtype), layers)
    return (heads * total[..., None, :]).reshape(out_shape)


def _split_heads(spectrum: Array, heads: int) -> jax.Array:
    *batch, d, f = spectrum.shape
    return jnp.asarray(spectrum).reshape(*batch, heads, d // heads, f)


def _split_layers(spectrum: Array, patterns: Array) -> jax.Array:
    """Layer patterns as [T, h, f] in the dtype of the spectrum."""
    t, *heads, f = patterns.shape
    return jnp.asarray(patterns, spectrum.dtype).reshape(t, *(heads or [1]), f)


def _root(energy):
    """√ with gradient 0 at 0."""
    positive = energy > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, energy, 1.0)), 0.0)


def _check_spectrum(spectrum, patterns, layer_patterns, layer_name="layer_patterns") -> None:
    """Requires X [..., d, f], P [m, f] or [h, m, f] (or None), L [T, f] or [T, h, f], all complex and fitting."""
    check_complex("spectrum", spectrum)
    if spectrum.ndim < 2 or 0 in spectrum.shape[-2:]:
        raise ValueError(
            f"spectrum must have shape [..., d, f] (features, then bins), got {spectrum.shape}; "
            "a single signal's is spectrum[None]."
        )
    pools = [] if patterns is None else [("patterns", patterns)]
    for name, array in (*pools, (layer_name, layer_patterns)):
        check_complex(name, array)
        if array.ndim not in (2, 3) or 0 in array.shape:
            raise ValueError(
                f"{name} must have two axes, or three with a heads axis, none empty, got shape {array.shape}."
            )
        if array.shape[-1] != spectrum.shape[-1]:
            raise ValueError(
                f"{name} {array.shape} are over {array.shape[-1]} bins but the spectrum {spectrum.shape} has "
                f"{spectrum.shape[-1]}; make them with interpolate_patterns for the length that was transformed."
            )
    heads = layer_patterns.shape[1:-1]
    if patterns is not None and patterns.shape[:-2] != heads:
        raise ValueError(
            f"patterns {patterns.shape} and {layer_name} {layer_patterns.shape} must have the same heads: "
            "[m, f] with [T, f], or [h, m, f] with [T, h, f]."
        )
    if heads and spectrum.shape[-2] % heads[0]:
        raise ValueError(
            f"{spectrum.shape[-2]} features cannot be split into {heads[0]} heads; choose a divisor."
        )
