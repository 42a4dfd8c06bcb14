"""Values of claims/gradients.py."""

import numpy as np
import pytest

from resonance_jax.claims.gradients import filter_gradients


def test_differences_and_the_library_agree_and_every_part_differs():
    gradients = filter_gradients(0, 12, 3)
    assert gradients.weights.shape == (3, 2)
    np.testing.assert_allclose(gradients.polar_magnitude, gradients.by_magnitude, rtol=1e-6)
    np.testing.assert_allclose(gradients.polar_phase, gradients.by_phase, rtol=1e-6)
    # |g|² = (∂L/∂r)² + (∂L/∂φ)²/r²
    r = np.abs(gradients.weights)
    size = np.sqrt(gradients.by_magnitude**2 + (gradients.by_phase / r) ** 2)
    np.testing.assert_allclose(np.abs(gradients.complex_gradient), size, rtol=1e-6)
    assert np.all(np.abs(gradients.by_magnitude - gradients.by_phase) > 1e-4)


@pytest.mark.error_message
def test_too_many_frequencies():
    with pytest.raises(ValueError, match="length 12 has 5 bins inside, got k = 6"):
        filter_gradients(0, 12, 6)
