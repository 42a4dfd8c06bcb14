"""Resonance in chunks against a slow twin; chunks, loops, streams, parts and padding change nothing."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers.long_context import LongContextBlock

SIZE, OVERLAP, LONGEST, FEATURES = 16, 4, 128, 4
ROWS, LENGTH = 2, 42  # the third chunk is not full


def make_block(**changes):
    options: dict[str, Any] = dict(
        num_frequencies=5,
        local_frequencies=4,
        bridge_frequencies=3,
        chunk_size=SIZE,
        overlap=OVERLAP,
        max_context_length=LONGEST,
        num_heads=2,
        mlp_dim=6,
    )
    return LongContextBlock(FEATURES, **(options | changes))


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, LENGTH, FEATURES)).astype(np.float32)
    mask = rng.random((ROWS, LENGTH)) < 0.8
    shapes = jax.eval_shape(make_block().init, jax.random.key(0), x)
    variables = jax.tree.map(
        lambda leaf: (0.4 * rng.normal(size=leaf.shape)).astype(np.float32), shapes
    )
    return variables, x, mask


def call(block, variables, x, mask):
    return np.asarray(jax.jit(block.apply)(variables, x, mask))


def layer_norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def mix(spectrum, p):
    """S = W X, S + M S of a spectrum [k, d]."""
    filtered = np.exp(p["log_magnitude"] + 1j * p["phase"]) * spectrum
    return filtered + (p["interference"][0] + 1j * p["interference"][1]) @ filtered


def log_bins(length, k):
    from resonance_jax.ops.fourier import select_bins

    return np.asarray(select_bins(length // 2 + 1, k, "log"))


def count(bins, length):
    return np.where((bins == 0) | (2 * bins == length), 1, 2)[:, None]


def filter_twin(u, seen, p):
    filtered = sum(p["kernel"][lag] * np.pad(u, [(lag, 0), (0, 0)])[: len(u)] for lag in range(4))
    return np.where(seen[:, None], filtered * sigmoid(filtered), 0)


def local_twin(v, seen, p):
    """Resonance of one frame [t, d], t = 20 its own FFT length."""
    length = len(v)
    bins = log_bins(length, 4)
    wave = np.exp(-2j * np.pi * np.outer(bins, np.arange(length)) / length)
    change = mix(wave @ v, p["local"]) - wave @ v
    y = v + (wave.conj().T @ (count(bins, length) * change)).real / length
    return np.where(seen[:, None], y, 0)


def sums_twin(v, a, chunks, p):
    """What chunks 0 … chunks − 1 say at every step, by global resonance and by the bridge: two functions of t."""
    t = np.arange(min(chunks * SIZE, len(v)))
    f = log_bins(LONGEST, 5) / LONGEST
    x = np.exp(-2j * np.pi * np.outer(f, t)) @ (a[t] * v[t]) / np.maximum(a[t].sum(0), 1e-6)
    s = count(f, 1) * mix(x, p["spectrum"])
    of_chunks = [t[t // SIZE == c] for c in range(chunks)]
    present = [c for c in range(chunks) if a[of_chunks[c]].sum()]
    g = log_bins(LONGEST // SIZE, 3) / (LONGEST // SIZE)
    y = sum(
        np.exp(-2j * np.pi * g * c)[:, None]
        * ((a * v)[of_chunks[c]].sum(0) / a[of_chunks[c]].sum(0))
        for c in present
    ) / max(len(present), 1)
    r = count(g, 1) * mix(y, p["bridge"])

    def whole(t):
        return (np.exp(2j * np.pi * np.outer(t, f)) @ s).real

    def bridge(t):
        return (np.exp(2j * np.pi * np.outer(t // SIZE, g)) @ r).real

    return lambda t: whole(t) + bridge(t)


def twin(variables, x, mask, bidirectional):
    """One row [t, d], step by step, in float64."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    x, length = np.asarray(x, np.float64), len(x)
    normed = layer_norm(x, p["norm"])
    u = np.where(mask[:, None], normed, 0)
    v = filter_twin(u, mask, p)
    logit = np.repeat(12 * np.tanh((v @ p["score"]["kernel"]) / 12), FEATURES // 2, axis=1)
    a = np.exp(logit) * mask[:, None]
    chunks = -(-length // SIZE)
    y = np.zeros_like(x)
    padded = np.pad(v, [(0, SIZE + OVERLAP), (0, 0)])
    seen = np.pad(mask, (0, SIZE + OVERLAP))
    for c in range(chunks):
        frame = slice(c * SIZE, (c + 1) * SIZE + OVERLAP)
        found = local_twin(padded[frame], seen[frame], p)
        weight = np.ones(SIZE + OVERLAP)
        ramp = (np.arange(OVERLAP) + 0.5) / OVERLAP
        if c > 0:
            weight[:OVERLAP] = ramp
        weight[SIZE:] = 1 - ramp
        part = (weight[:, None] * found)[: max(0, length - c * SIZE)]
        y[c * SIZE : c * SIZE + len(part)] += part
    for t in range(length):
        heard = chunks if bidirectional else t // SIZE + 1
        y[t] += sums_twin(v, a, heard, p)(np.array([t]))[0]
    gate = dense(u, p["gate"])
    x = x + dense(y * gate * sigmoid(gate), p["out"])
    hidden = dense(layer_norm(x, p["mlp_norm"]), p["mlp_in"])
    gelu = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    return x + dense(gelu, p["mlp_out"])


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_block_is_its_slow_twin(given, bidirectional):
    variables, x, mask = given
    y = call(make_block(bidirectional=bidirectional), variables, x, mask)
    for row in range(ROWS):
        expected = twin(variables, x[row], mask[row], bidirectional)
        np.testing.assert_allclose(y[row][mask[row]], expected[mask[row]], rtol=2e-5, atol=2e-5)


@pytest.fixture(scope="module")
def value_and_gradient(given):
    variables, x, mask = given

    def compute(block):
        def loss(variables, x):
            y: Any = block.apply(variables, x, mask)
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(variables, x)

    return compute


@pytest.fixture(scope="module")
def usual(value_and_gradient):
    return value_and_gradient(make_block())


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "changes",
    [
        {"chunks_at_once": 0, "rematerialize": "products"},
        {"chunks_at_once": 2, "rematerialize": "none"},
    ],
)
def test_how_it_is_computed_changes_neither_values_nor_gradients(
    usual, value_and_gradient, changes
):
    found = value_and_gradient(make_block(**changes))
    for a, b in zip(jax.tree.leaves(usual), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(a).max())


@pytest.mark.end_to_end
def test_global_resonance_and_a_local_identity_do_not_depend_on_the_chunks(given):
    """Frames that give back what they are given are faded into it again, and sums of chunks are sums of the whole."""
    variables, x, mask = given
    params = dict(variables["params"])
    params["local"] = jax.tree.map(np.zeros_like, params["local"])  # W = 1, M = 0
    params["bridge"] = params["bridge"] | {"log_magnitude": np.full((3, FEATURES), -50.0)}
    found = [
        call(make_block(chunk_size=size, overlap=overlap), {"params": params}, x, mask)
        for size, overlap in [(16, 4), (32, 32), (16, 0)]
    ]
    assert np.abs(found[0] - x).max() > 0.1
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)
    np.testing.assert_allclose(found[2], found[0], atol=1e-5)


