"""Bands lie evenly in mel, and what cannot be a band is refused."""

import numpy as np
import pytest

from resonance_jax.ops import mel

RATE = 8000


def test_bands_lie_evenly_in_mel():
    edges = mel.mel_edges(20, RATE, 100.0, 3500.0)
    assert (edges[0], edges[-1]) == (pytest.approx(100), pytest.approx(3500))
    np.testing.assert_allclose(np.diff(mel.hz_to_mel(edges), 2), 0, atol=1e-9)
    bins = mel.mel_filters(20, 1024, RATE, 100.0, 3500.0).argmax(axis=0) * RATE / 1024
    np.testing.assert_allclose(bins, edges[1:-1], atol=RATE / 1024)


@pytest.mark.error_message
def test_bands_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="min_frequency < max_frequency <= 4000 Hz"):
        mel.mel_edges(4, RATE, 50.0, 4001.0)
    with pytest.raises(ValueError, match="features must be at least 1"):
        mel.mel_edges(0, RATE)
    with pytest.raises(ValueError, match=r"band 0, around .* has no bin"):
        mel.mel_filters(40, 64, RATE)
