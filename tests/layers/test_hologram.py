"""HolographicMemory against sums written out in NumPy; who reads what, who changes what, and what it says when full."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.layers import _hologram, hologram
from resonance_jax.ops.capacity import max_pairs, recall_accuracy
from resonance_jax.ops.hologram import unitary_key

# As Any: to a type checker the result of a module's `apply` is a union.
HolographicMemory: Any = hologram.HolographicMemory

pytestmark = pytest.mark.usefixtures("quick_compile")

B, T, N = 2, 3, 6


def normal(*shape, seed=0, kind="real") -> Any:
    rng = np.random.default_rng(seed)
    if kind == "phasor":
        return np.exp(2j * np.pi * rng.random(shape)).astype(np.complex64)
    return rng.normal(size=shape).astype(np.float32)


@partial(jax.jit, static_argnums=(0, 2))
def run(memory, variables, script, *args) -> Any:
    """Returns what script(memory, *args) returns, calling the memory's methods, and the variables after."""
    found, after = memory.apply(variables, *args, method=script, mutable=["hologram"])
    return found, {**variables, **after}


def start(memory, content=N):
    """Variables with a W drawn from N(0, s²), without compiling `init`; phasors are content of two numbers each."""
    phases = memory.pattern_dim if memory.kind == "phasor" else (memory.pattern_dim - 1) // 2
    content = 2 * content if memory.kind == "phasor" else content
    shape = (content, memory.hologram_dim // memory.pattern_dim * phases)
    kernel = memory.key_scale * normal(*shape, seed=9).astype(memory.param_dtype)
    return {"params": {"projection": {"kernel": kernel}}}


def twin_key(x, kernel, memory):
    """k(x) [a, N] of one x [c], each component of each page a sum over the spectrum."""
    n, pages = memory.pattern_dim, memory.hologram_dim // memory.pattern_dim
    x = np.concatenate([x.real, x.imag]) if memory.kind == "phasor" else x
    phases = np.tensordot(x / np.linalg.norm(x), kernel, 1).reshape(pages, -1)
    if memory.kind == "phasor":
        return np.exp(1j * phases)
    key = np.sign(np.cos(phases[:, :1])) * np.ones(n) / n
    for i in range(n):
        if n % 2 == 0:
            key[:, i] += (-1) ** i / n * np.sign(np.cos(phases[:, -1]))
        for m in range(phases.shape[1]):
            key[:, i] += 2 / n * np.cos(phases[:, m] + 2 * np.pi * (m + 1) * i / n)
    return key


def product(key, vector, *, inverse=False):
    """k ⊛ p of one page, or what it is undone by."""
    if np.iscomplexobj(key):
        return vector * (key.conj() if inverse else key)
    n = len(key)
    sign = -1 if inverse else 1
    return np.array([sum(key[sign * (i - j) % n] * vector[j] for j in range(n)) for i in range(n)])


def twin_read(trace, key):
    return np.mean([product(k, m, inverse=True) for k, m in zip(key, trace, strict=True)], axis=0)


def twin_write(trace, pattern, key, memory):
    trace = memory.decay * trace
    if memory.rule == "delta":
        pattern = pattern - twin_read(trace, key)
    return trace + memory.rate * np.array([product(k, pattern) for k in key])


@pytest.mark.parametrize(
    "options",
    [
        dict(rule="add", decay=0.8, rate=0.7),
        dict(rule="delta", decay=0.9, rate=0.6),
        dict(rule="add", kind="phasor", shared=True, decay=0.8),
        dict(rule="delta", kind="phasor", shared=True),
        dict(rule="delta", pattern_dim=5, hologram_dim=15),
    ],
)
def test_memory_is_its_definition(options):
    memory = HolographicMemory(**{"pattern_dim": N, "hologram_dim": 2 * N, **options})
    kind, n, pages = memory.kind, memory.pattern_dim, memory.hologram_dim // memory.pattern_dim
    first, second = normal(B, T, n, kind=kind), normal(B, n, seed=1, kind=kind)
    mask = np.array([[True, False, True], [True, True, True]])
    given = np.asarray(unitary_key(jax.random.key(1), (B, pages, n), kind))
    variables = start(memory, content=n)
    kernel = variables["params"]["projection"]["kernel"]

    def script(memory, first, second):
        memory.encode(first, mask=mask)
        memory.encode(second, given)
        by_content, by_key = memory.reconstruct(first + 0.5), memory.reconstruct(key=given)
        return by_content, by_key, memory.fidelity(first, first + 0.5), memory.fidelity(first)

    (by_content, by_key, fidelity, by_itself), after = run(memory, variables, script, first, second)

    trace = np.zeros((B, pages, n), complex if kind == "phasor" else float)
    trace = trace[:1] if memory.shared else trace
    for row in range(B):
        at = 0 if memory.shared else row
        for pattern in first[row][mask[row]]:
            trace[at] = twin_write(trace[at], pattern, twin_key(pattern, kernel, memory), memory)
    for row in range(B):
        at = 0 if memory.shared else row
        trace[at] = twin_write(trace[at], second[row], given[row], memory)
    found = after["hologram"]
    expected = trace[0] if memory.shared else trace
    np.testing.assert_allclose(found["trace"], expected, atol=2e-6)
    np.testing.assert_array_equal(found["pairs"], 7 if memory.shared else [3, 4])
    for row in range(B):
        page = trace[0 if memory.shared else row]
        np.testing.assert_allclose(by_key[row], twin_read(page, given[row]), atol=2e-6)
        for step in range(T):
            key = twin_key(first[row, step] + 0.5, kernel, memory)
            np.testing.assert_allclose(by_content[row, step], twin_read(page, key), atol=2e-6)
    by_its_key = [
        [
            twin_read(trace[0 if memory.shared else row], twin_key(x, kernel, memory))
            for x in first[row]
        ]
        for row in range(B)
    ]
    for cosine, read in ((fidelity, by_content), (by_itself, np.array(by_its_key))):
        expected = np.sum(np.real(read * first.conj()), -1)
        expected /= np.linalg.norm(read, axis=-1) * np.linalg.norm(first, axis=-1)
        np.testing.assert_allclose(cosine, expected, atol=1e-5)


def store_and_recall(memory, x):
    memory.encode(x)
    return memory.reconstruct(x)


@pytest.mark.parametrize("rule", ["add", "delta"])
def test_a_row_neither_reads_nor_changes_another(rule):
    memory = HolographicMemory(N, 2 * N, rule=rule, decay=0.9)
    x = normal(B, T, N)
    other = x.copy()
    other[1] = np.nan
    (found, one), (apart, two) = (
        run(memory, start(memory), store_and_recall, rows) for rows in (x, other)
    )
    assert not np.any(np.isfinite(two["hologram"]["trace"][1]))
    np.testing.assert_array_equal(one["hologram"]["trace"][0], two["hologram"]["trace"][0])
    np.testing.assert_array_equal(found[0], apart[0])
    shared = HolographicMemory(N, 2 * N, rule=rule, decay=0.9, shared=True)
    together, both = run(shared, start(shared), store_and_recall, x)
    assert both["hologram"]["trace"].shape == (2, N)
    # written last, row 1 is read by row 0, and by a batch of another size
    assert np.abs(together[0] - found[0]).max() > 0.1
    one_row, _ = run(shared, both, HolographicMemory.reconstruct, x[:1])
    np.testing.assert_allclose(one_row, together[:1], atol=1e-6)


@pytest.mark.parametrize("rule", ["add", "delta"])
def test_many_writes_are_single_writes_in_order_and_hidden_ones_are_none(rule):
    memory = HolographicMemory(N, 2 * N, rule=rule, decay=0.9)
    x = normal(B, T, N)
    hidden, mask = np.full((B, 2 * T, N), np.nan, np.float32), np.zeros((B, 2 * T), bool)
    hidden[:, 1::2], mask[:, 1::2] = x, True

    def apart(memory):
        for step in range(2 * T):
            memory.encode(hidden[:, step], mask=mask[:, step])

    ways = (
        lambda memory: memory.encode(x),
        lambda memory: memory.encode(hidden, mask=mask),
        lambda memory: memory.encode(hidden, memory.make_key(hidden), mask),
        apart,
    )

    def script(memory):
        found = []
        for way in ways:
            memory.clear(np.ones(B, bool))
            way(memory)
            found.append(dict(memory.variables["hologram"]))
        return found

    (together, *others), _ = run(memory, start(memory), script)
    for found in others:
        np.testing.assert_allclose(found["trace"], together["trace"], atol=1e-6)
        np.testing.assert_array_equal(found["pairs"], [T] * B)


def test_one_pair_comes_back_exactly_and_the_delta_rule_keeps_the_last():
    x, keys = normal(1, 4, 32), unitary_key(jax.random.key(0), (1, 4, 4, 32))

    def script(memory, x):
        memory.encode(x[:, 0], keys[:, 0])
        alone = memory.reconstruct(key=keys[:, 0])
        memory.encode(x[:, 1:], keys[:, 1:])
        return alone - x[:, 0], memory.reconstruct(key=keys[:, 3]) - x[:, 3]

    errors = {}
    for rule in ("add", "delta"):
        (first, errors[rule]), _ = run(HolographicMemory(32, 128, rule=rule), {}, script, x)
        np.testing.assert_allclose(first, 0, atol=1e-6)
    np.testing.assert_allclose(errors["delta"], 0, atol=1e-6)
    assert np.abs(errors["add"]).max() > 0.1


@pytest.mark.parametrize("kind", ["real", "phasor"])
def test_keys_of_similar_content_are_similar(kind):
    scale, angles = 1.5, np.array([0.0, 0.4, 0.8, 1.2, np.pi / 2])
    memory = HolographicMemory(1023, 8 * 1023, kind=kind, key_scale=scale, learned_keys=False)
    one, two = np.linalg.qr(normal(16, 2))[0].T
    x = 3 * (np.cos(angles)[:, None] * one + np.sin(angles)[:, None] * two).astype(np.float32)
    init = jax.jit(partial(memory.init_with_output, method="make_key"))
    keys, variables = init(jax.random.key(0), x)
    assert set(variables) == {"constants"}  # W is drawn once and not trained
    found = np.sum(np.real(keys * keys[:1].conj()), axis=(1, 2)) / np.sum(np.abs(keys[0]) ** 2)
    np.testing.assert_allclose(found, np.exp(-(scale**2) * (1 - np.cos(angles))), atol=0.05)
    smaller, _ = run(memory, variables, HolographicMemory.make_key, x / 7)
    np.testing.assert_allclose(smaller, keys, atol=1e-6)  # only the direction counts


def test_a_query_reads_what_was_stored_under_content_like_it():
    memory = HolographicMemory(16, 16 * 16)
    values, content, noise = normal(1, 3, 16), normal(1, 3, 24, seed=1), normal(1, 3, 24, seed=2)

    def script(memory, values, content):
        memory.encode(values, memory.make_key(content))
        unlike = memory.fidelity(values, content[:, [1, 2, 0]])
        return memory.fidelity(values, content + 0.2 * noise), unlike

    (like, unlike), _ = run(memory, start(memory, content=24), script, values, content)
    assert np.min(like) > 0.85 and np.max(unlike) < 0.5


def test_gradients_flow_through_reads_and_where_asked_through_writes(x64):
    x, goal = (normal(B, T, N, seed=seed).astype(np.float64) for seed in (0, 1))

    def script(memory, first, second):
        memory.encode(first)
        return memory.reconstruct(second)

    def loss(memory, variables, first, second):
        found, _ = run(memory, variables, script, first, second)
        return jnp.sum(jnp.sin(found) * goal[:, 1:])

    options: Any = dict(pattern_dim=N, hologram_dim=2 * N, decay=0.9, param_dtype=jnp.float64)
    memory = HolographicMemory(rule="delta", differentiable_writes=True, **options)
    state = {"trace": normal(B, 2, N, seed=2).astype(np.float64), "pairs": np.zeros(B, np.int32)}
    variables = {**start(memory), "hologram": state}
    args = (variables["params"], state["trace"], x[:, :2], x[:, 1:] + 0.3)

    def of(memory, params, trace, first, second):
        state = {"trace": trace, "pairs": np.zeros(B, np.int32)}
        return loss(memory, {"params": params, "hologram": state}, first, second)

    check_grads(jax.jit(partial(of, memory)), args, order=1, modes=["rev"])
    gradient = jax.jit(jax.grad(of, argnums=(1, 2, 3, 4)), static_argnums=0)
    memory = HolographicMemory(differentiable_writes=True, **options)
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(gradient(memory, *args)))
    params, trace, written, query = gradient(HolographicMemory(**options), *args)
    assert np.all(written == 0) and np.all(trace == 0) and np.all(query != 0)
    assert np.all(params["projection"]["kernel"] != 0)


