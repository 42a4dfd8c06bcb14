"""Dense, norm and convolution on [d, b, t]: each by its formula, documents, padding, gradients and dtypes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.layers import channels_first

# As Any: to a type checker the result of a module's `apply` is a union.
ChannelConvolution: Any = channels_first.ChannelConvolution
ChannelDense: Any = channels_first.ChannelDense
ChannelNorm: Any = channels_first.ChannelNorm
channel_product = channels_first.channel_product

pytestmark = pytest.mark.usefixtures("quick_compile")

D, B, LENGTH, TAPS, OUTPUTS = 4, 3, 12, 4, 5


def normal(*shape, seed=0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def parameter(name, value):
    return {"params": {name: value}}


def test_dense_is_a_product_and_norm_divides_by_the_root_mean_square():
    x, kernel, scale = normal(D, B, LENGTH), normal(OUTPUTS, D, seed=1), normal(D, seed=2)
    x[:, 0, 0] = 0

    @jax.jit
    def run(x, kernel, scale):
        mapped = ChannelDense(OUTPUTS).apply(parameter("kernel", kernel), x)
        return mapped, ChannelNorm().apply(parameter("scale", scale), x)

    mapped, normed = run(x, kernel, scale)
    power = np.mean(x.astype(np.float64) ** 2, axis=0)
    np.testing.assert_allclose(mapped, np.einsum("od,dbt->obt", kernel, x), rtol=1e-5, atol=1e-6)
    expected = scale[:, None, None] * x / np.sqrt(power + 1e-6)
    np.testing.assert_allclose(normed, expected, rtol=1e-5, atol=1e-6)


def twin(kernel, x, recent, segments, lengths):
    """One row, step and tap at a time; padding stays 0."""
    y, after = np.zeros(x.shape), np.array(recent, np.float64)
    for row in range(B):
        history, document = list(after[row]), 0
        for t in range(lengths[row]):
            if segments[row, t] != document:
                history, document = [np.zeros(D)] * len(history), segments[row, t]
            history.append(x[:, row, t])
            y[:, row, t] = sum(kernel[lag] * history[-1 - lag] for lag in range(len(kernel)))
            history = history[1:]
        after[row] = np.reshape(history, after[row].shape)
    return y, after


# A change at once, changes one after the other, and one that forgets what came before.
SEGMENTS = (np.arange(LENGTH) >= np.array([[5, 6, 8], [1, 11, 99], [0, 4, 99]])[..., None]).sum(1)
LENGTHS = np.array([LENGTH, 0, 2])


@pytest.mark.parametrize("taps", [1, TAPS])
def test_convolution_reads_the_last_steps_of_its_document(taps):
    x, kernel, recent = normal(D, B, LENGTH), normal(taps, D, seed=1), normal(B, taps - 1, D)
    everything, one = np.full(B, LENGTH), np.zeros((B, LENGTH), int)
    layer = ChannelConvolution(taps)

    @jax.jit
    def run(x, recent):
        values = parameter("kernel", kernel)
        return (
            (layer.apply(values, x, recent), one, everything),
            (layer.apply(values, x, recent, SEGMENTS), SEGMENTS, everything),
            (layer.apply(values, x, recent, None, LENGTHS), one, LENGTHS),
            (layer.apply(values, x, recent, SEGMENTS, LENGTHS), SEGMENTS, LENGTHS),
        )

    for (y, after), segments, lengths in run(x, recent):
        expected, expected_after = twin(kernel, x, recent, np.asarray(segments), lengths)
        inside = np.arange(LENGTH) < np.asarray(lengths)[:, None]
        np.testing.assert_allclose(np.where(inside, y, 0), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(after, expected_after, rtol=1e-6)


def test_convolution_begins_with_zeros():
    x, values = normal(D, B, LENGTH), parameter("kernel", normal(TAPS, D, seed=1))

    @jax.jit
    def run(x, recent):
        return ChannelConvolution(TAPS).apply(values, x, recent)

    found, expected = run(x, None), run(x, np.zeros((B, TAPS - 1, D), np.float32))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_gradients(x64):
    """The sums over the batch go in two steps: values and gradients of all parameters at once."""
    shapes = (D, B, LENGTH), (OUTPUTS, D), (D,), (TAPS, D), (B, TAPS - 1, D)
    values = [normal(*shape, seed=seed).astype(np.float64) for seed, shape in enumerate(shapes)]

    @jax.jit
    def run(x, kernel, scale, taps, recent):
        x = ChannelNorm().apply(parameter("scale", scale), x)
        x, after = ChannelConvolution(TAPS).apply(
            parameter("kernel", taps), x, recent, SEGMENTS, LENGTHS
        )
        return ChannelDense(OUTPUTS).apply(parameter("kernel", kernel), x), after

    check_grads(run, values, order=1, modes=["rev"], rtol=1e-6, atol=1e-8)


def test_factors_are_narrow_from_64_steps_on_and_sums_wide():
    matrix, x = normal(OUTPUTS, D), normal(D, 2, 32, seed=1)
    narrow = [np.asarray(jnp.asarray(v, jnp.bfloat16), np.float64) for v in (matrix, x)]
    product = jax.jit(channel_product, static_argnums=2)
    many, few = product(matrix, x, jnp.bfloat16), product(matrix, x[:, :1, :31], jnp.bfloat16)
    assert many.dtype == few.dtype == jnp.float32
    np.testing.assert_allclose(many, np.einsum("od,dbt->obt", *narrow), rtol=1e-5, atol=1e-6)
    exact = np.einsum("od,dbt->obt", matrix, x[:, :1, :31])
    np.testing.assert_allclose(few, exact, rtol=1e-5, atol=1e-6)


def test_starts():
    """Dense layers keep the variance, times `scale`; so do the taps together."""
    x = normal(256, 1, 1)

    @jax.jit
    def draw(key):
        layers = ChannelDense(64, scale=0.5), ChannelConvolution(TAPS), ChannelNorm()
        return [layer.init(key, x)["params"] for layer in layers]

    dense, convolution, norm = draw(jax.random.key(0))
    assert abs(np.var(dense["kernel"]) * 256 / 0.5 - 1) < 0.05
    assert abs(np.var(convolution["kernel"]) * TAPS - 1) < 0.1
    assert np.abs(convolution["kernel"]).max() <= np.sqrt(3 / TAPS)
    np.testing.assert_array_equal(norm["scale"], 1)


@pytest.mark.error_message
def test_errors():
    x, values = normal(D, B, LENGTH), parameter("kernel", normal(TAPS, D))
    with pytest.raises(ValueError, match=r"recent must have shape \(3, 3, 4\), got \(2, 3, 4\)"):
        ChannelConvolution(TAPS).apply(values, x, normal(B - 1, TAPS - 1, D))
