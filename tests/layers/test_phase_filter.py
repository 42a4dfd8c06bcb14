"""The log-phase filter layer against a slow NumPy twin, and an α that is learned or follows the data."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers import phase_filter
from resonance_jax.ops.fractal import alpha_from_dimension, higuchi

# As Any: to a type checker the result of a module's `apply` is a union.
LogPhaseFilter: Any = phase_filter.LogPhaseFilter

pytestmark = pytest.mark.usefixtures("quick_compile")

D = 3


def normal(*shape, seed=0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("length", [1, 2, 7, 12, 97])
@pytest.mark.parametrize("symmetry", ["hermitian", "even"])
def test_filter_equals_the_twin_and_conserves_energy(length, symmetry, twin_filter):
    x = normal(2, length, D, 4)
    y = np.asarray(LogPhaseFilter(0.7, symmetry=symmetry).apply({}, x))
    np.testing.assert_allclose(y, twin_filter(x, 0.7, symmetry), atol=1e-5)
    energy = np.sum(np.square(y, dtype=np.float64), axis=1) / np.sum(
        np.square(x, dtype=np.float64), axis=1
    )
    if symmetry == "even":  # energy moves inside a pair
        energy = np.sum(np.square(y, dtype=np.float64)) / np.sum(np.square(x, dtype=np.float64))
    np.testing.assert_allclose(energy, 1, atol=1e-6)


@pytest.mark.parametrize("options", [
    dict(alpha=0.5), dict(symmetry="even"), dict(unit="cycles"), dict(unit="radians"), dict(amplitude="power_law"),
])  # fmt: skip
def test_every_option_of_the_filter_changes_the_output(options):
    x = normal(1, 16, D, 4)
    assert (
        np.abs(LogPhaseFilter(**options).apply({}, x) - LogPhaseFilter().apply({}, x)).max() > 0.01
    )


@pytest.mark.parametrize("per_feature", [False, True])
def test_a_learned_alpha_is_a_parameter_with_a_gradient(per_feature):
    x, goal = normal(1, 16, D, 4), normal(1, 16, D, 4, seed=1)
    layer = LogPhaseFilter(0.7, "learned", per_feature=per_feature)
    variables = layer.init(jax.random.key(0), x)
    assert variables["params"]["alpha"].shape == ((D,) if per_feature else ())
    np.testing.assert_allclose(
        layer.apply(variables, x), LogPhaseFilter(0.7).apply({}, x), atol=1e-6
    )
    gradient = jax.grad(lambda v: jnp.sum(layer.apply(v, x) * goal))(variables)["params"]["alpha"]
    assert np.all(np.abs(gradient) > 1e-3)
    if per_feature:
        alpha = np.array([0.1, 1.0, 2.0], np.float32)
        y = layer.apply({"params": {"alpha": alpha}}, x)
        for feature in range(D):
            alone = LogPhaseFilter(float(alpha[feature])).apply({}, x)
            np.testing.assert_allclose(y[:, :, feature], alone[:, :, feature], atol=1e-5)


def test_alpha_follows_the_dimension_of_the_data():
    layer = LogPhaseFilter(2.0, "fractal", decay=0.5)
    x = np.cumsum(normal(4, 256, D, 4), axis=1)
    variables = layer.init(jax.random.key(0), x)
    assert "params" not in variables and variables["fractal"]["updates"] == 0
    np.testing.assert_allclose(
        layer.apply(variables, x), LogPhaseFilter(2.0).apply({}, x), atol=1e-5
    )
    step = jax.jit(partial(layer.apply, deterministic=False, mutable=["fractal"]))
    dimension = jax.jit(lambda row: jnp.mean(higuchi(jnp.moveaxis(row, 1, -1)).dimension))
    average, rows = None, [x, x[:, ::-1] ** 2, normal(4, 256, D, 4)]
    for count, row in enumerate(rows):
        found = float(dimension(row))
        rate = 1 - min(0.5, (1 + count) / (10 + count))
        average = found if average is None else average + rate * (found - average)
        y, changed = step(variables, row)
        variables = {**variables, **changed}
        np.testing.assert_allclose(changed["fractal"]["dimension"], average, rtol=1e-5)
        alpha = float(alpha_from_dimension(average, euclidean_dimension=2, base=2.0))
        np.testing.assert_allclose(y, LogPhaseFilter(alpha).apply({}, row), atol=2e-5)
    assert average is not None and 1.3 < average < 1.9
    _, unchanged = layer.apply(variables, x, deterministic=True, mutable=["fractal"])
    assert unchanged["fractal"] == variables["fractal"]
    # Rows with hidden steps, and none that is whole: nothing is learned of the dimension.
    mask = np.ones((4, 256), bool)
    mask[:, -5:] = False
    _, unchanged = step(variables, x, mask)
    assert unchanged["fractal"] == variables["fractal"]


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LogPhaseFilter().apply({}, np.ones((3, 4))), r"shape \[b, t, d, 4\]"),
        (lambda: LogPhaseFilter(np.nan).apply({}, np.ones((1, 3, 2, 4))), "alpha must be finite"),
        (lambda: LogPhaseFilter(alpha_mode="free").apply({}, np.ones((1, 3, 2, 4))), "unknown alpha_mode 'free'"),
        (lambda: LogPhaseFilter(per_feature=True).apply({}, np.ones((1, 3, 2, 4))), "needs alpha_mode='learned'"),
        (lambda: LogPhaseFilter().apply({}, np.ones((1, 3, 2, 4)), np.ones((1, 4), bool)), "mask must have shape"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
