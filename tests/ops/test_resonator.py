"""Laws and values of ops/resonator.py."""

from functools import partial
from typing import Any

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops.polar import complex_softmax
from resonance_jax.ops.resonator import (
    circulant_attention,
    circulant_projection,
    frequency_resonator,
    interpolate_patterns,
    keep_component,
    resonator,
)

D, F, M, T = 4, 5, 3, 2
pytestmark = pytest.mark.usefixtures("quick_compile")

OPTIONS = [
    {},
    {"scores": "input"},
    {"scores": "input", "normalize": True},
    {"scores": "input", "log_domain": True},
    {"normalize": True, "log_domain": True, "complex_weights": True},
    {"scores": "input", "complex_weights": True, "scale": 0.3},
]
FREQUENCY_OPTIONS = [{}, {"normalize": True}, {"log_domain": True, "residual": True}]


def normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def complex_normal(seed: int, *shape: int) -> Any:
    return (normal(seed, *shape) + 1j * normal(seed + 1000, *shape)).astype(np.complex64)


def arguments(heads: int = 0, batch: tuple[int, ...] = (2,)) -> Any:
    """Returns a spectrum, a pool and layer patterns; 0 heads means no heads axis."""
    axis = (heads,) if heads else ()
    spectrum = complex_normal(0, *batch, D, F)
    return spectrum, complex_normal(1, *axis, M, F), complex_normal(2, T, *axis, F)


def softmax(z, axis=0):
    z = np.exp(z - z.max(axis, keepdims=True))
    return z / z.sum(axis, keepdims=True)


def resonator_twin(
    spectrum,
    patterns,
    layer_patterns,
    *,
    scores="parameters",
    normalize=False,
    log_domain=False,
    complex_weights=False,
    scale=1.0,
):
    """One row, head and layer at a time in float64; every layer filters the features themselves."""
    y = np.array(spectrum, np.complex128)
    heads = 1 if patterns.ndim == 2 else len(patterns)
    pools = np.reshape(patterns, (heads, -1, F)).astype(np.complex128)
    layers = np.reshape(layer_patterns, (-1, heads, F)).astype(np.complex128)
    size = D // heads
    for row in np.ndindex(y.shape[:-2]):
        for h in range(heads):
            features = slice(h * size, (h + 1) * size)
            pool = pools[h] / (1e-6 + np.abs(pools[h])) if normalize else pools[h]
            for layer in layers[:, h]:
                heard = y[row][features].sum(axis=0) / np.sqrt(size) if scores == "input" else 1
                z = np.array([scale * np.vdot(layer * heard, pattern) for pattern in pool])
                strength = np.abs(z) if complex_weights else np.real(z)
                turn = np.exp(1j * np.angle(z)) if complex_weights else np.ones(len(z))
                weights = np.repeat(strength[:, None], F, axis=1)
                if log_domain:
                    weights = weights + np.log(1e-6 + np.abs(pools[h]))
                weights = softmax(weights) * turn[:, None]
                y[row][features] *= np.sum(weights * pool, axis=0)
    return y


def frequency_twin(
    spectrum, query, key, value, *, normalize=False, log_domain=False, residual=False
):
    y = np.array(spectrum, np.complex128)
    heads = 1 if query.ndim == 2 else query.shape[1]
    q, k, v = (np.reshape(p, (-1, heads, F)).astype(np.complex128) for p in (query, key, value))
    size = D // heads
    for row in np.ndindex(y.shape[:-2]):
        for h in range(heads):
            features = slice(h * size, (h + 1) * size)
            for layer in range(len(q)):
                loudness = np.sqrt(np.mean(np.abs(y[row][features]) ** 2, axis=0))
                match = np.array(
                    [
                        (a * b.conjugate()).real
                        for a, b in zip(q[layer, h], k[layer, h], strict=True)
                    ]
                )
                if log_domain:
                    scores = np.log(1e-6 + loudness) + match
                else:
                    loudness = loudness / (1e-6 + loudness) if normalize else loudness
                    scores = loudness**2 * match
                gain = softmax(scores) * v[layer, h]
                y[row][features] *= 1 + gain if residual else gain
    return y


def relative_error(actual, expected) -> float:
    actual, expected = np.asarray(actual), np.asarray(expected)
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-30))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_resonator_matches_the_twin(options):
    def run(heads):
        return jax.jit(lambda *a: resonator(*a, **options))(*arguments(heads))

    for heads in (0, 2):
        expected = resonator_twin(*arguments(heads), **options)
        assert relative_error(run(heads), expected) < 2e-5, heads


