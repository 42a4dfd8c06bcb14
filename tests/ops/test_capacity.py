"""Values and limits of ops/capacity.py."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from resonance_jax.ops import capacity, hologram


@pytest.mark.parametrize("kind", hologram.KINDS)
@pytest.mark.parametrize(("n", "m", "c"), [(64, 40, 2), (1024, 32, 1000), (100, 900, 50)])
def test_the_integral_equals_adaptive_quadrature(n, m, c, kind):
    s = math.sqrt((1 + (kind == "phasor")) * n / m)

    def density(x):  # of the right entry's score, and the probability that all others lie below it
        return stats.norm.pdf(x, loc=s) * stats.norm.cdf(x) ** (c - 1)

    expected = integrate.quad(density, s - 12, s + 12, epsabs=1e-11, limit=500)[0]
    assert capacity.recall_accuracy(n, m, c, kind) == pytest.approx(expected, abs=1e-9)


def test_limits():
    assert capacity.recall_accuracy(64, 3, 1) == pytest.approx(1)
    assert capacity.recall_accuracy(1, 10**9, 50) == pytest.approx(1 / 50, rel=1e-3)
    assert capacity.recall_accuracy(64, 8, 10, snr=1) == capacity.recall_accuracy(64, 16, 10)
    assert capacity.recall_accuracy(64, 8, 10, "phasor") == capacity.recall_accuracy(128, 8, 10)


@pytest.mark.parametrize("kind", hologram.KINDS)
def test_max_pairs_inverts_it(kind):
    pairs = capacity.max_pairs(1024, 1000, 0.99, kind)
    assert capacity.recall_accuracy(1024, pairs, 1000, kind) >= 0.99
    assert capacity.recall_accuracy(1024, pairs + 1, 1000, kind) < 0.99
    assert capacity.max_pairs(1, 10**6, 0.99, kind) == 0
    assert capacity.max_pairs(1024, 1000, 0.99, kind, snr=1) == pairs // 2


def test_superposition_at_99_percent_holds_0_30_bits_a_number():
    pairs = capacity.max_pairs(1024, 1000)
    assert pairs * capacity.recalled_bits(0.99, 1000) / 1024 == pytest.approx(0.30, abs=0.005)


def test_bits():
    joint = np.full((4, 4), 0.1 / 12) + np.eye(4) * (0.225 - 0.1 / 12)  # uniform, 0.9 recalled
    mutual = np.sum(joint * np.log2(joint * 16))
    assert capacity.recalled_bits(0.9, 4) == pytest.approx(mutual)
    assert capacity.recalled_bits(0.25, 4) == pytest.approx(0, abs=1e-12)
    assert capacity.recalled_bits(1, 1) == 0
    assert capacity.capacity_bits(100, 0.5, 1) == 400


@pytest.mark.parametrize("kind", hologram.KINDS)
def test_measured_recall_is_what_the_integral_says(kind):
    n, m, c = 128, 16, 100

    @jax.jit
    def trial(key):
        keys = jax.random.split(key, 2)
        codebook = hologram.random_pattern(keys[0], (c, n), kind)
        names = hologram.unitary_key(keys[1], (m, n), kind)
        memory = hologram.bundle(hologram.bind(codebook[:m], names))
        found = hologram.cleanup(hologram.unbind(memory, names), codebook).index[:, 0]
        return jnp.mean(found == jnp.arange(m))

    measured = float(np.mean([trial(jax.random.key(seed)) for seed in range(200)]))
    np.testing.assert_allclose(measured, capacity.recall_accuracy(n, m, c, kind), atol=0.03)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: capacity.recall_accuracy(0, 1, 1), "must be at least 1, got 0, 1 and 1"),
        (lambda: capacity.recall_accuracy(1, 1, 1, "optical"), "unknown kind 'optical'"),
        (lambda: capacity.recall_accuracy(1, 1, 1, snr=0), "snr must be positive"),
        (lambda: capacity.max_pairs(10, 10, 1.0), r"accuracy must be in \(0, 1\)"),
        (lambda: capacity.max_pairs(10, 2, 0.4), "guessing among 2 entries already has accuracy 0.5"),
        (lambda: capacity.recalled_bits(1.5, 2), r"accuracy in \[0, 1\]"),
        (lambda: capacity.capacity_bits(1, 0, 1), "wavelength > 0"),
        (lambda: capacity.capacity_bits(math.inf, 1, 1), "area > 0"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
