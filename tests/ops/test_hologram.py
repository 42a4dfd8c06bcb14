"""Laws and values of ops/hologram.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops import hologram
from resonance_jax.ops._vectors import check_unitary

bind, unbind = jax.jit(hologram.bind), jax.jit(hologram.unbind)
read = jax.jit(hologram.read, static_argnames="pages")
write = jax.jit(hologram.write, static_argnames="pages")
delta_write = jax.jit(hologram.delta_write, static_argnames="pages")
consolidate = jax.jit(hologram.consolidate, static_argnums=0)
cleanup = jax.jit(hologram.cleanup, static_argnames="k")
KINDS = hologram.KINDS


def vectors(seed, *shape, kind="real"):
    rng = np.random.default_rng(seed)
    if kind == "phasor":
        return np.exp(2j * np.pi * rng.random(shape)).astype(np.complex64)
    return rng.standard_normal(shape).astype(np.float32)


def unitary(seed, *shape, kind="real"):
    """Drawn and transformed by NumPy."""
    phasors = vectors(seed, *shape, kind="phasor")
    if kind == "phasor":
        return phasors
    half = phasors[..., : shape[-1] // 2 + 1].copy()
    half[..., [0, -1] if shape[-1] % 2 == 0 else 0] = 1
    return np.fft.irfft(half, n=shape[-1]).astype(np.float32)


def bind_twin(p, k):
    """Sums the circular convolution one product at a time, or multiplies phasors."""
    p, k = np.broadcast_arrays(p, k)
    if np.iscomplexobj(p):
        return p * k
    n, out = p.shape[-1], np.zeros(p.shape)
    for i, j in np.ndindex(n, n):
        out[..., i] += p[..., j].astype(np.float64) * k[..., (i - j) % n]
    return out


draw = jax.jit(hologram.unitary_key, static_argnums=(1, 2))


def error_of(memory, patterns, keys, pages=False):
    """Relative error of all reads together."""
    found = np.asarray(read(memory, keys, pages=pages))
    return np.linalg.norm(found - patterns) / np.linalg.norm(patterns)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_binding_equals_the_twin_and_obeys_its_laws(n, kind):
    p, q, r = (vectors(i, 3, n, kind=kind) for i in range(3))
    both = bind(p, q)
    np.testing.assert_allclose(both, bind_twin(p, q), atol=1e-5)
    assert both.dtype == p.dtype
    np.testing.assert_allclose(both, bind(q, p), atol=1e-5)
    np.testing.assert_allclose(bind(both, r), bind(p, bind(q, r)), atol=1e-4)
    np.testing.assert_allclose(bind(p, q[0]), bind_twin(p, q[0]), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 2, 1025])
def test_a_unitary_key_is_inverted_exactly(n, kind):
    key = draw(jax.random.key(n), (3, n), kind)
    assert key.shape == (3, n)
    pattern = vectors(0, 3, n, kind=kind)
    trace = bind(pattern, key)
    scale = np.abs(pattern).max()
    np.testing.assert_allclose(unbind(trace, key) / scale, pattern / scale, atol=1e-6)
    norms = np.linalg.norm(pattern, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(trace, axis=-1), norms, rtol=1e-5)
    spectrum = np.fft.fft(key) if kind == "real" else key
    np.testing.assert_allclose(np.abs(spectrum), 1, rtol=2e-5)
    if n > 2:
        assert np.abs(key[0] - key[1]).max() > 0.01
    check_unitary("key", key)


@pytest.mark.parametrize("n", [6, 7])
def test_near_phases_make_similar_unitary_keys(n):
    phases = np.array([0.3, -1.0, 2.0][: (n - 1) // 2], np.float32)
    key = np.asarray(hologram.phase_key(phases, dimension=n))
    spectrum = np.fft.rfft(key)
    np.testing.assert_allclose(np.angle(spectrum[1 : 1 + len(phases)]), phases, atol=1e-5)
    np.testing.assert_allclose(spectrum[0], 1, atol=1e-6)
    np.testing.assert_allclose(np.abs(spectrum), 1, atol=1e-6)
    np.testing.assert_allclose(hologram.phase_key(phases, "phasor"), np.exp(1j * phases), rtol=1e-5)
    assert hologram.phase_key(jnp.zeros(3, jnp.bfloat16)).dtype == jnp.float32


def test_the_similarity_of_phase_keys_is_the_kernel():
    """Gaussian rows: ⟨k(x), k(y)⟩ = exp(−|x − y|²/2), up to 1/√N."""
    n, features = 8191, 3
    frequencies = vectors(0, features, n // 2)
    x = vectors(1, 4, features) / 2
    keys = np.asarray(hologram.phase_key(x @ frequencies))
    gaussian = np.exp(-((x[:, None] - x) ** 2).sum(-1) / 2)
    np.testing.assert_allclose(keys @ keys.T, gaussian, atol=4 / np.sqrt(n))


def test_bundle_permute_and_decay():
    x = vectors(0, 3, 5, 8)
    np.testing.assert_allclose(hologram.bundle(x), x.sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(hologram.bundle(x, axis=1), x.sum(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(hologram.permute(hologram.permute(x, 3), -3), x)
    np.testing.assert_array_equal(hologram.permute(x)[..., 0], x[..., -1])
    np.testing.assert_array_equal(hologram.decay(x, 0.5), x / 2)


@pytest.mark.parametrize("kind", KINDS)
def test_superposed_pairs_err_by_the_root_of_the_others(kind):
    """Relative error √(M − 1), and √a less on a pages."""
    n, m, pages = 512, 10, 8
    keys = unitary(0, m, pages, n, kind=kind)
    patterns = vectors(1, m, n, kind=kind)
    bound = np.asarray(bind(patterns[:, None], keys))
    memory = consolidate(
        partial(hologram.write, pages=True), np.zeros_like(keys[0]), patterns, keys
    )
    np.testing.assert_allclose(memory, bound.sum(axis=0), atol=1e-4)
    single = error_of(memory[0], patterns, keys[:, 0])
    np.testing.assert_allclose(single, np.sqrt(m - 1), rtol=0.1)
    np.testing.assert_allclose(error_of(memory, patterns, keys, True), single / 8**0.5, rtol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_delta_write_is_exact_for_its_pair_and_partial_at_smaller_rates(kind):
    keys = unitary(0, 2, 3, 32, kind=kind)
    first, second = vectors(0, 2, 32, kind=kind)
    memory = write(np.zeros_like(keys[0]), first, keys[0], pages=True)
    correct = partial(delta_write, pages=True)
    after = correct(memory, second, keys[1], 1.0)
    np.testing.assert_allclose(read(after, keys[1], pages=True), second, atol=1e-5)
    np.testing.assert_allclose(correct(after, second, keys[1], 1.0), after, atol=1e-5)
    before = np.asarray(read(memory, keys[1], pages=True))
    half = read(correct(memory, second, keys[1], 0.5), keys[1], pages=True)
    np.testing.assert_allclose(half, (before + second) / 2, atol=1e-5)


def test_delta_write_on_a_single_page_replaces_a_share_of_the_memory():
    memory, pattern = vectors(0, 2, 16)
    key = unitary(1, 16)
    after = delta_write(memory, pattern, key, 0.3)
    np.testing.assert_allclose(after, 0.7 * memory + 0.3 * bind_twin(pattern, key), atol=1e-5)


def test_consolidated_pages_hold_fewer_patterns_exactly():
    """Eight pages, six pairs: superposition leaves √(5/8), rehearsed delta writes converge to nothing."""
    keys = hologram.unitary_key(jax.random.key(0), (6, 8, 64))
    patterns = np.asarray(hologram.random_pattern(jax.random.key(1), (6, 64)))
    empty = jnp.zeros_like(keys[0])
    errors = []
    for write, rounds in (
        (hologram.write, 1),
        (hologram.delta_write, 1),
        (hologram.delta_write, 300),
    ):
        memory = hologram.consolidate(partial(write, pages=True), empty, patterns, keys, rounds)
        errors.append(error_of(memory, patterns, keys, pages=True))
    np.testing.assert_allclose(errors[0], np.sqrt(5 / 8), rtol=0.1)
    assert errors[1] < 0.9 * errors[0]
    assert errors[2] < 1e-4


def corrective_twin(memory, label, key, codebook, margin):
    """The same projection in float64, with matrices in the place of transforms."""
    n = len(memory)
    matrix = np.stack([np.roll(key.astype(np.float64), j) for j in range(n)], axis=1)  # k ⊛ p
    sizes = np.linalg.norm(codebook.astype(np.float64), axis=1)
    entries = codebook / sizes[:, None]
    scores = entries @ (matrix.T @ memory)
    rival = max((c for c in range(len(codebook)) if c != label), key=lambda c: scores[c])
    d = entries[label] - entries[rival]
    short = margin * sizes[label] - (scores[label] - scores[rival])
    return memory + max(short, 0) * (matrix @ d) / (d @ d)


def test_corrective_write_equals_the_twin_and_is_the_smallest_change():
    memory = vectors(0, 16) / 4
    codebook = vectors(1, 5, 16) / 4
    key = unitary(2, 16)
    for label, margin in ((0, 1.0), (1, 0.5)):
        after = hologram.corrective_write(memory, label, key, codebook, margin)
        np.testing.assert_allclose(after, corrective_twin(memory, label, key, codebook, margin), atol=1e-5)  # fmt: skip
    for _ in range(10):  # one rival after the other
        after = hologram.corrective_write(after, label, key, codebook, margin)
    kept = hologram.corrective_write(after, label, key, codebook, margin / 2)
    np.testing.assert_array_equal(kept, after)


def test_corrective_write_and_cleanup_agree_whatever_the_norms():
    """The rival is the most similar by cosine, not by inner product."""
    codebook, identity = (
        np.array([[0.1, 0, 0], [0, 1, 0]], np.float32),
        np.eye(3, dtype=np.float32)[0],
    )
    memory = np.array([15, 2.5, 0], np.float32)
    for _ in range(2):
        memory = hologram.corrective_write(memory, 1, identity, codebook)
    assert cleanup(read(memory, identity), codebook).index == 1


@pytest.mark.parametrize(("kind", "pages"), [("real", False), ("phasor", False), ("real", True)])
def test_corrected_memory_recalls_what_superposition_loses(kind, pages):
    """10 of 64 patterns in 64 numbers, 0.94 bits a number: superposition loses some, rehearsal none."""
    shape, pairs = (2, 32) if pages else (32 if kind == "phasor" else 64,), 10
    codebook, keys = vectors(3, 64, shape[-1], kind=kind), unitary(1, pairs, *shape, kind=kind)
    labels = np.arange(pairs)

    def correct(memory, label, key):
        return hologram.corrective_write(memory, label, key, codebook, pages=pages)

    patterns = codebook[labels][:, None] if pages else codebook[labels]
    superposed = np.asarray(bind(patterns, keys)).sum(axis=0)
    corrected = consolidate(correct, np.zeros_like(keys[0]), labels, keys, 60)
    found = [
        cleanup(read(memory, keys, pages=pages), codebook).index[:, 0]
        for memory in (superposed, corrected)
    ]
    assert np.mean(found[0] == labels) < 0.9
    np.testing.assert_array_equal(found[1], labels)


def test_writes_run_under_vmap_and_equal_a_loop():
    codebook = vectors(0, 6, 8)
    keys = unitary(1, 3, 8)
    memories, labels = vectors(2, 3, 8), jnp.array([0, 5, 2])
    correct = partial(hologram.corrective_write, codebook=codebook, margin=0.5)
    rows = jax.jit(jax.vmap(correct))(memories, labels, keys)
    for row, *of_row in zip(rows, memories, labels, keys, strict=True):
        np.testing.assert_allclose(row, correct(*of_row), atol=1e-5)


def test_cleanup_ranks_by_cosine():
    codebook = vectors(0, 10, 6)
    query = 3 * codebook[4] + 0.01 * vectors(1, 2, 6)
    found = cleanup(query, codebook, k=3)
    sizes = np.linalg.norm(query, axis=-1)[:, None] * np.linalg.norm(codebook, axis=-1)
    cosine = query @ codebook.T / sizes
    np.testing.assert_array_equal(found.index, np.argsort(-cosine, axis=-1)[:, :3])
    np.testing.assert_allclose(found.similarity, -np.sort(-cosine, axis=-1)[:, :3], rtol=1e-5)
    phasors = vectors(2, 10, 6, kind="phasor")
    assert cleanup(phasors[7] * 2, phasors).index == 7
    similarity = cleanup(phasors[7] * 1j, phasors[7:8]).similarity
    np.testing.assert_allclose(similarity, 0, atol=1e-6)


def test_cleanup_of_very_large_and_very_small_queries():
    codebook = vectors(0, 10, 6)
    for scale, dtype in ((1e-25, np.float32), (1e25, np.float32), (3e3, np.float16)):
        found = cleanup((scale * codebook[3]).astype(dtype), codebook)
        np.testing.assert_allclose(found.similarity, 1, rtol=1e-2)
        assert found.index == 3


def test_an_empty_memory_reads_as_zeros_with_no_similarity():
    codebook = vectors(0, 10, 6)
    nothing = np.asarray(read(np.zeros(6, np.float32), unitary(1, 6)))
    assert not np.any(nothing)
    assert not np.any(cleanup(nothing, codebook, k=3).similarity)
    slope = jax.jit(jax.grad(lambda q: jnp.sum(cleanup(q, codebook).similarity)))(nothing)
    assert np.all(np.isfinite(slope))


def test_gradients_jit_vmap_and_dtypes(x64):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5)), rng.normal(size=5)
    both = jax.jit(lambda a, b: (hologram.bind(a, b), hologram.unbind(a, b)))
    check_grads(both, (a, b), order=1, rtol=1e-6)
    rows = jax.vmap(unbind, (0, None))(a, b)
    np.testing.assert_allclose(rows, unbind(a, b), atol=1e-12)
    assert bind(jnp.ones(8, jnp.bfloat16), jnp.ones(8, jnp.bfloat16)).dtype == jnp.bfloat16


def test_gradients_flow_through_writes_and_reads(x64):
    keys = unitary(0, 2, 2, 6).astype(np.float64)

    def recall(patterns, memory):
        for pattern, key in zip(patterns, jnp.asarray(keys), strict=True):
            memory = hologram.delta_write(memory, pattern, key, 0.7, pages=True)
        return hologram.read(memory, jnp.asarray(keys[0]), pages=True)

    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2, 2, 6))
    check_grads(jax.jit(recall), tuple(inputs), order=1, rtol=1e-6)


KEY = unitary(0, 4)
CODES = np.eye(4, dtype=np.float32)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hologram.bind(np.ones(3), np.ones(4)), "same dimension, got 3 and 4"),
        (lambda: hologram.bind(np.ones(3), np.ones(3, complex)), "both be real or both phasors"),
        (lambda: hologram.bind(np.ones(3, int), np.ones(3)), "must be real or complex floating point"),
        (lambda: hologram.write(np.ones(8), np.ones(4), KEY), "memory and pattern .* got 8 and 4; .* use pages"),
        (lambda: hologram.bundle(np.ones((2, 3)), axis=1), "axis must count vectors"),
        (lambda: hologram.bundle(np.ones((2, 3)), axis=2), "got 2 for shape"),
        (lambda: hologram.unitary_key(jax.random.key(0), (3,), "optical"), "unknown kind 'optical'"),
        (lambda: hologram.unitary_key(jax.random.key(0), ()), "must end in the dimension"),
        (lambda: hologram.phase_key(np.ones(3), dimension=6), "of dimension 6 takes 2 phases, got 3"),
        (lambda: hologram.decay(np.ones(4), 1.5), r"factor must be in \[0, 1\], got 1.5"),
        (lambda: hologram.delta_write(np.ones(4), np.ones(4), np.zeros(4)), "key is zero"),
        (lambda: hologram.delta_write(np.ones(4), np.ones(4), np.ones(4)), "not unitary: .* by 3"),
        (lambda: hologram.delta_write(np.ones(4), np.ones(4), np.full(4, np.nan)), "not unitary"),
        (lambda: hologram.corrective_write(np.ones(4), 0, np.ones(4), CODES), "not unitary"),
        (lambda: hologram.corrective_write(np.ones(4), 4, KEY, CODES), r"in 0 \.\. 3, got 4"),
        (lambda: hologram.corrective_write(np.ones(4), np.arange(2), KEY, CODES), "one integer, got int"),
        (lambda: hologram.corrective_write(np.ones(4), 0, KEY, CODES[:1]), "at least 2 entries"),
        (lambda: hologram.corrective_write(np.ones(4), 0, KEY, CODES, 0), "margin must be positive"),
        (lambda: hologram.cleanup(np.ones(4), CODES[:2], k=3), r"at least 3 entries is needed, got shape \(2, 4\)"),
        (lambda: hologram.consolidate(hologram.write, np.ones(4), CODES, CODES[:1]), "4 items and 1 keys"),
        (lambda: hologram.consolidate(hologram.write, np.ones(4), CODES, CODES, 0), "got 0 rounds"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