@pytest.mark.parametrize("options", FREQUENCY_OPTIONS, ids=str)
def test_frequency_resonator_matches_the_twin(options):
    for heads in (0, 2):
        spectrum, _, query = arguments(heads)
        patterns = (query, complex_normal(3, *query.shape), complex_normal(4, *query.shape))
        y = jax.jit(lambda *a: frequency_resonator(*a, **options))(spectrum, *patterns)
        assert relative_error(y, frequency_twin(spectrum, *patterns, **options)) < 1e-5, heads


def test_every_option_changes_the_output():
    arrays = arguments()
    plain = {"scores": "input"}
    changes = [
        {"scores": "parameters"},
        {"normalize": True},
        {"log_domain": True},
        {"complex_weights": True},
        {"scale": 0.2},
    ]
    first, *others = jax.jit(
        lambda *a: [resonator(*a, **{**plain, **change}) for change in ({}, *changes)]
    )(*arrays)
    for change, y in zip(changes, others, strict=True):
        assert relative_error(y, first) > 0.05, change
    patterns = arrays[2], complex_normal(3, T, F), complex_normal(4, T, F)
    names = ("normalize", "log_domain", "residual")
    first, *others = jax.jit(
        lambda *a: [frequency_resonator(*a, **o) for o in ({}, *({name: True} for name in names))]
    )(arrays[0], *patterns)
    for name, y in zip(names, others, strict=True):
        assert relative_error(y, first) > 0.05, name


def test_scores_are_the_inner_products_of_the_signals():
    """Parseval: over all n bins of a complex signal, Σ_f P[f] conj X[f] = n Σ_t p[t] conj x[t]."""
    signal, pool = complex_normal(5, 1, F), complex_normal(6, M, F)
    spectra = np.fft.fft(signal).astype(np.complex64), np.fft.fft(pool).astype(np.complex64)
    inner = F * np.array([np.vdot(signal, p).real for p in pool])
    run = jax.jit(partial(resonator, scores="input", scale=0.01))
    y = run(*spectra, np.ones((1, F), np.complex64))
    expected = np.sum(softmax(0.01 * inner)[:, None] * spectra[1], axis=0) * spectra[0]
    assert relative_error(y, expected) < 1e-5


@pytest.mark.parametrize("scores", ["parameters", "input"])
def test_a_stack_is_its_layers_one_after_the_other(scores):
    spectrum, pool, layers = arguments(2)
    run = jax.jit(lambda x, layer: resonator(x, pool, layer, scores=scores))
    one_by_one = spectrum
    for layer in layers:
        one_by_one = run(one_by_one, layer[None])
    assert relative_error(run(spectrum, layers), one_by_one) < 1e-5


def test_heads_are_resonators_side_by_side():
    spectrum, pool, layers = arguments(2)
    run = jax.jit(partial(resonator, scores="input"))
    heads = [run(spectrum[:, 2 * h : 2 * h + 2], pool[h], layers[:, h]) for h in range(2)]
    together = run(spectrum, pool, layers)
    assert relative_error(together, np.concatenate(heads, axis=1)) < 1e-6


@hypothesis.given(seed=st.integers(0, 2**16), shift=st.integers(0, 7))
def test_filters_commute_with_circular_shifts_but_only_fixed_ones_are_linear(seed, shift):
    """A shift turns X̄, so that scores from the input see it; scores from the parameters do not."""
    x, pool = normal(seed, D, 8), complex_normal(seed, M, F)
    layers = complex_normal(seed + 1, T, F)
    fixed, adaptive = (lambda z, s=s: np.asarray(_JITTED(z, pool, layers, s)) for s in _SCORES)
    spectrum = np.fft.rfft(x).astype(np.complex64)
    shifted = np.fft.rfft(np.roll(x, shift, axis=-1)).astype(np.complex64)
    turn = np.exp(-2j * np.pi * shift * np.arange(F) / 8)
    size = np.abs(fixed(spectrum)).max()
    np.testing.assert_allclose(fixed(shifted) / size, turn * fixed(spectrum) / size, atol=1e-5)
    np.testing.assert_allclose(fixed(-2 * spectrum) / size, -2 * fixed(spectrum) / size, atol=1e-5)
    assert relative_error(adaptive(-spectrum), -adaptive(spectrum)) > 1e-3


