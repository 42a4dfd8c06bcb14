"""What all models share, around a mixer that adds nothing: stem, positions, masks, pooling, head."""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.models.baselines import TransformerConfig, make_model
from resonance_jax.models.sequence_model import (
    SequenceConfig,
    SequenceModel,
    pool,
    sinusoidal_position,
)

CHANNELS, FEATURES, OUTPUTS = 3, 6, 2


class Nothing(nn.Module):
    """Adds 0 and records the mask it was given."""

    @nn.compact
    def __call__(self, x, mask=None, *, deterministic=True):
        if mask is not None:
            self.sow("intermediates", "mask", mask)
        return jnp.zeros_like(x)


class Plain(SequenceModel):
    def make_mixer(self):
        return Nothing()


def make(**options: Any) -> Any:
    shape: dict[str, Any] = dict(hidden_dim=FEATURES, num_layers=1, mlp_dim=0)
    return Plain(SequenceConfig(CHANNELS, OUTPUTS, **shape | options))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def windows(length, size, stride):
    """Starts of the patches that cover every sample, one at least."""
    starts = [0]
    while starts[-1] + size < length:
        starts.append(starts[-1] + stride)
    return starts


def patches(x, size, stride):
    """Cuts [b, t, c] or [b, h, w, c] into flat patches, zeros beyond the end, one at a time."""
    wide = np.pad(x, [(0, 0), *[(0, size + stride)] * (x.ndim - 2), (0, 0)])
    rows = windows(x.shape[1], size, stride)
    if x.ndim == 3:
        cut = [wide[:, r : r + size] for r in rows]
    else:
        columns = windows(x.shape[2], size, stride)
        cut = [wide[:, r : r + size, c : c + size] for r in rows for c in columns]
    return np.stack([patch.reshape(len(x), -1) for patch in cut], axis=1)


def twin_pool(x, mask, pooling):
    rows = []
    for row, observed in zip(x, mask, strict=True):
        parts = {"mean": row[observed].mean(0), "max": row[observed].max(0)}
        rows.append(np.concatenate([parts[name] for name in pooling.split("_")]))
    return np.stack(rows)


