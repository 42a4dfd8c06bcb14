"""Parts of one sequence along an axis of devices give what the whole gives; vmap's named axis stands for them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops.distributed_fft import distributed_irfft, distributed_rfft
from resonance_jax.ops.fourier import project, synthesize
from resonance_jax.ops.recurrence import chunked, initial_state, ring_bank
from resonance_jax.ops.resonance import resonate, resonate_at

pytestmark = pytest.mark.usefixtures("quick_compile")

PARTS, LENGTH, FEATURES = 3, 40, 4
AXIS = "parts"
rng = np.random.default_rng(0)
X = rng.normal(size=(2, PARTS * LENGTH, FEATURES)).astype(np.float32)
WEIGHTS = (rng.normal(size=(5, FEATURES)) + 1j * rng.normal(size=(5, FEATURES))).astype(
    np.complex64
)
MIXING = 0.3 * (rng.normal(size=(5, 5)) + 1j * rng.normal(size=(5, 5))).astype(np.complex64)
MASK = rng.random((2, PARTS * LENGTH)) < 0.8
FREQUENCIES = {
    "low": np.arange(5) / (PARTS * LENGTH),
    "spread": np.array([0.0, 0.11, 0.237, 0.4, 0.5]),
}


def cut(x):
    """[b, n, …] → [parts, b, n / parts, …]."""
    return jnp.moveaxis(jnp.reshape(x, (x.shape[0], PARTS, LENGTH, *x.shape[2:])), 1, 0)


def joined(parts):
    return jnp.moveaxis(parts, 0, 1).reshape(parts.shape[1], PARTS * LENGTH, *parts.shape[3:])


def in_parts(function, *shared):
    """function(part, …) of every part, each with a name for the axis of parts."""
    return jax.jit(jax.vmap(function, in_axes=(0, *shared), axis_name=AXIS))


def assert_close(found, wanted, tolerance=1e-5):
    scale = np.max(np.abs(wanted))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("static", [True, False], ids=["static", "traced"])
@pytest.mark.parametrize("name", FREQUENCIES)
def test_projection_and_synthesis(name, static):
    f = FREQUENCIES[name] if static else jnp.asarray(FREQUENCIES[name], jnp.float32)
    spectrum = in_parts(lambda x: project(x, f, axis_name=AXIS))(cut(X))
    for part in spectrum:
        assert_close(part, project(X, FREQUENCIES[name]))
    made = in_parts(lambda s: synthesize(s, f, LENGTH, axis_name=AXIS))(spectrum)
    assert_close(joined(made), synthesize(spectrum[0], FREQUENCIES[name], PARTS * LENGTH))


@pytest.mark.parametrize("off_grid", [False, True], ids=["bins", "frequencies"])
def test_resonance_and_its_gradients(off_grid):
    def filtered(x, mask, weights, axis_name=None):
        options: Any = dict(mask=mask, interference=MIXING, unselected="pass", axis_name=axis_name)
        if off_grid:
            return resonate_at(x, weights, FREQUENCIES["spread"], **options)
        return resonate(x, weights, np.arange(0, 50, 10), **options)

    def whole(x, weights):
        return filtered(x, MASK, weights)

    def parts(x, weights):
        mapped = in_parts(lambda x, m, w: filtered(x, m, w, AXIS), 0, None)
        return joined(mapped(cut(x), cut(MASK), weights))

    found, to_args = jax.vjp(jax.jit(parts), X, WEIGHTS)
    wanted, to_wanted = jax.vjp(jax.jit(whole), X, WEIGHTS)
    assert_close(found, wanted)
    cotangent = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    for gradient, expected in zip(to_args(cotangent), to_wanted(cotangent), strict=True):
        assert_close(gradient, expected)


@pytest.mark.end_to_end
def test_causal_resonance_and_its_gradients():
    bank = ring_bank(jax.random.key(0), 2, 3, max_radius=0.999)
    state = initial_state(bank, (2,), FEATURES) + (1 + 2j)

    def parts(x, bank, state):
        def one(x, mask, bank, state):
            return chunked(x, bank, state, mask=mask, chunk_size=16, axis_name=AXIS)

        y, after = in_parts(one, 0, None, None)(cut(x), cut(MASK), bank, state)
        return joined(y), after

    def whole(x, bank, state):
        states = [
            chunked(x[:, : (part + 1) * LENGTH], bank, state, mask=MASK[:, : (part + 1) * LENGTH])[
                1
            ]
            for part in range(PARTS)
        ]
        return chunked(x, bank, state, mask=MASK)[0], jnp.stack(states)

    found, to_args = jax.vjp(jax.jit(parts), X, bank, state)
    wanted, to_wanted = jax.vjp(jax.jit(whole), X, bank, state)
    jax.tree.map(assert_close, found, wanted)
    draw = np.random.default_rng(1)
    cotangent = jax.tree.map(
        lambda leaf: jnp.asarray(draw.normal(size=leaf.shape), leaf.dtype), wanted
    )
    jax.tree.map(lambda a, b: assert_close(a, b, 3e-5), to_args(cotangent), to_wanted(cotangent))


def test_parts_of_one_chunk_read_none_after_them():
    bank = ring_bank(jax.random.key(0), 2, 3)
    one = in_parts(lambda x: chunked(x, bank, axis_name=AXIS)[0])
    assert_close(joined(one(cut(X))), chunked(X, bank)[0])
    changed = X.copy()
    changed[:, 2 * LENGTH :] += 1
    before, after = one(cut(X)), one(cut(changed))
    np.testing.assert_array_equal(before[:2], after[:2])
    assert np.all(np.any(before[2] != after[2], axis=(0, 1)))


def test_the_whole_transform_and_back():
    x = rng.normal(size=(2, PARTS * LENGTH, 6)).astype(np.float32)
    spectra = in_parts(lambda x: distributed_rfft(x, AXIS))(cut(x))
    assert_close(np.concatenate([*spectra], axis=-1), np.fft.rfft(x, axis=1))
    back = in_parts(lambda s: distributed_irfft(s, PARTS * LENGTH, AXIS))(spectra)
    assert_close(joined(back), x)


@pytest.mark.error_message
def test_errors():
    bank = ring_bank(jax.random.key(0), 2, 3)
    mapped = in_parts(lambda x: chunked(x, bank, lengths=jnp.array([1, 2]), axis_name=AXIS))
    with pytest.raises(ValueError, match="neither segments nor lengths"):
        mapped(cut(X))
    with pytest.raises(ValueError, match="takes the matrix form"):
        in_parts(lambda x: resonate(x, WEIGHTS, np.arange(5), method="fft", axis_name=AXIS))(cut(X))
    with pytest.raises(ValueError, match="at least the sequence length 120"):
        in_parts(lambda x: resonate(x, WEIGHTS, np.arange(5), fft_length=100, axis_name=AXIS))(
            cut(X)
        )
    with pytest.raises(ValueError, match="must divide the features"):
        in_parts(lambda x: distributed_rfft(x, AXIS))(cut(X))
    spectra = jnp.ones((PARTS, 2, 61, 2), jnp.complex64)
    with pytest.raises(ValueError, match="for length 121"):
        in_parts(lambda s: distributed_irfft(s[:, 1:], 121, AXIS))(spectra)
    with pytest.raises(ValueError, match="must divide the length, got 121"):
        in_parts(lambda s: distributed_irfft(s, 121, AXIS))(spectra)
