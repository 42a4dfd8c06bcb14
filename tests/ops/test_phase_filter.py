"""Laws and values of ops/phase_filter.py."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops.phase_filter import SYMMETRIES, UNITS, log_phase_filter

LENGTHS = (1, 2, 5, 16, 97)


def twin(n: int, alpha: float, symmetry: str, unit: str, amplitude: str) -> np.ndarray:
    """Computes F one frequency at a time, from signed indices."""
    values = []
    for position in range(n):
        index = position if position <= (n - 1) // 2 else position - n
        size = abs(index) * {"index": 1, "cycles": 1 / n, "radians": 2 * np.pi / n}[unit]
        lowest = {"index": 1, "cycles": 1 / n, "radians": 2 * np.pi / n}[unit]
        phase = np.arctan(np.log(size)) if index else -np.pi / 2
        if symmetry == "hermitian":
            phase = 0 if index == 0 or 2 * abs(index) == n else np.sign(index) * phase
        gain = max(size, lowest) ** (-alpha / 2) if amplitude == "power_law" else 1
        values.append(gain * np.exp(1j * alpha * phase))
    return np.array(values)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("amplitude", ["unit", "power_law"])
def test_values(x64, symmetry, unit, amplitude):
    options: dict[str, Any] = dict(symmetry=symmetry, unit=unit, amplitude=amplitude)
    run = partial(log_phase_filter, alpha=1.3, **options)
    all_traced = jax.jit(partial(jax.tree.map, run))([np.fft.fftfreq(n) for n in LENGTHS])
    for n, traced in zip(LENGTHS, all_traced, strict=True):
        expected = twin(n, 1.3, **options)
        found = log_phase_filter(np.fft.fftfreq(n), np.float64(1.3), **options)
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)
        half = log_phase_filter(np.fft.rfftfreq(n), np.float64(1.3), length=n, **options)
        np.testing.assert_allclose(half, expected[: n // 2 + 1], rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(traced, expected, rtol=1e-5)
        if amplitude == "unit":
            np.testing.assert_allclose(np.abs(found), 1, rtol=1e-14)


@pytest.mark.parametrize("n", LENGTHS)
def test_energy_and_reality(n):
    x = np.random.default_rng(n).standard_normal(n)
    energy = np.sum(x**2)
    filtered = np.fft.ifft(np.fft.fft(x) * log_phase_filter(np.fft.fftfreq(n), 0.7))
    np.testing.assert_allclose(filtered.imag, 0, atol=1e-6)
    np.testing.assert_allclose(np.sum(filtered.real**2) / energy, 1, atol=1e-6)
    even = np.fft.ifft(np.fft.fft(x) * log_phase_filter(np.fft.fftfreq(n), 0.7, symmetry="even"))
    np.testing.assert_allclose(np.sum(np.abs(even) ** 2) / energy, 1, atol=1e-6)
    assert np.abs(even.imag).max() > 0.01


def test_the_even_form_of_a_real_signal_is_mostly_imaginary():
    """At α = 1 the imaginary part holds 79 % of the energy of white noise: the real part alone is another filter."""
    f = np.asarray(log_phase_filter(np.fft.fftfreq(4096), 1.0, symmetry="even"))
    assert np.mean(np.square(np.imag(f))) > 0.79


def test_alpha_by_feature_and_by_row_keeps_its_axes():
    alpha = np.random.default_rng(0).uniform(0.1, 3, (2, 3)).astype(np.float32)
    filters = jax.jit(lambda a: log_phase_filter(np.fft.fftfreq(8), a))(alpha)
    assert filters.shape == (2, 3, 8) and filters.dtype == jnp.complex64
    np.testing.assert_allclose(
        filters[1, 2], log_phase_filter(np.fft.fftfreq(8), float(alpha[1, 2])), rtol=1e-6
    )


@pytest.mark.parametrize("symmetry", SYMMETRIES)
@pytest.mark.parametrize("amplitude", ["unit", "power_law"])
def test_gradient_in_alpha_is_finite_at_every_frequency(x64, symmetry, amplitude):
    def parts(alpha):
        f = log_phase_filter(np.fft.fftfreq(6), alpha, symmetry=symmetry, amplitude=amplitude)
        return jnp.stack([jnp.real(f), jnp.imag(f)])

    alpha = np.array([0.0, 0.5, -2.0])
    check_grads(jax.jit(parts), (alpha,), order=1, rtol=1e-6)
    assert np.isfinite(jax.jacobian(parts)(alpha)).all()


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_phase_filter(np.fft.fftfreq(4), np.nan), "alpha must be finite, got nan"),
        (lambda: log_phase_filter(np.fft.fftfreq(4), jnp.array([1, jnp.inf])), "alpha must be finite"),
        (lambda: log_phase_filter(np.fft.fftfreq(4), np.array(1j)), "alpha must be real"),
        (lambda: log_phase_filter(np.fft.rfftfreq(8), 1.0), r"not those of fftfreq\(5\); give length=n"),
        (lambda: log_phase_filter(jnp.fft.rfftfreq(8), 1.0), r"not those of fftfreq\(5\); give length=n"),
        (lambda: log_phase_filter(np.fft.fftfreq(4), 1.0, length=0), "length must be at least 1"),
        (lambda: log_phase_filter(np.fft.fftfreq(4), 1.0, symmetry="odd"), "unknown symmetry 'odd'"),
        (lambda: log_phase_filter(np.fft.fftfreq(4), 1.0, unit="hertz"), "unknown unit 'hertz'"),
        (lambda: log_phase_filter(np.fft.fftfreq(4), 1.0, amplitude="loud"), "unknown amplitude"),
        (lambda: log_phase_filter(np.arange(4), 1.0), "frequencies must be real floating point"),
        (lambda: log_phase_filter(np.zeros((2, 2)), 1.0), r"shape \[k\]"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
