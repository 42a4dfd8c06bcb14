"""Modulation of one spectrum by another: the slow twin, and what must not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops.fusion import EPSILON, cross_modulation

K, D = 4, 3
CYCLES = np.arange(K)


@jax.jit
def modulate(x, source, weights, mask, source_mask):
    return cross_modulation(x, source, weights, CYCLES, mask=mask, source_mask=source_mask)


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    x, source = rng.normal(size=(2, 9, D)), rng.normal(size=(2, 6, D))
    weights = rng.normal(size=(K, D)) + 1j * rng.normal(size=(K, D))
    mask, source_mask = np.ones((2, 9), bool), np.ones((2, 6), bool)
    mask[0, 2], mask[1, 7:], source_mask[0, 4:] = False, False, False
    return x, source, weights, mask, source_mask


def spectrum(x, mask):
    """One row: X [k, d] and its window."""
    n = int(np.max(np.arange(1, len(x) + 1) * mask))
    wave = np.exp(-2j * np.pi * CYCLES[:, None] * np.arange(len(x)) / max(n, 1))
    return wave @ np.where(mask[:, None], x, 0) / max(n, 1), n


def twin(x, source, weights, mask, source_mask):
    """One row, frequency by frequency."""
    target, n = spectrum(x, mask)
    other, m = spectrum(source, source_mask)
    u = other / np.sqrt(EPSILON**2 + np.mean(np.abs(other) ** 2))
    gain = weights * u / np.sqrt(1 + np.abs(u) ** 2)
    r = np.zeros_like(x)
    for c in CYCLES:
        if 2 * c <= min(n, m):
            wave = np.exp(2j * np.pi * c * np.arange(len(x)) / n)
            r += (1 if c == 0 or 2 * c == n else 2) * np.real(np.outer(wave, gain[c] * target[c]))
    return np.where(mask[:, None], r, 0)


def test_it_is_the_slow_twin_with_and_without_masks(given, x64):
    x, source, weights, *masks = given
    for mask, source_mask in (masks, [None, None], [masks[0], None]):
        found = modulate(x, source, weights, mask, source_mask)
        mask = np.ones(x.shape[:2], bool) if mask is None else mask
        source_mask = np.ones(source.shape[:2], bool) if source_mask is None else source_mask
        rows = zip(x, source, [weights] * 2, mask, source_mask, strict=True)
        np.testing.assert_allclose(found, [twin(*row) for row in rows], atol=1e-12)


def test_the_spectrum_is_multiplied_by_a_bounded_gain(given, x64):
    x, source, weights, *_ = given
    after = np.fft.rfft(x + modulate(x, 1e6 * source, weights, None, None), axis=1)
    before = np.fft.rfft(x, axis=1)
    gain = after[:, 1:K] / before[:, 1:K] - 1
    assert np.all(np.abs(gain) < np.abs(weights[1:]))
    np.testing.assert_allclose(after[:, K:], before[:, K:], atol=1e-12)
    softer = modulate(x, source, weights, None, None)
    np.testing.assert_allclose(x + softer, np.fft.irfft(after, 9, axis=1), atol=1e-5)  # loudness


def test_padding_and_hidden_values_change_nothing(given, x64):
    x, source, weights, mask, source_mask = given
    wanted = modulate(x, source, weights, mask, source_mask)
    longer = [np.pad(a, [(0, 0), (0, 5), (0, 0)], constant_values=np.nan) for a in (x, source)]
    masks = [np.pad(m, [(0, 0), (0, 5)]) for m in (mask, source_mask)]
    longer[0][0, 2] = np.nan
    found = modulate(*longer, weights, *masks)
    np.testing.assert_allclose(found[:, :9], wanted, atol=1e-14)
    assert not np.any(found[:, 9:])


def test_an_absent_source_adds_exactly_nothing(given, x64):
    x, source, weights, mask, _ = given
    absent = np.array([[False] * 6, [True] * 6])
    r = modulate(x, np.where(absent[..., None], source, np.nan), weights, mask, absent)
    assert not np.any(r[0]) and np.any(r[1])
    assert not np.any(modulate(x, source, weights, np.zeros_like(mask), absent))


def test_a_finer_sampling_of_the_source_is_the_same_source(x64):
    """Of what lies below half its lower rate: cycles are of the window, not of samples."""
    x = np.random.default_rng(1).normal(size=(11, D))

    def source(n):
        t = 2 * np.pi * np.arange(n)[:, None] / n
        return np.cos(t) + np.sin(2 * t + np.arange(D))

    weights = np.ones((K, D), complex)
    found = [modulate(x, source(n), weights, None, None) for n in (8, 24)]
    np.testing.assert_allclose(found[1], found[0], atol=1e-12)
    turned = modulate(x, np.roll(source(24), 3, axis=0), weights, None, None)
    assert np.abs(turned - found[0]).max() > 0.1


def test_gradients_agree_with_differences(given, x64):
    x, source, weights, mask, source_mask = given

    def loss(x, source, real, imag):
        w = jax.lax.complex(real, imag)
        return jnp.sum(jnp.sin(modulate(x, source, w, mask, source_mask)))

    arguments = x, source, weights.real, weights.imag
    steps = [np.random.default_rng(2).normal(size=a.shape) for a in arguments]
    value = jax.jit(loss)
    slope = sum(
        np.sum(g * s)
        for g, s in zip(jax.jit(jax.grad(loss, range(4)))(*arguments), steps, strict=True)
    )
    ahead, behind = (
        value(*[a + e * s for a, s in zip(arguments, steps, strict=True)]) for e in (1e-6, -1e-6)
    )
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, rtol=1e-6)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(source=np.zeros((2, 6, 4))), "project its features first"),
        (dict(source=np.zeros((1, 6, D))), "x's batch axes"),
        (dict(cycles=np.array([0, 0, 1, 2])), "distinct integers"),
        (dict(cycles=jnp.arange(4)), "known at trace time"),
        (dict(weights=np.ones((K, D))), "weights must be complex"),
        (dict(weights=np.ones((2, D), complex)), r"weights must have shape \(4, 3\)"),
        (dict(mask=np.ones((2, 8), bool)), r"mask must be boolean .* of shape \(2, 9\)"),
        (dict(source_mask=np.ones((2, 6))), "source_mask must be boolean"),
    ],
)
def test_what_does_not_fit_is_refused(given, change, message):
    arguments = dict(zip(("x", "source", "weights"), given, strict=False), cycles=CYCLES) | change
    with pytest.raises(ValueError, match=message):
        cross_modulation(**arguments)
