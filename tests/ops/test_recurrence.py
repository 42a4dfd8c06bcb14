"""Laws and values of ops/recurrence.py: the four evaluations are one filter, causal and with a state."""

import functools
import itertools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops import recurrence
from resonance_jax.ops.recurrence import ResonatorBank

H, K, D, B = 2, 3, 4, 3
LENGTH, SEGMENTS, CHUNK = 12, 6, 5  # chunks of 5, 5 and 2
NAMES = ("convolve", "scan", "chunked", "step")
PARTS = ("y", "state", "by x", "by state", "by log_decay", "by phase", "by readout")

pytestmark = pytest.mark.usefixtures("quick_compile")


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def complex_normal(seed: int, *shape: int) -> np.ndarray:
    return normal(seed, *shape) + 1j * normal(seed + 1000, *shape)


def make_bank(radius: float = 0.99) -> ResonatorBank:
    """Poles all over a ring and readouts with phases."""
    rng = np.random.default_rng(3)
    log_decay = np.log(-np.log(rng.uniform(0.5, radius, (H, K)))).astype(np.float32)
    phase = rng.uniform(0, np.pi, (H, K)).astype(np.float32)
    return ResonatorBank(log_decay, phase, complex_normal(7, H, K))


def make_inputs(length: int, dtype: Any = np.float32) -> tuple[Any, ...]:
    """x, bank, state, and weights of y and of the state in a loss."""
    values = (
        normal(0, B, length, D), make_bank(), complex_normal(1, B, K, D),
        normal(2, B, length, D), complex_normal(3, B, K, D),
    )  # fmt: skip
    if dtype == np.float64:
        return jax.tree.map(lambda v: v.astype(np.result_type(v, np.float64)), values)
    return values


def no_options() -> dict[str, np.ndarray]:
    """Options that change nothing."""
    ones = np.ones((B, LENGTH), bool)
    lengths = np.full(B, LENGTH, np.int32)
    return {"segments": np.zeros((B, LENGTH), np.int32), "mask": ones, "lengths": lengths}


def documents() -> dict[str, np.ndarray]:
    """Resets inside chunks and at their ends, a row that forgets its state; a row of length 0; hidden steps."""
    starts = np.array([[2, 5, 6, 11, 99], [0, 3, 3, 7, 99], [0, 1, 8, 99, 99]])
    segments = (np.arange(LENGTH) >= starts[..., None]).sum(1).astype(np.int32)
    mask = np.random.default_rng(5).random((B, LENGTH)) < 0.8
    return {"segments": segments, "mask": mask, "lengths": np.array([LENGTH - 3, 0, 10], np.int32)}


OPTIONS = {
    "none": (),
    "segments": ("segments",),
    "mask": ("mask",),
    "lengths": ("lengths",),
    "all": ("segments", "mask", "lengths"),
}


def options(name: str) -> dict[str, np.ndarray]:
    """Some of the options of `documents`; the others are there but change nothing."""
    return no_options() | {key: documents()[key] for key in OPTIONS[name]}


def steps(x, bank, state, segments=None, mask=None, lengths=None):
    """Repeated `step`, as a decoder takes them."""
    rows, length = x.shape[:2]
    segments = jnp.zeros((rows, length), jnp.int32) if segments is None else segments
    mask = jnp.ones((rows, length), bool) if mask is None else mask
    inside = jnp.arange(length) < (jnp.full(rows, length) if lengths is None else lengths)[:, None]
    reset = segments != jnp.pad(segments[:, :-1], ((0, 0), (1, 0)))

    def one(state, now):
        x, reset, seen, inside = now
        read = jnp.where((seen & inside)[:, None], x, 0)
        y, after = recurrence.step(read, bank, state, reset=reset)
        state = jnp.where(inside[:, None, None], after, state)
        return state, jnp.where((seen & inside)[:, None], y, 0)

    inputs = (jnp.moveaxis(x, 1, 0), reset.T, mask.T, inside.T)
    state, y = jax.lax.scan(one, state, inputs)
    return jnp.moveaxis(y, 0, 1), state


def evaluation(name: str, **options):
    """One of the four as a function (x, bank, state)."""
    if name == "step":
        return functools.partial(steps, **options)
    if name == "chunked":
        options.setdefault("chunk_size", CHUNK)
    if name == "convolve" and "segments" in options:
        options["num_segments"] = SEGMENTS
    return functools.partial(getattr(recurrence, name), **options)


