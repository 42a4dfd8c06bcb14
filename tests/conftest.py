"""Settings that every test shares; resonance_jax is not imported, so that jaxtyping can hook it."""

import contextlib
import dataclasses
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


def pytest_addoption(parser):
    """Adds --first-case."""
    parser.addoption("--first-case", action="store_true", help="of each test the first case alone")


def pytest_collection_modifyitems(config, items):
    """Leaves out the other cases."""
    if not config.getoption("--first-case"):
        return
    cases = {}
    for item in items:
        cases.setdefault(item.nodeid.partition("[")[0], item)
    kept = set(cases.values())
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


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


@pytest.fixture
def one_layer(monkeypatch):
    """Returns a function that makes an experiment's `make_config` give networks of one layer: half to compile."""

    def shorten(experiment):
        make_config = experiment.make_config

        def make(*arguments):
            config = make_config(*arguments)
            model = dataclasses.replace(config.model, num_layers=1)
            return dataclasses.replace(config, model=model)

        monkeypatch.setattr(experiment, "make_config", make)

    return shorten


@pytest.fixture(scope="session")
def compiling_quickly():
    """Returns a context that compiles without optimization, in half the time, here and in child processes."""

    @contextlib.contextmanager
    def context():
        before = jax.config.read("jax_disable_most_optimizations")
        jax.config.update("jax_disable_most_optimizations", True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
            try:
                yield
            finally:
                jax.config.update("jax_disable_most_optimizations", before)

    return context


@pytest.fixture(scope="module")
def quick_compile(compiling_quickly):
    """`compiling_quickly` for a module: one that trains whole models a few steps."""
    with compiling_quickly():
        yield
