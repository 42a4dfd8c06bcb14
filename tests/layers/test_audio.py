"""Front ends for sound: a stream gives what the whole gives, padding changes nothing, every option something."""

from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers.audio import LogMel, ResonatorFilterBank

BASE: dict[str, Any] = dict(features=5, sample_rate=8000, stride=8)
LAYERS: dict[str, Any] = {
    "resonators": ResonatorFilterBank(**BASE, reads=2, order=2, phases=True),
    "log_mel": LogMel(features=2, sample_rate=8000, stride=8, window=20),
}
BATCH, LENGTH = 2, 75


@pytest.fixture(scope="module")
def sound():
    return np.random.default_rng(0).normal(size=(BATCH, LENGTH)).astype(np.float32)


@pytest.fixture(scope="module", params=LAYERS)
def layer(request, sound):
    layer = LAYERS[request.param]
    variables: Any = jax.jit(layer.init)(jax.random.key(0), sound)
    params = {"params": variables.get("params", {})}
    return layer, jax.jit(lambda *args, **options: layer.apply(params, *args, **options))


def read_parts(front, sound, edges, lengths=None):
    """The frames of a sound read in parts, and the last state."""
    layer, apply = front
    state, found = layer.initial_state(BATCH), [[] for _ in range(BATCH)]
    for start, end in pairwise(edges):
        options: dict[str, Any] = {}
        if lengths is not None:
            options["lengths"] = np.clip(lengths - start, 0, end - start)
        part = apply(sound[:, start:end], initial_state=state, **options)
        state = part.state
        for row, values, count in zip(found, part.values, part.lengths, strict=True):
            row.append(values[:count])
    return [np.concatenate(row) for row in found], state


def test_a_stream_gives_what_the_whole_gives(layer, sound):
    """In parts of 1, 1, 5, 34 and 34 samples: less than a frame, and no multiple of one."""
    whole = layer[1](sound)
    found, state = read_parts(layer, sound, (0, 1, 2, 7, 41, 75))
    assert whole.values.shape[1] == LENGTH // 8
    for row, wanted in zip(found, whole.values, strict=True):
        np.testing.assert_allclose(row, wanted, atol=1e-4)
    for part, wanted in zip(state, whole.state, strict=True):
        np.testing.assert_allclose(part, wanted, atol=1e-5)


def test_padding_changes_nothing(layer, sound):
    apply, lengths = layer[1], np.array([75, 45])
    mask = np.arange(LENGTH) < lengths[:, None]
    padded = np.where(mask, sound, np.nan)
    whole = apply(padded, lengths=lengths)
    cut = apply(sound[:, :45])
    np.testing.assert_array_equal(whole.lengths, [9, 5])
    np.testing.assert_allclose(whole.values[1, :5], cut.values[1], atol=1e-5)
    np.testing.assert_array_equal(whole.values[1, 5:], 0)
    np.testing.assert_allclose(whole.state.memory[1], cut.state.memory[1], atol=1e-6)
    masked = apply(padded, mask)
    for found, wanted in zip(jax.tree.leaves(masked), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(found, wanted)
    found, _ = read_parts(layer, padded, (0, 7, 41, 75), lengths)
    np.testing.assert_allclose(found[1], cut.values[1], atol=1e-4)


def test_silence_is_zero_and_gives_finite_gradients(layer, sound):
    silence = np.zeros_like(sound)
    assert not np.any(layer[1](silence).values)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(layer[1](x).values)))(silence)
    assert np.all(np.isfinite(gradient))


def test_every_parameter_is_learned_and_frequencies_are_recorded(sound):
    model = LAYERS["resonators"]
    variables = {"params": jax.jit(model.init)(jax.random.key(0), sound)["params"]}
    loss = jax.jit(jax.grad(lambda v: jnp.sum(jnp.sin(model.apply(v, sound).values))))
    gradient = loss(variables)["params"]
    assert set(gradient) == {"log_decay", "phase"}
    for leaf in gradient.values():
        assert leaf.shape == (5,) and np.all(np.abs(leaf) > 0)
    _, made = jax.jit(partial(model.apply, mutable="intermediates"))(variables, sound)
    (frequencies,) = made["intermediates"]["frequencies"]
    (bandwidths,) = made["intermediates"]["bandwidths"]
    edges = np.array([0, *frequencies])
    assert np.all(np.diff(edges) > 0) and frequencies[-1] < 4000
    np.testing.assert_allclose(bandwidths[1:-1], (edges[3:] - edges[1:-2]) / 2, rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [{"reads": 4}, {"order": 2}, {"min_frequency": 400.0, "max_frequency": 3000.0, "floor": 1e-3}],
)
def test_every_option_changes_the_frames(sound, changes):
    usual, changed = (
        jax.jit(ResonatorFilterBank(**(BASE | more)).init_with_output)(jax.random.key(0), sound)[
            0
        ].values
        for more in ({}, changes)
    )
    assert np.abs(usual - changed).max() > 1e-2


def test_dtypes(sound):
    model = ResonatorFilterBank(**BASE, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    frames, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), sound)
    assert frames.values.dtype == jnp.bfloat16 and frames.state.memory.dtype == jnp.complex64
    assert jax.tree.leaves(variables["params"])[0].dtype == jnp.bfloat16


@pytest.mark.error_message
@pytest.mark.parametrize("kind", [ResonatorFilterBank, LogMel])
def test_what_does_not_fit_is_refused(sound, kind):
    def call(more=None, **options):
        layer: Any = kind(**(BASE | dict(features=2) | (more or {})))
        jax.eval_shape(lambda: layer.init(jax.random.key(0), sound, **options))

    mask = np.ones(sound.shape, bool)
    with pytest.raises(ValueError, match="not both"):
        call(mask=mask, lengths=np.full(BATCH, 75))
    with pytest.raises(ValueError, match="mask must be boolean"):
        call(mask=mask[:, 1:])
    with pytest.raises(ValueError, match="floor must be above 0"):
        call({"floor": 0.0})
    other: Any = kind(**(BASE | dict(features=2, stride=16))).initial_state(BATCH)
    with pytest.raises(ValueError, match="pending samples must have shape"):
        call(initial_state=other)