def value_and_gradients(name, options, x, bank, state, y_weights, state_weights):
    """y, the state after, and the gradients of a weighted sum of both: the values of PARTS."""

    def loss(x, bank, state):
        y, after = evaluation(name, **options)(x, bank, state)
        total = jnp.sum(y * y_weights) + jnp.sum(jnp.real(after * state_weights))
        return total, (y, after)

    gradients, values = jax.grad(loss, (0, 1, 2), has_aux=True)(x, bank, state)
    by_x, by_bank, by_state = gradients
    return *values, by_x, by_state, *by_bank


@jax.jit
def everything(x, bank, state, y_weights, state_weights, options):
    """PARTS of each evaluation."""

    def run(name):
        return dict(
            zip(
                PARTS,
                value_and_gradients(name, options, x, bank, state, y_weights, state_weights),
                strict=True,
            )
        )

    return {name: run(name) for name in NAMES}


def twin(x, bank, state, segments=None, mask=None, lengths=None):
    """Float64, one document of one channel at a time: a convolution, summed directly, and what the state leaves."""
    x, state = np.asarray(x, np.float64), np.array(state, np.complex128)
    rows, length, features = x.shape
    segments = np.zeros((rows, length), int) if segments is None else segments
    mask = np.ones((rows, length), bool) if mask is None else mask
    lengths = np.full(rows, length) if lengths is None else lengths
    size = np.exp(-np.exp(np.asarray(bank.log_decay, np.float64)))
    pole = size * np.exp(1j * np.asarray(bank.phase, np.float64))
    gain, y = np.sqrt(1 - size**2), np.zeros(x.shape)
    for row, channel in np.ndindex(rows, features):
        head = channel // (features // len(pole))
        powers = pole[head] ** np.arange(length + 1)[:, None]
        response = np.real(powers[:-1] @ (bank.readout[head] * gain[head]))
        seen = np.where(mask[row], x[row, :, channel], 0)[: lengths[row]]
        for segment in np.unique(segments[row, : lengths[row]]):
            here = np.flatnonzero(segments[row, : lengths[row]] == segment)
            before = state[row, :, channel] if segment == 0 else np.zeros(len(pole[head]))
            count = len(here)
            read = np.convolve(seen[here], response)[:count]
            y[row, here, channel] = read + np.real(
                powers[1 : count + 1] @ (bank.readout[head] * before)
            )
            added = gain[head] * (seen[here] @ powers[count - 1 :: -1])
            after = powers[count] * before + added
        if lengths[row]:
            state[row, :, channel] = after
        y[row, ~mask[row], channel] = 0
    return y, state


