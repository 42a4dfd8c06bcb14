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
    """The same as T layers of FFT → filter → inverse FFT, one after the other.

    Equal to `stacked_filters` for patterns that are real at DC and Nyquist: elsewhere each inverse FFT drops what is
    imaginary there, and the stack only the last.
    """

    def layer(x, pattern):
        return stacked_filters(x, patterns, pattern[None]), None

    return jax.lax.scan(layer, x, layer_patterns)[0]


def stacked_attention(
    x: jax.Array, weights: jax.Array, num_heads: int, query_chunk: int | None = None
) -> jax.Array:
    """T layers of multi-head attention on x [b, n, d], each added to its input.

    Args:
        x: [b, n, d].
        weights: projections of queries, keys, values and results, [T, 4, d, d].
        num_heads: a divisor of d.
        query_chunk: queries at a time, a divisor of n, where all scores at once would not fit; None is all.
    """
    b, n, d = x.shape

    def split(x):
        return x.reshape(b, n, num_heads, d // num_heads).swapaxes(1, 2)  # [b, h, n, d/h]

    def attend(query, key, value):
        # Heads before positions: on a CPU 2.6 times as fast as jax.nn.dot_product_attention (n = 1024, 4 heads).
        scores = query @ key.swapaxes(-1, -2) * (d // num_heads) ** -0.5
        return jax.nn.softmax(scores) @ value

    def layer(x, matrices):
        query, key, value = (split(x @ m) for m in matrices[:3])
        if query_chunk is None:
            y = attend(query, key, value)
        else:
            parts = query.reshape(b, num_heads, -1, query_chunk, d // num_heads)
            y = jax.lax.map(lambda q: attend(q, key, value), jnp.moveaxis(parts, 2, 0))
            y = jnp.moveaxis(y, 0, 2).reshape(query.shape)
        return x + y.swapaxes(1, 2).reshape(x.shape) @ matrices[3], None

    return jax.lax.scan(layer, x, weights)[0]
