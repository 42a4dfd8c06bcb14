"""Values of claims/mutual_information.py against closed forms."""

import sys

import numpy as np
import pytest

from resonance_jax.claims.mutual_information import (
    neighbor_mutual_information,
    polar_mutual_information,
)
from resonance_jax.data.installed import installed_file

needs_scikit_learn = pytest.mark.skipif(
    installed_file("scikit-learn", "sklearn/__init__.py") is None,
    reason="needs the estimators: pip install scikit-learn",
)
SAMPLES = 3000


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@needs_scikit_learn
def test_bivariate_gaussian():
    """I = −½ log(1 − ρ²), for each column by itself and in any unit."""
    rho = np.array([0.0, 0.5, -0.9])
    target, noise = normal(0, SAMPLES), normal(1, SAMPLES, 3)
    values = rho * target[:, None] + np.sqrt(1 - rho**2) * noise
    expected = -0.5 * np.log(1 - rho**2)
    actual = neighbor_mutual_information(values, target)
    np.testing.assert_allclose(actual, expected, atol=0.06)
    scaled = neighbor_mutual_information(1000 * values.astype(np.float32), target)
    np.testing.assert_allclose(scaled, expected, atol=0.06)
    more = neighbor_mutual_information(values, target, num_neighbors=30)
    assert np.all(more != actual)
    np.testing.assert_allclose(more, expected, atol=0.06)


@needs_scikit_learn
def test_labels():
    """Labels in separate places give all their entropy; labels drawn apart give nothing."""
    labels = np.arange(SAMPLES) % 4
    values = np.stack([labels + 0.01 * normal(2, SAMPLES), normal(3, SAMPLES)], axis=1)
    actual = neighbor_mutual_information(values, labels)
    np.testing.assert_allclose(actual, [np.log(4), 0], atol=0.03)
    halves = neighbor_mutual_information(values, labels >= 2)
    np.testing.assert_allclose(halves, [np.log(2), 0], atol=0.03)


@needs_scikit_learn
def test_magnitude_and_phase_are_told_apart():
    """A label in the magnitude, in the phase (half a circle each: log 2), in both, in none."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, SAMPLES)
    loud = np.where(labels, 3.0, 1.0) + 0.1 * rng.random(SAMPLES)
    half = np.pi * (labels + rng.random(SAMPLES))
    any_magnitude, any_phase = rng.random(SAMPLES), 2 * np.pi * rng.random(SAMPLES)
    pairs = [(loud, any_phase), (any_magnitude, half), (loud, half), (any_magnitude, any_phase)]
    spectrum = np.stack([r * np.exp(1j * phi) for r, phi in pairs], axis=1)
    information = polar_mutual_information(spectrum, labels)
    np.testing.assert_allclose(information.magnitude, np.log(2) * np.array([1, 0, 1, 0]), atol=0.03)
    np.testing.assert_allclose(information.phase, np.log(2) * np.array([0, 1, 1, 0]), atol=0.03)
    turned = polar_mutual_information(spectrum * np.exp(2j), labels)
    np.testing.assert_allclose(turned.phase, information.phase, atol=0.02)  # wherever the cut


@pytest.mark.error_message
def test_errors(monkeypatch):
    values, labels = normal(5, 8, 2), np.arange(8) % 2
    with pytest.raises(ValueError, match=r"got \[8\] and \[8\]; add an axis"):
        neighbor_mutual_information(values[:, 0], labels)
    with pytest.raises(ValueError, match=r"got \[8, 2\] and \[7\]"):
        neighbor_mutual_information(values, labels[:7])
    with pytest.raises(ValueError, match="got complex128 and int64; split complex values"):
        neighbor_mutual_information(values + 1j, labels)
    with pytest.raises(ValueError, match="values must be finite"):
        neighbor_mutual_information(np.full((8, 2), np.nan), labels)
    with pytest.raises(ValueError, match="target must be finite"):
        neighbor_mutual_information(values, np.full(8, np.inf))
    with pytest.raises(ValueError, match="fewer than the 8 samples, got 8"):
        neighbor_mutual_information(values, labels, num_neighbors=8)
    with pytest.raises(ValueError, match="spectrum must be complex, got float64"):
        polar_mutual_information(values, labels)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match="pip install scikit-learn"):
        neighbor_mutual_information(values, labels)
