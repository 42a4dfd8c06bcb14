"""Laws and values of ops/information.py."""

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.ops import information

gaussian_mutual_information = jax.jit(information.gaussian_mutual_information)
spectral_entropy = jax.jit(information.spectral_entropy, static_argnames=("axis", "normalized"))


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def covariance_of(seed: int, size: int) -> np.ndarray:
    factor = normal(seed, size, size + 2)
    return factor @ factor.T / size


def mutual_information_twin(matrix, covariance, noise_variance) -> float:
    """h(x) + h(y) − h(x, y) from the joint covariance, with entropies by log-determinants."""
    cross = covariance @ matrix.T
    output = matrix @ cross + noise_variance * np.eye(len(matrix))
    joint = np.block([[covariance, cross], [cross.T, output]])
    return 0.5 * sum(
        sign * np.linalg.slogdet(block)[1]
        for sign, block in ((1, covariance), (1, output), (-1, joint))
    )


def circulant(power: np.ndarray, n: int) -> np.ndarray:
    """The covariance of a stationary signal whose one-sided power spectrum is given."""
    first = np.fft.irfft(power, n=n)
    return np.array([[first[(i - j) % n] for j in range(n)] for i in range(n)])


def entropy_twin(power: np.ndarray) -> float:
    total = sum(power)
    return -sum(p / total * np.log(p / total) for p in power if p > 0)


@pytest.mark.parametrize("rho", [0.0, 1e-6, 0.5, -0.9, 0.999999])
def test_bivariate_gaussian_in_closed_form(x64, rho):
    """y = ρ x + sqrt(1 − ρ²) e has correlation ρ with x: I = −½ log(1 − ρ²)."""
    actual = gaussian_mutual_information(jnp.array([[rho]]), jnp.eye(1), 1 - rho**2)
    np.testing.assert_allclose(actual, -0.5 * np.log1p(-(rho**2)), rtol=1e-9)


@pytest.mark.parametrize(("outputs", "inputs"), [(1, 4), (3, 3), (5, 2)])
def test_gaussian_mutual_information_matches_the_entropies(x64, outputs, inputs):
    matrix, covariance = normal(0, outputs, inputs), covariance_of(1, inputs)
    expected = mutual_information_twin(matrix, covariance, 0.3)
    np.testing.assert_allclose(gaussian_mutual_information(matrix, covariance, 0.3), expected)
    static = information.gaussian_mutual_information(matrix, covariance, 0.3)
    np.testing.assert_allclose(static, expected, rtol=1e-12)


def test_gaussian_mutual_information_laws(x64):
    """Data processing; chain rule; the same in every orthogonal basis and every unit."""
    matrix, covariance = normal(2, 4, 3), covariance_of(3, 3)
    whole = gaussian_mutual_information(matrix, covariance, 0.5)
    kept = gaussian_mutual_information(matrix[:2], covariance, 0.5)
    assert 0 < kept < whole
    # I(x; y₁ y₂) = I(x; y₁) + I(x; y₂ | y₁): the rest tells about what is left of x.
    gain = covariance @ matrix[:2].T
    gain = gain @ np.linalg.inv(matrix[:2] @ gain + 0.5 * np.eye(2))
    left = covariance - gain @ matrix[:2] @ covariance
    rest = gaussian_mutual_information(matrix[2:], left, 0.5)
    np.testing.assert_allclose(kept + rest, whole, rtol=1e-10)
    turn = np.linalg.qr(normal(4, 4, 4))[0]
    np.testing.assert_allclose(
        gaussian_mutual_information(turn @ matrix, covariance, 0.5), whole, rtol=1e-10
    )
    np.testing.assert_allclose(
        gaussian_mutual_information(matrix, 9 * covariance, 4.5), whole, rtol=1e-10
    )


