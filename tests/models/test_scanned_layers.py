"""Blocks in a loop, and blocks computed again: the same values and gradients, less to compile and to keep."""

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers.dropout import Dropout
from resonance_jax.models.baselines import FNetConfig, make_model
from resonance_jax.models.causal_net import CausalNetConfig
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig
from resonance_jax.models.long_context import LongContextConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.models.sequence_model import stack_layers, unstack_layers
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.report import collect_spectra

pytestmark = pytest.mark.usefixtures("quick_compile")

SHAPE: dict[str, Any] = dict(
    input_dim=3, output_dim=2, hidden_dim=8, num_layers=2, mlp_dim=8, dropout=0.0
)
KINDS: dict[str, Any] = {
    "resonance": ResonanceNetConfig(**SHAPE, num_frequencies=4),
    "causal": CausalNetConfig(**SHAPE, num_heads=2, num_resonators=3),
}
X = np.random.default_rng(0).normal(size=(2, 24, 3)).astype(np.float32)
MASK = np.arange(24) < np.array([[24], [17]])


def outputs_and_gradients(config: Any, variables: Any) -> Any:
    """Computes outputs, and the gradients of their sum of squares in parameters and inputs."""
    model = make_model(config)

    def loss(params, x):
        y = jnp.asarray(model.apply({**variables, "params": params}, x, MASK))
        return jnp.sum(jnp.square(y)), y

    gradients, y = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(variables["params"], X)
    return y, gradients


