"""Laws and values of project and synthesize in ops/fourier.py."""

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops import fourier

# Compiled whole: a primitive at a time, each shape would compile a dozen programs.
project_traced = jax.jit(fourier.project, static_argnames="chunk")
synthesize_traced = jax.jit(fourier.synthesize, static_argnums=2, static_argnames="chunk")

SHAPES = ((), (1,), (3, 1, 2))
WIDE = np.array([0.0, 0.25, 0.1234567, 0.5, 0.4999, 1e-7])  # DC, Nyquist, on, off and near the grid
NARROW = 0.2 + np.arange(24) / 1000  # few degrees of freedom: its tables are compressed


def project(x, f, chunk=None):
    return jax.jit(lambda x: fourier.project(x, f, chunk=chunk))(x)


def synthesize(spectrum, f, length, chunk=None):
    return jax.jit(lambda s: fourier.synthesize(s, f, length, chunk=chunk))(spectrum)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def complex_normal(seed: int, *shape: int) -> np.ndarray:
    return normal(seed, *shape) + 1j * normal(seed + 1000, *shape)


def project_twin(x: np.ndarray, f: np.ndarray) -> np.ndarray:
    """X_k = Σ_t x_t e^{−2πi f_k t}, one frequency at a time."""
    t = np.arange(x.shape[-2])
    rows = [np.sum(x * np.exp(-2j * np.pi * fk * t)[:, None], axis=-2) for fk in f]
    return np.stack(rows, axis=-2)


def synthesize_twin(spectrum: np.ndarray, f: np.ndarray, length: int) -> np.ndarray:
    """y_t = Re Σ_k S_k e^{2πi f_k t}, one frequency at a time."""
    y = np.zeros((*spectrum.shape[:-2], length, spectrum.shape[-1]))
    for k, fk in enumerate(f):
        wave = np.exp(2j * np.pi * fk * np.arange(length))[:, None]
        y += (spectrum[..., k, None, :] * wave).real
    return y


