"""ResonanceLayer against a slow NumPy twin, and what masks, gates and lengths must not do."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers import resonance
from resonance_jax.ops.fourier import select_bins

# As Any: to a type checker the result of a module's `apply` is a union.
ResonanceLayer: Any = resonance.ResonanceLayer
AdaptiveResonance: Any = resonance.AdaptiveResonance
MultiScaleResonance: Any = resonance.MultiScaleResonance

pytestmark = pytest.mark.usefixtures("quick_compile")

FEATURES, FREQUENCIES = 4, 3
LENGTH, PADDED = 11, 12


def signal(length=LENGTH, features=FEATURES, rows=2, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, length, features)).astype(np.float32)


def layer_norm(x, parameters):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * np.asarray(parameters["scale"]) + np.asarray(parameters["bias"])


def twin_weights(p):
    """W of whichever parameters there are; a magnitude without one is 1, a phase 0."""
    if "real" in p:
        return p["real"] + 1j * p["imag"]
    magnitude = np.exp(p["log_magnitude"]) if "log_magnitude" in p else 1
    phase = p.get("phase", np.zeros(()))
    return magnitude * (np.cos(phase) + 1j * np.sin(phase))


def twin_filter(params, x, bins, n, *, gate=None, unselected="drop", mask=None):
    """Pad → rfft → select → weight → interfere → put back → irfft → cut, in float64; gate as a factor."""
    p = {name: np.asarray(value, np.float64) for name, value in params.items() if name[0] != "L"}
    gate = np.ones(len(bins)) if gate is None else gate
    observed = np.ones(x.shape[:2], bool) if mask is None else mask
    spectrum = np.fft.rfft(np.where(observed[..., None], x, 0).astype(np.float64), n=n, axis=1)
    selected = spectrum[:, bins]
    kept = (1 - gate)[:, None] * selected if unselected == "pass" else 0
    selected = gate[:, None] * twin_weights(p) * selected + kept
    if "interference" in p:
        matrix = gate[:, None] * (p["interference"][0] + 1j * p["interference"][1]) * gate
        selected = selected + np.einsum("ji,bid->bjd", matrix, selected)
    if unselected == "drop":
        spectrum = np.zeros_like(spectrum)
    spectrum[:, bins] = selected
    y = np.fft.irfft(spectrum, n=n, axis=1)[:, : x.shape[1]]
    return np.where(observed[..., None], y, 0)


def twin_off_grid(params, x, frequencies):
    """The same as direct sums at any frequencies strictly between 0 and 1/2."""
    p = {name: np.asarray(value, np.float64) for name, value in params.items() if name[0] != "L"}
    wave = np.exp(2j * np.pi * np.outer(frequencies, np.arange(x.shape[1])))
    selected = np.einsum("kt,btd->bkd", wave.conj(), x)
    selected = twin_weights(p) * selected
    if "interference" in p:
        matrix = p["interference"][0] + 1j * p["interference"][1]
        selected = selected + np.einsum("ji,bid->bjd", matrix, selected)
    return 2 / x.shape[1] * np.einsum("kt,bkd->btd", wave, selected).real


def sown(layer, variables, x, name="frequencies"):
    """What a layer recorded; the rest of it is not even compiled."""

    def recorded(variables):
        return layer.apply(variables, x, mutable=["intermediates"])[1]["intermediates"][name][0]

    return np.asarray(jax.jit(recorded)(variables))


def first(layer, x, *names):
    """Returns parameters as they start."""

    def init(key):
        params = layer.init(key, x)["params"]
        return {name: params[name] for name in names}

    return jax.device_get(jax.jit(init)(jax.random.key(0)))


@pytest.mark.parametrize(
    ("options", "length", "n", "bins"),
    [
        ({}, 11, 12, [0, 1, 2]),
        ({}, 12, 12, [0, 1, 2]),
        ({"selection": "log"}, 11, 12, [0, 1, 6]),  # DC and Nyquist, whose imaginary parts vanish
        ({"selection": "uniform", "method": "fft"}, 11, 12, [0, 3, 6]),
        ({"selection": "uniform", "method": "matrix"}, 11, 12, [0, 3, 6]),
        ({"band": (0.5, 1.0)}, 11, 12, [4, 5, 6]),
        ({"band": (0.3, 0.9), "selection": "uniform"}, 11, 12, [2, 4, 5]),
        ({"use_interference": False}, 11, 12, [0, 1, 2]),
        ({"unselected": "pass"}, 11, 12, [0, 1, 2]),
        ({"unselected": "pass", "method": "fft"}, 11, 12, [0, 1, 2]),
        ({"component": "magnitude"}, 11, 12, [0, 1, 2]),
        ({"component": "phase", "use_interference": False}, 11, 12, [0, 1, 2]),
        ({"parametrization": "cartesian"}, 11, 12, [0, 1, 2]),
    ],
)
def test_layer_is_the_eight_steps(random_variables, options, length, n, bins):
    x = signal(length)
    layer = ResonanceLayer(FEATURES, FREQUENCIES, **options)
    variables = random_variables(layer, x)
    params = variables["params"]
    expected = twin_filter(params, x, bins, n, unselected=options.get("unselected", "drop"))
    bare = layer.clone(post_norm=False)

    @jax.jit
    def run(variables, x):
        found, recorded = layer.apply(variables, x, mutable=["intermediates"])
        params = {name: leaf for name, leaf in variables["params"].items() if name[0] != "L"}
        return found, bare.apply({"params": params}, x), recorded["intermediates"]["frequencies"][0]

    found, filtered, frequencies = run(variables, x)
    np.testing.assert_allclose(
        found, layer_norm(x + expected, params["LayerNorm_0"]), rtol=2e-5, atol=2e-5
    )
    bare_params = jax.eval_shape(bare.init, jax.random.key(0), x)["params"]
    assert set(bare_params) == set(params) - {"LayerNorm_0"}
    np.testing.assert_allclose(filtered, expected, rtol=2e-5, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(frequencies, np.array(bins) / n, rtol=1e-6)


def test_one_sample_is_weighted_by_the_real_part(random_variables):
    x = signal(length=1)
    layer = ResonanceLayer(FEATURES, 1, post_norm=False, use_interference=False)
    variables = random_variables(layer, x)
    p = variables["params"]
    gain = np.exp(p["log_magnitude"]) * np.cos(p["phase"])
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), gain * x, rtol=1e-5)


@pytest.mark.parametrize("length", [12, 24, 30])
def test_reference_length_keeps_the_physical_filter(random_variables, length):
    def wave(phase):
        return np.cos(2 * np.pi / 12 * np.arange(length)[:, None] + phase).astype(np.float32)

    layer = ResonanceLayer(FEATURES, 2, use_interference=False, post_norm=False)
    x = np.broadcast_to(wave(0.4), (1, length, FEATURES))
    variables = random_variables(layer, x)
    p = {name: np.asarray(value[1]) for name, value in variables["params"].items()}
    found = jax.jit(layer.clone(reference_length=12).apply)(variables, x)
    # Over whole periods DC does not see the wave; half a period more leaves a little behind.
    atol = 2e-6 if length % 12 == 0 else 0.15
    expected = np.exp(p["log_magnitude"]) * wave(0.4 + p["phase"])
    np.testing.assert_allclose(found[0], expected, atol=atol)
    if length == 24:  # without it the second frequency is 1/24, which the wave has nothing of
        np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), 0, atol=1e-5)


def test_reference_length_keeps_the_gain_where_the_fft_would_pad(random_variables):
    layer = ResonanceLayer(FEATURES, 1, reference_length=11, post_norm=False)
    variables = random_variables(layer, signal())
    ones = [np.ones((1, length, FEATURES), np.float32) for length in (11, 12, 24)]
    outputs = [jax.jit(layer.apply)(variables, x)[0, 0] for x in ones]
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-5)
    np.testing.assert_allclose(outputs[2], outputs[0], rtol=1e-5)


def test_reference_length_off_the_grid_is_a_direct_sum(random_variables):
    x = signal(8)
    layer = ResonanceLayer(
        FEATURES, 3, band=(0.2, 0.9), reference_length=11, post_norm=False, dropout=0.5
    )
    variables = random_variables(layer, x)
    expected = twin_off_grid(variables["params"], x, np.array([1, 2, 3]) / 12)
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), expected, atol=2e-6)


def test_continuous_frequencies_are_a_direct_sum(random_variables):
    x = signal()
    layer = ResonanceLayer(FEATURES, FREQUENCIES, selection="continuous", post_norm=False)
    variables = random_variables(layer, x)
    logit = np.array([-2.5, -0.7, 1.1], np.float32)
    variables["params"]["frequency_logit"] = jnp.asarray(logit)
    frequencies = 0.5 / (1 + np.exp(-logit.astype(np.float64)))
    expected = twin_off_grid(variables["params"], x, frequencies)
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), expected, atol=5e-6)
    np.testing.assert_allclose(sown(layer, variables, x), frequencies, rtol=1e-6)


def test_continuous_frequencies_start_between_the_bins_and_fit_any_length(random_variables):
    layer = ResonanceLayer(FEATURES, 6, selection="continuous")
    start = 0.5 / (1 + np.exp(-first(layer, signal(), "frequency_logit")["frequency_logit"]))
    np.testing.assert_allclose(start, (np.arange(6) + 0.5) / (PADDED + 2), rtol=1e-5)
    variables = random_variables(layer, signal())
    short = signal(3)  # has fewer bins than there are frequencies
    expected = sown(layer, variables, signal())
    np.testing.assert_array_equal(sown(layer, variables, short), expected)
    expected = short + twin_off_grid(variables["params"], short, expected.astype(np.float64))
    found = jax.jit(layer.apply)(variables, short)
    expected = layer_norm(expected, variables["params"]["LayerNorm_0"])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


LOGIT = np.array([0.1, -2.0, 3.0, 0.5, -1.0, 0.2], np.float32)
CHOSEN = [2, 3, 5]


@pytest.mark.parametrize("unselected", ["drop", "pass"])
def test_learned_selection_is_the_layer_with_only_the_chosen(random_variables, unselected):
    x = signal()
    layer = AdaptiveResonance(FEATURES, FREQUENCIES, unselected=unselected, post_norm=False)
    variables = random_variables(layer, x)
    params = variables["params"]
    assert params["gate_logit"].shape == (2 * FREQUENCIES,)
    params["gate_logit"] = jnp.asarray(LOGIT)
    few = {
        "log_magnitude": params["log_magnitude"][np.array(CHOSEN)],
        "phase": params["phase"][np.array(CHOSEN)],
        "interference": params["interference"][:, CHOSEN][:, :, CHOSEN],
    }
    expected = twin_filter(few, x, CHOSEN, PADDED, unselected=unselected)
    run = jax.jit(layer.apply)
    found = run(variables, x)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert np.flatnonzero(sown(layer, variables, x, "gate")).tolist() == CHOSEN
    # The gate is hard to the last bit: only the order of its logits counts.
    params["gate_logit"] = jnp.asarray(LOGIT * 0.37)
    np.testing.assert_array_equal(run(variables, x), found)


def slopes(loss, leaf, step=1e-6):
    """Differentiates loss(leaf) along each entry."""
    leaf = np.asarray(leaf, np.float64)
    steps = step * np.eye(leaf.size).reshape(leaf.size, *leaf.shape)
    slope = [(loss(leaf + change) - loss(leaf - change)) / (2 * step) for change in steps]
    return np.array(slope).reshape(leaf.shape)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"log_magnitude", "phase"}),
        ({"selection": "learned"}, {"log_magnitude", "phase", "gate_logit"}),
        (
            {"selection": "learned", "unselected": "pass"},
            {"log_magnitude", "phase", "gate_logit"},
        ),
        ({"selection": "continuous"}, {"log_magnitude", "phase", "frequency_logit"}),
        ({"component": "magnitude"}, {"log_magnitude"}),
        ({"component": "phase"}, {"phase"}),
        ({"parametrization": "cartesian"}, {"real", "imag"}),
    ],
)
def test_every_parameter_gets_its_gradient(random_variables, options, names):
    x, target = signal(), signal(seed=1)
    selection, unselected = options.get("selection", "low"), options.get("unselected", "drop")
    layer = ResonanceLayer(FEATURES, FREQUENCIES, post_norm=False, **options)
    params = random_variables(layer, x)["params"]
    hard = np.ones(FREQUENCIES)
    if selection == "learned":
        params = params | {"gate_logit": jnp.asarray(LOGIT)}
        hard = np.isin(np.arange(6), CHOSEN).astype(float)
    found = jax.jit(jax.grad(lambda p: jnp.sum(layer.apply({"params": p}, x) * target)))(params)
    assert set(found) == names | {"interference"}

    def loss(params, gate=hard):
        if selection == "continuous":
            frequencies = 0.5 / (1 + np.exp(-params["frequency_logit"]))
            return np.sum(target * twin_off_grid(params, x, frequencies))
        bins = np.arange(len(gate))
        return np.sum(
            target * twin_filter(params, x, bins, PADDED, gate=gate, unselected=unselected)
        )

    for name, leaf in found.items():
        if name == "gate_logit":  # straight-through: as if the gate were a number of its own
            sigmoid = 1 / (1 + np.exp(-LOGIT))
            expected = slopes(lambda gate: loss(params, gate), hard) * sigmoid * (1 - sigmoid)
            assert np.all(leaf != 0)  # the frequencies that were not chosen too
        else:
            expected = slopes(lambda value, name=name: loss(params | {name: value}), params[name])
        np.testing.assert_allclose(leaf, expected, rtol=1e-4, atol=1e-4, err_msg=name)
        assert np.any(leaf != 0), name
    # What was not chosen filters nothing, so its weights get no gradient.
    for name in names & {"log_magnitude", "phase", "real", "imag"}:
        np.testing.assert_array_equal(np.any(found[name] != 0, axis=1), hard == 1)


def test_learned_selection_starts_at_the_lowest_of_its_candidates(random_variables):
    layer = AdaptiveResonance(FEATURES, 2, num_candidates=5)
    assert first(layer, signal(), "gate_logit")["gate_logit"].tolist() == [0] * 5
    variables = random_variables(layer, signal())
    variables["params"]["gate_logit"] = jnp.zeros(5)
    assert sown(layer, variables, signal(), "gate").tolist() == [1, 1, 0, 0, 0]
    expected = np.arange(5) / PADDED
    np.testing.assert_allclose(sown(layer, variables, signal()), expected, rtol=1e-6)


def test_adaptive_resonance_is_the_learned_selection():
    assert AdaptiveResonance(4, 3, dropout=0.1) == ResonanceLayer(
        4, 3, selection="learned", dropout=0.1
    )


@pytest.mark.parametrize("selection", ["low", "learned", "continuous"])
@pytest.mark.parametrize("post_norm", [True, False])
def test_hidden_steps_neither_speak_nor_hear(random_variables, selection, post_norm):
    x = signal()
    mask = np.random.default_rng(3).random(x.shape[:2]) < 0.6
    layer = ResonanceLayer(FEATURES, FREQUENCIES, selection=selection, post_norm=post_norm)
    variables, run = random_variables(layer, x), jax.jit(layer.apply)
    found = np.asarray(run(variables, x, mask))
    other = np.where(mask[..., None], x, 1e3 * signal(seed=5))
    np.testing.assert_array_equal(np.asarray(run(variables, other, mask))[mask], found[mask])
    if not post_norm:
        np.testing.assert_array_equal(found[~mask], 0)
    if selection == "low":
        expected = twin_filter(variables["params"], x, [0, 1, 2], PADDED, mask=mask)
        if post_norm:
            expected = layer_norm(x + expected, variables["params"]["LayerNorm_0"])
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(run(variables, x, np.ones_like(mask)), run(variables, x))


@pytest.mark.parametrize("unselected", ["drop", "pass"])
@pytest.mark.parametrize(
    "options", [{"reference_length": 11}, {"selection": "continuous"}], ids=["fixed", "continuous"]
)
def test_steps_that_are_added_and_hidden_change_nothing(random_variables, options, unselected):
    """Where frequencies do not follow the length."""
    x = signal()
    layer = ResonanceLayer(FEATURES, 3, unselected=unselected, post_norm=False, **options)
    variables, run = random_variables(layer, x), jax.jit(layer.apply)
    for length in (LENGTH + 1, 40):
        padded = np.full((len(x), length, FEATURES), 7, np.float32)
        padded[:, :LENGTH] = x
        mask = np.broadcast_to(np.arange(length) < LENGTH, padded.shape[:2])
        found = run(variables, padded, mask)[:, :LENGTH]
        np.testing.assert_allclose(found, run(variables, x), rtol=2e-5, atol=2e-5)


def test_rows_do_not_mix_alone_in_a_batch_jitted_or_mapped(random_variables):
    x = signal(rows=3)
    layer = ResonanceLayer(FEATURES, FREQUENCIES)
    variables = random_variables(layer, x)
    run = jax.jit(layer.apply)
    together = np.asarray(run(variables, x))
    alone = run(variables, x[1])  # [t, d]
    np.testing.assert_allclose(alone, together[1], rtol=1e-5, atol=1e-5)
    mapped = jax.jit(jax.vmap(layer.apply, in_axes=(None, 0)))(variables, x)
    np.testing.assert_allclose(mapped, together, rtol=1e-5, atol=1e-5)
    x[1] = np.nan  # a row that is spoilt, or padding that holds anything
    spoilt = np.asarray(run(variables, x))
    np.testing.assert_array_equal(spoilt[[0, 2]], together[[0, 2]])


def test_dropout_drops_and_rescales_the_filter_alone(random_variables):
    x = signal()
    layer = ResonanceLayer(FEATURES, FREQUENCIES, dropout=0.5, post_norm=False)
    variables = random_variables(layer, x)
    full = np.asarray(jax.jit(layer.apply)(variables, x))
    options: Any = dict(deterministic=False, rngs={"dropout": jax.random.key(1)})
    dropped = np.asarray(jax.jit(partial(layer.apply, **options))(variables, x))
    zero = dropped == 0
    assert 0.2 < zero.mean() < 0.8
    np.testing.assert_allclose(dropped[~zero], 2 * full[~zero], rtol=1e-6)
    layer = layer.clone(post_norm=True)
    variables = random_variables(layer, x)
    seen = np.asarray(jax.jit(partial(layer.apply, **options))(variables, x))
    filtered = twin_filter(variables["params"], x, [0, 1, 2], PADDED)
    expected = layer_norm(x + np.where(zero, 0, 2 * filtered), variables["params"]["LayerNorm_0"])
    np.testing.assert_allclose(seen, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("make", "post_norm"),
    [(ResonanceLayer, True), (ResonanceLayer, False), (MultiScaleResonance, True)],
)
def test_dtypes(random_variables, make, post_norm):
    x = signal()
    layer = make(FEATURES, FREQUENCIES, post_norm=post_norm)
    variables = random_variables(layer, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    expected = np.asarray(jax.jit(layer.apply)(variables, x))
    narrow = jax.jit(layer.apply)(variables, jnp.asarray(x, jnp.bfloat16))  # the input's
    cast = jax.jit(layer.clone(dtype=jnp.bfloat16).apply)(variables, x)  # one's own
    assert (narrow.dtype, cast.dtype) == (jnp.bfloat16, jnp.bfloat16)
    for found in (narrow, cast):
        np.testing.assert_allclose(np.asarray(found, np.float32), expected, atol=0.05, rtol=0.02)
    low = layer.clone(param_dtype=jnp.bfloat16)
    variables = random_variables(low, x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.bfloat16)}
    assert jax.eval_shape(low.apply, variables, x).dtype == jnp.float32


def test_float64(x64, random_variables):
    x = signal().astype(np.float64)
    layer = ResonanceLayer(FEATURES, FREQUENCIES, param_dtype=jnp.float64)
    variables = random_variables(layer, x)
    expected = twin_filter(variables["params"], x, [0, 1, 2], PADDED)
    expected = layer_norm(x + expected, variables["params"]["LayerNorm_0"])
    found = jax.jit(layer.apply)(variables, x)
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_weights_start_near_the_identity():
    layer, x = ResonanceLayer(64, 8), signal(32, 64)
    params = first(layer, x, "log_magnitude", "phase", "interference")
    for name in ("log_magnitude", "phase"):
        np.testing.assert_allclose(np.std(params[name]), 0.02, rtol=0.2)
    np.testing.assert_allclose(np.std(params["interference"]), 0.1 / 8, rtol=0.2)
    kept = twin_filter({name: 0 * value for name, value in params.items()}, x, np.arange(8), 32)
    found = twin_filter(params, x, np.arange(8), 32)
    assert np.linalg.norm(found - kept) < 0.1 * np.linalg.norm(kept)


@pytest.mark.parametrize("spread", [0.02, 0.5])
def test_weights_start_from_one_distribution_in_every_parametrization(spread):
    x = signal(32, 64)
    for options in ({}, {"parametrization": "cartesian"}):
        layer = ResonanceLayer(64, 8, initial_spread=spread, **options)
        names = ("real", "imag") if options else ("log_magnitude", "phase")
        weights = twin_weights(first(layer, x, *names))
        for part in (np.log(np.abs(weights)), np.angle(weights)):
            np.testing.assert_allclose(part.std(), spread, rtol=0.1)
            assert abs(part.mean()) < 0.2 * spread
        correlation = np.corrcoef(np.log(np.abs(weights)).ravel(), np.angle(weights).ravel())
        assert abs(correlation[0, 1]) < 0.15  # of 512: a deviation is 0.044
    for component, name in (("magnitude", "log_magnitude"), ("phase", "phase")):
        layer = ResonanceLayer(64, 8, component=component, initial_spread=spread)
        np.testing.assert_allclose(first(layer, x, name)[name].std(), spread, rtol=0.1)


def test_evenly_spaced_bins_cannot_tell_positions_apart(random_variables):
    """The documented trap: bins that are multiples of s make y periodic with n/s, whatever the weights."""
    x = signal(16)
    layer = ResonanceLayer(FEATURES, 5, selection="uniform", post_norm=False)
    y = np.asarray(jax.jit(layer.apply)(random_variables(layer, x), x))
    assert select_bins(9, 5, "uniform").tolist() == [0, 2, 4, 6, 8]
    np.testing.assert_allclose(y[:, 8:], y[:, :8], atol=1e-5)
    assert "periodic" in (select_bins.__doc__ or "")


@pytest.mark.parametrize("length", [24, 29, 32])
def test_bands_are_disjoint_and_reach_from_dc_to_nyquist(length, random_variables):
    layer = MultiScaleResonance(FEATURES, 6, num_scales=3)
    x = signal(length)

    def recorded(variables):
        found = layer.apply(variables, x, mutable=["intermediates"])[1]["intermediates"]
        return [found[f"scale_{i}"]["frequencies"][0] for i in range(3)]

    bands = [np.asarray(band) for band in jax.jit(recorded)(random_variables(layer, x))]
    ordered = np.concatenate(bands[::-1])
    assert np.all(np.diff(ordered) > 0)
    assert ordered[0] == 0
    np.testing.assert_allclose(ordered[-1], 0.5, atol=1e-6)  # 29 pads to 30


def test_multi_scale_is_its_bands_projected(random_variables):
    x = signal()
    layer = MultiScaleResonance(FEATURES, 6, num_scales=3)
    variables = random_variables(layer, x)
    params = variables["params"]
    bins = {"scale_0": [4, 6], "scale_1": [2, 3], "scale_2": [0, 1]}  # of 7, octave by octave
    parts = [twin_filter(params[name], x, chosen, PADDED) for name, chosen in bins.items()]
    y = np.concatenate(parts, -1) @ np.asarray(params["Dense_0"]["kernel"])
    y = y + np.asarray(params["Dense_0"]["bias"])
    expected = layer_norm(x + y, params["LayerNorm_0"])
    bare = layer.clone(post_norm=False)
    bare_params = {name: value for name, value in params.items() if name != "LayerNorm_0"}

    @jax.jit
    def run(x):
        return layer.apply(variables, x), bare.apply({"params": bare_params}, x)

    for found, wanted in zip(run(x), (expected, y), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=3e-5, atol=3e-5)


def test_multi_scale_options_reach_its_bands(random_variables):
    x = signal()
    layer = MultiScaleResonance(FEATURES, 6, selection="low", post_norm=False)
    variables = random_variables(layer, x)

    def run(layer, *inputs, **options):
        return np.asarray(jax.jit(partial(layer.apply, **options))(variables, *inputs))

    found = run(layer, x)
    for change in (
        {"selection": "uniform"},
        {"reference_length": 18},
        {"component": "magnitude"},
        {"component": "phase"},
    ):
        assert not np.allclose(run(layer.clone(**change), x), found, atol=1e-3)
    np.testing.assert_allclose(run(layer.clone(method="fft"), x), found, atol=1e-5)
    cartesian = layer.clone(parametrization="cartesian", initial_spread=0.0)
    weights = first(cartesian, x, "scale_2")["scale_2"]
    np.testing.assert_array_equal(twin_weights(weights), np.ones((2, FEATURES)))
    mask = np.arange(LENGTH) < np.array([[LENGTH], [5]])
    hidden = run(layer, np.where(mask[..., None], x, 50), mask)
    np.testing.assert_array_equal(hidden, run(layer, x, mask))
    assert not np.allclose(hidden[0], hidden[1])
    np.testing.assert_allclose(hidden[0], found[0], atol=1e-6)  # the first row is all observed
    key = {"dropout": jax.random.key(0)}
    dropped = run(layer.clone(dropout=0.5), x, deterministic=False, rngs=key)
    assert 0.2 < np.mean(dropped == 0) < 0.8


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("options", "x", "message"),
    [
        ({}, signal()[0, 0], r"x must have shape \[..., t, d\]"),
        ({}, signal()[:, :0], "x is empty along time"),
        ({}, np.zeros((2, 8, 4), np.int32), "x must be real floating point, got int32"),
        ({}, signal(features=5), r"expected 4 features, got x of shape \(2, 11, 5\)"),
        ({"selection": "lowest"}, signal(), "unknown selection 'lowest'; choose one of low, log"),
        ({"method": "dft"}, signal(), "unknown method 'dft'; choose one of auto, fft, matrix"),
        ({"unselected": "keep"}, signal(), "unknown unselected='keep'"),
        ({"num_frequencies": 0}, signal(), "num_frequencies must be at least 1, got 0"),
        ({"component": "power"}, signal(), "unknown component 'power'; choose one of complex, mag"),
        ({"parametrization": "log"}, signal(), "unknown parametrization 'log'; choose one of pol"),
        (
            {"component": "phase", "parametrization": "cartesian"},
            signal(),
            "component = 'phase' needs parametrization='polar'",
        ),
        ({"initial_spread": -0.1}, signal(), "initial_spread must be finite and at least 0"),
        ({"initial_spread": float("nan")}, signal(), "initial_spread must be finite"),
        (
            {"num_frequencies": 8},
            signal(),
            "num_frequencies = 8 is more than the 7 bins that length",
        ),
        ({"band": (0.8, 1.0)}, signal(), r"more than the 1 bins that length 12 has in band \(0.8"),
        ({"band": (0.5, 0.2)}, signal(), "band must be fractions"),
        ({"band": (0.5, 1.2)}, signal(), "band must be fractions"),
        (
            {"selection": "learned", "num_candidates": 2},
            signal(),
            "at least num_frequencies, got 2",
        ),
        ({"selection": "learned", "num_candidates": 9}, signal(), "num_candidates = 9 is more"),
        ({"num_candidates": 5}, signal(), "num_candidates is for selection='learned'"),
        (
            {"selection": "continuous", "num_frequencies": 8},
            signal(),
            "= 8 is more than the 7 bins",
        ),
    ],
)
def test_errors(options, x, message):
    layer = ResonanceLayer(**{"features": 4, "num_frequencies": 3} | options)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: layer.init(jax.random.key(0), x))


@pytest.mark.error_message
def test_mask_errors(random_variables):
    x = signal()
    layer = ResonanceLayer(FEATURES, FREQUENCIES)
    variables = random_variables(layer, x)
    hidden = np.ones((2, LENGTH), bool)
    hidden[1] = False
    for mask, message in (
        (hidden, r"mask hides every step of row \(1,\)"),
        (hidden[:, :4], "mask must have shape"),
        (hidden.astype(np.float32), "mask must be boolean"),
    ):
        with pytest.raises(ValueError, match=message):
            layer.apply(variables, x, mask)


@pytest.mark.error_message
def test_multi_scale_errors():
    for options, length, message in (
        ({"num_frequencies": 8}, 24, "num_frequencies = 8 must be a multiple of num_scales = 3"),
        ({"num_frequencies": 6, "num_scales": 0}, 24, "must be a multiple of num_scales = 0"),
        ({"num_frequencies": 12}, 24, r"= 4 is more than the 3 bins .* in band \(0.25, 0.5\)"),
    ):
        layer = MultiScaleResonance(FEATURES, **options)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda x, layer=layer: layer.init(jax.random.key(0), x), signal(length))
