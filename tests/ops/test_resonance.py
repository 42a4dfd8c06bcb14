"""Laws and values of ops/resonance.py."""

import re

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops.fourier import select_bins
from resonance_jax.ops.resonance import METHODS, choose_method, resonate

D = 2
CASES = [  # sequence length, FFT length: odd, even, prime and length 1, without and with padding
    (15, 15),
    (16, 16),
    (17, 17),
    (1, 1),
    (15, 16),
    (16, 21),
    (17, 18),
    (1, 4),
]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def complex_normal(seed: int, *shape: int) -> np.ndarray:
    return normal(seed, *shape) + 1j * normal(seed + 1000, *shape)


def arguments(t: int, n: int, k: int | None = None, batch: tuple[int, ...] = (2,)):
    """Returns x, weights, interference, bins (in falling order, Nyquist and DC among them), mask."""
    k = min(n // 2 + 1, 5) if k is None else k
    bins = select_bins(n // 2 + 1, k, "uniform")[::-1].copy()
    mask = np.random.default_rng(t).random((*batch, t)) < 0.7
    mask[..., 0] = True
    x, weights = normal(0, *batch, t, D), complex_normal(1, k, D)
    return x, weights, 0.3 * complex_normal(2, k, k), bins, mask


def resonate_twin(x, weights, bins, interference=None, unselected="drop", n=None, mask=None):
    """The layer's mathematics in float64, one (row, feature) at a time, by rfft and irfft."""
    x = np.asarray(x, np.float64)
    visible = np.ones(x.shape[:-1], bool) if mask is None else mask
    t, n = x.shape[-2], n or x.shape[-2]
    y = np.zeros_like(x)
    for row in np.ndindex(x.shape[:-2]):
        for d in range(x.shape[-1]):
            padded = np.zeros(n)
            padded[:t] = np.where(visible[row], x[row][:, d], 0)
            spectrum = np.fft.rfft(padded)
            s = np.array([weights[j, d] * spectrum[bins[j]] for j in range(len(bins))])
            if interference is not None:
                s = s + np.array([np.sum(row_j * s) for row_j in interference])
            full = np.zeros(n // 2 + 1, complex) if unselected == "drop" else spectrum.copy()
            full[bins] = s
            full[0] = full[0].real
            if n % 2 == 0:
                full[-1] = full[-1].real
            y[row][:, d] = np.where(visible[row], np.fft.irfft(full, n=n)[:t], 0)
    return y


def relative_error(actual, expected) -> float:
    """The error's norm over the expected norm; an expected 0 must be met to 1e-6."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 0.1))


@pytest.mark.parametrize(("t", "n"), CASES)
def test_methods_agree_with_each_other_and_with_the_twin(t, n):
    x, weights, interference, bins, mask = arguments(t, n)
    readout = normal(3, *x.shape)

    def value_and_gradients(method, unselected, mask):
        def run(x, weights, interference):
            y = resonate(
                x,
                weights,
                bins,
                interference=interference,
                unselected=unselected,
                fft_length=n,
                mask=mask,
                method=method,
            )
            return jnp.sum(y * readout), y

        gradient = jax.grad(run, (0, 1, 2), has_aux=True)
        return gradient(x, weights, interference)

    options = [("drop", mask), ("pass", mask), ("drop", None), ("pass", None)]
    both = jax.jit(
        lambda: [[value_and_gradients(m, *o) for o in options] for m in ("fft", "matrix")]
    )()
    for option, by_fft, by_matrix in zip(options, *both, strict=True):
        for a, b in zip(by_fft[0], by_matrix[0], strict=True):
            assert relative_error(a, b) < 1e-5, option
        expected = resonate_twin(x, weights, bins, interference, option[0], n, option[1])
        assert relative_error(by_fft[1], expected) < 1e-5, option
        assert relative_error(by_matrix[1], expected) < 1e-5, option


@pytest.mark.parametrize("method", METHODS)
def test_float64_matches_the_twin_on_a_long_narrow_band(x64, method):
    bins = np.arange(24)
    x, weights = normal(4, 2048, D).astype(float), complex_normal(5, 24, D).astype(complex)
    y = jax.jit(lambda x: resonate(x, weights, bins, method=method))(x)
    assert y.dtype == jnp.float64
    assert relative_error(y, resonate_twin(x, weights, bins)) < 1e-12


@pytest.mark.parametrize("method", ["fft", "matrix"])
@pytest.mark.parametrize("batch", [(), (1,), (3, 1, 2)])
def test_batch_axes_and_vmap(batch, method):
    x, weights, _, bins, _ = arguments(12, 12, batch=batch)
    run = jax.jit(lambda x, w: resonate(x, w, bins, method=method))
    y = run(x, weights)
    assert relative_error(y, resonate_twin(x, weights, bins)) < 1e-5
    stacked = jax.vmap(run)(jnp.stack([x, x]), jnp.stack([weights, 2 * weights]))
    chex.assert_trees_all_close(stacked, jnp.stack([y, 2 * y]), atol=1e-5)


@hypothesis.given(
    seed=st.integers(0, 2**16),
    scale=st.sampled_from([0.0, 1e-30, 1.0, 1e15]),
    shift=st.integers(0, 11),
)
def test_filter_laws(seed, scale, shift):
    """Linear; commutes with circular shifts; ones on every bin are the identity; never adds bins."""
    x, weights = np.float32(scale) * normal(seed, 12, D), complex_normal(seed, 7, D)
    y = np.asarray(_all_bins(x, weights))
    size = np.abs(y).max() + np.finfo(np.float32).tiny
    shifted = _all_bins(np.roll(x, shift, axis=0), weights)
    np.testing.assert_allclose(shifted / size, np.roll(y, shift, axis=0) / size, atol=1e-5)
    np.testing.assert_allclose(_all_bins(-2 * x, weights) / size, -2 * y / size, atol=1e-5)
    identity = np.asarray(_all_bins(x, np.ones((7, D), np.complex64)))
    largest = np.abs(x).max() + np.finfo(np.float32).tiny
    np.testing.assert_allclose(identity / largest, x / largest, atol=1e-5)


@jax.jit
def _all_bins(x, weights):
    return resonate(x, weights, np.arange(7), method="matrix")


@pytest.mark.parametrize("method", ["fft", "matrix"])
def test_gradients(x64, method):
    x, weights, interference, bins, mask = arguments(6, 8)
    wide = x.astype(float), weights.astype(complex), interference.astype(complex)

    def run(x, weights, interference):
        options = {"interference": interference, "fft_length": 8, "mask": mask}
        return resonate(x, weights, bins, unselected="pass", method=method, **options)

    check_grads(jax.jit(run), wide, order=1, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("method", ["fft", "matrix"])
def test_every_argument_gets_a_gradient_and_only_real_parts_count_at_the_ends(method):
    x, weights, interference, bins, _ = arguments(16, 16)
    readout = normal(6, *x.shape)

    def loss(x, weights, interference):
        y = resonate(x, weights, bins, interference=interference, method=method)
        return jnp.sum(y * readout)

    without = jax.jit(lambda w: jax.grad(lambda w: loss(x, w, None))(w))(weights)
    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(x, weights, interference)
    for gradient in (*gradients, without):
        chex.assert_tree_all_finite(gradient)
        assert np.all(np.abs(gradient) > 1e-5)
    ends = (bins == 0) | (bins == 8)
    np.testing.assert_allclose(without[ends].imag, 0, atol=1e-5)
    assert np.all(np.abs(without[~ends].imag) > 1e-4)


@pytest.mark.parametrize("method", ["fft", "matrix"])
def test_imaginary_parts_at_dc_and_nyquist_have_no_effect(method):
    x, weights, _, bins, _ = arguments(16, 16)
    ends = (bins == 0) | (bins == 8)
    assert ends.sum() == 2
    run = jax.jit(lambda w: resonate(x, w, bins, method=method))
    turned = weights + 10j * ends[:, None].astype(np.complex64)
    assert relative_error(run(turned), run(weights)) < 1e-6


def test_every_option_changes_the_output_but_the_method():
    x, weights, interference, bins, mask = arguments(16, 16)

    def run(x=x, weights=weights, bins=bins, **options):
        return jax.jit(lambda x: resonate(x, weights, bins, **options))(x)

    plain = run()
    changes = [
        {"interference": interference},
        {"unselected": "pass"},
        {"fft_length": 20},
        {"mask": mask},
        {"bins": (bins + 1) % 9},
        {"weights": 2 * weights},
        {"x": x + 1},
    ]
    for change in changes:
        assert relative_error(run(**change), plain) > 0.05, change
    for method in METHODS:
        assert relative_error(run(method=method), plain) < 1e-6


@pytest.mark.parametrize("method", ["fft", "matrix"])
@pytest.mark.parametrize("unselected", ["drop", "pass"])
def test_hidden_values_never_leak(method, unselected):
    x, weights, interference, bins, mask = arguments(16, 16)

    @jax.jit
    def run(x):
        options = {"interference": interference, "mask": mask, "method": method}
        y = resonate(x, weights, bins, unselected=unselected, **options)
        return jnp.sum(y**2), y

    (_, y), gradient = jax.value_and_grad(run, has_aux=True)(x)
    for hidden in (1e30, np.inf, np.nan):
        changed = np.where(mask[..., None], x, np.float32(hidden))
        (_, again), gradient_again = jax.value_and_grad(run, has_aux=True)(changed)
        chex.assert_trees_all_equal(again, y)
        chex.assert_trees_all_equal(gradient_again, gradient)
    np.testing.assert_array_equal(np.asarray(y)[~mask], 0)
    np.testing.assert_array_equal(np.asarray(gradient)[~mask], 0)


@pytest.mark.parametrize("method", ["fft", "matrix"])
def test_batch_rows_and_features_do_not_leak(method):
    x, weights, interference, bins, _ = arguments(15, 15)
    run = jax.jit(lambda x: resonate(x, weights, bins, interference=interference, method=method))
    other = x.copy()
    other[1, :, 0] = np.nan
    y, changed = np.array(run(x)), np.array(run(other))
    assert np.all(np.isnan(changed[1, :, 0]))
    changed[1, :, 0] = y[1, :, 0]
    np.testing.assert_allclose(changed, y, atol=1e-6)


@pytest.mark.parametrize("method", ["fft", "matrix"])
def test_evenly_spaced_bins_make_the_output_periodic(method):
    """Bins s·j repeat after n/s samples, whatever the weights; a bin between them ends that."""
    n, s = 24, 3
    x, weights, interference = normal(7, n, D), complex_normal(8, 5, D), complex_normal(9, 5, 5)

    def ratio(bins):
        run = jax.jit(
            lambda x: resonate(x, weights, bins, interference=interference, method=method)
        )
        y = np.asarray(run(x))
        return relative_error(np.roll(y, n // s, axis=0), y)

    assert ratio(s * np.arange(5)) < 1e-5
    assert ratio(np.array([0, 3, 6, 9, 10])) > 0.1


def test_magnitude_gradient_is_bounded_by_the_spectra(x64):
    """|∂L/∂r_f| ≤ (c_f/n) ‖X_f‖ ‖G_f‖ over features, hence ≤ ‖X_f‖ ‖G_f‖; reached where G ∝ X."""
    n, k = 16, 9
    bins = np.arange(k)
    x, phase = normal(10, n, D).astype(float), normal(11, k, 1).astype(float)
    big_x = np.fft.rfft(x, axis=0)
    share = np.where((bins == 0) | (bins == 8), 1, 2) / n

    @jax.jit
    def gradient(g):
        def loss(r):
            weights = r * jnp.exp(1j * phase) * jnp.ones((1, D))
            return jnp.sum(resonate(x, weights, bins) * g)

        return jax.grad(loss)(jnp.ones((k, 1)))[:, 0]

    def bound(g):
        norms = np.linalg.norm(big_x, axis=1) * np.linalg.norm(np.fft.rfft(g, axis=0), axis=1)
        assert np.all(share * norms <= norms)
        return share * norms

    for seed in range(5):
        g = normal(12 + seed, n, D).astype(float)
        assert np.all(np.abs(gradient(g)) <= bound(g) * (1 + 1e-12))
    aligned = np.fft.irfft(big_x * np.exp(1j * phase), n=n, axis=0)
    inner = slice(1, 8)  # at DC and Nyquist only the real part of the turned spectrum is left
    np.testing.assert_allclose(gradient(aligned)[inner], bound(aligned)[inner], rtol=1e-12)


@pytest.mark.parametrize(("method", "least", "most"), [("fft", 2, 99), ("matrix", 0, 0)])
def test_number_of_ffts_in_the_compiled_program(method, least, most):
    x, weights, interference, bins, mask = arguments(16, 18)

    def loss(x, weights, interference):
        options = {"interference": interference, "fft_length": 18, "mask": mask}
        return jnp.sum(resonate(x, weights, bins, method=method, **options) ** 2)

    step = jax.jit(jax.grad(loss, (0, 1, 2))).lower(x, weights, interference).compile()
    count = len(re.findall(r"\bfft\(|fft_type", step.as_text() or ""))
    assert least <= count <= most


@pytest.mark.parametrize(("method", "dtype"), [("fft", "bfloat16"), ("matrix", "float16")])
def test_16_bit_inputs_are_summed_in_float32_and_rounded_once(method, dtype):
    x, weights, interference, bins, _ = arguments(16, 16)
    x = jnp.asarray(x, dtype)

    @jax.jit
    def run(x):
        return resonate(x, weights, bins, interference=interference, method=method)

    y = run(x)
    assert y.dtype == x.dtype
    chex.assert_trees_all_equal(y, run(x.astype(jnp.float32)).astype(dtype))
    assert jax.grad(lambda x: jnp.sum(run(x) ** 2))(x).dtype == x.dtype


def test_weights_of_another_precision_do_not_change_the_dtype(x64):
    x, weights, interference, bins, _ = arguments(8, 8)
    run = jax.jit(lambda x, w, m: resonate(x, w, bins, interference=m))
    mixed = run(x, weights.astype(complex), interference.astype(complex))
    assert mixed.dtype == jnp.float32
    chex.assert_trees_all_equal(mixed, run(x, weights, interference))
    assert run(x.astype(float), weights, interference).dtype == jnp.float64


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64"])
@pytest.mark.parametrize("method", ["fft", "matrix"])
def test_bins_of_any_integer_width(method, dtype):
    x, weights = normal(13, 128, D), complex_normal(14, 2, D)
    bins = np.array([64, 3])  # 2 * 64 = 128 overflows int8
    y = jax.jit(lambda x: resonate(x, weights, bins.astype(dtype), method=method))(x)
    assert relative_error(y, resonate_twin(x, weights, bins)) < 1e-5


def test_traced_bins_take_the_fft():
    x, weights, interference, bins, mask = arguments(16, 18)
    options = {"interference": interference, "fft_length": 18, "mask": mask}
    y = jax.jit(lambda bins: resonate(x, weights, bins, **options))(bins)
    expected = resonate_twin(x, weights, bins, interference, "drop", 18, mask)
    assert relative_error(y, expected) < 1e-5


def test_a_gradient_keeps_neither_the_sequence_nor_its_whole_spectrum():
    """One array like x is what the sine keeps; the filter by itself keeps k numbers a feature."""
    x, weights = jnp.zeros((4, 4096, 64)), jnp.ones((32, 64), complex)

    def loss(x, weights):
        return jnp.sum(jnp.sin(resonate(x, weights, np.arange(32))))

    memory = jax.jit(jax.grad(loss, (0, 1))).lower(x, weights).compile().memory_analysis()
    assert memory is not None and memory.temp_size_in_bytes < 1.2 * x.nbytes


def test_choose_method():
    few, many = np.arange(4), np.arange(30_000)
    assert choose_method(65536, few) == "matrix"
    assert choose_method(65536, many) == "fft"  # at once, without the tables of many bins
    assert choose_method(65536, jnp.arange(4)) == "fft"
    for method in ("fft", "matrix"):
        assert choose_method(16, few, method) == method
