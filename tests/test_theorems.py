"""The theorems of docs/theorems.md, in float64, and that each names tests that exist."""

import ast
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops.information import (
    gaussian_mutual_information,
    spectral_mutual_information,
)
from resonance_jax.ops.resonance import resonate
from resonance_jax.ops.resonator import circulant_projection

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "theorems.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", DOCUMENT)
N, D = 12, 3
mutual_information = jax.jit(gaussian_mutual_information)  # traced: compiled once a shape
project = jax.jit(circulant_projection)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def complex_normal(seed: int, *shape: int) -> np.ndarray:
    return normal(seed, *shape) + 1j * normal(seed + 1000, *shape)


def fourier_matrix(n: int) -> np.ndarray:
    return np.exp(-2j * np.pi * (np.outer(np.arange(n), np.arange(n)) % n) / n)


def circulant(c: np.ndarray) -> np.ndarray:
    t = np.arange(len(c))
    return c[(t[:, None] - t[None, :]) % len(c)]


def softmax_rows(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores)
    return weights / weights.sum(axis=1, keepdims=True)


def multiplicity(bins: np.ndarray, n: int) -> np.ndarray:
    """c_f: the real dimensions of a bin."""
    return np.where((bins == 0) | (2 * bins == n), 1, 2)


def random_weights(seed: int, bins: np.ndarray, n: int) -> np.ndarray:
    """Weights of modulus 0.5 to 2, real at DC and Nyquist."""
    modulus = np.random.default_rng(seed).uniform(0.5, 2, len(bins))
    turned = modulus * np.exp(1j * normal(seed + 1, len(bins)))
    return np.where(multiplicity(bins, n) == 1, -modulus, turned)


@jax.jit
def layer_rows(x, weights, bins, interference):
    return resonate(x, weights, bins, interference=interference, method="fft")


def layer_matrix(weights, bins, n: int, interference=None) -> np.ndarray:
    """Returns R with resonate(x) = R x; one column for each basis vector."""
    k = len(bins)
    mixing = np.zeros((k, k), complex) if interference is None else interference
    return np.asarray(layer_rows(np.eye(n)[..., None], weights[:, None], bins, mixing))[..., 0].T


def information_of(matrix, covariance, noise: float) -> float:
    """Returns I(x; B (x + e)), from an orthonormal basis of what B sees: there the noise is white."""
    _, gains, rows = np.linalg.svd(matrix)
    seen = np.zeros_like(rows)  # rows of 0 tell nothing
    seen[: len(gains)] = np.where(gains > 1e-9, 1, 0)[:, None] * rows[: len(gains)]
    return float(mutual_information(seen, covariance, noise))


def test_every_theorem_names_tests_that_exist():
    sections = re.split(r"^## (?=Theorem \d)", DOCUMENT, flags=re.MULTILINE)[1:]
    assert len(sections) >= 8
    for number, section in enumerate(sections, start=1):
        assert re.match(rf"Theorem {number}: \w", section), section[:60]
    for section in sections:
        checked = section.partition("Checked by")[2]
        assert "*Proof.*" in section and r"\blacksquare" in section, section[:60]
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", checked), section[:60]
    for path, name in NAMED:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert DOCUMENT.count("::test_") == len(NAMED)  # none is misspelt as a path


def test_every_check_here_is_named_in_the_document():
    own = {name for path, name in NAMED if path == "tests/test_theorems.py"}
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    checks = {name for name in tests if name.startswith("test_") and "_document" not in name}
    assert own == checks - {"test_every_theorem_names_tests_that_exist"}


def test_formulas_of_the_document_are_closed():
    """Every $ and brace in a formula has its partner, so that KaTeX can set it."""
    for paragraph in DOCUMENT.split("\n\n"):
        parts = re.split(r"\$\$?", paragraph)
        assert len(parts) % 2 == 1, paragraph
        for formula in parts[1::2]:
            assert formula.count("{") == formula.count("}"), formula
            assert len(re.findall(r"\\left\b", formula)) == len(re.findall(r"\\right\b", formula))
            assert formula.strip(), paragraph
    assert "\t" not in DOCUMENT and "\\" not in re.sub(r"\$\$?.*?\$\$?", "", DOCUMENT, flags=re.S)