def test_weak_and_strong_channels_keep_their_accuracy_in_float32():
    """1 + 1e-12 is 1 in float32; A Σ Aᵀ/σ² with a channel of 1e10 swamps one of 1."""
    weak = gaussian_mutual_information(jnp.full((1, 1), 1e-6), jnp.eye(1), 1.0)
    np.testing.assert_allclose(weak, 0.5e-12, rtol=1e-5)
    turn = np.linalg.qr(normal(5, 2, 2))[0].astype(np.float32)
    both = gaussian_mutual_information(turn @ np.diag([1e5, 1.0]).astype("f"), jnp.eye(2), 1.0)
    np.testing.assert_allclose(both, 0.5 * np.log1p([1e10, 1]).sum(), rtol=1e-4)


def test_a_traced_covariance_that_is_none_gives_nan():
    indefinite = jnp.diag(jnp.array([1.0, -1.0]))
    assert np.isnan(gaussian_mutual_information(jnp.eye(2), indefinite, 1.0))


def test_gaussian_mutual_information_gradients(x64):
    """Also where singular values coincide or vanish; every argument gets one."""
    run = gaussian_mutual_information
    check_grads(run, (normal(6, 2, 3), covariance_of(7, 3), 0.4), order=1, rtol=1e-5)
    gradient = jax.grad(lambda a: run(a, jnp.eye(3), 1.0))
    np.testing.assert_allclose(gradient(jnp.eye(3)), np.eye(3) / 2, atol=1e-12)
    np.testing.assert_array_equal(gradient(jnp.zeros((3, 3))), 0)
    arguments = normal(6, 2, 3), covariance_of(7, 3), jnp.asarray(0.4)
    for part in jax.grad(run, (0, 1, 2))(*arguments):
        assert np.all(np.abs(part) > 1e-6)


