"""The fast-weight memory as a layer: against a twin, in parts and by the step, masks, options and gradients."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers import fast_weights
from resonance_jax.layers.block import MixerBlock
from resonance_jax.training.optimizer import label_parameters

# As Any: to a type checker the result of a module's `apply` is a union.
CausalConvolution: Any = fast_weights.CausalConvolution
FastWeightMemory: Any = partial(
    fast_weights.FastWeightMemory, num_heads=2, key_dim=3, value_dim=5, chunk_size=4
)

pytestmark = pytest.mark.usefixtures("quick_compile")

D, LENGTH, TAPS = 4, 9, 4
HEADS, I_DIM, J_DIM = 2, 3, 5


def signal(length=LENGTH, rows=2, seed=0) -> Any:
    return np.random.default_rng(seed).normal(size=(rows, length, D)).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def twin(params, x, mask, max_rate=1.0, error_correcting=True, gate=True, activation="silu"):
    """The layer by its formula in float64, a row, a step and a head at a time."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x, y = np.asarray(x, np.float64), np.zeros(x.shape)
    for row in range(len(x)):
        memory = np.zeros((HEADS, J_DIM, I_DIM))
        projected = np.where(mask[row][:, None], x[row] @ params["qkv"]["kernel"], 0)
        for t in range(x.shape[1]):
            seen = np.stack([projected[t - lag] * (t >= lag) for lag in range(TAPS)])
            now = np.sum(params["convolution"]["kernel"] * seen, axis=0)
            now = now * sigmoid(now) if activation == "silu" else now
            rate = sigmoid(x[row, t] @ params["rate"]["kernel"] + params["rate"]["bias"])
            read = []
            for head, part in enumerate(now.reshape(HEADS, 2 * I_DIM + J_DIM)):
                query, key, value = np.split(part, [I_DIM, 2 * I_DIM])
                query, key = query / np.linalg.norm(query), key / np.linalg.norm(key)
                error = value - (memory[head] @ key if error_correcting else 0)
                beta = max_rate * rate[head] if mask[row, t] else 0
                memory[head] += beta * np.outer(error, key)
                recalled = memory[head] @ query
                read.append(
                    recalled / np.sqrt(np.mean(recalled**2) + 1e-6) * params["norm"]["scale"]
                )
            read = np.concatenate(read)
            if gate:
                z = x[row, t] @ params["gate"]["kernel"]
                read = read * z * sigmoid(z)
            y[row, t] = read @ params["out"]["kernel"] if mask[row, t] else 0
    return y