def relative_error(actual, expected) -> float:
    """The error's norm over the expected norm; an expected 0 must be met to 1e-6."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 0.1))


def assert_agree(results, tolerance: float) -> None:
    for a, b in itertools.combinations(NAMES, 2):
        for part in PARTS:
            assert relative_error(results[a][part], results[b][part]) < tolerance, (a, b, part)


def assert_equal_to_twin(results, options, tolerance: float, x, bank, state) -> None:
    y, after = twin(x, bank, state, **options)
    for name, evaluated in results.items():
        assert relative_error(evaluated["y"], y) < tolerance, name
        assert relative_error(evaluated["state"], after) < tolerance, name


@pytest.mark.parametrize("name", OPTIONS)
def test_evaluations_agree_with_each_other_and_with_the_twin(name):
    """Values, final states and every gradient; documents are separate sequences to the twin."""
    inputs = make_inputs(LENGTH)
    results = everything(*inputs, options(name))
    assert_agree(results, 1e-5)
    assert_equal_to_twin(results, options(name), 1e-5, *inputs[:3])
    for part in PARTS:
        assert np.all(np.isfinite(results["scan"][part]))
        assert np.linalg.norm(results["scan"][part]) > 0.1, part


def test_without_options():
    inputs = make_inputs(LENGTH)
    results = everything(*inputs, {})
    assert_agree(results, 1e-5)
    assert_equal_to_twin(results, {}, 1e-5, *inputs[:3])


def test_gradients_are_those_of_the_twin():
    """Along a random direction of all arguments at once, by central differences in float64."""
    inputs = make_inputs(LENGTH)
    x, bank, state, y_weights, state_weights = inputs
    rng = np.random.default_rng(9)
    direction = jax.tree.map(
        lambda v: rng.standard_normal(v.shape) + 1j * np.iscomplexobj(v), (x, bank, state)
    )
    direction = jax.tree.map(
        lambda d, v: d if np.iscomplexobj(v) else np.real(d), direction, (x, bank, state)
    )

    def loss(size):
        moved = jax.tree.map(lambda v, d: v + size * d, (x, bank, state), direction)
        y, after = twin(*moved, **options("all"))
        return np.sum(y * y_weights) + np.sum(np.real(after * state_weights))

    expected = (loss(1e-5) - loss(-1e-5)) / 2e-5
    for name, result in everything(*inputs, options("all")).items():
        gradient = result["by x"], [result[part] for part in PARTS[4:]], result["by state"]
        # JAX's gradient g of a real loss: its change along d is Re(g d).
        terms = jax.tree.map(
            lambda g, d: np.sum(np.real(g * d)),
            jax.tree.leaves(gradient),
            jax.tree.leaves(direction),
        )
        assert abs(sum(terms) - expected) < 1e-4 * max(map(abs, terms)), name


@pytest.mark.end_to_end
def test_evaluations_agree_on_8192_steps():
    """Poles that remember 1000 steps and turn at any frequency; chunks of 128."""
    length = 8192
    inputs = (
        normal(0, 1, length, H), make_bank(radius=0.999), complex_normal(1, 1, K, H),
        normal(2, 1, length, H), complex_normal(3, 1, K, H),
    )  # fmt: skip
    results = everything(*inputs, {})
    assert_agree(results, 1e-5)
    assert_equal_to_twin(results, {}, 1e-5, *inputs[:3])


def test_sequences_of_one_step_and_of_one_chunk():
    """The state after each step, and pieces shorter than a chunk, go on where the last ended."""
    x, bank, state, *_ = make_inputs(LENGTH)
    y, after = twin(x, bank, state)

    @jax.jit
    def read(x, state):
        return {name: evaluation(name)(x, bank, state) for name in NAMES[:3]}

    for size in (1, 4):
        states = dict.fromkeys(NAMES[:3], state)
        for start in range(0, LENGTH, size):
            for name, before in states.items():
                piece, states[name] = read(x[:, start : start + size], before)[name]
                assert relative_error(piece, y[:, start : start + size]) < 1e-5, (name, start)
        for name in states:
            assert relative_error(states[name], after) < 1e-5


@pytest.mark.parametrize("with_segments", [False, True])
def test_the_state_goes_over_any_split_from_any_evaluation_to_any_other(with_segments):
    x, bank, state, *weights = make_inputs(LENGTH)
    chosen = options("segments" if with_segments else "none")
    segments = chosen["segments"]
    y, after = twin(x, bank, state, segments)
    for split in (0, 1, 5, 7, 11, 12):
        first_lengths = np.full(B, split, np.int32)
        first = everything(x, bank, state, *weights, chosen | {"lengths": first_lengths})
        offset = segments[:, split - 1 : split] if split else 0
        # What is behind the end is padding: the values there do not count.
        rest = np.roll(x, -split, axis=1)
        numbers = np.pad(segments[:, split:], ((0, 0), (0, split)), "constant", constant_values=9)
        numbers = np.clip(numbers - offset, 0, SEGMENTS - 1).astype(np.int32)
        second_options = chosen | {"segments": numbers, "lengths": LENGTH - first_lengths}
        for name in NAMES:
            second = everything(rest, bank, first[name]["state"], *weights, second_options)
            for other in NAMES:
                joined = np.concatenate(
                    [first[name]["y"][:, :split], second[other]["y"][:, : LENGTH - split]], axis=1
                )
                assert relative_error(joined, y) < 1e-5, (split, name, other)
                assert relative_error(second[other]["state"], after) < 1e-5, (split, name, other)


@pytest.mark.parametrize("name", ["none", "all"])
def test_no_output_depends_on_a_later_input(name):
    """Exactly for all but the FFT, whose rounding leaks; and no gradient flows to a later input."""
    x, bank, state, y_weights, state_weights = make_inputs(LENGTH)
    before = everything(x, bank, state, y_weights, state_weights, options(name))
    for t in (0, 4, 5, 8):
        changed, earlier = x.copy(), y_weights.copy()
        changed[:, t] += 100
        earlier[:, t:] = 0
        after = everything(changed, bank, state, earlier, 0 * state_weights, options(name))
        visible = options(name)["mask"][:, t] & (t < options(name)["lengths"])
        for evaluated in NAMES:
            y, again = (np.asarray(results[evaluated]["y"]) for results in (before, after))
            later = np.asarray(after[evaluated]["by x"])[:, t:]
            limit = 1e-6 if evaluated == "convolve" else 0
            largest = np.abs(again).max()
            assert np.abs(again - y)[:, :t].max(initial=0) <= limit * largest, (evaluated, t)
            assert np.abs(later).max() <= limit * np.abs(earlier).sum(), (evaluated, t)
            assert np.all(np.abs(again - y)[visible, t].max(axis=-1) > 1), (evaluated, t)


def test_hidden_steps_and_padding_are_never_read():
    x, bank, state, *weights = make_inputs(LENGTH)
    chosen = options("all")
    seen = chosen["mask"] & (np.arange(LENGTH) < chosen["lengths"][:, None])
    results = everything(x, bank, state, *weights, chosen)
    for hidden in (np.inf, np.nan):
        again = everything(np.where(seen[..., None], x, hidden), bank, state, *weights, chosen)
        chex.assert_trees_all_equal(again, results)
    for evaluated in results.values():
        assert np.all(np.asarray(evaluated["y"])[~seen] == 0)
        assert np.all(np.asarray(evaluated["by x"])[~seen] == 0)
        # A row of length 0 keeps its state, whatever its segments.
        np.testing.assert_array_equal(evaluated["state"][1], state[1])


@pytest.mark.parametrize("name", ["segments", "lengths"])
def test_channels_first_batch_axes_and_no_state(name):
    """One option alone; rows [2, B]; the state before the first step is zero."""
    x, bank, state, *_ = make_inputs(LENGTH)
    x = np.stack([x, 2 * x])
    chosen = {key: np.stack([documents()[key]] * 2) for key in OPTIONS[name]}

    @jax.jit
    def run(x, chosen):
        both = {}
        for evaluated in NAMES[:3]:
            y, after = evaluation(evaluated, **chosen)(x, bank)
            first = evaluation(evaluated, **chosen, channels_first=True)
            turned, after_turned = first(jnp.moveaxis(x, -1, 0), bank)
            both[evaluated] = y, after, jnp.moveaxis(turned, 0, -1), after_turned
        return both

    y_twin, after_twin = twin(x[0], bank, 0 * state, **{k: v[0] for k, v in chosen.items()})
    for y, after, turned, after_turned in run(x, chosen).values():
        assert after.shape == (2, B, K, D)
        np.testing.assert_array_equal(turned, y)
        np.testing.assert_array_equal(after_turned, after)
        assert relative_error(y, np.stack([y_twin, 2 * y_twin])) < 1e-5
        assert relative_error(after, np.stack([after_twin, 2 * after_twin])) < 1e-5


def test_vmap_over_rows_and_banks():
    x, bank, state, *_ = make_inputs(LENGTH)
    banks = jax.tree.map(lambda v: np.stack([v, 1.1 * v, 0.9 * v]).astype(v.dtype), bank)

    @jax.jit
    def run(x, banks, state):
        return jax.vmap(evaluation("chunked"))(x, banks, state)

    ys, states = run(x, banks, state)
    for row in range(B):
        chosen = ResonatorBank(*(values[row] for values in banks))
        y, after = twin(x[row : row + 1], chosen, state[row : row + 1])
        assert relative_error(ys[row], y[0]) < 1e-5
        assert relative_error(states[row], after[0]) < 1e-5


def test_float64(x64):
    inputs = make_inputs(LENGTH, np.float64)
    chosen = documents()

    @jax.jit
    def run(x, bank, state):
        return {
            name: dict(zip(PARTS, evaluation(name, **chosen)(x, bank, state), strict=False))
            for name in NAMES
        }

    results = run(*inputs[:3])
    assert_equal_to_twin(results, chosen, 1e-12, *inputs[:3])
    for evaluated in results.values():
        assert evaluated["y"].dtype == jnp.float64
        assert evaluated["state"].dtype == jnp.complex128


def test_gradients(x64):
    x, bank, state, *_ = make_inputs(LENGTH, np.float64)
    run = jax.jit(evaluation("chunked"))
    check_grads(run, (x, bank, state), order=1, modes=["rev"], rtol=1e-6, atol=1e-8)


def test_the_widest_of_x_bank_and_state_decides(x64):
    """float32 parameters, or a float32 state, with a float64 sequence: as precise as they allow."""
    x, bank, state, *_ = make_inputs(LENGTH)
    wide = x.astype(np.float64) + 1e-12 * normal(8, *x.shape)

    @jax.jit
    def run(x, bank, state):
        once = recurrence.step(x[:, 0], bank, state)
        assert (once[0].dtype, once[1].dtype) == (jnp.float64, jnp.complex128)
        return [evaluation(name)(x, bank, state) for name in NAMES[:3]]

    expected = twin(wide, bank, state)
    for y, after in run(wide, bank, state):
        assert y.dtype == jnp.float64
        assert after.dtype == jnp.complex128
        assert relative_error(y, expected[0]) < 1e-12
        assert relative_error(after, expected[1]) < 1e-12


def test_a_bank_wider_than_the_sequence_convolves_segments(x64):
    x, bank, *_ = make_inputs(LENGTH)
    segments = np.repeat([[0, 1]], len(x), axis=0).repeat([2, LENGTH - 2], axis=1)
    wide = jax.tree.map(lambda v: v.astype(jnp.promote_types(v.dtype, jnp.float64)), bank)

    @jax.jit
    def run(x, bank):
        return [
            evaluate(x, bank, segments=segments)
            for evaluate in (recurrence.convolve, recurrence.scan)
        ]

    (y, state), (expected, after) = run(x, wide)
    assert (y.dtype, state.dtype) == (x.dtype, jnp.complex128)
    assert relative_error(y, expected) < 1e-5
    assert relative_error(state, after) < 1e-5


def test_bfloat16():
    """x keeps its dtype, states and the bank's gradients are float32; errors are those of rounding to 8 bits."""
    x, bank, state, *weights = make_inputs(LENGTH)
    narrow = jnp.asarray(x, jnp.bfloat16)
    chosen = options("all")
    exact = everything(np.asarray(narrow, np.float32), bank, state, *weights, chosen)

    @jax.jit
    def run(x):
        others = {name: evaluation(name, **chosen)(x, bank, state) for name in ("convolve", "step")}
        return others | {
            "chunked": value_and_gradients("chunked", chosen, x, bank, state, *weights)
        }

    for name, result in run(narrow).items():
        by_name = dict(zip(PARTS, result, strict=False))
        types = {part: values.dtype for part, values in by_name.items()}
        assert types["y"] == types.get("by x", jnp.bfloat16) == jnp.bfloat16
        assert types["state"] == jnp.complex64
        assert types.get("by phase", jnp.float32) == jnp.float32
        for part, values in by_name.items():
            assert relative_error(values, exact[name][part]) < 2**-7, (name, part)