def twin(config, params, inputs, mask=None):
    """Stem → positions → LayerNorm → pool → head, in NumPy; returns the outputs and the tokens' mask."""
    p = jax.tree.map(np.asarray, params)
    size, stride = config.patch_size, config.patch_stride or config.patch_size
    if config.vocab_size:
        x, token_mask = p["stem"]["embedding"][inputs], mask
    else:
        seen = inputs if mask is None else np.where(mask[..., None], inputs, 0)
        kernel = p["stem"]["kernel"].reshape(-1, FEATURES)
        x = patches(seen, size, stride) @ kernel + p["stem"]["bias"]
        token_mask = None
        if mask is not None:
            token_mask = patches(mask[..., None].astype(float), size, stride).any(-1)
    if config.position == "sinusoidal":
        x = x + sinusoidal_position(x.shape[1], FEATURES)
    if config.position == "learned":
        x = x + p["position"]
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    x = x * p["norm"]["scale"] + p["norm"]["bias"]
    if config.head != "per_token":
        everything = np.ones(x.shape[:2], bool)
        x = twin_pool(x, everything if token_mask is None else token_mask, config.pooling)
    return x @ p["head"]["kernel"] + p["head"]["bias"], token_mask


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (2, 7, CHANNELS)),
        ({"patch_size": 3, "pooling": "max"}, (2, 8, CHANNELS)),
        ({"patch_size": 4, "patch_stride": 3, "position": "sinusoidal"}, (2, 9, CHANNELS)),
        ({"patch_size": 5, "patch_stride": 2}, (2, 4, CHANNELS)),  # shorter than a patch
        ({"patch_size": 3, "position": "sinusoidal"}, (2, 5, 7, CHANNELS)),
        ({"patch_size": 3, "patch_stride": 2, "position": "learned"}, (2, 6, 5, CHANNELS)),
        ({"pooling": "mean_max", "head": "regress", "position": "learned"}, (2, 7, CHANNELS)),
        ({"head": "per_token", "position": "sinusoidal"}, (2, 7, CHANNELS)),
        ({"vocab_size": 9, "pooling": "mean_max"}, (2, 7)),
    ],
)
def test_model_is_its_formula_and_hears_every_sample(random_variables, options, shape):
    model = make(**options)
    inputs = normal(*shape)
    if "vocab_size" in options:
        inputs = np.random.default_rng(0).integers(0, 9, shape)
    variables = random_variables(model, inputs)
    expected, _ = twin(model.config, variables["params"], inputs)

    def outputs(inputs):
        found = model.apply(variables, inputs)
        return jnp.sum(jnp.sin(found)), found

    if "vocab_size" in options:
        found = jax.jit(model.apply)(variables, inputs)
    else:
        gradient, found = jax.jit(jax.grad(outputs, has_aux=True))(inputs)
        if options.get("pooling") != "max":
            assert np.all(gradient != 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    if len(shape) == 4 or "vocab_size" in options:
        return
    mask = np.random.default_rng(1).random(shape[:2]) < 0.5
    mask[:, -1] = True
    expected, token_mask = twin(model.config, variables["params"], inputs, mask)
    found, recorded = jax.jit(lambda *a: model.apply(*a, mutable=["intermediates"]))(
        variables, inputs, mask
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    (seen,) = jax.tree.leaves(recorded)
    np.testing.assert_array_equal(seen, token_mask)


def test_embedded_ids_are_pooled_where_observed(random_variables):
    model, ids = make(vocab_size=9), np.array([[1, 2, 3], [4, 8, 0]])
    variables = random_variables(model, ids)
    mask = np.array([[True, False, True], [True, True, True]])
    expected, _ = twin(model.config, variables["params"], ids, mask)
    np.testing.assert_allclose(
        jax.jit(model.apply)(variables, ids, mask), expected, rtol=1e-4, atol=1e-5
    )


def test_hidden_samples_may_hold_anything(random_variables):
    model = make(patch_size=3, pooling="mean_max")
    inputs = normal(2, 8, CHANNELS)
    mask = np.ones((2, 8), bool)
    mask[0, 1], mask[1, :5] = False, False
    variables = random_variables(model, inputs)

    def outputs(inputs):
        found = model.apply(variables, inputs, mask)
        return jnp.sum(jnp.sin(found)), found

    evaluate = jax.jit(jax.grad(outputs, has_aux=True))
    gradient, found = evaluate(inputs)
    spoilt, found_spoilt = evaluate(np.where(mask[..., None], inputs, np.nan))
    np.testing.assert_array_equal(found_spoilt, found)
    np.testing.assert_array_equal(spoilt, gradient)
    assert np.all(np.asarray(gradient)[~mask] == 0)


def test_gradient_of_a_maximum_goes_to_its_first_observed_step():
    x = jnp.array([[[5.0], [2.0], [2.0], [1.0]]])
    mask = jnp.array([[False, True, True, True]])
    gradient = jax.grad(lambda x: 3 * jnp.sum(pool(x, mask, "max")))(x)
    assert gradient[0, :, 0].tolist() == [0, 3, 0, 0]


@pytest.mark.end_to_end
def test_max_pooling_has_a_gradient_however_it_is_compiled(quick_compile):
    """jnp.max gave NaN here: compiled so, its operand and its result were rounded differently."""
    config = TransformerConfig(1, 10, hidden_dim=4, num_layers=1, pooling="mean_max", patch_size=2)
    model = make_model(config)
    x = jax.random.normal(jax.random.key(0), (64, 8, 8, 1))
    params = jax.jit(model.init)(jax.random.key(1), x)["params"]

    @jax.jit
    def step(params):
        def loss(params):
            scores = jnp.asarray(model.apply({"params": params}, x))
            return jnp.mean(scores[:, 0] ** 2)

        gradient = jax.grad(loss)(params)
        return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)

    for _ in range(5):
        params = step(params)
    chex.assert_tree_all_finite(params)


@pytest.mark.parametrize("pooling", ["mean", "max", "mean_max"])
def test_pool(pooling):
    x = normal(2, 5, 3) - 2
    mask = np.array([[True, False, True, True, False], [False, False, True, False, False]])
    np.testing.assert_allclose(pool(x, mask, pooling), twin_pool(x, mask, pooling), rtol=1e-6)
    everything = twin_pool(x, np.ones((2, 5), bool), pooling)
    np.testing.assert_allclose(pool(x, None, pooling), everything, rtol=1e-6)
    nothing = pool(x, jnp.zeros((2, 5), bool), pooling)  # a row of padding must not become infinite
    np.testing.assert_array_equal(nothing, 0)


def test_sinusoidal_position():
    for features in (1, 4, 5):
        expected = np.empty((7, features))
        for t in range(7):
            for i in range(features):
                angle = t / 10000 ** ((i - i % 2) / features)
                expected[t, i] = np.cos(angle) if i % 2 else np.sin(angle)
        np.testing.assert_allclose(sinusoidal_position(7, features), expected, atol=1e-12)


def test_learned_positions_are_interpolated_at_other_lengths(random_variables):
    model = make(position="learned", head="per_token")
    inputs = normal(2, 5, CHANNELS)
    variables = random_variables(model, inputs)
    params = variables["params"]
    assert params["position"].shape == (5, FEATURES)
    longer = normal(2, 10, CHANNELS)
    places = (np.arange(10) + 0.5) / 2 - 0.5  # centres of the new samples among the old
    table = np.stack([np.interp(places, np.arange(5), column) for column in params["position"].T])
    expected, _ = twin(model.config, {**params, "position": table.T}, longer)
    np.testing.assert_allclose(
        jax.jit(model.apply)(variables, longer), expected, rtol=1e-4, atol=1e-5
    )
    shorter = normal(2, 2, CHANNELS)
    params["position"] = jnp.ones((5, FEATURES)) * np.arange(FEATURES)  # the same at every place
    expected, _ = twin(
        model.config, {**params, "position": np.arange(FEATURES) * np.ones((2, 1))}, shorter
    )
    np.testing.assert_allclose(
        jax.jit(model.apply)(variables, shorter), expected, rtol=1e-4, atol=1e-5
    )


def test_dropout_before_the_blocks_and_before_the_head(random_variables):
    model = make(dropout=0.5)
    inputs = normal(2, 7, CHANNELS)
    params = random_variables(model, inputs)["params"]

    @jax.jit
    def run(params, key):
        rngs = {"dropout": key}
        return model.apply({"params": params}, inputs, deterministic=False, rngs=rngs)

    keys = [jax.random.key(seed) for seed in range(8)]
    first = np.asarray(run(params, keys[0]))
    np.testing.assert_array_equal(run(params, keys[0]), first)
    assert not np.allclose(run(params, keys[1]), first)
    # Before the head alone: what reaches it is 0 or twice the pooled feature.
    params["norm"] = {"scale": jnp.zeros(FEATURES), "bias": jnp.arange(1.0, FEATURES + 1)}
    params["head"] = {"kernel": jnp.eye(FEATURES, OUTPUTS), "bias": jnp.zeros(OUTPUTS)}
    outputs = np.stack([run(params, key) for key in keys])
    assert set(np.unique(outputs[..., 0])) == {0.0, 2.0}
    assert set(np.unique(outputs[..., 1])) == {0.0, 4.0}


def test_narrow_computation_gives_logits_in_the_parameters_precision(random_variables):
    model = make()
    inputs = normal(2, 7, CHANNELS)
    variables = random_variables(model, inputs)
    narrow = model.clone(dtype=jnp.bfloat16)
    found = jax.jit(narrow.apply)(variables, inputs)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(
        found, twin(model.config, variables["params"], inputs)[0], rtol=0.05, atol=0.05
    )


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_dim": 0}, "hidden_dim must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"mlp_dim": -1}, "mlp_dim must not be negative, got -1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"head": "generate"}, "unknown head 'generate'; choose one of classify, per_token"),
        ({"pooling": "sum"}, "unknown pooling 'sum'; choose one of mean, max, mean_max"),
        ({"position": "rotary"}, "unknown position 'rotary'"),
        ({"patch_size": 2, "patch_stride": 3}, "patch_stride = 3 would skip samples"),
        ({"vocab_size": 5, "patch_size": 2}, "patches of token ids make no sense"),
        ({"head": "per_token", "patch_size": 2}, "head='per_token' needs one token per step"),
    ],
)
def test_configurations_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