OPTIONS = [
    {},
    {"max_rate": 2.0, "gate": False, "activation": "none"},
    {"error_correcting": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_layer_matches_the_twin(random_variables, options):
    x, layer = signal(), FastWeightMemory(D, **options)
    variables = random_variables(layer, x)
    mask = np.ones(x.shape[:2], bool)
    mask[1, [2, 3, 8]] = False
    y = jax.jit(layer.apply)(variables, x, mask)
    expected = twin(variables["params"], x, mask, **options)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-5)


def test_parts_and_single_steps_give_what_the_whole_gives(random_variables):
    x, layer = signal(), FastWeightMemory(D)
    variables = random_variables(layer, x)
    mask = np.ones(x.shape[:2], bool)
    mask[:, 1], mask[0, 5:7] = False, False  # a part of hidden steps alone, too
    extend = jax.jit(partial(layer.apply, method="extend"))
    whole, last = extend(variables, x, None, mask)
    state = layer.initial_state((2,))
    chex.assert_trees_all_equal_shapes_and_dtypes(state, last)
    first, state = extend(variables, x[:, :5], state, mask[:, :5])
    np.testing.assert_allclose(first, whole[:, :5], atol=1e-6)
    step = jax.jit(partial(layer.apply, method="step"))
    for t in range(5, LENGTH):
        y, state = step(variables, x[:, t], state, mask[:, t])
        np.testing.assert_allclose(y, whole[:, t], atol=1e-6)
    chex.assert_trees_all_close(state, last, atol=1e-6)


def test_padding_leaves_the_state_as_it_is_before_it(random_variables):
    x, layer = signal(), FastWeightMemory(D)
    variables = random_variables(layer, x)
    extend = jax.jit(partial(layer.apply, method="extend"))
    _, state = extend(variables, x[:, :5], None)
    lengths = np.array([7, 2])  # as many steps as the convolution reads, and fewer
    _, padded = extend(variables, x, state, lengths=lengths)
    for row, length in enumerate(lengths):
        after = state
        for t in range(length):
            _, after = extend(variables, x[:, t : t + 1], after)
        for found, expected in zip(padded, after, strict=True):
            np.testing.assert_allclose(found[row], expected[row], atol=1e-6)


def test_single_additive_steps_give_what_the_whole_gives(random_variables):
    x, layer = signal(3), FastWeightMemory(D, error_correcting=False, conv_size=0)
    variables, state = random_variables(layer, x), layer.initial_state((2,))
    whole = jax.jit(layer.apply)(variables, x)
    step = jax.jit(partial(layer.apply, method="step"))
    for t in range(3):
        y, state = step(variables, x[:, t], state)
        np.testing.assert_allclose(y, whole[:, t], atol=1e-6)


def test_no_step_hears_what_is_later_or_hidden_or_in_another_row(random_variables):
    x, layer = signal(), FastWeightMemory(D)
    variables = random_variables(layer, x)
    mask = np.ones(x.shape[:2], bool)
    mask[0, 3] = False
    run = jax.jit(layer.apply)
    y = run(variables, x, mask)
    np.testing.assert_array_equal(y[0, 3], 0)
    for row, time in ((0, 6), (1, 2)):
        changed = x.copy()
        changed[row, time:] += 1
        again = run(variables, changed, mask)
        chex.assert_trees_all_equal(again[row, :time], y[row, :time])
        chex.assert_trees_all_equal(again[1 - row], y[1 - row])
        assert not np.allclose(again[row, time], y[row, time])
    changed = x.copy()
    changed[0, 3] = np.nan
    chex.assert_trees_all_equal(run(variables, changed, mask), y)


def test_every_parameter_has_a_gradient_and_a_group(random_variables):
    x, layer = signal(), FastWeightMemory(D)
    variables, readout = random_variables(layer, x), signal(seed=1)
    gradient = jax.jit(jax.grad(lambda v, x: jnp.sum(layer.apply(v, x) * readout), (0, 1)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(variables, x)):
        assert np.all(np.isfinite(leaf)), path
        assert np.all(np.any(leaf != 0, axis=0)), path
    for leaf in jax.tree.leaves(gradient(variables, 0 * x)):  # keys and queries of norm 0
        assert np.all(np.isfinite(leaf))
    assert set(jax.tree.leaves(label_parameters(variables["params"]))) == {"other"}


def test_every_option_changes_the_output(random_variables):
    x, key = signal(4), {"dropout": jax.random.key(0)}
    variables = random_variables(FastWeightMemory(D), x)
    options: Any = [{}, {"max_rate": 2.0}, {"error_correcting": False}, {"activation": "none"}]
    layers = [FastWeightMemory(D, **changed) for changed in (*options, {"dropout": 0.5})]
    run = jax.jit(lambda: [m.apply(variables, x, deterministic=False, rngs=key) for m in layers])
    usual, *others = run()
    for y, layer in zip(others, layers[1:], strict=True):
        assert not np.allclose(y, usual, atol=1e-3), layer


def test_layer_is_a_mixer_of_a_block():
    block, x = MixerBlock(FastWeightMemory(D), 4), signal()
    shapes = jax.eval_shape(block.init, jax.random.key(0), x, np.ones(x.shape[:2], bool))
    assert shapes["params"]["mixer"]["qkv"]["kernel"].shape == (D, 22)


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({}, {"qkv": (4, 22), "convolution": (4, 22), "gate": (4, 10), "out": (10, 4)}),
        ({"conv_size": 0, "gate": False}, {"qkv": (4, 22), "out": (10, 4)}),
        (
            {"key_dim": None, "value_dim": None, "conv_size": 2},
            {"qkv": (4, 12), "convolution": (2, 12)},
        ),
        ({"num_heads": 3}, {"qkv": (4, 33), "rate": (4, 3)}),
    ],
)
def test_options_and_the_parameters_they_make(options, shapes):
    layer = FastWeightMemory(D, **options)
    params = jax.eval_shape(layer.init, jax.random.key(0), signal())["params"]
    for name, shape in shapes.items():
        assert params[name]["kernel"].shape == shape
    assert ("convolution" in params) == (layer.conv_size > 0)
    assert ("gate" in params) == layer.gate