@pytest.mark.parametrize("kind", KINDS)
def test_the_loop_computes_what_the_blocks_do(kind):
    config = KINDS[kind]
    variables = dict(jax.jit(make_model(config).init)(jax.random.key(0), X))
    looped = dataclasses.replace(config, scan_layers=True)
    stacked = {name: stack_layers(tree) for name, tree in variables.items()}
    expected, (by_params, by_x) = outputs_and_gradients(config, variables)
    y, gradients = outputs_and_gradients(looped, stacked)
    chex.assert_trees_all_close(y, expected, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(gradients, (stack_layers(by_params), by_x), rtol=1e-3, atol=1e-4)
    own = jax.eval_shape(make_model(looped).init, jax.random.key(0), X)
    chex.assert_trees_all_equal_shapes(own, stacked)
    chex.assert_trees_all_equal(unstack_layers(stacked["params"]), variables["params"])
    assert np.abs(np.asarray(y)).max() > 1e-3


def test_each_looped_layer_starts_and_drops_out_differently():
    config = dataclasses.replace(KINDS["resonance"], scan_layers=True, dropout=0.5)
    model = make_model(config)
    variables: Any = jax.jit(model.init)(jax.random.key(0), X)
    kernels = variables["params"]["layers"]["block"]["mlp_in"]["kernel"]
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1

    @jax.jit
    def zeros(seed):
        _, recorded = model.apply(
            *(variables, X),
            deterministic=False,
            rngs={"dropout": jax.random.key(seed)},
            capture_intermediates=lambda module, _: isinstance(module, Dropout),
        )
        found = jax.tree.leaves(recorded["intermediates"]["layers"]["block"])
        return [leaf == 0 for leaf in found]

    for mask, again, other in zip(zeros(1), zeros(1), zeros(2), strict=True):
        np.testing.assert_array_equal(mask, again)
        for first, second in ((mask[0], mask[1]), (mask, other)):
            assert 0.2 < np.mean(np.asarray(first) != np.asarray(second)) < 0.8


def test_what_is_computed_again_changes_nothing_but_memory():
    config = dataclasses.replace(KINDS["resonance"], scan_layers=True, num_layers=4)
    variables = dict(jax.jit(make_model(config).init)(jax.random.key(0), X))
    again = dataclasses.replace(config, rematerialize_blocks=True)
    expected, planned = gradient_and_planned_bytes(config, variables)
    found, planned_again = gradient_and_planned_bytes(again, variables)
    chex.assert_trees_all_close(found, expected, rtol=1e-3, atol=1e-4)
    assert planned_again < 0.7 * planned


def gradient_and_planned_bytes(config: Any, variables: Any) -> tuple[Any, int]:
    """A gradient on a longer sequence, and XLA's plan of what it keeps beside arguments and results."""
    model = make_model(config)
    x = np.random.default_rng(2).normal(size=(2, 1024, 3)).astype(np.float32)

    def loss(variables):
        return jnp.sum(jnp.square(jnp.asarray(model.apply(variables, x))))

    program = jax.jit(jax.grad(loss)).lower(variables).compile()
    memory: Any = program.memory_analysis()
    return program(variables), memory.temp_size_in_bytes


def test_twelve_looped_layers_are_no_more_to_compile_than_two():
    def length(num_layers, scan_layers):
        config = FNetConfig(**SHAPE | dict(num_layers=num_layers, scan_layers=scan_layers))
        model = make_model(config)
        variables = jax.eval_shape(model.init, jax.random.key(0), X)
        return len(jax.jit(model.apply).lower(variables, X).as_text())

    assert length(12, True) < 1.05 * length(2, True)
    assert length(12, False) > 4 * length(2, False)


def test_stacked_biases_do_not_decay():
    config = dataclasses.replace(KINDS["resonance"], scan_layers=True)
    shapes: Any = jax.eval_shape(make_model(config).init, jax.random.key(0), X)["params"]
    params: Any = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    optimizer = make_optimizer(TrainConfig(weight_decay=0.5, learning_rate=0.1), 10)
    update = jax.jit(lambda params: optimizer.update(zero, optimizer.init(params), params)[0])
    zero = jax.tree.map(np.zeros_like, params)
    updates = update(params)
    layers = updates["layers"]["block"]
    assert not np.any(layers["gate"]["bias"]) and not np.any(layers["mlp_norm"]["scale"])
    assert np.all(np.asarray(layers["gate"]["kernel"]) < 0)


def test_spectra_of_looped_layers_are_read_one_by_one():
    config = dataclasses.replace(KINDS["resonance"], scan_layers=True)
    model = make_model(config)
    variables: Any = jax.jit(model.init)(jax.random.key(0), X)
    _, recorded = model.apply(variables, X, mutable=["intermediates"])
    spectra = collect_spectra(variables["params"], recorded["intermediates"])
    assert [spectrum.name.split("/")[0] for spectrum in spectra] == ["layer_0", "layer_1"]


@pytest.mark.parametrize("mixer", ["resonance", "attention"])
def test_a_language_model_in_a_loop_reads_and_learns_as_its_blocks_do(mixer):
    shape: Any = dict(
        vocab_size=11, hidden_dim=8, num_layers=3, mlp_dim=8, num_heads=2, max_length=16
    )
    config = LanguageModelConfig(**shape, num_resonators=3, mixer=mixer, method="fft")
    looped = dataclasses.replace(config, scan_layers=True)
    again = dataclasses.replace(looped, rematerialize_blocks=True)
    ids = np.random.default_rng(1).integers(0, 11, (2, 12))
    variables: Any = jax.jit(LanguageModel(config).init)(jax.random.key(0), ids[:, :1])
    stacked = {"params": stack_layers(variables["params"])}
    chex.assert_trees_all_equal_shapes(
        jax.eval_shape(LanguageModel(looped).init, jax.random.key(0), ids), stacked
    )

    def read(config, variables, part, state):
        return LanguageModel(config).apply(variables, part, state, method="extend")

    def learn(config, variables, key=None):
        apply: Any = LanguageModel(config).apply
        options: Any = {} if key is None else {"deterministic": False, "rngs": {"dropout": key}}
        labels = np.roll(ids, -1, axis=1)
        losses = lambda v: apply(v, ids, labels, method="losses", **options)[0]  # noqa: E731
        return jax.grad(lambda v: jnp.mean(losses(v)))(variables)["params"]

    read, learn = (jax.jit(function, static_argnums=0) for function in (read, learn))
    states, state = (LanguageModel(c).initial_state(2) for c in (config, looped))
    for part in (ids[:, :6], ids[:, 6:]):
        expected, states = read(config, variables, part, states)
        logits, state = read(looped, stacked, part, state)
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(
        state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *states), rtol=1e-4, atol=1e-5
    )
    expected = stack_layers(learn(config, variables))
    chex.assert_trees_all_close(learn(again, stacked), expected, rtol=1e-3, atol=1e-5)
    if mixer == "resonance":
        return
    # What is computed again draws the masks that it drew.
    looped, again = (dataclasses.replace(c, dropout=0.5) for c in (looped, again))
    expected = learn(looped, stacked, jax.random.key(1))
    chex.assert_trees_all_close(
        learn(again, stacked, jax.random.key(1)), expected, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.bfloat16, jnp.float64])
def test_a_loop_carries_every_dtype(dtype, param_dtype, x64):
    ids = np.zeros((2, 40), np.int32)  # Dense layers of fewer than 64 steps are float32.
    for steps in (4, 40):
        shapes = []
        for scan_layers in (False, True):
            config = LanguageModelConfig(
                11, hidden_dim=8, num_layers=2, num_heads=2, dtype=dtype, scan_layers=scan_layers
            )
            init = LanguageModel(config, param_dtype).init_with_output
            shapes.append(jax.eval_shape(init, jax.random.key(0), ids[:, :steps])[0])
        assert shapes[0] == shapes[1]


@pytest.mark.error_message
def test_what_cannot_be_looped_or_stacked_is_refused():
    with pytest.raises(ValueError, match="scan_layers and rematerialize_blocks are not for this"):
        LongContextConfig(input_dim=1, output_dim=2, scan_layers=True)
    with pytest.raises(ValueError, match="scan_layers loops over blocks of one kind"):
        LanguageModelConfig(scan_layers=True, memory_layers=(1,))
    with pytest.raises(ValueError, match="expected layer_0, layer_1, … among head"):
        stack_layers({"head": {}})