_SCORES = ("parameters", "input")
_JITTED = jax.jit(lambda x, p, q, s: resonator(x, p, q, scores=s), static_argnums=3)


def test_one_pattern_is_a_plain_product():
    """A softmax of one number is 1: the scores do not matter."""
    spectrum, pool, layers = arguments()
    y = jax.jit(partial(resonator, scores="input"))(spectrum, pool[:1], layers)
    assert relative_error(y, spectrum * pool[0] ** T) < 1e-6


@hypothesis.given(
    seed=st.integers(0, 2**16),
    scale=st.sampled_from([0.0, 1e-20, 1e-3, 1.0, 1e4]),
    turn=st.booleans(),
)
def test_normalized_layers_never_amplify_and_stay_finite(seed, scale, turn):
    spectrum, pool, layers = (np.complex64(scale) * a for a in arguments(2))
    spectrum = spectrum + complex_normal(seed, *spectrum.shape)
    run = _STABLE_TURNED if turn else _STABLE
    (_, y), gradients = run(spectrum, pool, layers)
    chex.assert_tree_all_finite((y, gradients))
    assert np.all(np.abs(y) <= np.abs(spectrum) * (1 + 1e-5))


def _stable(complex_weights):
    def loss(*arrays):
        options = {"scores": "input", "normalize": True, "log_domain": True}
        y = resonator(*arrays, complex_weights=complex_weights, **options)
        return jnp.sum(jnp.real(y) + jnp.imag(y)), y

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))


_STABLE, _STABLE_TURNED = _stable(False), _stable(True)


def test_complex_weights_are_the_complex_softmax():
    spectrum, pool, layers = arguments()
    weights = jax.jit(complex_softmax)(np.sum(pool * layers[0].conj(), axis=-1))
    y = jax.jit(partial(resonator, complex_weights=True))(spectrum, pool, layers[:1])
    assert relative_error(y, spectrum * (weights @ pool)) < 1e-5


def test_attention_over_frequencies_sums_to_one():
    spectrum, _, query = arguments()
    ones = np.ones((1, F), np.complex64)
    y = np.asarray(jax.jit(frequency_resonator)(spectrum, query[:1], query[1:], ones))
    np.testing.assert_allclose(np.sum(y / spectrum, axis=-1), 1, atol=1e-5)


def test_a_silent_input_gives_silence_and_finite_gradients():
    _, pool, layers = arguments()
    silence = jnp.zeros((D, F), jnp.complex64)

    def loss(x, pool, layers):
        y = resonator(x, 0 * pool, layers, scores="input", normalize=True, complex_weights=True)
        z = frequency_resonator(x, layers, layers, layers, log_domain=True)
        return jnp.sum(jnp.abs(y + z) ** 2) + jnp.sum(jnp.real(keep_component(x, "phase")))

    value, gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(silence, pool, layers)
    assert value == 0
    chex.assert_tree_all_finite(gradients)


def test_gradients(x64):
    spectrum, pool, layers = (a.astype(complex) for a in arguments(2, ()))
    real = [part(z) for z in (spectrum, pool, layers) for part in (np.real, np.imag)]

    def run(*parts):
        z = [jax.lax.complex(*parts[i : i + 2]) for i in (0, 2, 4)]
        options = {"scores": "input", "normalize": True, "log_domain": True}
        y = resonator(*z, complex_weights=True, scale=0.5, **options)
        y = y + frequency_resonator(z[0], z[2], z[2][::-1], 1j * z[2], normalize=True)
        y = frequency_resonator(y, z[2], z[2], z[2], log_domain=True, residual=True)
        return jnp.real(y), jnp.imag(y)

    check_grads(jax.jit(run), real, order=1, modes=["rev"], rtol=1e-5, atol=1e-7)