def test_an_empty_memory_reads_as_zeros():
    memory, x = HolographicMemory(N, 2 * N), normal(B, T, N)
    for options in ({}, {"write": True}):  # init stores nothing
        made = jax.eval_shape(partial(memory.init, **options), jax.random.key(0), x)
        assert set(made) == {"params"}

    def script(memory, x):
        return memory.reconstruct(x), memory.fidelity(x), memory.utilization()

    def cleared(memory, x):
        memory.clear(np.ones(B, bool))
        return script(memory, x)

    for empty in (script, cleared):
        found, _ = run(memory, start(memory), empty, x)
        assert all(np.all(np.asarray(part) == 0) for part in found)
        assert (found[0].shape, found[1].shape) == ((B, T, N), (B, T))

    def both(x):
        """Of an empty memory, and of content without direction, whose key has phases 0."""
        (found, fidelity, _), _ = run(memory, start(memory), cleared, x)
        key, _ = run(memory, start(memory), HolographicMemory.make_key, 0 * x)
        return jnp.sum(found) + jnp.sum(fidelity) + jnp.sum(key**2)

    assert np.all(np.isfinite(jax.jit(jax.grad(both))(x)))


def test_call_reads_before_it_writes_and_a_scan_goes_through_pieces():
    memory = HolographicMemory(N, 2 * N, rule="delta")
    pieces = normal(3, B, T, N)
    _, empty = run(memory, {}, HolographicMemory.clear, np.ones(B, bool))
    variables = {**start(memory), **empty}

    def call(memory, x):
        return memory(x, write=True)

    def parts(memory, x):
        found = memory.reconstruct(x)
        memory.encode(x)
        return found

    found, expected = [], []
    one = two = variables
    for piece in pieces:
        y, one = run(memory, one, call, piece)
        found.append(y)
        y, two = run(memory, two, parts, piece)
        expected.append(y)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(one["hologram"]["trace"], two["hologram"]["trace"], atol=1e-6)
    assert np.all(found[0] == 0) and np.all(found[1] != 0)
    end, ys = jax.lax.scan(lambda v, x: run(memory, v, call, x)[::-1], variables, pieces)
    np.testing.assert_allclose(ys, found, atol=1e-6)
    np.testing.assert_allclose(end["hologram"]["trace"], one["hologram"]["trace"], atol=1e-6)

    keys = unitary_key(jax.random.key(1), (B, T, 2, N))

    def by_key(memory, x):
        expected = memory.reconstruct(key=keys)
        return memory(x, keys, write=True) - expected, memory.reconstruct(key=keys) - expected

    (before, after), _ = run(memory, one, by_key, pieces[0])
    np.testing.assert_allclose(before, 0, atol=1e-6)
    assert np.abs(after).max() > 0.1


