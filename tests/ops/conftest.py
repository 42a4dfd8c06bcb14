"""What tests of several functions share; resonance_jax is imported late, so that jaxtyping can hook it."""

import jax
import numpy as np
import pytest


@pytest.fixture
def error_of_sums():
    """Returns a function: how far `project`, and `synthesize` of what it gives, are from direct sums, relative."""

    def measure(f, x, chunk=None):
        from resonance_jax.ops.fourier import project, synthesize

        length = x.shape[-2]
        waves = np.exp(-2j * np.pi * np.remainder(np.outer(f, np.arange(length)), 1.0))

        @jax.jit
        def there_and_back(x):
            spectrum = project(x, f, chunk=chunk)
            return spectrum, synthesize(spectrum, f, length, chunk=chunk)

        with jax.enable_x64(x.dtype == np.float64):
            spectrum, signal = jax.device_get(there_and_back(x))
        assert spectrum.dtype == np.result_type(x.dtype, np.complex64) and signal.dtype == x.dtype
        pairs = (
            (spectrum, np.einsum("kt,btd->bkd", waves, x)),
            (signal, np.einsum("kt,bkd->btd", waves.conj(), spectrum).real),
        )
        return max(np.linalg.norm(found - y) / np.linalg.norm(y) for found, y in pairs)

    return measure