def test_gradients_of_the_rest(x64):
    x = normal(7, 3, 4, 2).astype(float)
    matrix, knots = normal(8, 5, 5).astype(float), normal(9, 2, 4).astype(float)
    phases = complex_normal(10, 3).astype(complex)

    def run(x, matrix, knots, a, b):
        z = jax.lax.complex(a, b)
        parts = jnp.imag(keep_component(z, "phase")) + jnp.real(keep_component(z, "magnitude"))
        attended = circulant_attention(x[0], x[1], x[2])
        return attended, circulant_projection(matrix), interpolate_patterns(knots, 9), parts

    real = (x, matrix, knots, np.real(phases), np.imag(phases))
    check_grads(jax.jit(run), real, order=1, modes=["rev"], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("batch", [(), (1,), (3, 1, 2)])
def test_batch_axes_and_vmap(batch):
    spectrum, pool, layers = arguments(2, batch)
    run = jax.jit(lambda x: resonator(x, pool, layers, scores="input"))
    y = run(spectrum)
    expected = resonator_twin(spectrum, pool, layers, scores="input")
    assert relative_error(y, expected) < 1e-5
    chex.assert_trees_all_close(jax.vmap(run)(spectrum[None])[0], y, atol=1e-5)


def test_dtypes_are_kept(x64):
    spectrum, pool, layers = arguments()
    wide = pool.astype(complex), layers.astype(complex)
    ones = np.ones((1, F), complex)

    def dtype_of(op, *arrays):
        return jax.eval_shape(op, *arrays).dtype

    assert dtype_of(resonator, spectrum, *wide) == np.complex64
    assert dtype_of(resonator, spectrum.astype(complex), pool, layers) == np.complex128
    assert dtype_of(frequency_resonator, spectrum, ones, ones, ones) == np.complex64
    assert dtype_of(partial(keep_component, component="phase"), spectrum) == np.complex64
    assert dtype_of(partial(interpolate_patterns, n=7), normal(0, 3)) == np.float32
    for dtype in (jnp.bfloat16, jnp.float32, jnp.float64):
        square = jnp.eye(2, dtype=dtype)
        assert dtype_of(circulant_projection, square) == dtype
        assert dtype_of(circulant_attention, square, square, square) == dtype


def test_keep_component_splits_a_number():
    z = complex_normal(11, 3, 4)
    phase, magnitude = (jax.device_get(keep_component(z, c)) for c in ("phase", "magnitude"))
    np.testing.assert_allclose(phase * magnitude, z, rtol=1e-5)
    np.testing.assert_allclose(np.abs(phase), 1, rtol=1e-6)
    np.testing.assert_array_equal(magnitude.imag, 0)
    np.testing.assert_array_equal(keep_component(z, "complex"), z)
    np.testing.assert_array_equal(keep_component(np.zeros(2, np.complex64), "phase"), 0)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 24])
