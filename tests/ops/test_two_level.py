"""Sums at frequencies on a common grid as two products, against direct sums and the FFT."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops._chunks import TRAFFIC
from resonance_jax.ops._two_level import TwoLevel, cheapest_tables, work_in_columns
from resonance_jax.ops.fourier import project, select_bins, synthesize
from resonance_jax.ops.resonance import resonate

RNG = np.random.default_rng(0)
# Frequencies and a length: both even and odd numbers of samples beside the grid, which it may not divide.
GRIDS = {
    "every bin": (np.arange(129) / 256, 256),
    "drawn bins": (RNG.choice(257, 90, replace=False) / 512, 512),
    "negative ones": (-RNG.choice(251, 90, replace=False) / 500, 500),
    "above one": (1 + RNG.choice(129, 110, replace=False) / 256, 256),
    "zero-padded": (RNG.choice(257, 200, replace=False) / 512, 389),
    "a coarser grid": (np.arange(31) / 60, 1000),
}


@pytest.mark.parametrize(
    "dtype, features, tolerance", [(np.float32, 70, 1e-6), (np.float64, 3, 1e-12)]
)
@pytest.mark.parametrize("name", GRIDS)
def test_two_products_are_the_direct_sums(name, dtype, features, tolerance, error_of_sums):
    f, length = GRIDS[name]
    assert isinstance(cheapest_tables(f, length, None, dtype), TwoLevel)
    x = np.random.default_rng(1).standard_normal((2, length, features)).astype(dtype)
    assert error_of_sums(f, x) < tolerance


@pytest.mark.parametrize(
    "unselected, fft_length, mixed",
    [("drop", 256, True), ("pass", 256, False), ("pass", 320, True)],
)
def test_resonance_and_its_gradients_are_those_of_the_fft(x64, unselected, fft_length, mixed):
    rng = np.random.default_rng(0)
    bins = np.sort(rng.choice(fft_length // 2 + 1, 120, replace=False))
    bins[[0, -1]] = 0, fft_length // 2
    assert isinstance(cheapest_tables(bins / fft_length, 256, None, float), TwoLevel)
    x = rng.standard_normal((2, 256, 3))
    weights = rng.standard_normal((120, 3)) + 1j * rng.standard_normal((120, 3))
    interference = (rng.standard_normal((120, 120)) + 1j) / 120 if mixed else None
    mask = rng.random((2, 256)) < 0.9
    given = (x, weights) if interference is None else (x, weights, interference)

    def value_and_gradients(method):
        def loss(x, weights, interference=None):
            y = resonate(
                x,
                weights,
                bins,
                interference=interference,
                unselected=unselected,
                fft_length=fft_length,
                mask=mask,
                method=method,
            )
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.grad(loss, tuple(range(len(given))), has_aux=True))(*given)

    for found, expected in zip(
        *(jax.tree.leaves(value_and_gradients(m)) for m in ("matrix", "fft")), strict=True
    ):
        assert np.linalg.norm(found - expected) < 1e-12 * np.linalg.norm(expected)


def test_several_devices_compute_the_same(monkeypatch):
    f, length = GRIDS["drawn bins"]
    x = np.random.default_rng(1).standard_normal((2, length, 3)).astype(np.float32)

    def there_and_back(x):
        return synthesize(project(x, f), f, length)

    one = there_and_back(x)
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    np.testing.assert_allclose(there_and_back(x), one, atol=1e-5 * np.abs(one).max())


def test_tangents_and_vmap():
    f = GRIDS["every bin"][0]
    x = np.random.default_rng(0).standard_normal((2, 256, 3)).astype(np.float32)
    one = jax.jit(jax.vmap(lambda x: synthesize(project(x, f), f, 256)))(x)
    value, tangent = jax.jit(
        lambda x: jax.jvp(lambda x: synthesize(project(x, f), f, 256), (x,), (2 * x,))
    )(x)
    np.testing.assert_allclose(one, value, atol=1e-3)
    np.testing.assert_allclose(tangent, 2 * value, atol=1e-3)


@pytest.mark.parametrize("length, k", [(1024, 96), (1024, 513), (4096, 256), (16384, 256)])
def test_the_cost_is_what_is_multiplied_and_what_lies_between(length, k):
    """2 operations a column, sample and feature, each way; the weights and the mixing of slots are what is left."""
    bins = select_bins(length // 2 + 1, k, "uniform")
    tables = cheapest_tables(bins / length, length, None, np.float32)
    assert isinstance(tables, TwoLevel)
    columns = (tables.inner.size * tables.size + tables.outer.size) / length
    between = tables.inner.shape[0] * tables.size / length  # times x
    cost = work_in_columns(bins / length, length, np.float32)
    apart = 110 if tables.size >= 256 else TRAFFIC
    assert cost == pytest.approx(columns + apart * between, rel=1e-6) and cost < 2 * k
    assert (tables.size >= 256) == (length == 16384)
    x, weights = jnp.zeros((length, 8)), jnp.ones((k, 8), complex)
    lowered = jax.jit(lambda x, w: resonate(x, w, bins, method="matrix")).lower(x, weights)
    counted = lowered.cost_analysis()
    assert counted is not None
    assert counted["flops"] == pytest.approx(2 * 2 * columns * x.size, rel=0.1)


@pytest.mark.parametrize(
    "f",
    [np.sqrt(np.arange(2, 40)) / 20, np.arange(1, 40) / 4194301, jnp.arange(40) / 80],
    ids=["none", "too fine", "traced"],
)
def test_without_a_grid_there_is_one_product(f):
    assert not isinstance(cheapest_tables(f, 512, None, np.float32), TwoLevel)
    assert not isinstance(cheapest_tables(GRIDS["every bin"][0], 256, 64, np.float32), TwoLevel)