@pytest.mark.end_to_end
def test_padding_that_is_masked_changes_nothing(given):
    variables, x, _ = given
    alone = call(make_block(), variables, x, None)
    padded = np.pad(x, [(0, 0), (0, 50), (0, 0)], constant_values=7.0)
    mask = np.broadcast_to(np.arange(padded.shape[1]) < LENGTH, padded.shape[:2])
    y = call(make_block(), variables, padded, mask)
    np.testing.assert_allclose(y[:, :LENGTH], alone, atol=1e-5)


@pytest.mark.end_to_end
def test_a_row_without_observed_steps_is_finite(given):
    variables, x, _ = given
    mask = np.zeros((ROWS, LENGTH), bool)

    def loss(variables, mask):
        y: Any = make_block().apply(variables, x, mask)
        return jnp.sum(y)

    value, gradient = jax.jit(jax.value_and_grad(loss))(variables, mask)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, gradient)))


def test_a_stream_of_chunks_gives_what_the_whole_gives(given):
    variables, x, mask = given
    block = make_block(bidirectional=False)
    chunks = -(-LENGTH // SIZE)
    missing = (chunks + 1) * SIZE - LENGTH  # and one hidden chunk
    x_padded = np.pad(x, [(0, 0), (0, missing), (0, 0)])
    seen = np.pad(mask, [(0, 0), (0, missing)])
    stream = jax.jit(lambda *chunk: block.apply(variables, *chunk, method="stream"))
    state, outputs, masks = None, [], []
    for c in range(chunks + 1):
        at = slice(c * SIZE, (c + 1) * SIZE)
        y, observed, state = stream(x_padded[:, at], seen[:, at], state)
        outputs.append(y)
        masks.append(observed)
    streamed = np.concatenate(outputs[1:], axis=1)[:, :LENGTH]
    whole = call(block, variables, x, mask)
    np.testing.assert_array_equal(np.concatenate(masks[1:], axis=1)[:, :LENGTH], mask)
    np.testing.assert_allclose(streamed[mask], whole[mask], atol=1e-5)
    assert not np.any(masks[0])


@pytest.mark.end_to_end
def test_without_what_follows_a_chunk_hears_only_the_overlap_of_the_next(given):
    variables, x, _ = given
    block = make_block(bidirectional=False)
    apply = jax.jit(block.apply)
    usual = apply(variables, x)
    for changed in (SIZE + OVERLAP, SIZE + OVERLAP - 1):
        other = x.copy()
        other[:, changed, 0] += 1.0
        difference = np.abs(apply(variables, other) - usual)
        before = difference[:, :SIZE].max()
        assert (before > 1e-4) == (changed < SIZE + OVERLAP)
        assert difference[:, SIZE:].max() > 1e-3


@pytest.mark.end_to_end
@pytest.mark.parametrize("bidirectional", [True, False])
def test_parts_along_an_axis_give_what_the_whole_gives(given, bidirectional):
    variables, _, _ = given
    rng = np.random.default_rng(1)
    parts, length = 2, 4 * SIZE
    x = rng.normal(size=(ROWS, length, FEATURES)).astype(np.float32)
    mask = rng.random((ROWS, length)) < 0.8

    def value_and_gradient(apply):
        def loss(variables, x):
            y = jnp.where(mask[..., None], apply(variables, x), 0)
            return jnp.sum(jnp.sin(y)), y

        (_, y), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(variables, x)
        return y, gradient

    whole, split = (make_block(bidirectional=bidirectional, axis_name=name) for name in (None, "p"))

    def in_parts(variables, x):
        pieces = x.reshape(ROWS, parts, -1, FEATURES), mask.reshape(ROWS, parts, -1)
        y: Any = jax.vmap(
            lambda x, mask: split.apply(variables, x, mask), in_axes=1, out_axes=1, axis_name="p"
        )(*pieces)
        return y.reshape(x.shape)

    expected = value_and_gradient(lambda variables, x: whole.apply(variables, x, mask))
    found = value_and_gradient(in_parts)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(1, np.abs(a).max()))