def test_dtypes():
    x = jnp.asarray(signal(), jnp.bfloat16)
    for layer, dtype in (
        (FastWeightMemory(D), "bfloat16"),
        (FastWeightMemory(D, dtype="float32"), "float32"),
    ):
        variables = jax.eval_shape(layer.init, jax.random.key(0), x)
        y, state = jax.eval_shape(partial(layer.apply, method="extend"), variables, x)
        assert (y.dtype, state.recent.dtype, state.memory.dtype) == (dtype, dtype, "float32")
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_convolution_of_one_tap_scales_and_of_none_is_the_identity(random_variables):
    x = signal()
    variables = random_variables(CausalConvolution(1), x)
    y, recent = CausalConvolution(1).apply(variables, x)
    np.testing.assert_allclose(y, x * variables["params"]["kernel"][0], rtol=1e-6)
    assert recent.shape == (2, 0, D)
    y, _ = CausalConvolution(0).apply({}, x)
    np.testing.assert_array_equal(y, x)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_heads=0), "num_heads must be at least 1, got 0"),
        (dict(key_dim=0), "key_dim must be at least 1, got 0"),
        (
            dict(num_heads=3, key_dim=None),
            "num_heads = 3 must divide features = 4; or give key_dim",
        ),
        (dict(max_rate=2.5), r"max_rate must lie in \(0, 2\], got 2.5"),
        (dict(max_rate=0.0), r"max_rate must lie in \(0, 2\], got 0.0"),
        (dict(conv_size=-1), "conv_size must be 0 or more, got -1"),
        (dict(activation="relu"), "unknown activation 'relu'; choose one of silu, none"),
        (dict(chunk_size=0), "chunk_size must be at least 1, got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(FastWeightMemory(D, **options).init, jax.random.key(0), signal())


@pytest.mark.error_message
def test_bad_inputs():
    layer, x = FastWeightMemory(D), signal()
    init = partial(jax.eval_shape, layer.init, jax.random.key(0))
    with pytest.raises(ValueError, match="expected 4 features, got x of shape"):
        init(x[..., :2])
    with pytest.raises(ValueError, match="x must be real floating point, got int32"):
        init(x.astype(np.int32))
    with pytest.raises(ValueError, match=r"mask must be boolean .* of shape \(2, 9\), got float32"):
        init(x, np.ones((2, 9), np.float32))
    with pytest.raises(
        ValueError, match=r"mask must be boolean .* of shape \(2, 9\), got bool \(2, 8\)"
    ):
        init(x, np.ones((2, 8), bool))
    state = layer.initial_state((3,))
    with pytest.raises(
        ValueError, match=r"state.recent must have shape \(2, 3, 22\), got \(3, 3, 22\)"
    ):
        layer.init(jax.random.key(0), x, state, method="extend")
    with pytest.raises(ValueError, match=r"state.memory must have shape \(2, 2, 5, 3\)"):
        state = state._replace(recent=state.recent[:2])
        layer.init(jax.random.key(0), x, state, method="extend")
    with pytest.raises(ValueError, match="taps must be 0 or more, got -1"):
        CausalConvolution(-1).init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"recent must have shape \(2, 3, 4\), got \(2, 2, 4\)"):
        CausalConvolution(4).init(jax.random.key(0), x, x[:, :2])
