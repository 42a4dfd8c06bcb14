"""Settings that every test shares; resonance_jax is not imported, so that jaxtyping can hook it."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before the first import of jax

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
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


@pytest.fixture
def random_variables():
    """Returns a function (module, *inputs) -> variables drawn from N(0, 0.3²), without compiling `init`.

    Initial values hide mistakes: biases are 0, scales 1, filters near the identity.
    """

    def draw(module, *inputs, seed=0):
        rng = np.random.default_rng(seed)
        shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
        return jax.tree.map(lambda s: jnp.asarray(0.3 * rng.normal(size=s.shape), s.dtype), shapes)

    return draw


@pytest.fixture(scope="module")
def quick_compile():
    """Compiles without optimization, in half the time: for modules that train whole models a few steps."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
