"""Causal language models: formula, losses, causality, documents, state in parts, gradients, options and errors."""

import dataclasses
import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers.attention import CausalAttention
from resonance_jax.layers.fast_weights import FastWeightMemory
from resonance_jax.layers.recurrence import CausalResonance
from resonance_jax.models import language_model
from resonance_jax.training.optimizer import label_parameters

LanguageModelConfig = language_model.LanguageModelConfig
# As Any: to a type checker the result of a module's `apply` is a union.
LanguageModel: Any = language_model.LanguageModel

pytestmark = pytest.mark.usefixtures("quick_compile")

# 2 x 40 steps: more than one chunk with documents, and enough for narrow factors.
V, D, B, LENGTH = 96, 8, 2, 40
SHAPE: Any = dict(vocab_size=V, hidden_dim=D, num_layers=1, num_heads=2)
RESONANCE = LanguageModelConfig(**SHAPE, mlp_dim=12, num_resonators=3)
ATTENTION = LanguageModelConfig(**SHAPE, mlp_dim=0, mixer="attention", max_length=16)
MEMORY = dataclasses.replace(RESONANCE, num_layers=2, memory_layers=(0,), mlp_dim=0)
MIXERS = {"resonance": RESONANCE, "attention": ATTENTION}
SEGMENTS = (np.arange(LENGTH) >= np.array([[5, 33], [1, 20]])[..., None]).sum(1)
# No id occurs twice: the gradient of an embedding is that of one step's input.
IDS = np.random.default_rng(0).permutation(V)[: B * LENGTH].reshape(B, LENGTH)
LABELS = np.roll(IDS, -1, axis=1)


@functools.cache
def variables(config, seed=0) -> Any:
    """N(0, 0.4²), the poles' decays around exp(−1.5)."""
    rng = np.random.default_rng(seed)
    model = LanguageModel(config)
    shapes = jax.eval_shape(model.init, jax.random.key(0), IDS[:, :1])
    draw = lambda s: (0.4 * rng.normal(size=s.shape)).astype(np.float32)  # noqa: E731
    values = jax.tree.map(draw, shapes)
    for name, layer in values["params"].items():
        if name.startswith("layer") and "bank" in layer["mixer"]:
            layer["mixer"]["bank"]["poles"]["log_decay"] -= 1.5
    return values


@functools.partial(jax.jit, static_argnums=0)
def evaluate(config, values, ids, segments, weights):
    """Logits and losses; the last norm's output and the gradient of its weighted sum by the parameters."""
    model = LanguageModel(config)

    def loss(values):
        hidden = lambda model: model._hidden(ids, None, segments, None, True)[0]  # noqa: E731
        hidden = model.apply(values, method=hidden)
        return jnp.sum(hidden * weights), hidden

    gradient, hidden = jax.grad(loss, has_aux=True)(values)
    losses, _ = model.apply(values, ids, LABELS, segments=segments, method="losses")
    logits = model.apply(values, ids, segments=segments)
    return {"logits": logits, "losses": losses, "hidden": hidden, "gradient": gradient["params"]}


@functools.cache
def usual(config) -> Any:
    weights = np.random.default_rng(5).normal(size=(D, B, LENGTH)).astype(np.float32)
    return evaluate(config, variables(config), IDS, SEGMENTS, weights)


OTHER = LanguageModelConfig(
    **SHAPE | {"num_heads": 4}, mlp_dim=12, num_resonators=2, conv_size=2, gate=False,
    component="magnitude", method="scan",
)  # fmt: skip
# The mixers that the options ask for.
EXPECTED: Any = {
    OTHER: CausalResonance(
        D, 4, 2, conv_size=2, gate=False, component="magnitude", method="scan", channels_first=True
    ),
    ATTENTION: CausalAttention(D, 2),
    dataclasses.replace(MEMORY, num_layers=1): FastWeightMemory(D, 1),
}


def norm(x, scale):
    return scale[:, None, None] * x / np.sqrt(np.mean(x**2, axis=0) + 1e-6)


