"""Laws and values of ops/optics.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops import optics

intensity = jax.jit(optics.intensity)
suppress_dc = jax.jit(optics.suppress_dc)
record = jax.jit(optics.phase_shifted_intensities, static_argnames="steps")
demodulate = jax.jit(optics.demodulate)


def waves(seed, *shape, modulus=None):
    rng = np.random.default_rng(seed)
    z = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    return (z if modulus is None else modulus * z / np.abs(z)).astype(np.complex64)


def error(found, pattern):
    return np.linalg.norm(np.asarray(found) - pattern) / np.linalg.norm(pattern)


def test_an_intensity_is_the_four_terms():
    p, r = waves(0, 2, 8).astype(complex), waves(1, 8).astype(complex)
    expected = np.empty((2, 8))
    for i, x in np.ndindex(2, 8):
        expected[i, x] = abs(p[i, x]) ** 2 + abs(r[x]) ** 2 + 2 * (p[i, x] * r[x].conjugate()).real
    recorded = np.asarray(intensity(waves(0, 2, 8), waves(1, 8)))
    np.testing.assert_allclose(recorded, expected, atol=1e-5)
    assert recorded.dtype == np.float32
    assert np.all(recorded >= 0)


def test_the_error_of_plain_reading_is_dc_and_twin_image():
    pattern, reference = waves(0, 4096), waves(1, 4096, modulus=1)
    hologram = np.asarray(intensity(pattern, reference))
    plain = error(optics.reconstruct(hologram, reference), pattern)
    np.testing.assert_allclose(plain, np.sqrt(np.mean(np.abs(pattern) ** 4) + 4), rtol=0.03)
    bare = suppress_dc(hologram, reference, np.abs(pattern) ** 2)
    np.testing.assert_allclose(error(optics.reconstruct(bare, reference), pattern), 1, rtol=1e-4)
    twin = np.conj(pattern) * reference**2
    np.testing.assert_allclose(optics.reconstruct(bare, reference), pattern + twin, atol=1e-4)
    guessed = suppress_dc(hologram, reference)
    np.testing.assert_allclose(np.mean(guessed), 0, atol=1e-5)
    between = error(optics.reconstruct(guessed, reference), pattern)
    assert 1 < between < plain


@pytest.mark.parametrize("steps", [3, 4, 7])
def test_phase_shifting_is_exact_whatever_the_reference(steps):
    pattern, reference = waves(0, 3, 33), waves(1, 33, modulus=2)
    holograms = record(pattern, reference, steps=steps)
    assert holograms.shape == (steps, 3, 33)
    np.testing.assert_allclose(holograms[0], intensity(pattern, reference), atol=1e-5)
    cross = demodulate(holograms)
    assert error(cross, pattern * np.conj(reference)) < 1e-6
    assert error(optics.reconstruct_phase_shifted(holograms, reference), pattern) < 1e-6


def test_exposures_add_up_to_a_trace_of_phasors():
    """Five exposures on one plate: the cross terms are the trace that binding to the conjugate references gives."""
    patterns, references = waves(0, 5, 64), waves(1, 5, 64, modulus=1)
    plate = np.sum(record(patterns, references), axis=1)
    assert error(demodulate(plate), np.sum(patterns * np.conj(references), axis=0)) < 1e-6


@pytest.mark.parametrize(("n", "bandwidth"), [(64, 7), (65, 3), (11, 1), (3, 0)])
def test_off_axis_is_exact_for_band_limited_patterns(n, bandwidth):
    spectrum = np.zeros(n, np.complex64)
    spectrum[np.arange(-bandwidth, bandwidth + 1)] = waves(0, 2 * bandwidth + 1)
    pattern = np.fft.ifft(spectrum).astype(np.complex64) * n
    reference = optics.off_axis_reference(n, bandwidth)
    np.testing.assert_allclose(np.abs(reference), 1, rtol=1e-6)
    hologram = optics.intensity(pattern, reference)
    assert error(optics.reconstruct_off_axis(hologram, reference, bandwidth), pattern) < 2e-6
    if bandwidth > 1:  # the filter is what separates: on axis nothing does
        straight = np.ones(n, np.complex64)
        on_axis = optics.reconstruct_off_axis(intensity(pattern, straight), straight, bandwidth)
        assert error(on_axis, pattern) > 0.5


def test_gradients(x64):
    rng = np.random.default_rng(0)
    pattern, reference = rng.normal(size=(2, 5)), np.exp(1j * rng.normal(size=5))

    def readings(p):
        dc_free = optics.suppress_dc(optics.intensity(p, reference), reference)
        shifted = optics.phase_shifted_intensities(p, reference)
        return jnp.abs(optics.reconstruct(dc_free, reference)), jnp.real(optics.demodulate(shifted))

    check_grads(jax.jit(readings), (pattern,), order=1, rtol=1e-6)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optics.intensity(np.ones(3), np.ones(4)), "same dimension, got 3 and 4"),
        (lambda: optics.intensity(np.ones(3, int), np.ones(3)), "real or complex floating point"),
        (lambda: optics.off_axis_reference(16, 2), "at least 19 samples"),
        (lambda: optics.off_axis_reference(16, -1), "no carrier"),
        (lambda: optics.reconstruct_off_axis(np.ones(8), np.ones(8), 4), r"in 0 \.\. 3, got 4"),
        (lambda: optics.phase_shifted_intensities(np.ones(3), np.ones(3), 2), "at least 3 steps"),
        (lambda: optics.demodulate(np.ones((2, 3))), r"at least 3 steps, got \(2, 3\)"),
        (lambda: optics.reconstruct_phase_shifted(np.ones((4, 2)), np.array([1.0, 0.0])), "zero somewhere"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