def relative_error(actual, expected: np.ndarray) -> float:
    return float(np.linalg.norm(np.asarray(actual) - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    ("length", "f"),
    [
        *[(length, WIDE) for length in (1, 2, 15, 16, 17, 1301)],
        (4096, np.arange(32) / 4096),  # a narrow band, near DC and away from it
        (2039, 0.2 + np.arange(32) / 4096),
    ],
)
def test_project_and_synthesize_match_direct_sums(x64, length, f):
    x, spectrum = normal(0, 2, length, 3), complex_normal(1, 2, len(f), 3)
    big_x, y = project_twin(x, f), synthesize_twin(spectrum, f, length)
    assert relative_error(project(x, f), big_x) < 1e-12
    assert relative_error(synthesize(spectrum, f, length), y) < 1e-12
    assert relative_error(project_traced(x, jnp.asarray(f)), big_x) < 1e-12
    assert relative_error(synthesize_traced(spectrum, jnp.asarray(f), length), y) < 1e-12


@pytest.mark.parametrize("chunk", [1, 5, 36, 37, 100])
@pytest.mark.parametrize("f", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_chunk_size_gives_the_same(x64, f, chunk):
    x, spectrum = normal(2, 37, 2), complex_normal(3, len(f), 2)
    assert relative_error(project(x, f, chunk), project_twin(x, f)) < 1e-12
    y = synthesize_twin(spectrum, f, 37)
    assert relative_error(synthesize(spectrum, f, 37, chunk), y) < 1e-12
    if chunk == 5:
        assert (
            relative_error(project_traced(x, jnp.asarray(f), chunk=5), project_twin(x, f)) < 1e-12
        )
        assert relative_error(synthesize_traced(spectrum, jnp.asarray(f), 37, chunk=5), y) < 1e-12


@pytest.mark.parametrize("n", [1, 15, 16, 17])
def test_on_the_grid_project_is_rfft_and_synthesize_inverts_it(n):
    x = normal(4, n, 2).astype(np.float32)
    bins = np.arange(n // 2 + 1)
    spectrum = project(x, bins / n)
    np.testing.assert_allclose(spectrum, np.fft.rfft(x, axis=0), atol=2e-5)
    scale = np.where((bins == 0) | (2 * bins == n), 1, 2)[:, None] / n
    back = synthesize(spectrum * scale.astype(np.float32), bins / n, n)
    np.testing.assert_allclose(back, x, atol=2e-5)


@pytest.mark.parametrize("kind", ["wide", "band", "traced"])
def test_float32_is_accurate_at_a_million_samples(kind):
    length = 2**20
    f = np.array([0.1234567, 0.25, 1000 / length, 0.4999999]) if kind != "band" else None
    bins = np.arange(1, 33)
    f = bins / length if f is None else f
    given = jnp.asarray(f, jnp.float32) if kind == "traced" else f
    f = np.asarray(given, np.float64)  # for the value that float32 holds
    x = normal(5, length, 1).astype(np.float32)
    spectrum = complex_normal(6, len(f), 1).astype(np.complex64)
    big_x, y = (
        (project_twin(x, f), synthesize_twin(spectrum, f, length))
        if kind != "band"
        else (
            np.fft.rfft(x.astype(float), axis=0)[bins],
            length / 2 * np.fft.irfft(np.pad(spectrum, ((1, length // 2 - 32), (0, 0))), axis=0),
        )
    )
    actual = project_traced(x, given) if kind == "traced" else project(x, given)
    for k in range(len(f)):
        assert relative_error(actual[k], big_x[k]) < 3e-5
    run = synthesize_traced if kind == "traced" else synthesize
    assert relative_error(run(spectrum, given, length), y) < 3e-5


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_traced_16_bit_frequencies_keep_the_value_they_hold(name):
    f = jnp.array([0.3, 0.4], name)
    x = normal(7, 3000, 1).astype(np.float32)
    assert relative_error(project_traced(x, f), project_twin(x, np.asarray(f, float))) < 1e-5


@pytest.mark.parametrize("batch", SHAPES)
def test_batch_axes_and_vmap(batch):
    x = normal(8, *batch, 9, 2).astype(np.float32)
    spectrum = complex_normal(9, *batch, 6, 2).astype(np.complex64)
    big_x, y = project(x, WIDE), synthesize(spectrum, WIDE, 9)
    assert big_x.shape == (*batch, 6, 2) and y.shape == (*batch, 9, 2)
    np.testing.assert_allclose(big_x, project_twin(x, WIDE), atol=1e-5)
    np.testing.assert_allclose(y, synthesize_twin(spectrum, WIDE, 9), atol=1e-5)
    both = jax.vmap(lambda x, s: (fourier.project(x, WIDE), fourier.synthesize(s, WIDE, 9)))
    stacked = jax.jit(both)(jnp.stack([x, 2 * x]), jnp.stack([spectrum, -spectrum]))
    expected = jnp.stack([big_x, 2 * big_x]), jnp.stack([y, -y])
    chex.assert_trees_all_close(stacked, expected, atol=1e-5)


@hypothesis.given(
    f=st.lists(st.floats(-2, 2, width=32, allow_subnormal=False), min_size=2, max_size=2),
    seed=st.integers(0, 2**16),
    shift=st.integers(0, 40),
)
def test_projection_laws(f, seed, shift):
    """Delay is a phase, a whole cycle is none, −f conjugates; synthesize is the adjoint."""
    f = np.array(f)
    x = normal(seed, 40, 2).astype(np.float32)
    spectrum = complex_normal(seed, 2, 2).astype(np.complex64)
    with jax.enable_x64(True):
        x, spectrum, traced = x.astype(float), spectrum.astype(complex), jnp.asarray(f)
        big_x = np.asarray(project_traced(x, traced, chunk=11))
        delayed = project_traced(np.pad(x, ((shift, 40 - shift), (0, 0))), traced)
        phase = np.exp(-2j * np.pi * f * shift)[:, None]
        np.testing.assert_allclose(delayed, big_x * phase, atol=1e-10)
        np.testing.assert_allclose(project_traced(x, traced + 1, chunk=11), big_x, atol=1e-10)
        np.testing.assert_allclose(project_traced(x, -traced, chunk=11), big_x.conj(), atol=1e-10)
        y = np.asarray(synthesize_traced(spectrum, traced, 40, chunk=11))
    np.testing.assert_allclose(np.sum(x * y), np.vdot(spectrum, big_x).real, atol=1e-10)


@pytest.mark.parametrize("f", [WIDE, NARROW], ids=["wide", "narrow"])
def test_synthesize_is_the_transpose_up_to_conjugation(x64, f):
    spectrum = complex_normal(10, len(f), 2)
    x = jnp.asarray(normal(11, 37, 2))
    transposed = jax.jit(lambda s: jax.vjp(lambda x: fourier.project(x, f), x)[1](s)[0])(spectrum)
    np.testing.assert_allclose(transposed, synthesize(spectrum.conj(), f, 37), atol=1e-12)


def test_gradients(x64):
    x, spectrum, f = normal(12, 7, 2), complex_normal(13, 2, 2), np.array([0.21, 0.4])
    check_grads(lambda x, f: project_traced(x, f, chunk=3), (x, f), order=1, rtol=1e-6)
    check_grads(lambda s, f: synthesize_traced(s, f, 7, chunk=3), (spectrum, f), 1, rtol=1e-6)


def test_frequency_gradient_matches_its_sum_over_a_long_sequence():
    """∂X/∂f = Σ_t −2πi t x_t e^{−2πi f t}, across the 4096 samples at which t is split."""
    x = normal(14, 10_000, 1).astype(np.float32)
    f = jnp.array([0.123456, 0.4], jnp.float32)
    t = np.arange(10_000.0)[:, None]
    expected = project_twin(-2j * np.pi * t * x, np.asarray(f, float))
    _, change = jax.jvp(lambda f: project_traced(x, f), (f,), (jnp.ones(2),))
    assert relative_error(change, expected) < 3e-6


def test_static_frequencies_may_be_a_list_and_the_batch_empty():
    x = normal(15, 8, 1).astype(np.float32)
    chex.assert_trees_all_close(project(x, [0.0, 0.3]), project(x, np.array([0, 0.3])), rtol=0)
    for f in (WIDE, NARROW):
        assert project(jnp.zeros((0, 99, 1)), f).shape == (0, len(f), 1)
        assert synthesize(jnp.zeros((0, len(f), 1), complex), f, 99).shape == (0, 99, 1)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_dtypes(x64, dtype):
    x = jnp.ones((4, 1), dtype)
    spectrum = project(x, WIDE)
    wide = jnp.float64 if dtype == "float64" else jnp.float32
    assert spectrum.dtype == jnp.promote_types(wide, jnp.complex64)
    assert project_traced(x, jnp.asarray(WIDE)).dtype == spectrum.dtype
    assert synthesize(spectrum, WIDE, 4).dtype == wide


@pytest.mark.error_message
def test_errors_of_project_and_synthesize():
    x, spectrum = jnp.ones((4, 1)), jnp.ones((2, 1), complex)
    for f in (np.ones((1, 1)), np.ones(0), jnp.ones((1, 1)), np.array(0.2)):
        with pytest.raises(ValueError, match=r"frequencies must have shape \[k\] with k >= 1, got"):
            fourier.project(x, f)
    for f in (np.arange(3), jnp.arange(3), np.ones(2, complex)):
        with pytest.raises(
            ValueError, match=r"frequencies must be real floating point.*divide bins"
        ):
            fourier.project(x, f)
    with pytest.raises(ValueError, match=r"frequencies must be finite, got \[0.1, nan\]"):
        fourier.synthesize(spectrum, np.array([0.1, np.nan]), 4)
    with pytest.raises(ValueError, match="chunk must be at least 1, got 0"):
        fourier.project(x, WIDE, chunk=0)
    with pytest.raises(ValueError, match="spectrum must be complex, got float32"):
        fourier.synthesize(x, WIDE, 4)
    with pytest.raises(ValueError, match=r"with k = 6 frequencies, got \(2, 1\)"):
        fourier.synthesize(spectrum, WIDE, 4)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        fourier.synthesize(spectrum, WIDE[:2], 0)