def test_kernel_is_the_response_to_an_impulse():
    bank = make_bank()
    x = np.zeros((1, LENGTH, H), np.float32)
    x[:, 0] = 1
    response = recurrence.kernel(bank, LENGTH)
    y, _ = twin(x, bank, np.zeros((1, K, H)))
    assert relative_error(response, y[0].T) < 1e-6


@pytest.mark.parametrize("log_decay", [-100.0, -40.0, -17.0, 0.0, 5.0, 40.0, 100.0])
def test_extreme_decays_are_stable_and_have_finite_gradients(log_decay):
    bank = ResonatorBank(
        np.full((H, 64), log_decay, np.float32),
        np.linspace(-9, 9, H * 64, dtype=np.float32).reshape(H, 64),
        complex_normal(0, H, 64),
    )
    value, gradient, pole = _kernel_gradient(bank)
    assert np.all(np.abs(np.asarray(pole, np.complex128)) < 1)
    chex.assert_tree_all_finite((value, gradient))
    assert np.all(np.abs(gradient.readout) > 0)
    if log_decay == 0:
        assert np.all(np.abs(gradient.log_decay) > 0)


@jax.jit
def _kernel_gradient(bank):
    def loss(bank):
        return jnp.sum(jnp.cos(jnp.arange(6.0)) * recurrence.kernel(bank, 6))

    value, gradient = jax.value_and_grad(loss)(bank)
    return value, gradient, recurrence.poles(bank)