@pytest.mark.parametrize("config", EXPECTED, ids=["resonance", "attention", "memory"])
def test_model_is_its_formula_around_the_mixer_that_the_options_ask_for(config):
    values, mixer = variables(config), EXPECTED[config]
    params = values["params"]

    @jax.jit
    def mix(u):
        weights = {"params": params["layer_0"]["mixer"]}
        if config.memory_layers:
            return jnp.moveaxis(mixer.apply(weights, jnp.moveaxis(u, 0, -1)), -1, 0)
        return mixer.apply(weights, u, None, method="extend")[0]

    layer = params["layer_0"]
    x = np.sqrt(D) * np.moveaxis(params["embedding"][IDS], -1, 0)
    x = x + np.asarray(mix(norm(x, layer["mixer_norm"]["scale"])))
    if config.mlp_dim:
        hidden = np.einsum(
            "od,dbt->obt", layer["mlp_in"]["kernel"], norm(x, layer["mlp_norm"]["scale"])
        )
        first, second = hidden[: config.mlp_dim], hidden[config.mlp_dim :]
        hidden = first / (1 + np.exp(-first)) * second
        x = x + np.einsum("od,dbt->obt", layer["mlp_out"]["kernel"], hidden)
    expected = np.einsum("vd,dbt->btv", params["embedding"], norm(x, params["norm"]["scale"]))
    found = jax.jit(LanguageModel(config).apply)(values, IDS)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MIXERS)