def test_clear_forgets_the_rows_that_it_is_told():
    memory, shared = HolographicMemory(N, 2 * N), HolographicMemory(N, 2 * N, shared=True)
    state = {"trace": normal(B, 2, N), "pairs": np.array([3, 3], np.int32)}
    after = run(memory, {"hologram": state}, HolographicMemory.clear, np.array([False, True]))[1]
    np.testing.assert_array_equal(after["hologram"]["pairs"], [3, 0])
    np.testing.assert_array_equal(after["hologram"]["trace"][0], state["trace"][0])
    assert np.all(after["hologram"]["trace"][1] == 0)
    for module, rows in ((memory, B), (shared, ())):
        full = {
            "trace": normal(*np.atleast_1d(rows)[:1], 2, N),
            "pairs": np.full(rows, 3, np.int32),
        }
        after = run(module, {"hologram": full}, HolographicMemory.clear)[1]["hologram"]
        assert after["trace"].shape == full["trace"].shape and after["pairs"].shape == np.shape(
            full["pairs"]
        )
        assert np.all(after["trace"] == 0) and np.all(after["pairs"] == 0)
    _, made = run(shared, {}, HolographicMemory.clear)
    assert made["hologram"]["trace"].shape == (2, N)


@pytest.fixture
def never_warned(monkeypatch):
    monkeypatch.setattr(_hologram, "_WARNED", set())