def test_ring_bank():
    @jax.jit
    def draw(key):
        bank = recurrence.ring_bank(key, 16, 256, min_radius=0.6, max_radius=0.95, max_phase=0.5)
        return recurrence.poles(bank), bank.readout, recurrence.kernel(bank, 256)

    pole, readout, response = draw(jax.random.key(0))
    area = (np.abs(pole) ** 2 - 0.6**2) / (0.95**2 - 0.6**2)
    for uniform in (area, np.angle(pole) / 0.5):  # in [0, 1], with the moments of a uniform number
        assert np.all((uniform > -1e-5) & (uniform < 1 + 1e-5))
        assert abs(uniform.mean() - 1 / 2) < 0.02
        assert abs(uniform.var() - 1 / 12) < 0.01
    assert np.all(np.real(readout) > 0)
    # The variance of what white noise becomes is the sum of the squared response.
    np.testing.assert_allclose(np.sum(np.square(response, dtype=np.float64), axis=1), 1, rtol=1e-3)


def call(function, x=None, **arguments):
    bank = make_bank()
    x = np.ones((B, 5, D), np.float32) if x is None else x
    return function(x, bank, arguments.pop("state", None), **arguments)


ORDER = np.zeros((B, 5), np.int32)
BAD = {
    "state of another batch": ({"state": np.zeros((B + 1, K, D), complex)}, "begin with initial_s"),
    "real state": ({"state": np.zeros((B, K, D), np.float32)}, "state must be complex"),
    "decreasing": ({"segments": ORDER[:, ::-1] - [0, 0, 0, 0, 1] + 1}, "not decrease along time"),
    "decreasing, unsigned": (
        {"segments": np.tile(np.array([1, 0, 1, 1, 1], np.uint8), (B, 1))},
        "not decrease along time",
    ),
    "negative": ({"segments": ORDER - 1}, "must not be negative"),
    "segments of floats": ({"segments": ORDER + 0.5}, "segments must be integers"),
    "too long": ({"lengths": np.array([1, 6, 2])}, r"lengths must lie in 0 .. 5, got 1 .. 6"),
    "negative length": ({"lengths": np.array([1, -1, 2])}, r"lengths must lie in 0 .. 5, got -1"),
    "lengths of a row": ({"lengths": np.array([1, 2])}, "lengths must be integers"),
    "mask of integers": ({"mask": ORDER}, "mask must be boolean"),
    "mask of another length": ({"mask": np.ones((B, 4), bool)}, "mask must be boolean"),
    "heads": ({"x": np.ones((B, 5, 3), np.float32)}, "2 heads of the bank must divide the 3 feat"),
    "empty": ({"x": np.ones((B, 0, D), np.float32)}, r"\[..., t, d\], not empty"),
    "integers": ({"x": np.ones((B, 5, D), int)}, "x must be real floating point"),
    "no features": ({"x": np.ones(5, np.float32)}, "x must be real floating point"),
}