@pytest.mark.parametrize("n", [1, 7, N])
def test_circulant_attention_is_a_filter(x64, n):
    """Theorem 1, with the library's filter as the convolution; one weight changed ends it."""
    offsets = normal(0, n)
    attention = softmax_rows(circulant(offsets))
    value = normal(1, n, D)
    a = attention[:, 0]  # the weight at offset τ is a_τ
    np.testing.assert_allclose(attention, circulant(a), rtol=1e-12)
    bins = np.arange(n // 2 + 1)
    weights = np.repeat(np.fft.rfft(a)[:, None], D, axis=1)
    filtered = layer_rows(value, weights, bins, np.zeros((len(bins), len(bins)), complex))
    np.testing.assert_allclose(filtered, attention @ value, atol=1e-12)
    f = fourier_matrix(n)
    np.testing.assert_allclose(f @ attention @ np.linalg.inv(f), np.diag(f @ a), atol=1e-12)
    shift = circulant(np.eye(n)[1 % n])
    np.testing.assert_allclose(attention @ shift, shift @ attention, atol=1e-12)
    if n > 1:
        attention[0, 1] += 0.1
        diagonal = f @ attention @ np.linalg.inv(f)
        assert np.abs(diagonal - np.diag(np.diag(diagonal))).max() > 0.1 / n / 2
        assert np.abs(attention @ shift - shift @ attention).max() > 0.05


def test_projection_on_circulant_matrices_is_orthogonal(x64):
    """Theorem 2 (1, 2): idempotent, Pythagoras, mean over shifts, diagonal part, row sums."""
    matrix, c = complex_normal(2, N, N), complex_normal(3, N)
    projected = np.asarray(project(matrix))
    means = [np.mean([matrix[(j + tau) % N, j] for j in range(N)]) for tau in range(N)]
    np.testing.assert_allclose(projected, circulant(np.array(means)), atol=1e-12)
    np.testing.assert_allclose(project(projected), projected, atol=1e-12)
    residual = matrix - projected
    np.testing.assert_allclose(np.vdot(circulant(c), residual), 0, atol=1e-10)
    whole = np.linalg.norm(matrix - circulant(c)) ** 2
    parts = np.linalg.norm(residual) ** 2 + np.linalg.norm(projected - circulant(c)) ** 2
    np.testing.assert_allclose(whole, parts, rtol=1e-12)
    shifted = [np.roll(matrix, (s, s), axis=(0, 1)) for s in range(N)]
    np.testing.assert_allclose(np.mean(shifted, axis=0), projected, atol=1e-12)
    f = fourier_matrix(N)
    diagonal = np.diag(np.diag(f @ matrix @ np.linalg.inv(f)))
    np.testing.assert_allclose(f @ projected @ np.linalg.inv(f), diagonal, atol=1e-11)
    assert np.linalg.norm(projected, 2) <= np.linalg.norm(matrix, 2)
    attention = np.asarray(project(softmax_rows(normal(4, N, N))))
    assert np.all(attention > 0)
    np.testing.assert_allclose(attention.sum(axis=1), 1, rtol=1e-12)


def test_distance_of_attention_from_a_filter(x64):
    """Theorem 2 (3, 4): the bound, where it is reached, and that no other filter is nearer."""
    attention = softmax_rows(normal(5, N, D) @ normal(6, N, D).T)
    projected = np.asarray(project(attention))
    residual = attention - projected
    largest = np.linalg.norm(residual, 2)
    for seed in range(5):
        value = normal(7 + seed, N, D)
        assert np.linalg.norm(residual @ value) <= largest * np.linalg.norm(value)
        other = projected + 0.1 * circulant(normal(20 + seed, N))
        assert np.linalg.norm(attention - other, 2) >= np.linalg.norm(residual) / np.sqrt(N)
        assert np.linalg.norm(attention - other) > np.linalg.norm(residual)
    worst = np.linalg.svd(residual)[2][0]
    np.testing.assert_allclose(np.linalg.norm(residual @ worst), largest, rtol=1e-12)
    # white noise: the mean square is the Frobenius norm
    white = normal(30, N, 20_000)
    mean = np.sum((residual @ white) ** 2) / 20_000
    np.testing.assert_allclose(mean, np.linalg.norm(residual) ** 2, rtol=0.03)


def test_cross_spectrum_is_the_mean_circular_diagonals(x64):
    """Theorem 3, and that scores with the same means give the same product."""
    query, key = normal(31, N, D), normal(32, N, D)
    scores = query @ key.T
    cross = np.sum(np.fft.fft(query, axis=0) * np.conj(np.fft.fft(key, axis=0)), axis=1)
    means = np.asarray(project(scores))[:, 0]
    np.testing.assert_allclose(cross, N * np.fft.fft(means), atol=1e-11)
    f = fourier_matrix(N)
    two_sided = f @ scores @ f.conj().T
    np.testing.assert_allclose(np.diag(two_sided), cross, atol=1e-11)
    lost = two_sided - np.diag(cross)
    assert np.linalg.norm(lost) > 0.5 * np.linalg.norm(two_sided)


@pytest.mark.parametrize("n", [1, 7, N])
def test_correlation_scores_in_frequency(n):
    """Theorem 4: with the conjugate a correlation, without it a convolution at lag 0."""
    q, k = normal(33, n), normal(34, n)
    q_hat, k_hat = fourier_matrix(n) @ q, fourier_matrix(n) @ k
    np.testing.assert_allclose(np.sum(q_hat * np.conj(k_hat)) / n, np.sum(q * k), rtol=1e-10)
    bins = np.arange(n // 2 + 1)
    half = np.sum(multiplicity(bins, n) * np.real(q_hat * np.conj(k_hat))[bins]) / n
    np.testing.assert_allclose(half, np.sum(q * k), rtol=1e-10)
    at_zero = sum(q[t] * k[-t % n] for t in range(n))
    np.testing.assert_allclose(np.sum(q_hat * k_hat), n * at_zero, rtol=1e-10)


def test_phase_gradient_is_bounded_by_the_spectra(x64):
    """Theorem 5: |∂L/∂φ_f| ≤ r_f (c_f/n) ‖X_f‖ ‖G_f‖, reached a quarter turn from the magnitude's case."""
    bins = np.arange(N // 2 + 1)
    x, g, phase = normal(35, N, D), normal(36, N, D), normal(37, len(bins), 1)
    r = np.random.default_rng(38).uniform(0.5, 2, (len(bins), 1))
    big_x = np.fft.rfft(x, axis=0)

    @jax.jit
    def gradient(g):
        def loss(phase):
            weights = r * jnp.exp(1j * phase) * jnp.ones((1, D))
            return jnp.sum(resonate(x, weights, bins, method="fft") * g)

        return jax.grad(loss)(phase)[:, 0]

    def bound(g):
        norms = np.linalg.norm(big_x, axis=1) * np.linalg.norm(np.fft.rfft(g, axis=0), axis=1)
        return r[:, 0] * multiplicity(bins, N) / N * norms

    assert np.all(np.abs(gradient(g)) <= bound(g) * (1 + 1e-12))
    across = np.fft.irfft(1j * big_x * np.exp(1j * phase), n=N, axis=0)
    inner = slice(1, -1)
    np.testing.assert_allclose(np.abs(gradient(across))[inner], bound(across)[inner], rtol=1e-11)


@pytest.mark.parametrize("n", [7, N])
def test_singular_values_of_a_resonance_layer(x64, n):
    """Theorem 6 (2, 5): |v_f| for each real dimension of a bin that is kept, and the rank."""
    bins = np.arange(n // 2 + 1)[:3]
    weights = random_weights(39, bins, n)
    unseen = weights + 1j * (multiplicity(bins, n) == 1)  # the imaginary part at the ends
    kept = np.repeat(np.abs(weights), multiplicity(bins, n))
    expected = np.sort(np.append(kept, np.zeros(n - len(kept))))[::-1]
    for w in (weights, unseen):
        gains = np.linalg.svd(layer_matrix(w, bins, n), compute_uv=False)
        np.testing.assert_allclose(gains, expected, atol=1e-12)
    if n == N:
        inner, w = np.array([1, 3, 4]), complex_normal(40, 3)
        for rank, mixing in ((3, complex_normal(41, 3, 3)), (2, np.diag([0, -1 + 0j, 0]))):
            matrix = layer_matrix(w, inner, n, mixing)
            assert np.linalg.matrix_rank(matrix) == 2 * rank
            shifted = np.roll(matrix, (1, 1), axis=(0, 1))
            assert np.allclose(shifted, matrix, atol=1e-12) == (rank == 2)  # diagonal M


@pytest.mark.parametrize("n", [7, N])
def test_when_a_resonance_layer_is_orthogonal_or_invertible(x64, n):
    """Theorem 6 (3, 4): both sides of each condition."""
    bins = np.arange(n // 2 + 1)
    weights = random_weights(42, bins, n)
    unit = 1.5 * weights / np.abs(weights)
    matrix = layer_matrix(unit, bins, n)
    np.testing.assert_allclose(matrix.T @ matrix, 2.25 * np.eye(n), atol=1e-12)
    matrix = layer_matrix(weights, bins, n)
    assert np.abs(matrix.T @ matrix / matrix[:, 0].dot(matrix[:, 0]) - np.eye(n)).max() > 0.01
    inverse = layer_matrix(1 / weights, bins, n)
    np.testing.assert_allclose(inverse @ matrix, np.eye(n), atol=1e-12)
    no_dc, zero = weights.copy(), weights.copy()
    no_dc[0], zero[2] = 1j, 0
    assert np.linalg.matrix_rank(layer_matrix(no_dc, bins, n)) == n - 1
    assert np.linalg.matrix_rank(layer_matrix(zero, bins, n)) == n - 2
    assert np.linalg.matrix_rank(layer_matrix(weights[1:], bins[1:], n)) == n - 1


def test_data_processing_is_strict_unless_injective(x64):
    """Theorem 7 (2), for a signal that is not stationary."""
    factor = normal(43, N, N)
    covariance, noise = factor @ factor.T / N + 0.1 * np.eye(N), 0.5
    before = mutual_information(np.eye(N), covariance, noise)
    injective = information_of(normal(44, N + 2, N), covariance, noise)
    np.testing.assert_allclose(injective, before, rtol=1e-12)
    for rank in (N - 1, 2):
        matrix = normal(45, N, rank) @ normal(46, rank, N)
        assert information_of(matrix, covariance, noise) < before - 1e-3


@pytest.mark.parametrize("n", [7, N])
def test_information_under_frequency_selection(x64, n):
    """Theorem 7 (3, 4): noise before the layer, whatever the weights; noise after it."""
    every, bins, noise = np.arange(n // 2 + 1), np.array([0, 2, 3]), 0.5
    power = 0.2 + normal(47, len(every)) ** 2
    covariance = circulant(np.fft.irfft(power, n=n))
    weights = random_weights(48, bins, n)
    matrix = layer_matrix(weights, bins, n)
    by_bin = multiplicity(every, n) / 2 * np.log1p(power / noise)
    before = information_of(matrix, covariance, noise)
    np.testing.assert_allclose(before, by_bin[bins].sum(), rtol=1e-11)
    whole = mutual_information(np.eye(n), covariance, noise)
    np.testing.assert_allclose(whole, by_bin.sum(), rtol=1e-11)
    library = jax.jit(lambda p: spectral_mutual_information(p, bins, noise, n=n))(power[:, None])
    np.testing.assert_allclose(library, before, rtol=1e-11)
    after = mutual_information(matrix, covariance, noise)
    weighted = np.log1p(np.abs(weights) ** 2 * power[bins] / noise)
    np.testing.assert_allclose(after, (multiplicity(bins, n) / 2 * weighted).sum(), rtol=1e-11)
    full = random_weights(49, every, n)
    for w, same in ((full, False), (full / np.abs(full), True)):
        value = mutual_information(layer_matrix(w, every, n), covariance, noise)
        assert np.isclose(value, whole, rtol=1e-11) == same


def log_phase(n: int, alpha: float) -> np.ndarray:
    """θ_k = α arctan(ln|k|) at the signed frequencies in the order of the FFT."""
    k = np.abs(np.fft.fftfreq(n, 1 / n))
    with np.errstate(divide="ignore"):
        return alpha * np.arctan(np.log(k))


def hermitian(theta: np.ndarray) -> np.ndarray:
    """The odd form of an even phase, 0 at DC and Nyquist."""
    n = len(theta)
    sign = np.sign(np.fft.fftfreq(n))
    sign[0] = 0
    if n % 2 == 0:
        sign[n // 2] = 0
    return sign * theta


def apply_phase(theta: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.fft.ifft(np.exp(1j * theta) * np.fft.fft(x, axis=-1), axis=-1)


def test_phase_filter_conserves_every_bin_and_cannot_cancel_noise():
    """Theorem 8 (1, 2, 6)."""
    n, alpha = 64, 0.8
    theta = log_phase(n, alpha)
    x = complex_normal(50, n)
    y = apply_phase(theta, x)
    np.testing.assert_allclose(np.abs(np.fft.fft(y)), np.abs(np.fft.fft(x)), rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(y), np.linalg.norm(x), rtol=1e-12)
    assert np.linalg.norm(y - x) > 0.1 * np.linalg.norm(x)
    signal, noise = np.cos(2 * np.pi * np.arange(n) / n), normal(51, 500, n)
    both = np.concatenate([noise, -noise])  # a mean of exactly 0
    square = np.mean(np.sum(np.abs(apply_phase(theta, signal + both) - signal) ** 2, axis=1))
    own = np.linalg.norm(apply_phase(theta, signal) - signal) ** 2
    np.testing.assert_allclose(square, own + np.mean(np.sum(both**2, axis=1)), rtol=1e-11)
    assert np.all(np.abs(theta) <= alpha * np.pi / 2)
    k = np.arange(2, n // 2)
    assert np.all(np.diff(theta[1 : n // 2]) > 0)
    assert np.all(alpha * np.pi / 2 - theta[k] < alpha / np.log(k))


@pytest.mark.parametrize("n", [63, 64])
def test_even_phase_makes_real_signals_complex(n):
    """Theorem 8 (3, 4)."""
    theta = log_phase(n, 1.0)
    noise = normal(52, 4000, n)
    spectrum, y = np.fft.fft(noise), apply_phase(theta, noise)
    np.testing.assert_allclose(np.real(y), np.fft.ifft(np.cos(theta) * spectrum), atol=1e-12)
    np.testing.assert_allclose(np.imag(y), np.fft.ifft(np.sin(theta) * spectrum), atol=1e-12)
    share = np.sum(np.imag(y) ** 2) / np.sum(noise**2)
    np.testing.assert_allclose(share, np.mean(np.sin(theta) ** 2), rtol=0.02)
    assert share > 0.5  # most of it


@pytest.mark.parametrize("n", [1, 2, 63, 64])
def test_hermitian_phase_keeps_real_signals_real(n):
    """Theorem 8 (5); a phase at DC or Nyquist that is not 0 or π ends it, as (3) says."""
    theta, x = hermitian(log_phase(n, 1.0)), normal(53, 3, n)
    y = apply_phase(theta, x)
    np.testing.assert_allclose(np.imag(y), 0, atol=1e-12)
    np.testing.assert_allclose(np.real(y) @ np.real(y).T, x @ x.T, atol=1e-10)
    for end in {0, n // 2} if n % 2 == 0 else {0}:
        turned = theta.copy()
        turned[end] = 0.5
        assert np.abs(np.imag(apply_phase(turned, x))).max() > 1e-3
