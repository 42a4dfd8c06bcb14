"""Causal resonance as a layer: against a twin, in parts and by the step, documents, causality, gradients, options."""

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers import recurrence
from resonance_jax.training.optimizer import label_parameters

# As Any: to a type checker the result of a module's `apply` is a union.
CausalResonance: Any = partial(
    recurrence.CausalResonance, num_heads=2, num_resonators=3, chunk_size=5
)

pytestmark = pytest.mark.usefixtures("quick_compile")

D, B, LENGTH, HEADS, K, TAPS = 8, 3, 12, 2, 3, 4


def normal(*shape, seed=0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parameters(heads=HEADS, seed=0) -> Any:
    """Poles of all decays and phases, and gains that are far from the initial ones."""
    rng = np.random.default_rng(seed)
    shapes = {
        "in_proj": {"kernel": (2 * D, D)},
        "out_proj": {"kernel": (D, D)},
        "convolution": {"kernel": (TAPS, D)},
        "skip": (D,),
        "bank": {
            "poles": {"log_decay": (heads, K), "phase": (heads, K)},
            "readout": {"log_magnitude": (heads, K), "phase": (heads, K)},
        },
    }
    values = jax.tree.map(
        lambda shape: (0.6 * rng.normal(size=shape)).astype(np.float32),
        shapes,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )
    values["bank"]["poles"]["log_decay"] -= 1.5
    return values


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def twin(params, x, state, segments, lengths):
    """The layer by its formula in float64: a row and a step at a time. What `params` lacks is left out."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    y, recent, states = np.zeros(x.shape), *(np.array(part) for part in state)
    recent, states = recent.astype(np.float64), states.astype(np.complex128)
    poles, readout = params["bank"]["poles"], params["bank"]["readout"]
    size = np.exp(-np.exp(poles["log_decay"]))
    pole = size * np.exp(1j * poles.get("phase", 0 * size))
    weight = np.exp(readout["log_magnitude"] + 1j * readout.get("phase", 0 * size))
    of_channel = np.arange(D) // (D // len(pole))
    pole, weight, gain = (v[of_channel].T for v in (pole, weight, np.sqrt(1 - size**2)))
    taps = params["convolution"]["kernel"] if "convolution" in params else np.ones((1, D))
    for row in range(len(x)):
        document = 0
        for t in range(lengths[row]):
            if segments[row, t] != document:
                document, recent[row], states[row] = segments[row, t], 0, 0
            projected = params["in_proj"]["kernel"] @ x[row, t]
            seen = np.concatenate([recent[row], projected[None, :D]])
            recent[row] = seen[1:]
            u = np.sum(taps[::-1] * seen, axis=0)
            states[row] = pole * states[row] + gain * u
            read = np.real(weight * states[row]).sum(0) + params["skip"] * u
            gate = projected[D:]
            read = read * gate * sigmoid(gate) if len(gate) else read
            y[row, t] = params["out_proj"]["kernel"] @ read
    return y, (recent, states)


SEGMENTS = (np.arange(LENGTH) >= np.array([[5, 6, 8], [1, 11, 99], [0, 4, 99]])[..., None]).sum(1)
LENGTHS = np.array([LENGTH, 2, 9])
NOTHING = {"segments": np.zeros((B, LENGTH), int), "lengths": np.full(B, LENGTH)}
OPTIONS: Any = {
    "segments": NOTHING | {"segments": SEGMENTS},
    "lengths": NOTHING | {"lengths": LENGTHS},
    "both": {"segments": SEGMENTS, "lengths": LENGTHS},
}


def inputs(seed=0) -> Any:
    """Parameters, x, a state that is not empty, and weights of y and of the state after it."""
    x, y_weights, after, before = (normal(B, LENGTH, D, seed=seed + i) for i in range(4))
    resonators = [v[:, :K] + 1j * v[:, K : 2 * K] for v in (after, before)]
    recents = [v[:, -(TAPS - 1) :] for v in (after, before)]
    states = list(zip(recents, resonators, strict=True))
    return parameters(seed=seed), x, states[0], y_weights, states[1]


GRADIENTS = "by params", "by x", "by state"


@jax.jit
def everything(params, x, state, y_weights, state_weights, options):
    """y and the state after it, by each method; of "chunked" the gradients of a weighted sum of both, too."""
    inside = jnp.arange(LENGTH) < options.get("lengths", LENGTH * jnp.ones(B))[:, None]

    def run(method, params, x, state):
        layer = CausalResonance(D, method=method)
        before = recurrence.CausalResonanceState(*state)
        y, after = layer.apply({"params": params}, x, before, **options, method="extend")
        y = jnp.where(inside[..., None], y, 0)  # padding gives what must not be read
        ends = [jnp.sum(jnp.real(a * b)) for a, b in zip(after, state_weights, strict=True)]
        return jnp.sum(y * y_weights) + sum(ends), {"y": y, "state": tuple(after)}

    arguments = params, x, state
    gradients, values = jax.grad(partial(run, "chunked"), (0, 1, 2), has_aux=True)(*arguments)
    results = {"chunked": values | dict(zip(GRADIENTS, gradients, strict=True))}
    if "segments" in options:
        results |= {method: run(method, *arguments)[1] for method in ("fft", "scan")}
    return results


def assert_close(found, expected, tolerance=1e-5):
    """The norm of the error of each leaf, over the expected norm."""

    def check(a, b):
        error = np.linalg.norm(np.asarray(a) - np.asarray(b))
        assert error < tolerance * max(np.linalg.norm(np.asarray(b)), 0.1)

    jax.tree.map(check, found, expected)


@pytest.mark.parametrize("name", ["none", *OPTIONS])
def test_methods_agree_with_each_other_and_with_the_twin(name):
    """In values and states; the gradients by central differences along a random direction."""
    params, x, state, y_weights, state_weights = inputs()
    options = OPTIONS.get(name, {})
    results = everything(params, x, state, y_weights, state_weights, options)
    y, after = twin(params, x, state, **NOTHING | options)
    for result in results.values():
        assert_close((result["y"], result["state"]), (y, after))
    arguments, moves = (params, x, state), inputs(seed=10)[:3]

    def loss(size):
        moved = jax.tree.map(lambda v, d: v + size * d.astype(np.complex128), arguments, moves)
        params, x, (recent, resonators) = moved
        params, x, recent = jax.tree.map(np.real, (params, x, recent))
        y, after = twin(params, x, (recent, resonators), **NOTHING | options)
        ends = [np.sum(np.real(a * b)) for a, b in zip(after, state_weights, strict=True)]
        return np.sum(y * y_weights) + sum(ends)

    gradients = tuple(results["chunked"][name] for name in GRADIENTS)
    # JAX's gradient g of a real loss: its change along d is Re(g d).
    terms = jax.tree.leaves(jax.tree.map(lambda g, d: np.sum(np.real(g * d)), gradients, moves))
    change = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert abs(sum(terms) - change) < 1e-4 * max(map(abs, terms))


def test_each_document_alone_gives_what_the_packed_row_gives():
    """Behind a document's end is padding: 100s, which must not be heard."""
    params, x, state, *weights = inputs()
    packed = everything(params, x, state, *weights, OPTIONS["segments"])
    for row, document in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 1), (2, 2)):
        here = np.flatnonzero(SEGMENTS[row] == document)
        own = np.full_like(x, 100)
        own[row, : len(here)] = x[row, here]
        before = state if document == 0 else jax.tree.map(np.zeros_like, state)
        options = NOTHING | {"lengths": np.full(B, len(here))}
        alone = everything(params, own, before, *weights, options)
        for method in recurrence.METHODS:
            assert_close(alone[method]["y"][row, : len(here)], packed[method]["y"][row, here])
            if here[-1] == LENGTH - 1:
                ends = (alone[method]["state"], packed[method]["state"])
                assert_close(*(jax.tree.map(lambda leaf, r=row: leaf[r], end) for end in ends))


