"""Filter banks of sound: read once a hop they are the recurrence sample by sample; bands lie where they should."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops import filter_bank, mel

STRIDE, RATE = 6, 8000
resonator_power = jax.jit(filter_bank.resonator_power, static_argnames=("stride", "reads", "order"))


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    log_decay, phase = filter_bank.mel_resonators(3, RATE)
    return rng.normal(size=(2, 27)), log_decay, phase


def twin(x, log_decay, phase, reads, order):
    """Power [b, m, k] and the state after the last frame, sample by sample."""
    a = np.exp(-np.exp(log_decay) + 1j * phase)
    h, powers = np.zeros((len(x), order, len(a)), complex), []
    for sample in x[:, : x.shape[1] // STRIDE * STRIDE].T:
        given = sample[:, None]
        for place in range(order):
            given = h[:, place] = a * h[:, place] + (1 - np.abs(a)) * given
        powers.append(np.abs(given) ** 2)
    size = STRIDE // reads
    read = np.stack(powers, axis=1)[:, size - 1 :: size]
    return read.reshape(len(x), -1, reads, len(a)).mean(axis=2), h


@pytest.mark.parametrize(("reads", "order"), [(1, 1), (3, 3)])
def test_resonators_are_the_recurrence_sample_by_sample(given, x64, reads, order):
    x, log_decay, phase = given
    power, ends, frames, state = resonator_power(
        x, log_decay, phase, STRIDE, reads=reads, order=order
    )
    wanted, memory = twin(x, log_decay, phase, reads, order)
    np.testing.assert_allclose(power, wanted, rtol=1e-10)
    np.testing.assert_allclose(state.memory, memory, rtol=1e-10)
    np.testing.assert_allclose(ends[:, -1], memory[:, -1], rtol=1e-10)
    np.testing.assert_array_equal(frames, [4, 4])
    np.testing.assert_array_equal(state.count, [3, 3])
    np.testing.assert_array_equal(state.pending[:, :3], x[:, 24:])


def test_gradients_agree_with_differences(given, x64):
    x, log_decay, phase = given

    def loss(x, log_decay, phase):
        power, ends, *_ = resonator_power(x, log_decay, phase, STRIDE, reads=3, order=2)
        return jnp.sum(jnp.sin(30 * power)) + jnp.sum(ends.real * ends.imag)

    check_grads(loss, given, order=1, modes=("rev",), rtol=1e-6)
    assert np.all(np.abs(jax.grad(loss, argnums=2)(x, log_decay, phase)) > 0)


def test_a_resonator_has_gain_one_where_it_resonates(x64):
    """A cosine is the mean of two exponentials, one of which the resonator hears."""
    log_decay, phase = filter_bank.mel_resonators(12, RATE)
    wave = 3 * np.cos(phase[:, None] * np.arange(4000))
    power = np.asarray(resonator_power(wave, log_decay, phase, 40)[0])
    power = power[:, 40:].mean(axis=1)
    np.testing.assert_allclose(np.diag(power), 9 / 4, rtol=0.05)
    np.testing.assert_array_equal(power.argmax(axis=1), np.arange(12))


@pytest.mark.parametrize("order", [1, 2])
def test_half_the_power_is_left_at_half_the_bandwidth(x64, order):
    decay = np.pi * 100 / (RATE * np.sqrt(2 ** (1 / order) - 1))
    log_decay, phase = np.log(np.array([decay])), np.array([2 * np.pi * 1000 / RATE])
    np.testing.assert_allclose(filter_bank.bandwidths(log_decay, RATE, order), 100)
    times = np.arange(4000) / RATE
    waves = np.cos(2 * np.pi * np.array([[1000], [950], [1050]]) * times)
    power = np.asarray(resonator_power(waves, log_decay, phase, 40, order=order)[0])[:, -20:, 0]
    np.testing.assert_allclose(power.mean(axis=1) / power[0].mean(), [1, 0.5, 0.5], atol=0.03)


def test_mel_power_is_the_spectrum_of_windows_that_end_with_frames(given, x64):
    x, window, filters = given[0], np.hanning(15), mel.mel_filters(2, 16, RATE)
    power, frames, state = filter_bank.mel_power(x, filters, window, STRIDE)
    before = np.pad(x, [(0, 0), (9, 0)])
    for frame in range(4):
        part = before[:, STRIDE * frame : STRIDE * frame + 15] * window
        spectrum = np.abs(np.fft.rfft(part, 16)) ** 2 / window.sum() ** 2
        np.testing.assert_allclose(power[:, frame], spectrum @ filters, rtol=1e-10)
    np.testing.assert_array_equal(frames, [4, 4])
    np.testing.assert_array_equal(state.memory, x[:, 15:24])


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(x=np.zeros(9)), r"x must be real sound \[b, t\]"),
        (dict(x=np.zeros((1, 9), int)), "must be real sound"),
        (dict(x=np.zeros((1, 5))), "5 samples are less than a frame of 6"),
        (dict(phase=np.zeros(2)), r"phase must have shape \(1,\)"),
        (dict(order=0), "order must be at least 1, got 0"),
        (dict(reads=4), "reads = 4 must divide the stride of 6"),
        (dict(lengths=np.array([10])), r"lengths must lie in 0 \.\. 9"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments: Any = dict(x=np.zeros((1, 9)), log_decay=np.zeros(1), phase=np.zeros(1))
    with pytest.raises(ValueError, match=message):
        filter_bank.resonator_power(**(arguments | dict(stride=STRIDE) | change))


@pytest.mark.error_message
def test_a_window_that_does_not_fit_the_fft_is_refused():
    with pytest.raises(ValueError, match="at most the FFT's 16"):
        filter_bank.mel_power(np.zeros((1, 9)), np.zeros((9, 2)), np.ones(17), STRIDE)
