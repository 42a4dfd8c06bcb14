"""The error messages of ops/resonance.py."""

import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops.resonance import resonate, resonate_at

pytestmark = pytest.mark.error_message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.ones(4, np.float32)}, r"x must have shape \[..., t, d\] .* got shape \(4,\)"),
        ({"x": np.ones((4, 2), int)}, r"x must be real floating point, got int\d+; cast"),
        ({"x": np.ones((0, 2), np.float32)}, r"x is empty along time .* \(0, 2\)"),
        ({"fft_length": 3}, "fft_length must be at least the sequence length 4, got 3"),
        ({"bins": np.array([0.0, 1.0])}, "bins must be integers .* got float64"),
        ({"bins": np.array([[0, 1]])}, r"bins must be integers \[k\], got int64 of shape \(1, 2\)"),
        ({"bins": np.arange(4)}, "k = 4 bins were asked for .* has 3 .* or pad further"),
        ({"bins": np.arange(0)}, "k = 0 bins were asked for"),
        ({"bins": np.array([0, 3])}, r"bins must lie in 0 .. 2, got 0 .. 3"),
        ({"bins": np.array([-1, 0])}, r"bins must lie in 0 .. 2, got -1 .. 0"),
        ({"bins": np.array([1, 1])}, r"bins must be distinct, got \[1, 1\]"),
        ({"weights": np.ones((2, 2), np.float32)}, "weights must be complex, got float32"),
        ({"weights": np.ones((3, 2), complex)}, r"weights must have shape \(2, 2\), got \(3, 2\)"),
        ({"interference": np.ones((2, 2))}, "interference must be complex"),
        ({"interference": np.ones((2, 3), complex)}, r"interference must have shape \(2, 2\)"),
        ({"unselected": "keep"}, "unknown unselected='keep'; choose one of drop, pass"),
        ({"method": "dft"}, "unknown method 'dft'; choose one of auto, fft, matrix"),
        ({"method": "matrix", "bins": jnp.arange(2)}, "method='matrix' needs bins known at trace"),
        ({"mask": np.ones(4)}, "mask must be boolean .* got float64"),
        ({"mask": np.ones(5, bool)}, r"mask must have shape \(4,\) for x \(4, 2\), got \(5,\)"),
        ({"mask": np.zeros(4, bool)}, "mask hides every step; drop such"),
    ],
)
def test_errors(changes, message):
    call = {"x": np.ones((4, 2), np.float32), "weights": np.ones((2, 2), complex)}
    call |= {"bins": np.arange(2)} | changes
    with pytest.raises(ValueError, match=message):
        resonate(call.pop("x"), call.pop("weights"), call.pop("bins"), **call)


def test_all_masked_row_is_named():
    mask = np.ones((2, 3, 4), bool)
    mask[1, 2] = False
    x, weights = np.ones((2, 3, 4, 1), np.float32), np.ones((1, 1), complex)
    with pytest.raises(ValueError, match=r"mask hides every step of row \(1, 2\); drop such rows"):
        resonate(x, weights, np.array([0]), mask=mask)


def test_errors_of_resonate_at():
    x, weights = np.ones((4, 2), np.float32), np.ones((2, 2), complex)
    with pytest.raises(ValueError, match=r"frequencies must have shape \[k\]"):
        resonate_at(x, weights, np.array(0.1))
    with pytest.raises(ValueError, match=r"frequencies must be real floating point.*divide bins"):
        resonate_at(x, weights, np.arange(2))
    with pytest.raises(ValueError, match=r"weights must have shape \(3, 2\), got \(2, 2\)"):
        resonate_at(x, weights, np.array([0.1, 0.2, 0.3]))
    with pytest.raises(ValueError, match="unknown unselected='keep'"):
        resonate_at(x, weights, np.array([0.1, 0.2]), unselected="keep")
