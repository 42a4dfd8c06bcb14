"""The filters and attentions that claims and benchmarks compare are what they say."""

import jax
import numpy as np
import pytest

from resonance_jax.claims.filters import (
    best_filter_errors,
    separate_filters,
    softmax_weights,
    stacked_attention,
    stacked_filters,
)


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def test_softmax_weights_are_attention():
    query, key = normal(0, 2, 5, 3, 4)
    expected = jax.nn.softmax(np.einsum("bid,bjd->bij", query, key) / 2)
    np.testing.assert_allclose(softmax_weights(query, key), expected, rtol=1e-5)
    assert np.all(np.isfinite(softmax_weights(1e3 * query, 1e3 * key)))


def test_best_filters_find_a_filter_and_only_a_matrix_mixes_features():
    x = normal(1, 40, 8, 3)
    kernel = normal(2, 5, 3)
    filtered = np.fft.irfft(kernel * np.fft.rfft(x, axis=1), n=8, axis=1)
    assert max(best_filter_errors(x, filtered)) < 1e-12
    by_factor, by_matrix = best_filter_errors(x, filtered @ normal(3, 3, 3))
    assert by_factor > 0.3
    assert by_matrix < 1e-12
    assert min(best_filter_errors(x, normal(4, 40, 8, 3))) > 0.9


def test_one_transform_does_what_many_do():
    x = normal(5, 1, 4, 16).astype(np.float32)
    pool, layers = (z.astype(np.complex64) for z in np.split(normal(6, 6, 9) + 0j, 2))
    pool[:, 1:-1] *= np.exp(1j * normal(7, 3, 7))  # real at DC and Nyquist
    once, each = (
        np.asarray(jax.jit(f)(x, pool, layers)) for f in (stacked_filters, separate_filters)
    )
    np.testing.assert_allclose(once, each, atol=1e-4 * np.abs(each).max())
    assert np.abs(once - x).max() > 0.1


@pytest.mark.parametrize("query_chunk", [None, 2])
def test_stacked_attention_is_the_formula(query_chunk):
    x, weights = normal(8, 2, 6, 4).astype(np.float32), normal(9, 3, 4, 4, 4).astype(np.float32)
    run = jax.jit(stacked_attention, static_argnames=("num_heads", "query_chunk"))
    y = run(x, weights / 2, num_heads=2, query_chunk=query_chunk)
    expected = x.astype(np.float64)
    for query, key, value, out in weights / 2:
        parts = []
        for head in (slice(0, 2), slice(2, 4)):
            attended = softmax_weights((expected @ query)[..., head], (expected @ key)[..., head])
            parts.append(attended @ (expected @ value)[..., head])
        expected = expected + np.concatenate(parts, axis=-1) @ out
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