def test_utilization_is_the_share_of_the_capacity():
    state = {"trace": normal(B, 200, N), "pairs": np.array([3, 1], np.int32)}
    for options, expected in (
        (dict(capacity=6), [3 / 6, 1 / 6]),
        (dict(capacity=6, decay=0.5), [(1 + 1 / 4 + 1 / 16) / 6, 1 / 6]),
        (dict(capacity=6, decay=0.0), [1 / 6, 1 / 6]),
        (dict(), np.array([3, 1]) / max_pairs(200 * N, 1000, 0.99)),
        (dict(codebook_size=10), np.array([3, 1]) / max_pairs(200 * N, 10, 0.99)),
    ):
        memory = HolographicMemory(N, 200 * N, **options)
        used = memory.apply({"hologram": state}, method="utilization")
        np.testing.assert_allclose(used, expected, rtol=1e-6)
    tiny = HolographicMemory(N, N, shared=True, codebook_size=10**6)  # not even one pair is safe
    state = {"trace": normal(1, N), "pairs": np.int32(1)}
    assert tiny.apply({"hologram": state}, method="utilization") == 1


@pytest.mark.error_message
def test_too_many_pairs_warn_once_and_say_what_to_expect(never_warned):
    memory = HolographicMemory(N, 2 * N, capacity=4, codebook_size=50)
    x = normal(B, T, N)
    _, under_jit = run(memory, start(memory), store_and_recall, np.tile(x, (1, 2, 1)))
    expected = recall_accuracy(2 * N, 6, 50)
    wanted = f"dimension 12 holds 6 pairs, more than its capacity of 4: .* {expected:.1%} among 50"
    encode = partial(memory.apply, method="encode", mutable=["hologram"])
    with pytest.warns(UserWarning, match=wanted):  # under jit the count was not known
        used = memory.apply(under_jit, method="utilization")
    np.testing.assert_allclose(used, 6 / 4)
    encode(under_jit, x)  # warnings are errors: a second one would end the test
    memory.apply(under_jit, method="utilization")
    _hologram._WARNED.clear()
    with pytest.warns(UserWarning, match=wanted.replace("6 pairs", "9 pairs").split(" .*")[0]):
        encode(under_jit, x)
    other = HolographicMemory(N, 2 * N, capacity=5)
    with pytest.warns(UserWarning, match="more than its capacity of 5"):
        other.apply(under_jit, method="utilization")


