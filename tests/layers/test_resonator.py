"""Resonator layers against a slow NumPy twin, and what lengths, masks and options must not do."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers import resonator
from resonance_jax.layers.block import MixerBlock
from resonance_jax.training.optimizer import label_parameters

# As Any: to a type checker the result of a module's `apply` is a union.
Resonator: Any = resonator.Resonator
ResonatorStack: Any = partial(resonator.ResonatorStack, num_knots=4, num_patterns=3)
PatternClassifier: Any = partial(resonator.PatternClassifier, num_knots=4, num_patterns=3)

pytestmark = pytest.mark.usefixtures("quick_compile")

D, T, H = 4, 2, 2
LENGTHS = {1: 1, 7: 7, 11: 12, 12: 12, 13: 14}  # to what a length is padded


def signal(length=11, rows=2, seed=0) -> Any:
    return np.random.default_rng(seed).normal(size=(rows, length, D)).astype(np.float32)


def patterns(params, n):
    """exp(log_magnitude + i phase) between knots, by np.interp."""
    knots = np.linspace(0, 0.5, np.shape(params["phase"])[-1])

    def read(values):
        values = np.asarray(values, np.float64)
        return np.apply_along_axis(lambda v: np.interp(np.fft.rfftfreq(n), knots, v), -1, values)

    return np.exp(
        read(params.get("log_magnitude", 0 * params["phase"])) + 1j * read(params["phase"])
    )


def dense(params, x):
    return x @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def softmax(z):
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def twin_stack(params, x, n, form, component="complex", mask=None):
    v = dense(params["value"], np.asarray(x, np.float64))
    v = v if mask is None else np.where(mask[..., None], v, 0)
    spectrum = np.fft.rfft(v, n=n, axis=1).swapaxes(1, 2) / np.sqrt(n)  # [b, d, F]
    if component == "phase":
        spectrum = spectrum / np.abs(spectrum)
    y = np.zeros_like(spectrum)
    for row in range(len(x)):
        for h in range(H):
            head = slice(h * D // H, (h + 1) * D // H)
            z = spectrum[row, head]
            if form == "patterns":
                pool = patterns(params["patterns"], n)[h]
                for layer in patterns(params["layer_patterns"], n)[:, h]:
                    heard = layer * z.sum(axis=0) / np.sqrt(len(z))
                    scores = np.sum(pool * heard.conj(), axis=-1).real / np.sqrt(z.shape[-1])
                    z = z * (softmax(scores) @ pool)
            else:
                names = ("query_patterns", "key_patterns", "value_patterns")
                for q, k, v in zip(*(patterns(params[p], n)[:, h] for p in names), strict=True):
                    power = np.mean(np.abs(z) ** 2, axis=0)
                    z = z + softmax(power * (q * k.conj()).real) * v * z
            y[row, head] = z
    y = np.fft.irfft(y, n=n, axis=-1)[..., : x.shape[1]].swapaxes(1, 2) * np.sqrt(n)
    y = dense(params["out"], y)
    return y if mask is None else np.where(mask[..., None], y, 0)


@pytest.mark.parametrize(
    ("form", "length", "component"),
    [
        ("patterns", 11, "complex"),
        ("patterns", 12, "phase"),
        ("patterns", 1, "complex"),
        ("frequencies", 13, "complex"),
        ("frequencies", 7, "complex"),
    ],
)
def test_stack_matches_the_twin(random_variables, form, length, component):
    x = signal(length)
    mask = np.arange(length) < np.array([[length], [max(length - 3, 1)]])
    layer = ResonatorStack(D, T, num_heads=H, form=form, component=component)
    variables = random_variables(layer, x)
    found = jax.jit(lambda v, x: (layer.apply(v, x), layer.apply(v, x, mask)))(variables, x)
    for y, visible in zip(found, (None, mask), strict=True):
        expected = twin_stack(variables["params"], x, LENGTHS[length], form, component, visible)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=2e-5)


def identity(variables):
    """Makes the projections of a stack the identity."""
    for name in ("value", "out"):
        variables["params"][name] = {"kernel": jnp.eye(D), "bias": jnp.zeros(D)}
    return variables


@pytest.mark.parametrize("length", [12, 24, 60])
def test_a_pattern_is_the_same_filter_at_every_length(random_variables, length):
    """A wave of period 12 comes out louder by |P| and later by arg P, read at 1/12 cycle per sample."""
    time = 2 * np.pi / 12 * np.arange(length)[:, None]
    x = np.broadcast_to(np.cos(time + 0.4), (1, length, D)).astype(np.float32)
    layer = Resonator(D, num_patterns=1, num_knots=4)
    variables = identity(random_variables(layer, x))
    pattern = patterns(variables["params"]["patterns"], 12)[0, 0, 1]
    expected = np.abs(pattern) * np.cos(time + 0.4 + np.angle(pattern))
    found = jax.jit(layer.apply)(variables, x)[0]
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-5)


@pytest.mark.parametrize("scores", ["input", "parameters"])
def test_scores_of_a_wave_depend_little_on_the_length(random_variables, scores):
    layer = ResonatorStack(D, 1, scores=scores)
    variables = identity(random_variables(layer, signal(), seed=3))
    variables["params"]["patterns"]["phase"] *= 5  # patterns that differ much
    outputs = []
    for length in (120, 480):
        wave = np.sqrt(2) * np.cos(2 * np.pi / 12 * np.arange(length))[:, None]
        x = np.broadcast_to(wave, (1, length, D)).astype(np.float32)
        outputs.append(jax.jit(layer.apply)(variables, x)[0, :24])
    np.testing.assert_allclose(*outputs, atol=0.03)


FORMS = [
    {},
    {"normalize": True, "log_domain": True, "complex_weights": True, "num_heads": 2},
    {"scores": "parameters"},
    {"form": "frequencies", "log_domain": True},
]


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_every_parameter_has_a_gradient_and_a_group(random_variables, options):
    x, layer = signal(), ResonatorStack(D, T, **options)
    variables = random_variables(layer, x)
    readout = signal(seed=1)
    loss = jax.jit(jax.grad(lambda v: jnp.sum(layer.apply(v, x) * readout)))
    for path, gradient in jax.tree_util.tree_leaves_with_path(loss(variables)):
        assert np.all(np.isfinite(gradient)), path
        assert np.mean(np.abs(gradient) > 1e-7) > 0.9, path  # the phase at DC has none
    labels = label_parameters(variables["params"])
    groups = {name: label for name, label in labels.items() if name not in ("value", "out")}
    assert groups
    for group in groups.values():
        assert group == {"log_magnitude": "magnitude", "phase": "phase"}


def test_every_option_changes_the_output(random_variables):
    x = signal()
    plain: list[dict] = [{"num_heads": 2}, {"form": "frequencies"}]
    changes: list[list[dict]] = [[{"normalize": True}, {"log_domain": True}] for _ in plain]
    changes[0] += [{"scores": "parameters"}, {"complex_weights": True}]
    changes[0] += [{"component": "phase"}, {"component": "magnitude"}]
    for base, others in zip(plain, changes, strict=True):
        variables = random_variables(ResonatorStack(D, T, **base), x)
        layers = [ResonatorStack(D, T, **base, **change) for change in ({}, *others)]
        outputs = jax.jit(lambda v, layers=layers: [layer.apply(v, x) for layer in layers])
        first, *rest = outputs(variables)
        for change, y in zip(others, rest, strict=True):
            assert np.abs(y - first).max() > 1e-3, (base, change)


def test_dropout_needs_a_key_and_drops(random_variables):
    x, layer = signal(), ResonatorStack(D, 1, dropout=0.5, scores="parameters")
    variables = random_variables(layer, x)
    drop = jax.jit(partial(layer.apply, deterministic=False))
    y = np.asarray(drop(variables, x, rngs={"dropout": jax.random.key(1)}))
    kept = y != 0
    assert 0.2 < np.mean(kept) < 0.8
    np.testing.assert_allclose(y[kept], 2 * jax.jit(layer.apply)(variables, x)[kept], rtol=1e-5)


def test_normalized_patterns_have_no_magnitudes_but_in_the_log_domain():
    def names(**options):
        layer = ResonatorStack(D, T, normalize=True, **options)
        params = jax.eval_shape(layer.init, jax.random.key(0), signal())["params"]
        return set(params["patterns"]), set(params["layer_patterns"])

    both = {"log_magnitude", "phase"}
    assert names() == ({"phase"}, both)
    assert names(log_domain=True) == (both, both)


def test_a_resonator_is_a_stack_of_one(random_variables):
    x = signal()
    one, stack = Resonator(D, num_knots=4, num_patterns=3), ResonatorStack(D, 1)
    variables = random_variables(stack, x)
    y, expected = jax.jit(lambda v: (one.apply(v, x), stack.apply(v, x)))(variables)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("form", ["patterns", "frequencies"])
def test_hidden_steps_neither_speak_nor_hear(random_variables, form):
    x, mask = signal(), np.ones((2, 11), bool)
    mask[0, 4:6] = mask[1, 8:] = False
    layer = ResonatorStack(D, T, form=form, normalize=True)
    variables = random_variables(layer, x)

    def loss(x):
        y = layer.apply(variables, x, mask)
        return jnp.sum(y**2), y

    run = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, y), gradient = run(x)
    (_, again), gradient_again = run(np.where(mask[..., None], x, np.float32(1e20)))
    chex.assert_trees_all_equal((y, gradient), (again, gradient_again))
    np.testing.assert_array_equal(np.asarray(y)[~mask], 0)
    np.testing.assert_array_equal(np.asarray(gradient)[~mask], 0)


def test_mixes_in_a_block(random_variables):
    """At another length than it was made for; rows do not see each other, and vmap agrees."""
    block: Any = MixerBlock(ResonatorStack(D, T), 0)
    variables, x = random_variables(block, signal()), signal(13, rows=3)
    run = jax.jit(block.apply)
    y = run(variables, x)
    assert np.abs(y - x).min() > 0
    alone = jax.jit(jax.vmap(lambda row: block.apply(variables, row[None])[0]))(x)
    np.testing.assert_allclose(alone, y, atol=1e-5)
    changed = run(variables, np.concatenate([x[:1], 2 * x[1:]]))
    np.testing.assert_array_equal(changed[0], y[0])


def test_dtypes():
    x = jnp.asarray(signal(), jnp.bfloat16)

    def shapes(layer, x):
        made = jax.eval_shape(layer.init, jax.random.key(0), x)
        return jax.eval_shape(layer.apply, made, x), made

    for make in (partial(ResonatorStack, D, T), partial(PatternClassifier, 3, num_phase_bins=2)):
        y, made = shapes(make(param_dtype=jnp.bfloat16), x)
        assert y.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype(jnp.bfloat16)}
        assert shapes(make(), x)[0].dtype == jnp.bfloat16
        assert shapes(make(dtype=jnp.float32), x)[0].dtype == jnp.float32


def twin_logits(params, x, n, count):
    """Spectrum, mixtures of the pool, then class patterns, a row and a class at a time."""
    spectrum = np.fft.rfft(x.astype(np.float64), n=n, axis=1).swapaxes(1, 2) / np.sqrt(n)
    bins = spectrum.shape[-1]
    pool, layers = (patterns(params[name], n) for name in ("patterns", "layer_patterns"))
    knots = np.linspace(0, 0.5, 4)
    logits = np.zeros((len(x), len(params["bias"])))
    for row, z in enumerate(spectrum):
        for layer in layers:
            heard = layer * z.sum(axis=0) / np.sqrt(D)
            z = z * (softmax(np.sum(pool * heard.conj(), axis=-1).real / np.sqrt(bins)) @ pool)
        loudest = np.argsort(np.sum(np.abs(z) ** 2, axis=0))[::-1][:count]
        for c in range(logits.shape[1]):
            logits[row, c] = params["bias"][c]
            for d in range(D):
                weights = np.interp(np.fft.rfftfreq(n), knots, params["kernel"][c, d])
                logits[row, c] += np.sum(weights * np.abs(z[d])) / np.sqrt(bins)
                if count:
                    phases = patterns(params["class_phases"], n)[c, d, loudest]
                    turn = z[d, loudest] / np.abs(z[d, loudest])
                    logits[row, c] += np.sum(turn * phases.conj()).real / np.sqrt(len(loudest))
    return logits


@pytest.mark.parametrize(("count", "length"), [(0, 11), (3, 12), (9, 7)])
def test_classifier_matches_the_twin(random_variables, count, length):
    x = signal(length)
    layer = PatternClassifier(3, num_layers=2, num_phase_bins=count)
    variables = random_variables(layer, x)
    params = jax.device_get(variables["params"])
    expected = twin_logits(params, x, LENGTHS[length], count)
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), expected, rtol=1e-4, atol=1e-5)
    assert {label_parameters(params)[name] for name in ("kernel", "bias")} == {"other"}


def test_classifier_gradients_and_mask(random_variables):
    x, mask = signal(), np.ones((2, 11), bool)
    mask[:, 8:] = False
    layer = PatternClassifier(3, num_phase_bins=3)
    variables = random_variables(layer, x)

    def loss(variables, x):
        logits = layer.apply(variables, x, mask)
        return jnp.sum(logits * np.array([1.0, -2.0, 0.5])), logits

    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (_, logits), gradients = gradient(variables, x)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.mean(np.abs(leaf) > 1e-8) > 0.5, path  # quiet bins have no selected phase
    (_, again), _ = gradient(variables, np.where(mask[..., None], x, np.float32(np.nan)))
    np.testing.assert_array_equal(again, logits)


def test_only_the_phase_head_sees_a_shift(random_variables):
    """With one pattern the filter is fixed, and a circular shift turns phases only."""
    x = signal(12)
    for count, sees in ((0, False), (3, True)):
        layer = PatternClassifier(3, num_patterns=1, num_phase_bins=count)
        run = jax.jit(partial(layer.apply, random_variables(layer, x)))
        difference = np.abs(run(np.roll(x, 5, axis=1)) - run(x)).max()
        assert (difference > 1e-2) if sees else (difference < 1e-5)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (ResonatorStack(3, T), r"expected 3 features, got x of shape \(2, 11, 4\)"),
        (ResonatorStack(D, 0), "num_layers must be at least 1, got 0"),
        (ResonatorStack(D, T, num_knots=0), "num_knots must be at least 1, got 0"),
        (ResonatorStack(D, T, num_heads=3), "4 features cannot be split into 3 heads"),
        (ResonatorStack(D, T, form="filters"), "unknown form 'filters'; choose one of patterns"),
        (ResonatorStack(D, T, scores="data"), "unknown scores 'data'; choose one of parameters"),
        (ResonatorStack(D, T, component="real"), "unknown component 'real'"),
        (
            ResonatorStack(D, T, form="frequencies", scores="parameters"),
            "scores and complex_weights are for form='patterns'.* got 'parameters' and False",
        ),
        (PatternClassifier(0), "num_classes must be at least 1, got 0"),
        (PatternClassifier(2, num_phase_bins=-1), "num_phase_bins must be 0 or more.* got -1"),
        (
            PatternClassifier(2, num_phase_bins=1, component="magnitude"),
            "which has no phases; got 1 with component='magnitude'",
        ),
    ],
)
def test_errors(layer, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(layer.init, jax.random.key(0), signal())


@pytest.mark.error_message
@pytest.mark.parametrize("layer", [ResonatorStack(D, T), PatternClassifier(2)])
def test_errors_of_the_input(layer):
    for x, mask, message in (
        (signal().astype(np.int32), None, "x must be real floating point"),
        (signal(), np.ones((2, 10), bool), r"mask must have shape \(2, 11\)"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda x=x, mask=mask: layer.init(jax.random.key(0), x, mask))