@pytest.mark.error_message
@pytest.mark.parametrize("name", BAD)
def test_errors(name):
    arguments, message = BAD[name]
    for function in (recurrence.convolve, recurrence.scan, recurrence.chunked):
        with pytest.raises(ValueError, match=message):
            call(function, **arguments)


@pytest.mark.error_message
def test_errors_of_one_evaluation():
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        call(recurrence.chunked, chunk_size=0)
    with pytest.raises(ValueError, match="pass num_segments, or use chunked"):
        jax.eval_shape(lambda s: call(recurrence.convolve, segments=s), ORDER)
    with pytest.raises(ValueError, match="num_segments must be above every segment, got 2 for"):
        call(recurrence.convolve, segments=ORDER + 2, num_segments=2)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        recurrence.kernel(make_bank(), 0)


@pytest.mark.error_message
def test_errors_of_step():
    bank, state = make_bank(), np.zeros((B, K, D), np.complex64)
    x = np.ones((B, D), np.float32)
    for bad, message in (
        ((x.astype(int), bank, state), "x must be real floating point"),
        ((x[:, :0], bank, state), "not empty"),
        ((x[:, :3], bank, state), "must divide the 3 features"),
        ((x[:2], bank, state), "begin with initial_state"),
        ((x, bank, state[:, :2]), "k resonators"),
    ):
        with pytest.raises(ValueError, match=message):
            recurrence.step(*bad)
    with pytest.raises(ValueError, match="reset must have shape"):
        recurrence.step(x, bank, state, reset=np.ones(2, bool))


@pytest.mark.error_message
def test_errors_of_banks():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="expected h, k >= 1, got 0 heads of 2"):
        recurrence.ring_bank(key, 0, 2)
    for radii in ((0.0, 0.5), (0.9, 0.8), (0.5, 1.0)):
        with pytest.raises(ValueError, match="min_radius <= max_radius < 1"):
            recurrence.ring_bank(key, 1, 2, min_radius=radii[0], max_radius=radii[1])
    bank = make_bank()
    x = np.ones((1, 5, D), np.float32)
    with pytest.raises(ValueError, match="readout must have shape"):
        recurrence.scan(x, bank._replace(readout=bank.readout[:1]))
    with pytest.raises(ValueError, match=r"must have shape \[h, k\]"):
        recurrence.scan(x, ResonatorBank(*(values[0] for values in bank)))
