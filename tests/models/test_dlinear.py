"""DLinear against its two sums, and what is missing."""

from typing import Any

import jax
import numpy as np
import pytest

from resonance_jax.models.dlinear import DLinear, DLinearConfig


@pytest.mark.parametrize("average", [4, 5])
def test_two_linear_maps(random_variables, average):
    model = DLinear(DLinearConfig(pred_horizon=3, context_length=12, input_dim=2, average=average))
    x = np.random.default_rng(0).normal(size=(2, 12, 2)).astype(np.float32)
    mask = np.random.default_rng(1).random((2, 12)) < 0.8
    variables = random_variables(model, x)
    filled = np.where(mask[..., None], x, 0)
    ahead = (average - 1) // 2
    padded = np.pad(filled, [(0, 0), (ahead, average - 1 - ahead), (0, 0)], mode="edge")
    trend = np.stack([padded[:, i : i + average].mean(axis=1) for i in range(12)], axis=1)
    expected = sum(
        np.einsum("btc,th->bhc", part, variables["params"][name]["kernel"])
        + np.asarray(variables["params"][name]["bias"])[:, None]
        for name, part in (("trend", trend), ("rest", filled - trend))
    )
    found: Any = model.apply(variables, np.where(mask[..., None], x, np.nan), mask)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.error_message
def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="average must be at least 1, got 0"):
        DLinearConfig(average=0)
    model = DLinear(DLinearConfig(context_length=12))
    with pytest.raises(ValueError, match=r"inputs must be \[b, 12, 1\], got shape \(2, 11, 1\)"):
        jax.eval_shape(model.init, jax.random.key(0), np.zeros((2, 11, 1), np.float32))
