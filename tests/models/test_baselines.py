"""The mixers of Transformer and FNet against NumPy, and the table of models."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.models import baselines
from resonance_jax.models.baselines import (
    MODELS,
    FNet,
    FNetConfig,
    Transformer,
    TransformerConfig,
    make_model,
    model_name,
)
from resonance_jax.models.resonance_net import ResonanceNet, ResonanceNetConfig
from resonance_jax.models.sequence_model import SequenceConfig

# As Any: to a type checker the result of a module's `apply` is a union.
FourierMixing: Any = baselines.FourierMixing
SelfAttention: Any = baselines.SelfAttention

SMALL: dict[str, Any] = dict(input_dim=1, output_dim=2, hidden_dim=4, num_layers=2, mlp_dim=5)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_fourier_mixing_is_the_real_part_of_the_orthonormal_dft():
    x = normal(2, 7, 4)
    found = FourierMixing().apply({}, x)
    np.testing.assert_allclose(found, np.fft.fft2(x, norm="ortho").real, atol=1e-5)
    mask = np.arange(7) < np.array([[7], [4]])
    expected = np.fft.fft2(np.where(mask[..., None], x, 0), norm="ortho").real
    spoilt = np.where(mask[..., None], x, np.nan)
    np.testing.assert_allclose(FourierMixing().apply({}, spoilt, mask), expected, atol=1e-5)
    assert FourierMixing().apply({}, jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("queries_at_once", [0, 3])
def test_attention_is_softmax_attention_over_the_observed_steps(random_variables, queries_at_once):
    x = normal(2, 7, 4)
    mask = np.arange(7) < np.array([[7], [4]])
    mixer = SelfAttention(num_heads=2, queries_at_once=queries_at_once)
    variables = random_variables(mixer, x)
    p = jax.tree.map(np.asarray, variables["params"]["attention"])
    q, k, v = (
        np.einsum("btd,dhf->bhtf", x, p[name]["kernel"]) + p[name]["bias"][:, None]
        for name in ("query", "key", "value")
    )
    scores = np.einsum("bhtf,bhsf->bhts", q, k) / np.sqrt(2)
    scores = np.where(mask[:, None, None, :], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    heads = np.einsum("bhts,bhsf->bthf", weights, v)
    expected = np.einsum("bthf,hfd->btd", heads, p["out"]["kernel"]) + p["out"]["bias"]
    np.testing.assert_allclose(mixer.apply(variables, x, mask), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "config", "module"),
    [
        ("resonance", ResonanceNetConfig(1, 2), ResonanceNet),
        ("transformer", TransformerConfig(1, 2), Transformer),
        ("fnet", FNetConfig(1, 2), FNet),
    ],
)
def test_configurations_find_their_models(name, config, module):
    assert model_name(config) == name
    assert MODELS[name] == (type(config), module)
    model = make_model(config, dtype=jnp.bfloat16)
    assert type(model) is module and model.config == config and model.dtype == jnp.bfloat16
    assert {config: 1}[dataclasses.replace(config)] == 1  # hashable, for static arguments


@pytest.mark.parametrize(
    "config",
    [
        ResonanceNetConfig(**SMALL, num_frequencies=3),
        TransformerConfig(**SMALL, num_heads=2, position="learned"),
        FNetConfig(**SMALL, position="sinusoidal", patch_size=2),
    ],
)
def test_neither_hidden_steps_nor_other_rows_leak(random_variables, config):
    x = normal(3, 9, 1)
    mask = np.arange(9) < np.array([[9], [5], [4]])
    mask[2, 1] = False
    model = make_model(config)
    variables = random_variables(model, x, mask)
    run = jax.jit(model.apply)
    found = np.asarray(run(variables, x, mask))
    assert found.shape == (3, 2)
    np.testing.assert_array_equal(run(variables, np.where(mask[..., None], x, 50), mask), found)
    other = x.copy()
    other[1] = np.nan
    np.testing.assert_array_equal(run(variables, other, mask)[::2], found[::2])
    padding = mask.copy()
    padding[1] = False  # a row that is all padding
    padded = np.asarray(run(variables, x, padding))
    assert np.all(np.isfinite(padded))
    np.testing.assert_array_equal(padded[::2], found[::2])
    everything = run(variables, x, np.ones_like(mask))
    np.testing.assert_allclose(run(variables, x), everything, rtol=1e-5, atol=1e-6)
    assert not np.allclose(everything[1:], found[1:], atol=1e-3)


@pytest.mark.parametrize("config", [TransformerConfig(**SMALL), FNetConfig(**SMALL)])
def test_blocks_differ_in_the_mixer_alone(config):
    def shapes(config):
        model = make_model(config)
        tree = jax.eval_shape(model.init, jax.random.key(0), normal(1, 9, 1))["params"]
        return {
            jax.tree_util.keystr(path): leaf.shape
            for path, leaf in jax.tree.leaves_with_path(tree)
            if "attention" not in str(path)
        }

    plain = ResonanceNetConfig(**SMALL, num_frequencies=3, gate=False)
    resonance = {
        path.replace("['block']", ""): shape
        for path, shape in shapes(plain).items()
        if "'resonance'" not in path
    }
    assert shapes(config) == resonance


@pytest.mark.error_message
def test_errors():
    with pytest.raises(ValueError, match="num_heads = 3 must divide hidden_dim = 4"):
        TransformerConfig(**SMALL, num_heads=3)
    expected = (
        "no model for a SequenceConfig; expected one of ResonanceNetConfig, TransformerConfig"
    )
    for function in (make_model, model_name):
        with pytest.raises(ValueError, match=expected):
            function(SequenceConfig(1, 2))
