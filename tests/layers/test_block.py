"""Blocks against NumPy: norm → mixer (⊙ gate) → residual → norm → MLP → residual."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers import block as blocks
from resonance_jax.layers.resonance import MultiScaleResonance, ResonanceLayer

# As Any: to a type checker the result of a module's `apply` is a union.
MixerBlock: Any = blocks.MixerBlock
ResonanceBlock: Any = blocks.ResonanceBlock

pytestmark = pytest.mark.usefixtures("quick_compile")

FEATURES = 4


class Shift(nn.Module):
    """A mixer without parameters: each step hears the one before it, if that is observed."""

    @nn.compact
    def __call__(self, x, mask=None, *, deterministic=True):
        x = x if mask is None else jnp.where(mask[..., None], x, 0)
        return jnp.roll(x, 1, axis=-2) if deterministic else x


def signal(length=11, rows=2, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, length, FEATURES)).astype(np.float32)


def norm(x, p):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * np.asarray(p["scale"]) + np.asarray(p["bias"])


def dense(x, p):
    return x @ np.asarray(p["kernel"]) + np.asarray(p["bias"])


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def twin(params, x, mixer):
    x = x.astype(np.float64)
    u = norm(x, params["mixer_norm"])
    y = np.asarray(mixer(u))
    if "gate" in params:
        gate = dense(u, params["gate"])
        y = dense(y * gate / (1 + np.exp(-gate)), params["gate_out"])
    x = x + y
    if "mlp_in" not in params:
        return x
    return x + dense(gelu(dense(norm(x, params["mlp_norm"]), params["mlp_in"])), params["mlp_out"])


@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.parametrize("mlp_dim", [0, 6])
def test_block_is_its_formula_around_any_mixer(random_variables, gate, mlp_dim):
    x = signal()
    block = MixerBlock(Shift(), mlp_dim, gate=gate)
    variables = random_variables(block, x)
    expected = twin(variables["params"], x, lambda u: np.roll(u, 1, axis=-2))
    np.testing.assert_allclose(block.apply(variables, x), expected, rtol=1e-5, atol=1e-5)


def test_mask_and_determinism_reach_the_mixer(random_variables):
    x = signal()
    mask = np.arange(11) != np.array([[2], [5]])
    block = MixerBlock(Shift(), 0)
    variables = random_variables(block, x)
    params = variables["params"]
    expected = twin(params, x, lambda u: np.roll(np.where(mask[..., None], u, 0), 1, axis=-2))
    np.testing.assert_allclose(block.apply(variables, x, mask), expected, atol=1e-5)
    expected = twin(params, x, lambda u: u)
    found = block.apply(variables, x, deterministic=False)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_dropout_acts_on_both_branches(random_variables):
    x = signal()
    keys = {"dropout": jax.random.key(0)}
    block = MixerBlock(Shift(), 0, dropout=0.5)
    variables = random_variables(block, x)
    branch = twin(variables["params"], x, lambda u: u) - x
    found = np.asarray(block.apply(variables, x, deterministic=False, rngs=keys)) - x
    np.testing.assert_allclose(np.where(found == 0, 0, 2 * branch), found, atol=1e-5)
    assert 0.2 < np.mean(found == 0) < 0.8
    block = MixerBlock(Shift(), 6, dropout=0.5)
    params = random_variables(block, x)["params"]
    params["mixer_norm"] = jax.tree.map(jnp.zeros_like, params["mixer_norm"])  # leaves the MLP
    branch = twin(params, x, lambda u: u) - x
    found = np.asarray(block.apply({"params": params}, x, deterministic=False, rngs=keys)) - x
    np.testing.assert_allclose(np.where(found == 0, 0, 2 * branch), found, atol=1e-5)
    assert 0.2 < np.mean(found == 0) < 0.8


@pytest.mark.parametrize("num_scales", [1, 2])
@pytest.mark.parametrize("masked", [False, True])
def test_resonance_block_is_a_block_around_resonance(random_variables, num_scales, masked):
    x = signal()
    mask = np.arange(11) < np.array([[11], [6]]) if masked else None
    block = ResonanceBlock(FEATURES, 4, num_scales=num_scales, selection="uniform")
    variables = random_variables(block, x)
    params = variables["params"]
    assert params["block"]["mlp_in"]["kernel"].shape == (FEATURES, 2 * FEATURES)
    make = {1: ResonanceLayer, 2: MultiScaleResonance}[num_scales]
    options: dict[str, Any] = {} if num_scales == 1 else {"num_scales": 2}
    mixer = make(FEATURES, 4, selection="uniform", post_norm=False, **options)

    def mix(u):
        return mixer.apply({"params": params["resonance"]}, jnp.asarray(u, jnp.float32), mask)

    found = block.apply(variables, x, mask)
    expected = twin(params["block"], x, mix)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    if mask is not None:
        other = np.where(mask[..., None], x, 7)
        np.testing.assert_array_equal(block.apply(variables, other, mask)[mask], found[mask])


def test_every_option_reaches_the_layer():
    seen = []

    def note(call, args, kwargs, context):
        seen.append(context.module)
        return call(*args, **kwargs)

    def layer_of(**options):
        seen.clear()
        block = ResonanceBlock(FEATURES, 4, **options)
        with nn.intercept_methods(note):
            jax.eval_shape(block.init, jax.random.key(0), signal(24))
        kinds = (ResonanceLayer, MultiScaleResonance)
        return next(module for module in seen if isinstance(module, kinds))

    options: dict[str, Any] = dict(
        selection="learned",
        num_candidates=6,
        reference_length=20,
        use_interference=False,
        unselected="pass",
        component="magnitude",
        initial_spread=0.3,
        method="fft",
        dtype=jnp.bfloat16,
        param_dtype=jnp.float16,
    )
    layer = layer_of(**options)
    assert isinstance(layer, ResonanceLayer) and not layer.post_norm
    assert {name: getattr(layer, name) for name in options} == options
    options = {
        name: options[name] for name in options if name not in ("num_candidates", "unselected")
    }
    options |= dict(selection="low", num_scales=2, component="complex", parametrization="cartesian")
    layer = layer_of(**options)
    assert isinstance(layer, MultiScaleResonance) and not layer.post_norm
    assert {name: getattr(layer, name) for name in options} == options


def test_dtypes(random_variables):
    x = signal()
    block = ResonanceBlock(FEATURES, 3)
    variables = random_variables(block, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    expected = np.asarray(block.apply(variables, x))
    narrow = jnp.asarray(x, jnp.bfloat16)
    assert jax.eval_shape(block.apply, variables, narrow).dtype == jnp.bfloat16
    found = jax.jit(block.clone(dtype=jnp.bfloat16).apply)(variables, x)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, rtol=0.03, atol=0.05)


@pytest.mark.error_message
@pytest.mark.parametrize("options", [{"unselected": "pass"}, {"num_candidates": 8}])
def test_options_that_several_scales_do_not_have_are_refused(options):
    block = ResonanceBlock(FEATURES, 4, num_scales=2, **options)
    with pytest.raises(ValueError, match="need num_scales=1: parallel bands are concatenated"):
        jax.eval_shape(block.init, jax.random.key(0), signal())
