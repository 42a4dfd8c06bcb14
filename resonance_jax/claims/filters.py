"""Attention and filters side by side, for the claims that compare them."""

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.ops.resonator import resonator


def softmax_weights(query: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Returns the attention matrix softmax(Q Kᵀ/√d) over the last axis, [..., n, n], from [..., n, d] in float64."""
    scores = query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1])
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def best_filter_errors(inputs: np.ndarray, outputs: np.ndarray) -> tuple[float, float]:
    """Fits the best fixed filters by least squares on half of the examples and returns their errors on the other half.

    At each frequency f the filters are Y[f, d] = H[f, d] X[f, d], a factor for each feature, and Y[f] = X[f] H[f], a
    d × d matrix that mixes the features too. No resonator that does not look at its input can do better than the
    second, up to what the fit misses.

    Args:
        inputs: [examples, n, d].
        outputs: what the layer makes of them, [examples, n, d].
    Returns:
        ‖F y − R(F x)‖ / ‖F y‖ over the held-out examples, for a factor and for a matrix.
    """
    x, y = (np.fft.rfft(a, axis=1) for a in (inputs, outputs))
    half = len(x) // 2
    (fit_x, x), (fit_y, y) = ((a[:half], a[half:]) for a in (x, y))
    factor = np.sum(fit_x.conj() * fit_y, axis=0) / np.sum(np.abs(fit_x) ** 2, axis=0)
    matrices = [np.linalg.lstsq(fit_x[:, f], fit_y[:, f], rcond=None)[0] for f in range(x.shape[1])]
    by_matrix = np.stack([x[:, f] @ matrix for f, matrix in enumerate(matrices)], axis=1)
    norm = np.linalg.norm(y)
    return float(np.linalg.norm(y - factor * x) / norm), float(np.linalg.norm(y - by_matrix) / norm)


def stacked_filters(x: jax.Array, patterns: jax.Array, layer_patterns: jax.Array) -> jax.Array:
    """One FFT along the last axis of x [b, d, n], T resonator layers scored by their input, one inverse FFT."""
    spectrum = jnp.fft.rfft(x, norm="ortho")
    spectrum = resonator(
        spectrum, patterns, layer_patterns, scores="input", scale=spectrum.shape[-1] ** -0.5
    )
    return jnp.fft.irfft(spectrum, n=x.shape[-1], norm="ortho")


def separate_filters(x: jax.Array, patterns: jax.Array, layer_patterns: jax.Array) -> jax.Array:
    """The same as T layers of FFT → filter → inverse FFT, one after the other."""

    def layer(x, pattern):
        return stacked_filters(x, patterns, pattern[None]), None

    return jax.lax.scan(layer, x, layer_patterns)[0]
