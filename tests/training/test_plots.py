"""Figures: what is drawn where, checked on the artists of matplotlib."""

import numpy as np
import pytest

from resonance_jax.training import plots

pytestmark = pytest.mark.end_to_end


def spectrum(k=4, d=3, frequencies=None, interference=None):
    rng = np.random.default_rng(0)
    frequencies = np.arange(k) / 16 if frequencies is None else np.asarray(frequencies)
    magnitude, phase = np.exp(rng.normal(size=(k, d))), 6 * rng.normal(size=(k, d))
    return plots.LayerSpectrum("layer", frequencies, magnitude, phase, interference)


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def test_curves_share_a_colour_by_label_and_skip_missing_accuracy():
    x = np.arange(3.0)
    nothing = np.full(3, np.nan)
    curves = [plots.Curve(label, "test", x, x + 1, nothing) for label in ("a", "b", "a")]
    figure = plots.training_curves(curves)
    (loss,) = figure.axes
    assert [line.get_color() for line in loss.lines] == [plots.PALETTE[i] for i in (0, 1, 0)]
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), x + 1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "test"]
    assert loss.get_yscale() == "linear"
    wide = plots.training_curves([plots.Curve("a", "train", x, 10**x, x / 3)])
    assert [axes.get_yscale() for axes in wide.axes] == ["log", "linear"]


def test_groups_without_gradients_are_left_empty():
    ones = np.ones(2)
    norms = {"magnitude": 0 * ones, "phase": 0 * ones, "other": np.array([2.0, 0.0])}
    figure = plots.gradient_traces([plots.GroupTrace("a", ones, norms, dict.fromkeys(norms, ones))])
    drawn = {title: len(axes.lines) for title, axes in panels(figure).items()}
    assert drawn["gradient norm: other"] == drawn["learning rate: other"] == 1
    assert drawn["gradient norm: phase"] == drawn["learning rate: magnitude"] == 0
    np.testing.assert_array_equal(
        panels(figure)["gradient norm: other"].lines[0].get_ydata(), [2.0, np.nan]
    )


@pytest.mark.parametrize("num_classes", [2, 10, 60])
def test_confusion_shade_is_the_share_of_the_row(num_classes):
    counts = np.arange(num_classes**2).reshape(num_classes, num_classes) % 7
    counts[0] = 0  # a class without test examples
    names = [f"a class with a long name {i}" for i in range(num_classes)]
    figure = plots.confusion_matrix(counts, names)
    (axes,) = figure.axes
    share = np.asarray(axes.collections[0].get_array()).reshape(counts.shape)
    np.testing.assert_allclose(share[1:].sum(axis=1), 1)
    assert share[0].tolist() == [0] * num_classes
    shown = num_classes**2 if num_classes <= 5 else np.count_nonzero(counts)
    assert len(axes.texts) == shown
    assert min(float(text.get_fontsize()) for text in axes.texts) > 4
    assert figure.get_figwidth() < 13
    assert plots.png_bytes(figure).startswith(b"\x89PNG")


def test_layer_is_drawn_by_rising_frequency_with_wrapped_phase():
    mixing = np.arange(16.0).reshape(4, 4) * 1j
    one = spectrum(frequencies=[0.3, 0.1, 0.4, 0.2], interference=mixing)
    order = [1, 3, 0, 2]
    axes = panels(plots.layer_spectrum(one))
    np.testing.assert_allclose(
        np.asarray(axes["magnitude"].images[0].get_array()), one.magnitude[order]
    )
    wrapped = np.asarray(axes["phase"].images[0].get_array())
    np.testing.assert_allclose(np.exp(1j * wrapped), np.exp(1j * one.phase[order]), atol=1e-12)
    assert axes["phase"].images[0].get_clim() == (-np.pi, np.pi)
    drawn = np.asarray(axes["|interference|"].images[0].get_array())
    np.testing.assert_allclose(drawn, np.abs(mixing)[np.ix_(order, order)])
    line = axes["magnitude by frequency"].lines[0]
    np.testing.assert_allclose(np.asarray(line.get_xdata()), [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_allclose(np.asarray(line.get_ydata()), one.magnitude[order].mean(axis=1))
    assert "|interference|" not in panels(plots.layer_spectrum(spectrum()))


@pytest.mark.parametrize("frequencies", [[0.0], [0.25], np.geomspace(1 / 512, 0.5, 24)])
def test_unusual_frequencies_render(frequencies):
    figure = plots.layer_spectrum(spectrum(k=len(frequencies), d=1, frequencies=frequencies))
    assert plots.data_uri(figure).startswith("data:image/")


def test_kernel_is_the_inverse_transform():
    one = spectrum()
    lags, kernel = plots.time_kernel(one)
    assert lags.tolist() == list(range(-8, 8))  # one period of the grid j/16
    k, feature, lag = 4, 2, 3
    angles = one.phase[:, feature] + 2 * np.pi * one.frequencies * lag
    expected = (one.magnitude[:, feature] * np.cos(angles)).sum() / k
    np.testing.assert_allclose(kernel[lags == lag, feature], expected)


def test_bin_means():
    values = [1.0, 3.0, np.nan, 5.0, np.inf, np.nan]
    np.testing.assert_array_equal(plots.bin_means(np.array(values), 3), [2.0, 5.0, np.nan])
    # Equal bins but the last, and never more than asked for.
    assert plots.bin_means(np.arange(7.0), 3).tolist() == [1.0, 4.0, 6.0]
    assert plots.bin_means(np.array([1.0]), 5).tolist() == [1.0]
    assert plots.bin_means(np.array([]), 5).size == 0


def test_large_figures_become_png():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, (30, 30))
    figure = plots.confusion_matrix(counts, [str(i) for i in range(30)])
    assert plots.data_uri(figure).startswith("data:image/png;base64,")
    small = plots.confusion_matrix(counts[:2, :2], ["a", "b"])
    assert plots.data_uri(small).startswith("data:image/svg+xml;base64,")