def test_losses_are_the_cross_entropy_of_the_logits(name):
    result = usual(MIXERS[name])
    logits = np.asarray(result["logits"], np.float64)
    log_p = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    expected = -np.take_along_axis(log_p, LABELS[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(result["losses"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MIXERS)
def test_no_output_depends_on_a_later_id_or_another_document(name):
    """In value, and in the gradients of what each step reads."""
    config, rng = MIXERS[name], np.random.default_rng(3)
    values, before = variables(config), usual(config)
    for t in (0, 7, 33):
        ids, weights = IDS.copy(), rng.normal(size=(D, B, LENGTH)).astype(np.float32)
        ids[:, t] = np.setdiff1d(np.arange(V), IDS)[:B]
        weights[..., t:] = 0
        after = evaluate(config, values, ids, SEGMENTS, weights)
        for part in ("logits", "losses"):
            np.testing.assert_array_equal(after[part][:, :t], before[part][:, :t])
        for row in range(B):
            other = SEGMENTS[row] != SEGMENTS[row, t]
            np.testing.assert_array_equal(after["logits"][row, other], before["logits"][row, other])
            assert np.all(after["logits"][row, t] != before["logits"][row, t])
        gradient = np.asarray(after["gradient"]["embedding"])
        assert np.all(gradient[ids[:, t:]] == 0)
        assert np.all(gradient[ids[:, :t]] != 0)


@pytest.mark.parametrize("name", MIXERS)
def test_each_document_alone_gives_what_the_packed_row_gives(name):
    config, whole = MIXERS[name], usual(MIXERS[name])
    values, weights = variables(config), np.zeros((D, B, LENGTH), np.float32)
    for document in range(3):
        own, starts = np.array(IDS), []
        for row in range(B):
            here = np.flatnonzero(SEGMENTS[row] == document)
            own[row] = np.roll(IDS[row], -here[0])  # what comes behind it is another document
            starts.append((row, here))
        alone = evaluate(config, values, own, np.zeros_like(SEGMENTS), weights)["logits"]
        for row, here in starts:
            np.testing.assert_allclose(
                alone[row, : len(here)], whole["logits"][row, here], rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("name", MIXERS)
def test_every_parameter_has_a_gradient_and_a_group(name):
    config = MIXERS[name]
    gradient = usual(config)["gradient"]
    absent = np.setdiff1d(np.arange(V), IDS)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        heard = np.delete(leaf, absent, axis=0) if leaf.shape == (V, D) else leaf
        assert np.all(np.isfinite(heard) & (heard != 0)), path
    labels = label_parameters(gradient)
    mixer = labels["layer_0"].pop("mixer")
    if name == "resonance":
        for part in ("poles", "readout"):
            assert list(mixer["bank"][part].values()) == ["magnitude", "phase"]
        del mixer["bank"]
    assert set(jax.tree.leaves([labels, mixer])) == {"other"}


@pytest.mark.end_to_end
@pytest.mark.parametrize("name", MIXERS)
def test_narrow_factors_change_little_and_gradients_are_finite(name):
    narrow = usual(dataclasses.replace(MIXERS[name], dtype="bfloat16"))
    chex.assert_trees_all_equal_shapes_and_dtypes(narrow, usual(MIXERS[name]))
    chex.assert_tree_all_finite(narrow)
    for part in ("logits", "hidden", "gradient"):
        leaves = (jax.tree.leaves(result[part]) for result in (narrow, usual(MIXERS[name])))
        for one, other in zip(*leaves, strict=True):
            error = np.linalg.norm(one - other) / np.linalg.norm(other)
            assert 1e-5 < error < 0.05, part


@pytest.mark.parametrize("config", [RESONANCE, ATTENTION, MEMORY], ids=[*MIXERS, "memory"])
def test_parts_steps_and_padded_rows_give_what_the_whole_gives(config):
    """Rows of different lengths go on from their own ends."""
    model, values, lengths = LanguageModel(config), variables(config), np.array([4, 1])
    ids = IDS[:, :12]

    @jax.jit
    def run(ids):
        extend = functools.partial(model.apply, values, method="extend")
        last = functools.partial(model.apply, values, method="extend_last")
        empty = model.initial_state(B)
        first, state = extend(ids[:, :5], empty)
        second, after = extend(ids[:, 5:], state)
        end, padded = last(ids[:, :5], empty, lengths)
        step = lambda state, now: last(now[:, None], state)[::-1]  # noqa: E731
        stepped, steps = jax.lax.scan(step, empty, ids.T)
        behind = jnp.stack([ids[row, n : n + 3] for row, n in enumerate(lengths)])
        _, going_on = jax.lax.scan(step, padded, behind.T)
        whole = model.apply(values, ids)
        parts = jnp.concatenate([first, second], axis=1), jnp.swapaxes(steps, 0, 1)
        return whole, parts, (after, stepped), end, jnp.swapaxes(going_on, 0, 1)

    whole, parts, states, end, behind = run(ids)
    for found in parts:
        np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_close(*states, rtol=1e-4, atol=1e-4)
    chex.assert_trees_all_equal_shapes_and_dtypes(states[0], model.initial_state(B))
    for row, n in enumerate(lengths):
        np.testing.assert_allclose(end[row], whole[row, n - 1], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(behind[row], whole[row, n : n + 3], rtol=1e-4, atol=1e-4)


def test_traced_ids_and_labels_out_of_range_give_nan():
    """From there on; not before it, where chunks are not read backwards."""
    model, values = LanguageModel(ATTENTION), variables(ATTENTION)

    @jax.jit
    def run(ids, labels):
        return model.apply(values, ids, labels, method="losses")[0]

    for wrong in (-1, V):
        changed = IDS.copy()
        changed[0, 7] = wrong
        losses = np.asarray(run(changed, LABELS))
        assert np.all(np.isnan(losses[0, 7:]))
        assert np.all(np.isfinite(losses[1]))
        losses = np.asarray(run(IDS, changed))
        assert np.argwhere(np.isnan(losses)).tolist() == [[0, 7]]


def test_dropout_and_the_ranges_of_poles_reach_the_layers():
    options: Any = {"min_radius": 0.6, "max_radius": 0.7, "max_phase": 0.2, "dropout": 0.5}
    config = dataclasses.replace(MEMORY, **options)
    memory, resonance = (
        language_model._make_mixer(config, layer, jnp.float32, parent=None) for layer in (0, 1)
    )
    assert isinstance(memory, FastWeightMemory)
    assert isinstance(resonance, CausalResonance)
    assert {name: getattr(resonance, name) for name in options} == options
    assert memory.dropout == 0.5


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, got 0"),
        ({"max_length": 0}, "max_length must be at least 1, got 0"),
        ({"mlp_dim": -1}, "mlp_dim must not be negative, got -1"),
        ({"conv_size": -1}, "conv_size must not be negative, got -1"),
        ({"num_heads": 3}, "num_heads = 3 must divide hidden_dim = 8"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"mixer": "fourier"}, "unknown mixer 'fourier'; choose one of resonance, attention"),
        ({"component": "phase"}, "unknown component 'phase'"),
        ({"method": "loop"}, "unknown method 'loop'; choose one of chunked, fft, scan"),
        ({"dtype": "float16"}, "unknown dtype 'float16'"),
        ({"memory_layers": (0, 1)}, r"memory_layers must lie in 0 .. 0, got \(0, 1\)"),
    ],
)
def test_bad_configurations(options, message):
    with pytest.raises(ValueError, match=message):
        LanguageModelConfig(**SHAPE | options)


def call(config, *inputs, method="__call__", **options):
    """Without compiling: the known values are looked at where the shapes are."""
    apply = functools.partial(LanguageModel(config).apply, variables(config), method=method)
    return jax.eval_shape(lambda: apply(*inputs, **options))


@pytest.mark.error_message
@pytest.mark.parametrize("config", [RESONANCE, ATTENTION, MEMORY], ids=[*MIXERS, "memory"])
def test_bad_ids_and_states(config):
    for wrong, shown in ((V, "25 .. 96"), (-1, "-1 .. 25")):
        ids = np.array([[25, wrong]])
        message = f"ids must lie in 0 .. 95, got {shown}: another tokenizer"
        with pytest.raises(ValueError, match=message):
            call(config, ids)
        with pytest.raises(ValueError, match=message):
            call(config, jnp.asarray(ids, jnp.int16))
        with pytest.raises(ValueError, match=r"labels must lie in 0 .. 95"):
            call(config, np.array([[25, 25]]), ids, method="losses")
    for wrong in (IDS[0], IDS[:, :0], IDS.astype(float)):
        with pytest.raises(ValueError, match=r"ids must be integers \[b, t\], not empty"):
            call(config, wrong)
    with pytest.raises(ValueError, match=r"labels must have shape \(2, 40\), got \(2, 39\)"):
        call(config, IDS, LABELS[:, 1:], method="losses")
    others = (RESONANCE, ATTENTION, dataclasses.replace(RESONANCE, num_resonators=5))
    states = [LanguageModel(other).initial_state(B) for other in others if other != config]
    for state in (*states, LanguageModel(config).initial_state(B + 1)):
        with pytest.raises(ValueError, match="state belongs to another model or batch: expected"):
            call(config, IDS, state, method="extend")
    state = LanguageModel(config).initial_state(B)
    with pytest.raises(ValueError, match="an empty row has no last step: lengths must be 1 or mo"):
        call(config, IDS, state, np.array([3, 0]), method="extend_last")
    with pytest.raises(ValueError, match=r"lengths must lie in 0 .. 40, got 3 .. 41"):
        call(config, IDS, state, lengths=np.array([3, 41]), method="extend")


@pytest.mark.error_message
def test_bad_segments():
    for config in MIXERS.values():
        for wrong in (SEGMENTS - 1, SEGMENTS[:, ::-1]):
            with pytest.raises(ValueError, match="segments must not be negative and not decrease"):
                call(config, IDS, segments=wrong)
        with pytest.raises(ValueError, match=r"segments must be integers \(2, 40\)"):
            call(config, IDS, segments=SEGMENTS[:1])
    with pytest.raises(ValueError, match="memory_layers take no segments"):
        call(MEMORY, IDS, segments=SEGMENTS)
    with pytest.raises(ValueError, match="attention with a cache takes no segments"):
        state = LanguageModel(ATTENTION).initial_state(B)
        call(ATTENTION, IDS, state, segments=SEGMENTS, method="extend")


@pytest.mark.end_to_end
def test_a_hierarchical_vocabulary_has_exact_probabilities_and_trains():
    config = LanguageModelConfig(
        vocab_size=20, num_frequent=5, hidden_dim=8, num_layers=1, mlp_dim=8, num_heads=2, num_resonators=2
    )  # fmt: skip
    model, ids = LanguageModel(config), np.arange(20).reshape(2, 10).astype(np.uint8)
    variables = jax.jit(model.init)(jax.random.key(0), ids)

    @jax.jit
    def measure(variables, ids):
        def total(variables):
            losses, _ = model.apply(variables, ids, ids, method="losses")
            return losses.sum(), losses

        (_, losses), gradient = jax.value_and_grad(total, has_aux=True)(variables)
        return model.apply(variables, ids), losses, gradient

    logits, losses, gradient = measure(variables, ids)
    np.testing.assert_allclose(np.exp(logits).sum(-1), 1, rtol=1e-5)
    chosen = np.take_along_axis(np.asarray(logits), ids[..., None].astype(int), -1)[..., 0]
    np.testing.assert_allclose(losses, -chosen, rtol=1e-5)
    assert all(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(gradient))
    label_parameters(variables["params"])