def test_no_output_depends_on_a_later_input():
    """Exactly for all but the FFT, whose rounding leaks; and no gradient flows to a later input."""
    params, x, state, y_weights, state_weights = inputs()
    nothing = jax.tree.map(np.zeros_like, state_weights)
    before = everything(params, x, state, y_weights, state_weights, OPTIONS["segments"])
    for t in (0, 4, 5, 8):
        changed, earlier = x.copy(), y_weights.copy()
        changed[:, t] += 10
        earlier[:, t:] = 0
        after = everything(params, changed, state, earlier, nothing, OPTIONS["segments"])
        for method in recurrence.METHODS:
            y, again = (np.asarray(results[method]["y"]) for results in (before, after))
            limit = 1e-6 if method == "fft" else 0
            assert np.abs(again - y)[:, :t].max(initial=0) <= limit * np.abs(again).max()
            assert np.all(np.abs(again - y)[:, t].max(axis=-1) > 0.1)
        assert np.all(after["chunked"]["by x"][:, t:] == 0)


def test_every_parameter_has_a_gradient_and_a_group():
    params, *others = inputs()
    gradient = everything(params, *others, OPTIONS["segments"])["chunked"]["by params"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf) & (np.abs(leaf) > 1e-6)), path
    labels = label_parameters(params)
    for name in ("poles", "readout"):
        assert set(labels["bank"][name].values()) == {"magnitude", "phase"}
    assert labels["bank"]["poles"]["phase"] == "phase"
    assert {labels["skip"], *jax.tree.leaves(labels["in_proj"])} == {"other"}


