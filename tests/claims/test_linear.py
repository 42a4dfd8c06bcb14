"""The linear classifier of the claims."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from resonance_jax.claims.linear import fit_linear, linear_accuracy


def test_fit_is_the_library_s_ridge_regression():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(50, 3)), rng.integers(4, size=50)
    weights = fit_linear(x, labels, ridge=0.1)
    rows = np.hstack([x, np.ones((50, 1))])  # the bias is shrunk too
    expected = Ridge(alpha=0.1 * 50, fit_intercept=False).fit(rows, np.eye(4)[labels]).coef_.T
    np.testing.assert_allclose(weights, expected, atol=1e-12)


def test_accuracy_of_separable_classes():
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    labels = np.array([0, 0, 1, 1])
    weights = fit_linear(x, labels)
    assert linear_accuracy(weights, x, labels) == 1.0
    assert linear_accuracy(weights, x, np.array([0, 1, 1, 0])) == 0.5


def test_a_label_for_each_row():
    with pytest.raises(ValueError, match="expected inputs"):
        fit_linear(np.ones((3, 2)), np.zeros(2, int))
