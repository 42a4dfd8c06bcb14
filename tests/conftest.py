"""Settings that every test shares; resonance_jax is not imported, so that jaxtyping can hook it."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before the first import of jax

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile(
    "resonance_jax", deadline=None, derandomize=True, max_examples=50, print_blob=False
)
hypothesis.settings.load_profile("resonance_jax")


@pytest.fixture
def x64():
    """Float64 inside one test; nothing is switched globally."""
    with jax.enable_x64(True):
        yield