@pytest.mark.end_to_end
def test_every_parameter_is_learned(usual):
    _, (gradients, _) = usual
    silent = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree.leaves_with_path(gradients)
        if not np.any(leaf)
    ]
    assert silent == []


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "changes",
    [{"overlap": 3}, {"bidirectional": False}, {"max_context_length": 256}, {"chunk_size": 8}],
)
def test_every_option_changes_the_output(given, usual, changes):
    y = call(make_block(**changes), *given)
    assert np.abs(y - usual[0][1]).max() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"num_frequencies": 4},
        {"local_frequencies": 3},
        {"bridge_frequencies": 2},
        {"num_heads": 4},
        {"mlp_dim": 5},
    ],
)
def test_sizes_are_those_of_parameters(given, changes):
    """Which all are learned."""
    usual, changed = (
        jax.tree.map(
            lambda leaf: leaf.shape,
            jax.eval_shape(block.init, jax.random.key(0), given[1])["params"],
        )
        for block in (make_block(), make_block(**changes))
    )
    assert usual != changed


@pytest.mark.end_to_end
def test_dropout_and_dtype(given):
    variables, x, _ = given
    block = make_block(dropout=0.5, dtype=jnp.bfloat16)
    apply = jax.jit(block.apply, static_argnames="deterministic")
    first, second = (
        apply(variables, x, deterministic=False, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 1)
    )
    assert first.dtype == jnp.bfloat16
    assert np.abs(np.asarray(first - second, np.float32)).max() > 0.1
    exact = call(make_block(), variables, x, None)
    rounded = np.asarray(apply(variables, x), np.float32)
    np.testing.assert_allclose(rounded, exact, atol=0.03 * np.abs(exact).max())


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({}, (1, LONGEST + 1, FEATURES), "t <= max_context_length = 128 steps in all, got .* 129"),
        ({}, (1, 16, 3), r"expected x \[b, t, 4\]"),
        ({"chunk_size": 48}, (1, 16, FEATURES), "chunk_size >= 3 that divides max_context_length"),
        ({"overlap": 17}, (1, 16, FEATURES), "0 <= overlap <= chunk_size"),
        ({"num_heads": 3}, (1, 16, FEATURES), "num_heads = 3 must divide features = 4"),
        ({"rematerialize": "all"}, (1, 16, FEATURES), "choose one of none, products, chunk"),
        ({"bridge_frequencies": 6}, (1, 16, FEATURES), "choose 1 <= k <= 5"),
    ],
)
def test_what_does_not_fit_is_refused(changes, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(make_block(**changes).init, jax.random.key(0), np.zeros(shape, np.float32))


@pytest.mark.error_message
def test_a_stream_refuses_what_it_cannot_do(given):
    variables, x, _ = given
    with pytest.raises(ValueError, match="bidirectional=False"):
        make_block().apply(variables, x[:, :SIZE], None, None, method="stream")
    with pytest.raises(ValueError, match="x must have shape"):
        make_block(bidirectional=False).apply(variables, x, None, None, method="stream")


@pytest.mark.error_message
def test_parts_must_be_of_whole_chunks(given):
    variables, _, _ = given
    block = make_block(axis_name="p")
    with pytest.raises(ValueError, match="whole chunks of 16 steps, got 24"):
        jax.vmap(lambda x: block.apply(variables, x), axis_name="p")(np.zeros((2, 1, 24, FEATURES)))
