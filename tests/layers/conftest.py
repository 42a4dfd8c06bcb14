"""Slow NumPy twins that several layers are compared with."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def twin_filter():
    """Returns the log-phase filter by its definition: (x [b, t, d, 4], α, symmetry) -> [b, t, d, 4]."""

    def twin(x, alpha, symmetry):
        """Filters along axis 1 by the definition, from signed indices."""
        n = x.shape[1]
        index = np.array([k if k <= (n - 1) // 2 else k - n for k in range(n)])
        with np.errstate(divide="ignore"):
            phase = np.arctan(np.log(np.abs(index)))
        if symmetry == "hermitian":
            phase = np.where((index == 0) | (2 * np.abs(index) == n), 0, np.sign(index) * phase)
            parts = [
                np.fft.ifft(
                    np.exp(1j * alpha * phase)[:, None, None] * np.fft.fft(x, axis=1), axis=1
                )
            ]
            return parts[0].real
        pair = x[..., 0::2] + 1j * x[..., 1::2]
        pair = np.fft.ifft(
            np.exp(1j * alpha * phase)[:, None, None] * np.fft.fft(pair, axis=1), axis=1
        )
        return np.stack([pair.real, pair.imag], axis=-1).reshape(x.shape)

    return twin