def test_every_option_changes_what_is_read():
    x = normal(B, T, N)
    plain = HolographicMemory(N, 2 * N)
    expected, _ = run(plain, start(plain), store_and_recall, x)
    for options in (
        dict(rule="delta"),
        dict(rate=0.5),
        dict(decay=0.5),
        dict(shared=True),
        dict(hologram_dim=3 * N),
        dict(key_scale=0.5),
    ):
        memory = HolographicMemory(**{"pattern_dim": N, "hologram_dim": 2 * N, **options})
        found, _ = run(memory, start(memory), store_and_recall, x)
        assert np.abs(found - expected).max() > 0.05, options


def test_dtypes_are_kept_and_the_trace_is_wide():
    x, phasors = jnp.asarray(normal(B, T, N), jnp.bfloat16), normal(B, T, N, kind="phasor")
    memory = HolographicMemory(N, 2 * N)
    found, after = run(memory, start(memory), store_and_recall, x)
    assert (found.dtype, after["hologram"]["trace"].dtype) == (jnp.bfloat16, jnp.float32)
    module = HolographicMemory(N, 2 * N, dtype=jnp.float32)
    wide, _ = run(module, start(module), store_and_recall, x)
    assert wide.dtype == jnp.float32
    np.testing.assert_allclose(found, wide, rtol=0.01, atol=1e-3)

    def shapes(content, **options) -> Any:
        module = HolographicMemory(N, 2 * N, **options)
        return jax.eval_shape(module.init_with_output, jax.random.key(0), content)

    _, low = shapes(x, param_dtype=jnp.bfloat16)
    assert low["params"]["projection"]["kernel"].dtype == jnp.bfloat16
    for content in (x, phasors):
        assert shapes(content, kind="phasor")[0].dtype == jnp.complex64