@pytest.mark.parametrize("n", [1, 2, 9, 12])
def test_spectral_mutual_information_is_that_of_the_circulant_channel(x64, n):
    """With noise after the filter against log-determinants; with noise before it, by projection."""
    bins = np.arange(n // 2 + 1)[::2]
    power = 0.2 + normal(8, n // 2 + 1, 2) ** 2
    weights = normal(9, len(bins), 2) + 1j * normal(10, len(bins), 2)
    ends = ((bins == 0) | (2 * bins == n))[:, None]
    weights = np.where(ends, weights.real, weights)

    def layer(weights, feature):
        spectrum = np.zeros((n // 2 + 1, n), complex)
        spectrum[bins] = weights[:, feature, None] * np.fft.rfft(np.eye(n), axis=0)[bins]
        return np.fft.irfft(spectrum, n=n, axis=0)

    after = before = 0.0
    for feature in range(2):
        covariance = circulant(power[:, feature], n)
        after += mutual_information_twin(layer(weights, feature), covariance, 0.3)
        left, gains, _ = np.linalg.svd(layer(np.ones_like(weights), feature))
        rows = left[:, gains > 0.5].T  # an orthonormal basis of the bins: its noise is white
        before += mutual_information_twin(rows, covariance, 0.3)
    run = information.spectral_mutual_information
    np.testing.assert_allclose(run(power, bins, 0.3, n=n, weights=weights), after, rtol=1e-10)
    np.testing.assert_allclose(run(power, bins, 0.3, n=n), before, rtol=1e-10)
    unseen = weights + 5j * ends  # only the real part counts at DC and Nyquist
    np.testing.assert_allclose(run(power, bins, 0.3, n=n, weights=unseen), after, rtol=1e-10)


def test_spectral_mutual_information_adds_up_under_jit_and_vmap_with_gradients(x64):
    power, weights = 0.2 + normal(11, 5, 2) ** 2, normal(12, 5, 2) + 1j * normal(13, 5, 2)

    @jax.jit
    def run(power, weights, noise_variance, bins):
        options = {"n": 8, "weights": weights[bins]}
        return information.spectral_mutual_information(power, bins, noise_variance, **options)

    split = [run(power, weights, 0.7, jnp.asarray(bins)) for bins in ([3, 0], [1, 2, 4])]
    whole = run(power, weights, 0.7, jnp.arange(5))
    np.testing.assert_allclose(sum(split), whole, rtol=1e-12)
    both = jax.vmap(run, (0, None, None, None))(
        jnp.stack([power, 2 * power]), weights, 0.7, jnp.arange(5)
    )
    np.testing.assert_allclose(both, [whole, run(2 * power, weights, 0.7, jnp.arange(5))])
    smooth = jax.jit(lambda p, w, s: run(p, w, s, np.arange(5)))
    check_grads(smooth, (power, weights, 0.7), order=1, rtol=1e-6)


def test_power_spectrum_holds_the_energy(x64):
    for n in (1, 7, 8):
        x = normal(14, 3, n, 2)
        power = information.power_spectrum(x)
        expected = np.abs(np.fft.rfft(x, axis=-2)) ** 2 / n
        np.testing.assert_allclose(power, expected, rtol=1e-12)
        bins = np.arange(n // 2 + 1)
        share = np.where((bins == 0) | (2 * bins == n), 1, 2)
        energy = np.einsum("f,bfd->bd", share, power)
        np.testing.assert_allclose(energy, np.sum(x**2, axis=-2), rtol=1e-12)


@hypothesis.given(seed=st.integers(0, 2**16), scale=st.sampled_from([1e-30, 1.0, 1e36]))
def test_spectral_entropy_laws(seed, scale):
    """Between 0 and log of the number of bins; scale and order don't matter."""
    power = normal(seed, 2, 6, 3) ** 2
    power[0, 2] = 0
    entropy = np.asarray(spectral_entropy(jnp.asarray(power, "f")))
    expected = np.apply_along_axis(entropy_twin, -2, power)
    np.testing.assert_allclose(entropy, expected, rtol=1e-5)
    assert np.all((entropy >= 0) & (entropy <= np.log(6) + 1e-6))
    again = spectral_entropy(jnp.asarray(scale * power[:, ::-1], "f"))
    np.testing.assert_allclose(again, entropy, rtol=1e-5)


def test_spectral_entropy_in_closed_form():
    """White noise has log(bins), a line 0, two equal lines log 2, silence 0."""
    power = jnp.stack([jnp.ones(9), jnp.eye(9)[4], jnp.eye(9)[4] + jnp.eye(9)[0], jnp.zeros(9)])
    expected = np.array([np.log(9), 0, np.log(2), 0], "f")
    np.testing.assert_allclose(spectral_entropy(power, axis=1), expected, rtol=1e-6)
    normalized = spectral_entropy(power, axis=1, normalized=True)
    np.testing.assert_allclose(normalized, expected / np.log(9), rtol=1e-6)
    one = jnp.ones((1, 2))
    np.testing.assert_array_equal(spectral_entropy(one, normalized=True), [0, 0])


def test_spectral_entropy_of_white_noise_comes_near_the_flat_spectrum():
    """A periodogram of N(0, 1) has exponential bins: E H = log(bins) − (1 − γ) for many bins."""
    x = jnp.asarray(normal(15, 2**14, 4), "f")
    entropy = spectral_entropy(information.power_spectrum(x))
    np.testing.assert_allclose(entropy, np.log(2**13) - (1 - np.euler_gamma), atol=0.03)


def test_spectral_entropy_gradients(x64):

    @jax.jit
    def of_signal(x):
        return jnp.sum(information.spectral_entropy(information.power_spectrum(x)))

    x = normal(16, 8, 3)
    check_grads(of_signal, (x,), order=1, rtol=1e-6)
    line = np.cos(np.pi * np.arange(8) / 2)  # four bins of five are empty
    singular = np.stack([np.zeros(8), np.ones(8), line], axis=1)
    np.testing.assert_allclose(jax.jit(jax.grad(of_signal))(singular), 0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_dtypes_are_kept(x64, dtype):
    @jax.jit
    def everything(x):
        power = information.power_spectrum(x)
        entropy = information.spectral_entropy(power)
        return power, entropy, information.spectral_entropy(power, normalized=True)

    x = jnp.asarray(normal(18, 8, 2), dtype)
    chex.assert_type(list(everything(x)), dtype)
    channel = jax.eval_shape(gaussian_mutual_information, x, jnp.eye(2, dtype=dtype), 1.0)
    assert channel.dtype == jnp.promote_types(dtype, jnp.float32)
    wide = everything(x.astype(float))
    tolerance = 8 * float(jnp.finfo(dtype).eps)  # 16 bits are summed in float32
    chex.assert_trees_all_close(
        jax.tree.map(lambda y: y.astype(float), everything(x)), wide, rtol=tolerance
    )


def test_vmap_changes_nothing():
    matrices = normal(19, 2, 3, 3).astype("f")
    rows = jax.vmap(lambda a: gaussian_mutual_information(a, jnp.eye(3), 0.1))(matrices)
    one = gaussian_mutual_information(matrices[1], jnp.eye(3), 0.1)
    np.testing.assert_allclose(rows[1], one, rtol=1e-6)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (np.array([[1.0, 0.5], [0.0, 1.0]]), r"symmetric, .* by up to 0.5; pass \(C \+ C.T\) / 2"),
        (np.ones((2, 2)), r"positive definite, but its smallest eigenvalue is .*x = B z"),
        (np.zeros((2, 2)), "positive definite, but its smallest eigenvalue is 0"),
        (np.diag([1.0, -1.0]), "positive definite, but its smallest eigenvalue is -1"),
        (np.diag([1.0, np.nan]), "must be finite"),
        (np.ones((2, 3)), r"covariance must have shape \(2, 2\), got \(2, 3\)"),
    ],
)
def test_degenerate_covariances_are_named(covariance, message):
    with pytest.raises(ValueError, match=message):
        information.gaussian_mutual_information(jnp.ones((1, 2)), covariance, 1.0)


@pytest.mark.error_message
def test_errors():
    eye, bins = np.eye(2), np.arange(3)
    for noise in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="noise_variance must be one positive, finite"):
            information.gaussian_mutual_information(eye, eye, noise)
    with pytest.raises(ValueError, match=r"matrix must be real .* got complex64 of shape \(2, 2\)"):
        information.gaussian_mutual_information(jnp.eye(2, dtype="complex64"), eye, 1.0)
    with pytest.raises(ValueError, match="matrix must be real"):
        information.gaussian_mutual_information(np.ones(3), eye, 1.0)
    run = information.spectral_mutual_information
    with pytest.raises(ValueError, match=r"power must have shape \(5, 1\), got \(4, 1\)"):
        run(jnp.ones((4, 1)), bins, 1.0, n=8)
    with pytest.raises(ValueError, match=r"bins must lie in 0 \.\. 4"):
        run(jnp.ones((5, 1)), bins + 3, 1.0, n=8)
    with pytest.raises(ValueError, match="weights must be complex"):
        run(jnp.ones((5, 1)), bins, 1.0, n=8, weights=jnp.ones((3, 1)))
    with pytest.raises(ValueError, match=r"weights must have shape \(3, 1\)"):
        run(jnp.ones((5, 1)), bins, 1.0, n=8, weights=jnp.ones((2, 1), complex))
    with pytest.raises(ValueError, match="must be finite and not negative"):
        run(-np.ones((5, 1)), bins, 1.0, n=8)
    with pytest.raises(ValueError, match=r"power must be real .* take"):
        information.spectral_entropy(jnp.ones((3, 1), complex))
    with pytest.raises(ValueError, match=r"needs bins along axis -2, got shape \(3,\)"):
        information.spectral_entropy(jnp.ones(3))
    with pytest.raises(ValueError, match=r"x must have shape \[..., t, d\]"):
        information.power_spectrum(jnp.ones(3))


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (jnp.ones((2, 2)), "positive definite"),  # an array that is at hand, not traced
        (jnp.array([[2.0, 1.0], [0.0, 2.0]]), "symmetric"),
        (np.array([[2, 1j], [-1j, 2]]), "covariance must be real"),
    ],
)
def test_a_degenerate_covariance_of_any_library_is_refused(covariance, message):
    with pytest.raises(ValueError, match=message):
        information.gaussian_mutual_information(jnp.eye(2), covariance, 1.0)
