"""Chunked sums with the compressed tables of close frequencies, against direct sums."""

import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops._chunks import TRAFFIC, apply_table, compressed_tables
from resonance_jax.ops._two_level import cheapest_tables, work_in_columns

BANDS = {
    "lowest bins": np.arange(40) / 2000,
    "a band off the grid": 0.3 + np.linspace(0, 0.02, 40) ** 1.1,
    "two bands": np.concatenate([np.arange(20) / 4000, 0.1 * np.pi + np.arange(20) / 4000]),
}


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 1e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize("length, chunk", [(2048, None), (2039, None), (2048, 150)])
@pytest.mark.parametrize("band", BANDS)
def test_close_frequencies_share_a_narrow_table(
    band, length, chunk, dtype, tolerance, error_of_sums
):
    f = BANDS[band]
    tables = cheapest_tables(f, length, chunk, dtype)
    assert isinstance(tables, tuple) and tables[0].shape[1] < 0.75 * 2 * len(f)
    x = np.random.default_rng(0).standard_normal((2, length, 3)).astype(dtype)
    assert error_of_sums(f, x, chunk) < tolerance


def test_spread_and_traced_frequencies_keep_their_own_columns():
    spread = np.sqrt(np.arange(32)) / 12  # on no grid
    assert cheapest_tables(spread, 2048, None, np.float32) is None
    assert work_in_columns(spread, 2048, np.float32) == 64 + 64 * TRAFFIC / 512
    assert compressed_tables(spread, 2048, None, 64.0, np.float32) is None
    assert cheapest_tables(jnp.asarray(spread / 100), 2048, None, np.float32) is None
    assert work_in_columns(spread / 100, 2048, np.float32) < 32


def test_a_compressed_table_is_made_where_it_costs_less_than_asked():
    few = np.arange(32) / 10_000
    columns = work_in_columns(few, 2048, np.float32)
    assert compressed_tables(few, 2048, None, columns, np.float32) is None
    assert compressed_tables(few, 2048, None, columns + 0.1, np.float32) is not None


@pytest.mark.parametrize("features", [2, 5, 9])
def test_a_table_applies_alike_copied_and_shared(features):
    rng = np.random.default_rng(0)
    table = rng.standard_normal((5, 7)).astype(np.float32)
    x = rng.standard_normal((3, 2, 7, features)).astype(np.float32)
    np.testing.assert_allclose(apply_table(table, jnp.asarray(x)), table @ x, atol=1e-5)
