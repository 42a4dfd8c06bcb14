"""Values of claims/numbers.py."""

import numpy as np
import pytest

from resonance_jax.claims.numbers import largest, relative_error, smallest


def test_relative_error_is_over_all_entries_real_or_complex():
    expected = np.array([[3.0, 0.0], [0.0, 4.0]])
    assert relative_error(expected, expected) == 0
    np.testing.assert_allclose(
        relative_error(expected + 1j * np.eye(2)[::-1], expected), 2**0.5 / 5
    )
    np.testing.assert_allclose(relative_error(np.zeros((2, 2)), expected), 1)


def test_largest_and_smallest_look_into_lists_and_runs():
    runs = [{"error": [3.0, 1.0]}, {"error": [2.0]}, {"error": 2.5}]
    assert (largest(runs, "error"), smallest(runs, "error")) == (3.0, 1.0)


def test_shapes_that_would_broadcast_are_an_error():
    with pytest.raises(ValueError, match=r"expected shape \(3, 1\), got \(3,\)"):
        relative_error(np.ones(3), np.ones((3, 1)))
