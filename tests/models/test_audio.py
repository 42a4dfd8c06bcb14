"""The model of sound: a stream gives what the whole gives, padding nothing, gradients everywhere, mistakes named."""

import zlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.models.audio import AudioConfig, LogMelAudioConfig, ResonanceAudioNet
from resonance_jax.models.convolutional import ConvolutionalAudioConfig, ConvolutionalAudioNet

pytestmark = pytest.mark.usefixtures("quick_compile")
BATCH, LENGTH, PART = 2, 119, 17


def make_config(kind=AudioConfig, **changes):
    options: dict[str, Any] = dict(
        num_classes=3,
        sample_rate=800,
        num_bands=3,
        stride=8,
        reads=2,
        min_frequency=20.0,
        floor=1e-3,
        hidden_dim=4,
        num_layers=1,
        mlp_dim=4,
        num_heads=2,
        num_resonators=2,
        num_frequencies=3,
        dropout=0.0,
    )
    return kind(**(options | changes))


@pytest.fixture(scope="module")
def sound():
    return np.random.default_rng(0).normal(size=(BATCH, LENGTH)).astype(np.float32)


def draw(model, *inputs) -> Any:
    """Variables by which nothing is hidden; a parameter's are the same in every model that has it."""

    def leaf(path, shape):
        rng = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode()))
        return jnp.asarray(0.5 * rng.normal(size=shape.shape), shape.dtype)

    shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
    return jax.tree_util.tree_map_with_path(leaf, shapes)


@pytest.fixture(scope="module")
def usual(sound) -> Any:
    model = ResonanceAudioNet(make_config())
    return jax.jit(model.apply), draw(model, sound)


def test_a_stream_gives_what_the_whole_gives_by_one_program(sound, usual):
    """After every part, the logits of what came so far; parts are no multiple of a frame, and padding is not heard."""
    whole, variables = usual
    model = ResonanceAudioNet(make_config())
    step: Any = jax.jit(partial(model.apply, method="stream_step"))
    state = model.initial_state(BATCH)
    for end in range(PART, LENGTH + 1, PART):
        logits, state = step(variables, sound[:, end - PART : end], state)
        seen = np.arange(LENGTH) < np.full((BATCH, 1), end)
        expected = whole(variables, np.where(seen, sound, np.nan), seen)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert step._cache_size() == 1
    np.testing.assert_allclose(whole(variables, sound[..., None], seen), logits, atol=1e-4)


@pytest.mark.end_to_end
@pytest.mark.parametrize("causal", [True, False])
def test_every_parameter_is_learned(sound, causal):
    model = ResonanceAudioNet(make_config(causal=causal))
    mask = np.arange(LENGTH) < np.array([[LENGTH], [70]])

    def loss(variables):
        logits: Any = model.apply(variables, sound, mask)
        return jnp.sum(jnp.sin(logits))

    gradient = jax.jit(jax.grad(loss))(draw(model, sound))
    silent = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree.leaves_with_path(gradient)
        if not np.any(leaf)
    ]
    assert silent == []


@pytest.mark.end_to_end
@pytest.mark.parametrize("changes", [{"causal": False}, {"reads": 4, "mlp_dim": 0}, {}])
def test_every_option_changes_the_output(sound, usual, changes):
    apply, variables = usual
    kind = AudioConfig if changes else LogMelAudioConfig
    model = ResonanceAudioNet(make_config(kind, **changes))
    changed = jax.jit(model.apply)(draw(model, sound), sound)
    assert np.abs(changed - apply(variables, sound)).max() > 1e-4


@pytest.mark.end_to_end
def test_dropout_and_dtype(sound, usual):
    apply, variables = usual
    model = ResonanceAudioNet(make_config(dropout=0.5), dtype=jnp.bfloat16)
    call = jax.jit(model.apply, static_argnames="deterministic")
    exact = apply(variables, sound)
    np.testing.assert_allclose(call(variables, sound), exact, atol=0.05 * np.abs(exact).max())
    first, second = (
        call(variables, sound, deterministic=False, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 1)
    )
    assert np.abs(first - second).max() > 1e-2


def test_the_convolutional_net_does_not_hear_what_is_padding(sound):
    config = make_config()
    model = ConvolutionalAudioNet(
        ConvolutionalAudioConfig(
            3, config.sample_rate, config.num_bands, 8, 20.0, 1e-3, widths=(3, 4)
        )
    )
    variables = draw(model, sound)
    mask = np.arange(LENGTH) < np.array([[LENGTH], [64]])
    apply = jax.jit(model.apply)
    first, second = (
        apply(variables, np.where(mask, sound, hidden)[..., None], mask) for hidden in (0.0, np.nan)
    )
    np.testing.assert_array_equal(first, second)
    assert first.shape == (BATCH, 3) and np.abs(first - apply(variables, sound)).max() > 1e-4
    longer, its_mask = (np.pad(array, ((0, 0), (0, 512))) for array in (sound, mask))
    np.testing.assert_allclose(apply(variables, longer, its_mask)[1], first[1], rtol=1e-5)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"reads": 3}, "reads = 3 must divide stride = 8"),
        ({"num_heads": 3}, "must divide hidden_dim = 4"),
        ({"min_frequency": 400.0}, r"in \[0, 400\) Hz"),
        ({"dropout": 1.0}, "dropout in"),
        ({"front_end": "mfcc"}, "resonators, log_mel"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_config(**changes)


@pytest.mark.error_message
def test_a_convolutional_net_of_nothing_is_refused():
    with pytest.raises(ValueError, match="widths must be at least 1"):
        ConvolutionalAudioConfig(3, widths=())
    with pytest.raises(ValueError, match="dropout must be in"):
        ConvolutionalAudioConfig(3, dropout=1.0)


@pytest.mark.error_message
def test_what_is_no_sound_of_this_model_is_refused(sound):
    model: Any = ResonanceAudioNet(make_config())

    def call(inputs, **options):
        jax.eval_shape(lambda: model.init(jax.random.key(0), inputs, **options))

    with pytest.raises(
        ValueError, match=r"got 16000 Hz: resample it first, .*\(samples, 16000, 800\)"
    ):
        call(sound, sample_rate=16000)
    with pytest.raises(ValueError, match="mean of several channels"):
        call(np.stack([sound, sound], axis=-1))
    with pytest.raises(ValueError, match="scale integers"):
        call(np.zeros((1, 80), np.int16))
    with pytest.raises(ValueError, match="less than a frame"):
        call(sound[:, :7])
    other: Any = ResonanceAudioNet(make_config(causal=False))
    with pytest.raises(ValueError, match="a stream needs causal=True"):
        other.initial_state(1)
    with pytest.raises(ValueError, match="the state's total must have shape"):
        state = model.initial_state(1)
        jax.eval_shape(lambda: model.apply(draw(model, sound), sound, state, method="stream_step"))