def test_parts_and_steps_give_what_the_whole_gives_in_both_layouts():
    """Documents over parts of the default layout; parts without documents where channels are first; steps of both."""
    params, x, *_ = inputs()
    values, layer = {"params": params}, CausalResonance(D)
    turned = CausalResonance(D, channels_first=True)
    empty = layer.initial_state(B)

    @jax.jit
    def run(x, segments):
        extend = partial(layer.apply, values, method="extend")
        extend_turned = partial(turned.apply, values, method="extend")
        parts, state = [], empty
        for start, end in ((0, 1), (1, 5), (5, 12)):
            # What goes on from the state is segment 0.
            before = segments[:, start - 1] if start else jnp.zeros(B, segments.dtype)
            numbers = segments[:, start:end] - before[:, None]
            y, state = extend(x[:, start:end], state, segments=numbers)
            parts.append(y)
        first, middle = extend_turned(jnp.moveaxis(x[:, :5], -1, 0), empty)
        second, after = extend_turned(jnp.moveaxis(x[:, 5:], -1, 0), middle)
        whole = jnp.moveaxis(jnp.concatenate([first, second], -1), 0, -1)
        one = turned.apply(values, x[:, 5], middle, method="step")
        step = partial(layer.apply, values, method="step")
        last, steps = jax.lax.scan(lambda s, x: step(x, s)[::-1], empty, jnp.moveaxis(x, 1, 0))
        steps = jnp.moveaxis(steps, 0, 1)
        return (jnp.concatenate(parts, 1), state), (whole, after), (steps, last), one[0]

    packed, whole, steps, one = run(x, SEGMENTS)
    for (y, after), options in ((packed, "segments"), (whole, "none"), (steps, "none")):
        assert_close((y, tuple(after)), twin(params, x, empty, **OPTIONS.get(options, NOTHING)))
        chex.assert_trees_all_equal_shapes_and_dtypes(after, empty)
    assert_close(one, whole[0][:, 5])


