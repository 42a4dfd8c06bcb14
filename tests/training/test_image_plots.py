"""Pictures of models of images: the spectrum of a layer, the answer to a point, and what was mistaken."""

import jax
import numpy as np

from resonance_jax.data.split import Split
from resonance_jax.models.vision import ResonanceVisionNet, VisionConfig
from resonance_jax.training import image_plots
from resonance_jax.training.evaluation import MISTAKES, evaluate
from resonance_jax.training.image_plots import ImageSpectrum
from resonance_jax.training.report import collect_spectra, write_inspection


def test_the_response_to_a_point_is_the_real_inverse_transform():
    rng = np.random.default_rng(0)
    rows, columns = np.arange(-2, 3), np.arange(3)
    magnitude = rng.uniform(0.5, 2, size=(5, 3, 2))
    phase = rng.uniform(-3, 3, size=(5, 3, 2))
    found = image_plots.point_response(
        ImageSpectrum("layer", rows / 10, columns / 10, magnitude, phase)
    )
    full = np.zeros((20, 20, 2), complex)  # two periods of the slowest wave
    full[np.ix_(2 * rows, 2 * columns)] = magnitude * np.exp(1j * phase)
    full[:, 1:] *= 2
    expected = np.fft.ifft2(full, axes=(0, 1), norm="forward").real / (5 * 5)
    np.testing.assert_allclose(found, np.fft.fftshift(expected, axes=(0, 1)), atol=1e-12)


def test_every_layer_of_a_model_is_read_and_drawn(tmp_path, quick_compile):
    config = VisionConfig(3, image_shape=(12, 12), hidden_dim=4, stages=(1, 1), num_frequencies=3)
    model, images = ResonanceVisionNet(config), np.zeros((1, 12, 12, 1), np.float32)

    @jax.jit
    def start(key):
        variables = model.init(key, images)
        return variables["params"], model.apply(variables, images, mutable=["intermediates"])[1]

    params, recorded = start(jax.random.key(0))
    spectra = collect_spectra(params, recorded["intermediates"])
    assert [one.magnitude.shape for one in spectra] == [(5, 3, 4), (3, 2, 8)]
    first = spectra[0]
    assert isinstance(first, ImageSpectrum)
    np.testing.assert_allclose(first.rows, np.arange(-2, 3) / 5)  # 12 pixels are 5 tokens
    np.testing.assert_allclose(first.columns, np.arange(3) / 5)
    page, *pictures = write_inspection(tmp_path / "page.html", spectra, "a model")
    assert len(pictures) == 2 and all(picture.stat().st_size for picture in pictures)
    assert "5 × 3" in page.read_text("utf-8")


def test_the_surest_mistakes_are_kept_and_drawn():
    """Images say which class they are given, and how surely."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 2)).astype(np.float32)
    images = np.tile(scores[:, None, None], (1, 3, 4, 1))
    labels = rng.integers(0, 2, 50).astype(np.int32)

    def apply(variables, inputs, deterministic):
        return inputs.mean(axis=(1, 2))

    found = evaluate(apply, {}, Split(images, labels), 16, 2)
    sure = np.exp(scores).max(axis=1) / np.exp(scores).sum(axis=1)
    wrong = np.flatnonzero(scores.argmax(axis=1) != labels)
    expected = wrong[np.argsort(-sure[wrong])][:MISTAKES]
    assert len(wrong) > MISTAKES == len(found.examples)
    for row, example in zip(expected, found.examples, strict=True):
        assert (example["label"], example["predicted"]) == (labels[row], 1 - labels[row])
        assert abs(example["probability"] - sure[row]) < 1e-3
        assert np.unique(example["image"]).tolist() == [0, 255]
    figure = image_plots.mistakes(found.examples, ["low", "high"])
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == MISTAKES and all("low" in title and "high" in title for title in titles)