X = normal(B, T, N)
KEYS = np.asarray(unitary_key(jax.random.key(0), (B, T, 2, N)))
MEMORY = HolographicMemory(N, 2 * N)
STATE = {"hologram": {"trace": normal(B, 2, N), "pairs": np.zeros(B, np.int32)}}


def stored(memory=MEMORY, x=X, *args, mutable=("hologram",), **options):
    variables = start(memory) if memory == MEMORY else {}
    return memory.apply(variables, x, *args, method="encode", mutable=list(mutable), **options)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stored(HolographicMemory(N, 8)), "must be a multiple of pattern_dim = 6, .* got 8"),
        (lambda: stored(HolographicMemory(N, 0)), "one page or more; got 0"),
        (lambda: stored(HolographicMemory(2, 4)), "pattern_dim must be at least 3 for real keys, got 2"),
        (lambda: stored(HolographicMemory(N, 12, rule="replace")), "unknown rule 'replace'; choose one of add, delta"),
        (lambda: stored(HolographicMemory(N, 12, kind="complex")), "unknown kind 'complex'"),
        (lambda: stored(HolographicMemory(N, N, rule="delta")), "needs at least two pages"),
        (lambda: stored(HolographicMemory(N, 12, rate=0.0)), r"rate in \(0, 1\] .* got 0.0 and 1.0"),
        (lambda: stored(HolographicMemory(N, 12, decay=1.1)), r"decay in \[0, 1\], got 1.0 and 1.1"),
        (lambda: stored(HolographicMemory(N, 12, capacity=0)), "capacity >= 1 or None"),
        (lambda: stored(HolographicMemory(N, 12, codebook_size=1)), "codebook_size >= 2"),
        (lambda: stored(HolographicMemory(N, 12, key_scale=0.0)), "key_scale must be positive and finite, got 0.0"),
        (lambda: stored(x=X[..., :5]), r"shape \[b, N\] or \[b, t, N\] with N = 6 and nothing empty, got \(2, 3, 5\)"),
        (lambda: stored(x=X[0, 0]), "pattern must have shape"),
        (lambda: stored(x=X[:, :0]), "nothing empty"),
        (lambda: stored(x=X + 0j), "kind 'real' must be real floating point, got complex64"),
        (lambda: stored(MEMORY, X, KEYS[:, 0]), r"key must have shape .* a = 2 pages of N = 6, got \(2, 2, 6\)"),
        (lambda: stored(MEMORY, X, 0 * KEYS), "key is zero"),
        (lambda: stored(MEMORY, X, 2 * KEYS), "key is not unitary"),
        (lambda: stored(MEMORY, X, KEYS + 0j), "kind 'real' needs keys of that kind, got complex64"),
        (lambda: stored(mask=np.ones((B, T + 1), bool)), r"mask must be bool .* of shape \(2, 3\), got bool of shape"),
        (lambda: stored(mask=np.ones((B, T))), "mask must be bool"),
        (lambda: stored(mutable=()), r"call apply\(..., mutable=\['hologram'\]\)"),
        (lambda: MEMORY.apply({**start(MEMORY), **STATE}, X[:1]), "shape .1, 2, 6. .* got .2, 2, 6."),
        (lambda: MEMORY.apply({}, method="reconstruct"), "either a query .content. or a key"),
        (lambda: MEMORY.apply({}, X, KEYS, method="reconstruct"), "either a query .content. or a key"),
        (lambda: MEMORY.apply({}, X[0, 0], method="reconstruct"), r"query must have shape \[b, c\]"),
        (lambda: MEMORY.apply(start(MEMORY), X[..., :4]), "of dimension 6 into 4 phases, got content of dimension 4"),
        (lambda: MEMORY.apply({}, method="clear", mutable=["hologram"]), "there is no memory yet"),
        (lambda: MEMORY.apply({}, np.ones(B), method="clear"), r"rows must be bool \[b\], got float64"),
        (lambda: HolographicMemory(N, N, shared=True).apply({}, np.ones(B, bool), method="clear"), "has no rows"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
