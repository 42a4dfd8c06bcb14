"""The multimodal model: what is absent takes no part, one sense is fused to itself, gradients everywhere."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.models._multimodal import Blocks, Tokens
from resonance_jax.models.multimodal import MultimodalConfig, MultimodalResonanceNet, roles
from resonance_jax.ops import hologram

pytestmark = pytest.mark.usefixtures("quick_compile")


def make_config(**changes):
    options: dict[str, Any] = dict(
        text_vocab_size=20, text_num_frequent=0, text_reference=6, vision_input_size=(6, 6), vision_stages=(1,),
        patch_size=3, patch_stride=3, vision_frequencies=2, hidden_dim=4, num_layers=1, embedding_dim=6,
        sample_rate=1000, audio_features=3, audio_stride=5, audio_reads=1, audio_reference=6, num_frequencies=2,
        fusion_frequencies=2, mlp_ratio=1, num_classes=2, dropout=0.0,
    )  # fmt: skip
    return MultimodalConfig(**(options | changes))


MODEL = MultimodalResonanceNet(make_config())


@pytest.fixture(scope="module")
def inputs():
    """Rows: all senses; no picture; text alone; no text, and a sound that ends early."""
    rng = np.random.default_rng(0)
    audio_mask, text_mask = np.ones((4, 30), bool), np.ones((4, 6), bool)
    audio_mask[3, 20:] = text_mask[0, 4:] = text_mask[3] = False
    return {
        "vision": rng.normal(size=(4, 6, 6, 3)).astype(np.float32),
        "audio": rng.normal(size=(4, 30)).astype(np.float32),
        "text": rng.integers(0, 20, (4, 6)).astype(np.int32),
        "audio_mask": audio_mask,
        "text_mask": text_mask,
        "present": {
            "vision": np.array([True, False, False, True]),
            "audio": np.array([True, True, False, True]),
        },
    }


@pytest.fixture(scope="module")
def variables(inputs):
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), inputs)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: jnp.asarray(0.5 * rng.normal(size=s.shape), s.dtype), shapes)


@pytest.fixture(scope="module")
def run():
    """Outputs and a gradient in one program."""

    def loss(variables, inputs):
        outputs = MODEL.apply(variables, inputs)
        return sum(jnp.sum(jnp.sin(3 * leaf)) for leaf in jax.tree.leaves(outputs)), outputs

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


@pytest.fixture(scope="module")
def usual(run, variables, inputs):
    (_, outputs), gradient = run(variables, inputs)
    return jax.device_get(outputs), gradient


@pytest.mark.end_to_end
def test_every_parameter_is_learned(usual):
    for path, leaf in jax.tree.leaves_with_path(usual[1]):
        assert np.any(leaf) and np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)


@pytest.mark.end_to_end
def test_vectors_are_of_norm_one_or_absent(usual):
    outputs = usual[0]
    assert set(outputs.embeddings) == {
        "vision", "audio", "text", "audio+text", "audio+vision", "text+vision",
    }  # fmt: skip
    there = {"vision": [1, 0, 0, 1], "audio": [1, 1, 0, 1], "text": [1, 1, 1, 0]}
    there |= {"audio+text": [1] * 4, "audio+vision": [1, 1, 0, 1], "text+vision": [1] * 4}
    for name, vectors in outputs.embeddings.items():
        np.testing.assert_array_equal(outputs.present[name], np.array(there[name], bool))
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), there[name], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(outputs.fused, axis=1), 1, atol=1e-5)
    assert outputs.logits is not None and outputs.logits.shape == (4, 2)


@pytest.mark.end_to_end
def test_what_an_absent_sense_holds_changes_nothing(run, variables, inputs, usual):
    other = {name: np.array(inputs[name]) for name in ("vision", "audio", "text")}
    present, masks = inputs["present"], inputs["text_mask"]
    other["vision"][~present["vision"]] = np.nan
    other["audio"][~present["audio"]] = np.inf
    other["audio"][~inputs["audio_mask"]] = np.nan
    other["text"][~masks] = 19
    (_, outputs), gradient = run(variables, inputs | other)
    for found, wanted in zip(
        jax.tree.leaves((outputs, gradient)), jax.tree.leaves(usual), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.end_to_end
def test_one_sense_alone_is_fused_to_itself_and_others_matter(usual):
    outputs = usual[0]
    alone = outputs.embeddings["text"][2]
    np.testing.assert_allclose(outputs.fused[2], alone, atol=1e-6)
    np.testing.assert_allclose(outputs.embeddings["audio+text"][2], alone, atol=1e-6)
    np.testing.assert_allclose(outputs.fused[1], outputs.embeddings["audio+text"][1], atol=1e-6)
    total = sum(outputs.embeddings[name][0] for name in ("vision", "audio", "text"))
    assert np.abs(outputs.fused[0] - total / np.linalg.norm(total)).max() > 1e-3


@pytest.mark.end_to_end
def test_a_sense_that_is_not_given_is_one_that_no_row_has(variables, inputs, usual):
    text = {name: inputs[name][:2] for name in ("text", "text_mask")}
    audio = {"audio": inputs["audio"][:2], "audio_mask": inputs["audio_mask"][:2]}
    outputs = jax.jit(MODEL.apply)(variables, text | audio)
    np.testing.assert_allclose(outputs.fused[1], usual[0].fused[1], atol=1e-5)
    np.testing.assert_allclose(outputs.fused, usual[0].embeddings["audio+text"][:2], atol=1e-5)
    encoded = jax.jit(lambda v, given: MODEL.apply(v, **given, method="encode"))(variables, text)
    np.testing.assert_allclose(encoded, usual[0].embeddings["text"][:2], atol=1e-5)


def test_padding_changes_nothing(random_variables):
    blocks = Blocks(make_config(num_frequencies=4), 8)
    x = np.random.default_rng(2).normal(size=(2, 5, 4)).astype(np.float32)
    mask = np.array([[True] * 5, [True] * 3 + [False] * 2])
    variables = random_variables(blocks, Tokens(x, jnp.asarray(mask)))
    longer = np.pad(x, [(0, 0), (0, 6), (0, 0)])
    masks = np.pad(mask, [(0, 0), (0, 6)])
    apply = jax.jit(blocks.apply)
    wanted = apply(variables, Tokens(x, mask)).values
    found = apply(variables, Tokens(longer, masks)).values
    np.testing.assert_allclose(found[masks], wanted[mask], atol=1e-5)


def test_bound_senses_are_read_back_by_their_roles():
    config = make_config(fusion="binding", embedding_dim=256, num_classes=0)
    model, keys = MultimodalResonanceNet(config), roles(config)
    rng = np.random.default_rng(3)
    vectors = {name: rng.normal(size=(2, 256)) / 16 for name in ("vision", "text")}
    tokens = {name: Tokens(np.zeros((2, 1, 4)), np.ones((2, 1), bool)) for name in vectors}
    given = {"params": {"log_temperature": jnp.zeros(())}}
    fused = np.asarray(model.apply(given, tokens, vectors, {}, method="_fuse"))
    total = np.zeros((2, 256))
    for name, e in vectors.items():
        key = np.asarray(keys[name])
        for i in range(256):
            total[:, i] += sum(key[j] * e[:, (i - j) % 256] for j in range(256))
    total /= np.linalg.norm(total, axis=1, keepdims=True)
    np.testing.assert_allclose(fused, total, atol=1e-5)
    for name, e in vectors.items():
        read = np.asarray(hologram.unbind(fused, keys[name]))
        own = np.sum(read * e, axis=1) / np.linalg.norm(e, axis=1)
        assert np.all(own > 0.5)  # 1 / √2, and what the other sense adds by chance
        wrong = np.asarray(hologram.unbind(fused, keys["audio"]))
        assert np.all(np.abs(np.sum(wrong * e, axis=1)) < 0.3)


def test_all_parameters_are_made_whatever_it_is_initialised_with(inputs):
    text = {"text": inputs["text"]}
    shapes = [
        jax.tree.map(lambda s: s.shape, jax.eval_shape(MODEL.init, jax.random.key(0), given))
        for given in (inputs, text)
    ]
    assert shapes[0] == shapes[1]
    many = MultimodalResonanceNet(make_config(text_num_frequent=5, modalities=("text",)))
    tree = jax.eval_shape(many.init, jax.random.key(0), text)["params"]
    assert tree["encoders_text"]["table"]["embedding"].shape == (5, 4)
    assert not [name for name in tree if "vision" in name or "fusions" in name]


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_dim": 0}, "hidden_dim must be at least 1"),
        ({"num_classes": -1}, "num_classes must not be negative"),
        ({"modalities": ("smell",)}, "unknown modality 'smell'"),
        ({"modalities": ("text", "text")}, "must be different ones"),
        ({"fusion": "attention"}, "resonance, binding, mean"),
        ({"pooling": "sum"}, "mean, max, mean_max"),
        ({"hidden_dim": 5, "vision_stages": (1, 1)}, "multiple of 2 for each stage"),
        ({"text_num_frequent": 20}, "text_num_frequent must be below"),
        ({"temperature": 0.0}, "temperature > 0"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_config(**changes)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give at least one of vision, audio, text"),
        ({"smell": np.zeros((2, 3))}, "unknown input 'smell'"),
        ({"text": np.zeros((2, 3), np.float32)}, r"text must be integer ids \[b, t\]"),
        ({"audio": np.zeros((2, 30, 1), np.float32)}, r"audio must be real \[b, t\]"),
        ({"vision": np.zeros((2, 6, 6, 3), np.uint8)}, r"vision must be real \[b, h, w, c\]"),
        (
            {"text": np.zeros((2, 3), np.int32), "audio": np.zeros((3, 30), np.float32)},
            "the same number of rows",
        ),
        ({"text": np.zeros((2, 3), np.int32), "audio_mask": np.ones((2, 3), bool)}, "'audio' was"),
        ({"text": np.zeros((2, 3), np.int32), "text_mask": np.ones((2, 3))}, "must be boolean"),
        (
            {"text": np.zeros((2, 3), np.int32), "present": {"text": np.ones(3, bool)}},
            r"present\['text'\] must be boolean .* \(2,\)",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: MODEL.init(jax.random.key(0), given))


@pytest.mark.error_message
def test_one_sense_is_encoded_and_one_form_of_inputs_taken():
    text, audio = np.zeros((2, 3), np.int32), np.zeros((2, 30), np.float32)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="encode takes one sense, got audio, text"):
        jax.eval_shape(lambda: MODEL.init(key, text=text, audio=audio, method="encode"))
    with pytest.raises(ValueError, match="in a dict or none"):
        jax.eval_shape(lambda: MODEL.init(key, {"text": text}, audio=audio))
    deaf = MultimodalResonanceNet(make_config(modalities=("text",)))
    with pytest.raises(ValueError, match="no encoder for 'audio'"):
        jax.eval_shape(lambda: deaf.init(key, audio=audio))
