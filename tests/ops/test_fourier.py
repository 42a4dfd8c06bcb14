"""Laws and values of ops/fourier.py but for project and synthesize (test_projection.py)."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from jax.test_util import check_grads

from resonance_jax.ops import fourier
from resonance_jax.ops.fourier import fast_length, select_bins, window

# Compiled whole: a primitive at a time, each shape would compile a dozen programs.
causal_convolve = jax.jit(fourier.causal_convolve)
low_pass = jax.jit(fourier.low_pass, static_argnums=1, static_argnames="transition")


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# bins and lengths


@pytest.mark.parametrize("strategy", ["low", "log", "uniform"])
def test_select_bins_laws(strategy):
    for num_bins in (*range(1, 40), 1025):
        for k in range(1, min(num_bins, 40) + 1):
            bins = select_bins(num_bins, k, strategy)
            assert bins.dtype == np.int32 and bins.shape == (k,)
            assert bins[0] == 0 and bins[-1] < num_bins and np.all(np.diff(bins) > 0)


def test_select_bins_values():
    np.testing.assert_array_equal(select_bins(1025, 4), [0, 1, 2, 3])
    np.testing.assert_array_equal(select_bins(1025, 12, "log"), [0, *2 ** np.arange(11)])
    np.testing.assert_array_equal(select_bins(1025, 5, "uniform"), [0, 256, 512, 768, 1024])
    for num_bins in (51, 1025):
        gaps = np.diff(select_bins(num_bins, 40, "uniform"))
        assert max(gaps) - min(gaps) <= 1
        for strategy in ("log", "uniform"):
            assert select_bins(num_bins, 40, strategy)[-1] == num_bins - 1


def test_fast_length_matches_brute_force():
    powers = np.array([2**a * 3**b for a in range(12) for b in range(8)])
    smooth = np.outer(powers, [5**c * 7**d for c in range(6) for d in range(5)]).ravel()
    smooth = np.sort(smooth)
    for n in range(1, 2000):
        assert fast_length(n) == smooth[np.searchsorted(smooth, n)]


# causal_convolve


@pytest.mark.parametrize(("t", "m"), [(1, 1), (7, 3), (7, 7), (7, 12), (16, 1)])
def test_causal_convolve_matches_numpy(x64, t, m):
    x, kernel = normal(16, 2, t, 3), normal(17, m, 3)
    y = causal_convolve(x, kernel)
    for b, d in np.ndindex(2, 3):
        expected = np.convolve(x[b, :, d], kernel[:, d])[:t]
        np.testing.assert_allclose(y[b, :, d], expected, atol=1e-13)


def test_causal_convolve_broadcasts_batch_and_features():
    x, kernel = normal(18, 2, 1, 5, 3).astype(np.float32), normal(19, 4, 3, 1).astype(np.float32)
    y = causal_convolve(x, kernel)
    assert y.shape == (2, 4, 5, 3)
    expected = np.convolve(x[1, 0, :, 2], kernel[3, :, 0])[:5]
    np.testing.assert_allclose(y[1, 3, :, 2], expected, atol=1e-5)


def test_causal_convolve_is_causal():
    x, kernel = normal(20, 64, 2).astype(np.float32), normal(21, 64, 2).astype(np.float32)
    y = np.asarray(causal_convolve(x, kernel))
    future = x.copy()
    future[40:] = 1e3
    scale = np.abs(causal_convolve(future, kernel)).max()  # round-off is relative to the largest
    np.testing.assert_array_less(
        np.abs(causal_convolve(future, kernel)[:40] - y[:40]), 1e-6 * scale
    )
    np.testing.assert_allclose(causal_convolve(x[:40], kernel), y[:40], atol=1e-6 * abs(y).max())


# window and low_pass


@pytest.mark.parametrize("name", ["hann", "hamming", "blackman", "rectangular"])
def test_window_matches_scipy(name):
    scipy_name = "boxcar" if name == "rectangular" else name
    for length in (1, 2, 7, 16):
        expected = scipy.signal.get_window(scipy_name, length, fftbins=True)
        np.testing.assert_allclose(window(name, length), expected, atol=1e-15)


@pytest.mark.parametrize("n", [15, 16])
def test_low_pass_passes_and_stops(n):
    for b in range(n // 2 + 1):
        x = np.cos(2 * np.pi * b * np.arange(n) / n + 0.3)[:, None].astype(np.float32)
        expected = x if b <= 5 else 0 * x
        np.testing.assert_allclose(low_pass(x, 5.5 / n), expected, atol=1e-5)


@pytest.mark.parametrize("n", [1, 10])  # 3 / 10 and 3 * (1 / 10) differ
def test_low_pass_keeps_every_bin_of_the_cutoff(n):
    for b in range(1, n // 2 + 1):
        x = np.cos(2 * np.pi * b * np.arange(n) / n)[:, None].astype(np.float32)
        np.testing.assert_allclose(low_pass(x, b / n), x, atol=1e-5)
    np.testing.assert_allclose(low_pass(np.ones((n, 1), np.float32), 0.01), 1, atol=1e-6)  # DC


def test_low_pass_transition_is_a_raised_cosine():
    gain = []
    for b in range(17):
        x = np.cos(2 * np.pi * b * np.arange(32) / 32)[:, None].astype(np.float32)
        gain.append(low_pass(x, 0.25, transition=0.25)[0, 0])
    ramp = np.clip((np.arange(17) / 32 - 0.125) / 0.25, 0, 1)
    np.testing.assert_allclose(gain, np.cos(np.pi * ramp / 2) ** 2, atol=1e-6)


def test_gradients(x64):
    x = normal(12, 7, 2)
    check_grads(causal_convolve, (x, x[:3]), order=1, rtol=1e-6)
    check_grads(lambda x: low_pass(x, 0.2, transition=0.1), (x,), order=1, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_dtypes_are_kept_under_vmap(x64, dtype):
    x = jnp.asarray(normal(13, 3, 4, 2), dtype)
    y = jax.vmap(causal_convolve)(x, x), jax.vmap(lambda x: low_pass(x, 0.2))(x)
    chex.assert_type(y, x.dtype)
    expected = causal_convolve(x, x), low_pass(x, 0.2)
    chex.assert_trees_all_close(y, expected, rtol=1e-2 if dtype == "bfloat16" else 1e-5)


# errors


@pytest.mark.error_message
@pytest.mark.parametrize(
    "op", [lambda x: low_pass(x, 0.2), lambda x: fourier.project(x, np.array([0.2]))]
)
def test_errors_of_a_sequence(op):
    with pytest.raises(ValueError, match=r"x must have shape \[..., t, d\].*got shape \(3,\); add"):
        op(jnp.ones(3))
    with pytest.raises(ValueError, match="x must be real floating point, got complex64; cast"):
        op(jnp.ones((3, 1), complex))
    with pytest.raises(ValueError, match=r"x is empty along time or features: shape \(0, 1\)"):
        op(jnp.ones((0, 1)))


@pytest.mark.error_message
def test_errors_of_the_rest():
    x = jnp.ones((4, 2))
    for n in (0, 1.5):  # 1.5 would be counted up for ever
        with pytest.raises(ValueError, match=f"n must be a whole number and at least 1, got {n}"):
            fast_length(n)  # pyright: ignore[reportArgumentType]
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"k = {k} frequencies .* there are 5 bins; choose"):
            select_bins(5, k)
    with pytest.raises(
        ValueError, match="unknown strategy 'high'; choose one of low, log, uniform"
    ):
        select_bins(5, 2, "high")
    with pytest.raises(
        ValueError, match=r"kernel must have 2 features \(or 1\), got shape \(4, 3\)"
    ):
        fourier.causal_convolve(x, jnp.ones((4, 3)))
    with pytest.raises(ValueError, match="unknown window 'kaiser'; choose one of rectangular"):
        window("kaiser", 4)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        window("hann", 0)
    for cutoff, transition in ((0.0, 0.0), (0.6, 0.0), (0.2, -0.1), (0.2, np.nan)):
        with pytest.raises(ValueError, match=r"expected 0 < cutoff <= 0.5 cycles per sample"):
            fourier.low_pass(x, cutoff, transition=transition)