def test_interpolation_is_linear_in_cycles_per_sample(n):
    values = normal(12, 2, 5)
    knots = np.linspace(0, 0.5, 5)
    run = jax.jit(partial(interpolate_patterns, n=n))
    expected = [np.interp(np.fft.rfftfreq(n), knots, row) for row in values]
    np.testing.assert_allclose(run(values), expected, atol=1e-6)
    np.testing.assert_allclose(run(values[:, :1]), values[:, :1] * np.ones(n // 2 + 1))
    if n == 8:
        np.testing.assert_array_equal(run(values), values)


@pytest.mark.parametrize(("n", "batch"), [(1, ()), (2, (3, 1)), (6, (2,)), (7, ())])
def test_projection_is_the_mean_along_each_circular_diagonal(n, batch):
    matrix = complex_normal(13, *batch, n, n)
    projected = np.asarray(circulant_projection(matrix))
    expected = np.zeros(matrix.shape, complex)
    shift = np.roll(np.eye(n), 1, axis=0)
    for power in range(n):  # the shifts are an orthogonal basis of the circulants
        basis = np.linalg.matrix_power(shift, power)
        expected += np.sum(matrix * basis, axis=(-2, -1), keepdims=True) / n * basis
    np.testing.assert_allclose(projected, expected, atol=1e-6)
    np.testing.assert_allclose(circulant_projection(projected), projected, atol=1e-6)
    residual = matrix - projected  # orthogonal, hence nearest
    assert abs(np.sum(residual * projected.conj())) < 1e-4 * n * n


@hypothesis.given(seed=st.integers(0, 2**16))
def test_attention_is_no_farther_from_a_convolution_than_the_bound(seed):
    matrix, values = softmax(normal(seed, 6, 6), axis=-1), normal(seed + 1, 6, 2)
    gap = matrix - np.asarray(_PROJECTION(matrix))
    most = np.linalg.norm(gap, 2) * np.linalg.norm(values)
    assert np.linalg.norm(gap @ values) <= most * (1 + 1e-5)


_PROJECTION = jax.jit(circulant_projection)


@pytest.mark.parametrize("n", [1, 6, 7])
def test_circulant_attention_is_the_dense_attention(n):
    query, key, value = (normal(seed, 2, n, 3) for seed in (14, 15, 16))
    for scale in (None, 2.0):
        dense = query @ key.swapaxes(-1, -2) * (1 / np.sqrt(3) if scale is None else scale)
        weights = softmax(np.asarray(circulant_projection(dense)), axis=-1)
        y = circulant_attention(query, key, value, scale=scale)
        np.testing.assert_allclose(y, weights @ value, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(weights, circulant_projection(weights), atol=1e-6)


def test_circulant_weights_are_diagonal_in_frequency():
    """F(A V) = â ⊙ F(V): a resonator of one pattern, the transform of A's first column."""
    matrix, values = np.asarray(circulant_projection(normal(17, 8, 8))), normal(18, 8, D)
    pattern = np.fft.rfft(matrix[:, 0]).astype(np.complex64)[None]
    spectrum = np.fft.rfft(values.T).astype(np.complex64)
    y = jax.jit(resonator)(spectrum, pattern, np.zeros_like(pattern))
    np.testing.assert_allclose(np.fft.irfft(y, n=8).T, matrix @ values, atol=1e-5)


ONES: Any = np.ones((2, F), np.complex64)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: resonator(ONES.real, ONES, ONES), "spectrum must be complex, got float32"),
        (
            lambda: resonator(ONES[0], ONES, ONES),
            r"spectrum must have shape \[..., d, f\] .*\(5,\)",
        ),
        (lambda: resonator(ONES, ONES.real, ONES), "patterns must be complex, got float32"),
        (lambda: resonator(ONES, ONES, ONES.real), "layer_patterns must be complex"),
        (
            lambda: resonator(ONES, ONES[:, :3], ONES),
            r"patterns \(2, 3\) are over 3 bins but .* 5;",
        ),
        (lambda: resonator(ONES, ONES, ONES[:, 1:]), "layer_patterns .* are over 4 bins .* has 5"),
        (lambda: resonator(ONES, ONES[0], ONES), r"patterns must have two axes.*shape \(5,\)"),
        (lambda: resonator(ONES, ONES, ONES[:0]), r"layer_patterns must .* none empty.*\(0, 5\)"),
        (lambda: resonator(ONES, ONES[None], ONES), r"must have the same heads: \[m, f\] with"),
        (lambda: resonator(ONES, ONES, ONES, scores="x"), "unknown scores 'x'; choose one of par"),
        (
            lambda: resonator(ONES, *(np.ones((3, 3, F), np.complex64),) * 2),
            "2 features cannot be split into 3 heads; choose a divisor",
        ),
        (
            lambda: frequency_resonator(ONES, ONES, ONES[:1], ONES),
            r"key_patterns must have shape \(2, 5",
        ),
        (
            lambda: frequency_resonator(ONES, ONES, ONES, ONES.real),
            "value_patterns must be complex",
        ),
        (
            lambda: frequency_resonator(ONES[:, 1:], ONES, ONES, ONES),
            "query_patterns .* over 5 bins",
        ),
        (
            lambda: frequency_resonator(ONES, ONES, ONES, ONES, normalize=True, log_domain=True),
            "normalize and log_domain are two ways",
        ),
        (lambda: keep_component(ONES, "real"), "unknown component 'real'; choose one of complex"),
        (lambda: keep_component(ONES.real, "phase"), "z must be complex"),
        (
            lambda: interpolate_patterns(ONES, 4),
            "values must be real floating point, got complex64",
        ),
        (lambda: interpolate_patterns(ONES.real, 0), r"expected n >= 1 .* got 0 and \(2, 5\)"),
        (
            lambda: circulant_projection(ONES),
            r"matrix must be square, \[..., n, n\], got shape \(2, 5",
        ),
        (
            lambda: circulant_projection(np.eye(3, dtype=int)),
            "must be of floating point, got int64",
        ),
        (
            lambda: circulant_attention(ONES.real, ONES.real[:1], ONES.real),
            r"key must have shape \(2, 5\), got \(1, 5\)",
        ),
        (
            lambda: circulant_attention(ONES, ONES, ONES),
            "query must be real floating point, got com",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