def test_every_option_changes_the_output_as_the_twin_says():
    """The same values as far as the options leave them; heads of one channel that share values change nothing."""
    params, x, *_ = inputs()
    bank, taps = params["bank"], params["convolution"]["kernel"]
    bare = {name: v for name, v in params.items() if name != "convolution"}
    sizes = {
        "poles": {"log_decay": bank["poles"]["log_decay"]},
        "readout": {"log_magnitude": bank["readout"]["log_magnitude"]},
    }
    fewer = jax.tree.map(lambda v: v[:, :2], bank)
    shared = jax.tree.map(lambda v: np.repeat(v, D // HEADS, axis=0), bank)
    ungated = {"in_proj": {"kernel": params["in_proj"]["kernel"][:D]}}
    cases: Any = [
        ({"num_heads": D}, params | {"bank": shared}),
        ({"num_heads": D, "conv_size": 0}, bare | {"bank": parameters(D, seed=3)["bank"]}),
        ({"gate": False, "num_resonators": 2}, params | ungated | {"bank": fewer}),
        (
            {"component": "magnitude", "conv_size": 2},
            params | {"bank": sizes, "convolution": {"kernel": taps[:2]}},
        ),
        ({"conv_size": 1, "dropout": 0.5}, bare),
    ]

    @jax.jit
    def run(x):
        key = {"dropout": jax.random.key(0)}
        return [
            CausalResonance(D, **options).apply(
                {"params": values}, x, deterministic=False, rngs=key
            )
            for options, values in cases
        ]

    usual, _ = twin(params, x, CausalResonance(D).initial_state(B), **NOTHING)
    found = run(x)
    for y, (options, values) in zip(found, cases, strict=True):
        state = CausalResonance(D, **options).initial_state(B)
        expected, _ = twin(values, x, state, **NOTHING)
        if "dropout" in options:
            kept = np.asarray(y != 0)
            assert 0.4 < kept.mean() < 0.6
            expected = np.where(kept, 2 * expected, 0)
        assert_close(y, expected)
        assert (values["bank"] is shared) == np.allclose(y, usual, atol=1e-4)


def test_options_reach_the_bank_and_leave_parameters_out(monkeypatch):
    drawn, draw = [], recurrence.recurrence.ring_bank

    def record(key, *sizes, **options):
        drawn.append((sizes, options))
        return draw(key, *sizes, **options)

    monkeypatch.setattr(recurrence.recurrence, "ring_bank", record)
    ring: Any = {"min_radius": 0.6, "max_radius": 0.7, "max_phase": 0.2}
    x = normal(B, LENGTH, D)
    for component in recurrence.COMPONENTS:
        layer = CausalResonance(D, component=component, conv_size=0, gate=False, **ring)
        params = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
        assert drawn[-1] == ((HEADS, K), ring)
        phases = ["phase"] * (component == "complex")
        assert list(params["bank"]["poles"]) == ["log_decay", *phases]
        assert list(params["bank"]["readout"]) == ["log_magnitude", *phases]
        assert set(params) == {"bank", "skip", "in_proj", "out_proj"}
        assert params["in_proj"]["kernel"].shape == (D, D)


def test_narrow_factors_change_little():
    """From 64 steps on; states stay wide. A bfloat16 x gives a bfloat16 y."""
    params, x = parameters(), normal(B, 24, D)
    extend = partial(CausalResonance(D, dtype=jnp.bfloat16).apply, {"params": params})
    extend = jax.jit(partial(extend, method="extend"))
    y, after = extend(x, None)
    assert (y.dtype, after.resonators.dtype) == (jnp.float32, jnp.complex64)
    state = CausalResonance(D).initial_state(B)
    nothing: Any = {"segments": np.zeros((B, 24), int), "lengths": np.full(B, 24)}
    expected = twin(params, x, state, **nothing)
    for one, other in zip((y, *after), (expected[0], *expected[1]), strict=True):
        error = np.linalg.norm(one - other) / np.linalg.norm(other)
        assert 1e-5 < error < 2**-6
    y, after = jax.eval_shape(extend, jnp.asarray(x, jnp.bfloat16), None)
    assert (y.dtype, after.resonators.dtype) == (jnp.bfloat16, jnp.complex64)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "loop"}, "unknown method 'loop'; choose one of chunked, fft, scan"),
        ({"component": "phase"}, "unknown component 'phase'; choose one of complex, magnitude"),
        ({"num_heads": 3}, "the 3 heads of the bank must divide the 8 features"),
        ({"num_resonators": 0}, "expected h, k >= 1, got 2 heads of 0"),
        ({"max_radius": 1.0}, "0 < min_radius <= max_radius < 1, got 0.5 and 1.0"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(CausalResonance(D, **options).init, jax.random.key(0), normal(B, LENGTH, D))


@pytest.mark.error_message
@pytest.mark.parametrize("method", recurrence.METHODS)
def test_bad_inputs(method):
    layer, x = CausalResonance(D, method=method), normal(B, LENGTH, D)
    run = partial(layer.apply, {"params": parameters()})
    extend = partial(run, method="extend")
    with pytest.raises(ValueError, match=r"x must be \[b, t, 8\] and not empty, got shape \(3, 12"):
        run(x[..., :4])
    with pytest.raises(ValueError, match=r"x must be \[8, b, t\] and not empty"):
        CausalResonance(D, channels_first=True).apply({"params": parameters()}, x)
    with pytest.raises(ValueError, match="not empty"):
        run(x[:, :0])
    for wrong in (SEGMENTS - 1, SEGMENTS[:, ::-1]):
        with pytest.raises(ValueError, match="segments must not be negative and not decrease"):
            run(x, segments=wrong)
    with pytest.raises(ValueError, match=r"segments must be integers \(3, 12\)"):
        run(x, segments=SEGMENTS[:, :5])
    with pytest.raises(ValueError, match=r"lengths must lie in 0 .. 12, got 1 .. 13"):
        run(x, lengths=np.array([1, 2, 13]))
    with pytest.raises(ValueError, match=r"recent must have shape \(3, 3, 8\), got \(2, 3, 8\)"):
        extend(x, layer.initial_state(B - 1))
    with pytest.raises(ValueError, match=r"state must be complex \(3, 3, 8\).* begin with initial"):
        state = CausalResonance(D, num_resonators=5).initial_state(B)
        extend(x, state)