SERIES = normal(2, 7, CHANNELS)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("options", "inputs", "mask", "message"),
    [
        ({}, SERIES[0], None, r"inputs must be real \[b, t, c\] or \[b, h, w, c\]"),
        ({}, SERIES.astype(np.int32), None, "inputs must be real .* got int32"),
        ({}, SERIES[..., :2], None, r"expected 3 input channels, got inputs \(2, 7, 2\)"),
        ({}, SERIES[:, :0], None, r"inputs are empty: shape \(2, 0, 3\)"),
        ({"vocab_size": 4}, SERIES, None, "must be integer ids"),
        ({"head": "per_token"}, normal(1, 2, 2, 3), None, "takes sequences"),
        ({}, normal(1, 2, 2, 3), np.ones((1, 2), bool), "images take no mask"),
        ({}, SERIES, np.ones((2, 6), bool), r"mask must have shape \(2, 7\)"),
        ({}, SERIES, np.ones((2, 7)), "mask must be boolean"),
        ({}, SERIES, np.arange(7) < np.array([[3], [0]]), r"hides every step of row \(1,\)"),
    ],
)
def test_inputs_are_checked(options, inputs, mask, message):
    model = make(**options)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: model.init(jax.random.key(0), inputs, mask))


@pytest.mark.error_message
def test_a_model_without_a_mixer_says_so():
    with pytest.raises(TypeError, match="SequenceModel has no mixer; use ResonanceNet"):
        model = SequenceModel(SequenceConfig(1, 2))
        jax.eval_shape(model.init, jax.random.key(0), SERIES[..., :1])
