"""Laws and values of ops/joint_recall.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops import hologram
from resonance_jax.ops.hologram import bind
from resonance_jax.ops.joint_recall import recall_jointly

read = jax.jit(hologram.read, static_argnames="pages")
cleanup = jax.jit(hologram.cleanup)
recall = jax.jit(recall_jointly, static_argnames="pages")


def phasors(rng, *shape):
    return np.exp(2j * np.pi * rng.random(shape)).astype(np.complex64)


def pairs(seed, n, m, c, kind="real", pages=()):
    """Keys, codebook, labels, drawn by NumPy."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(c, size=m)
    if kind == "phasor":
        return phasors(rng, m, *pages, n), phasors(rng, c, n), labels
    half = phasors(rng, m, *pages, n // 2 + 1)
    half[..., [0, -1] if n % 2 == 0 else 0] = 1
    keys = np.fft.irfft(half, n=n).astype(np.float32)
    return keys, (rng.standard_normal((c, n)) / np.sqrt(n)).astype(np.float32), labels


@jax.jit
def superpose(keys, patterns):
    return jnp.sum(bind(patterns, keys), axis=0)


def twin(memory, keys, codebook, strength, iterations):
    """The same iteration in float64, over the dense matrix of all M C bound patterns."""
    m, n = keys.shape
    circulant = np.array([[np.roll(k, j) for j in range(n)] for k in keys.astype(np.float64)])
    bound = np.einsum("mji,cj->mci", circulant, codebook.astype(np.float64))
    p, z, correction = np.zeros((m, len(codebook))), np.zeros(n), 0.0
    squares = np.sum(codebook.astype(np.float64) ** 2, axis=1)
    for _ in range(iterations):
        u = strength[:, None] * (p @ codebook)
        z = memory - np.einsum("m,mc,mci->i", strength, p, bound) + correction * z
        tau = z @ z / n
        score = bound @ z + u @ codebook.T
        logit = (strength[:, None] * score - strength[:, None] ** 2 * squares / 2) / tau
        p = np.exp(logit - logit.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        spread = (p * (1 - p)) @ squares
        correction = np.sum(strength**2 * spread) / (n * tau)
    return p


@pytest.mark.parametrize("iterations", [1, 3])
def test_it_equals_the_dense_twin(iterations):
    keys, codebook, labels = pairs(0, 16, 4, 5)
    strength = np.array([1.0, 0.7, 0.5, 1.2], np.float32)
    memory = np.asarray(superpose(keys, strength[:, None] * codebook[labels]))
    found = recall(memory, keys, codebook, strength, iterations)
    beliefs = twin(memory.astype(np.float64), keys, codebook, strength, iterations)
    np.testing.assert_array_equal(found.index, beliefs.argmax(axis=1))
    np.testing.assert_allclose(found.probability, beliefs.max(axis=1), rtol=2e-4)


@pytest.mark.parametrize(("kind", "pages"), [("real", ()), ("real", (4,)), ("phasor", ())])
def test_it_recalls_what_single_reads_lose(kind, pages):
    """One bit a number: reading key by key recalls about half, all together everything."""
    c, numbers = 64, 512
    n = numbers // 4 if pages else numbers // 2 if kind == "phasor" else numbers
    keys, codebook, labels = pairs(1, n, numbers // 6, c, kind, pages)
    patterns = codebook[labels]
    memory = superpose(keys, patterns[:, None] if pages else patterns)
    single = cleanup(read(memory, keys, pages=bool(pages)), codebook).index[:, 0]
    assert np.mean(single == labels) < 0.7
    found = recall(memory, keys, codebook, 1.0, 64, pages=bool(pages))
    np.testing.assert_array_equal(found.index, labels)
    np.testing.assert_allclose(found.probability, 1, rtol=1e-5)
    assert found.residual < 1e-5


def test_the_first_iteration_is_a_read_with_cleanup():
    keys, codebook, labels = pairs(2, 64, 20, 16)
    codebook /= np.linalg.norm(codebook, axis=1, keepdims=True)
    memory = superpose(keys, codebook[labels])
    expected = cleanup(read(memory, keys), codebook).index[:, 0]
    np.testing.assert_array_equal(recall(memory, keys, codebook, 1.0, 1).index, expected)
    assert np.any(expected != labels)


def test_falling_strengths_hold_more_and_failure_shows():
    """Two bits a number: too many of equal strength, and `residual` says so; all of them when strengths fall."""
    m, n, c = 256, 512, 16
    keys, codebook, labels = pairs(3, n, m, c)
    for strength, holds in ((np.ones(m), False), (2.0 ** (-3 * np.arange(m) / m), True)):
        strength = strength.astype(np.float32)
        memory = superpose(keys, strength[:, None] * codebook[labels])
        found = recall(memory, keys, codebook, strength, 100)
        assert (np.mean(found.index == labels) == 1) == holds
        assert (found.residual < 1e-3) == holds


def test_what_has_converged_stays():
    """Rounding, divided by a variance near 0, must not undo it: many iterations, compiled and mapped."""
    every = [pairs(seed, 128, 60, 2) for seed in range(3)]
    keys, _, labels = (np.stack(part) for part in zip(*every, strict=True))
    codebook = np.stack([e[0][:2] for e in (pairs(10 + seed, 128, 2, 2) for seed in range(3))])
    patterns = np.stack([c[label] for c, label in zip(codebook, labels, strict=True)])
    memory = np.stack([superpose(*pair) for pair in zip(keys, patterns, strict=True)])
    found = jax.jit(jax.vmap(recall_jointly, (0, 0, 0, None, None)))(
        memory, keys, codebook, 1.0, 100
    )
    np.testing.assert_array_equal(found.index, labels)
    np.testing.assert_allclose(found.probability, 1, rtol=1e-6)


def test_noise_remains_as_the_residual():
    keys, codebook, labels = pairs(4, 256, 20, 16)
    memory = np.asarray(superpose(keys, codebook[labels]))
    noise = np.random.default_rng(5).standard_normal(256).astype(np.float32) * 0.3 * memory.std()
    found = recall(memory + noise, keys, codebook, 1.0, 64)
    np.testing.assert_array_equal(found.index, labels)
    expected = np.linalg.norm(noise) / np.linalg.norm(memory + noise)
    np.testing.assert_allclose(found.residual, expected, rtol=1e-3)


def test_16_bit_memories_are_read_in_float32():
    keys, codebook, labels = pairs(6, 64, 4, 16)
    memory = jnp.asarray(superpose(keys, codebook[labels])).astype(jnp.bfloat16)
    found = recall(memory, keys, codebook, 1.0, 20)
    np.testing.assert_array_equal(found.index, labels)
    assert found.probability.dtype == jnp.float32


def test_an_empty_memory_has_no_belief():
    keys, codebook, _ = pairs(0, 16, 4, 5)
    codebook /= np.linalg.norm(codebook, axis=1, keepdims=True)
    found = recall(np.zeros(16, np.float32), keys, codebook, 1.0, 3)
    np.testing.assert_allclose(found.probability, 1 / 5, rtol=1e-5)
    assert found.residual == 0


KEYS, CODES, _ = pairs(0, 16, 4, 5)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: recall_jointly(np.ones(16), KEYS[0], CODES), r"\[N\] and keys \[M, N\], got \(16,\) and \(16,\)"),
        (lambda: recall_jointly(np.ones((2, 16)), KEYS, CODES, pages=True), r"keys \[M, a, N\]"),
        (lambda: recall_jointly(np.ones(8), KEYS, CODES), "same dimension, got 8 and 16"),
        (lambda: recall_jointly(np.ones(16), 2 * KEYS, CODES), "keys is not unitary"),
        (lambda: recall_jointly(np.ones(16), KEYS, CODES[0]), "codebook"),
        (lambda: recall_jointly(np.ones(16), KEYS, CODES, 0.0), "strength must be positive"),
        (lambda: recall_jointly(np.ones(16), KEYS, CODES, np.ones(3)), "one number or 4, one for each key"),
        (lambda: recall_jointly(np.ones(16), KEYS, CODES, iterations=0), "iterations must be at least 1"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
