"""How much a holographic memory can hold: recall of superposed pairs by theory, bits, and the bounds on them."""

import math

import numpy as np

from resonance_jax.ops._checks import check_choice
from resonance_jax.ops.hologram import KINDS


def recall_accuracy(
    dimension: int,
    pairs: int,
    codebook_size: int,
    kind: str = "real",
    *,
    snr: float | int = math.inf,
) -> float:
    """Computes the probability that clean-up finds the right entry among C after superposing M pairs in N numbers.

        p = ∫ φ(h) Φ(h + s)^(C−1) dh,    s = √(N/M) real,  √(2N/M) phasors

    φ and Φ are the standard normal density and distribution. Keys and patterns are taken as random and the cross-talk
    of the M pairs as Gaussian. Noise on the memory is more cross-talk: M (1 + 1/SNR) in the place of M.

    Args:
        dimension: N, of the whole memory (pages times the pattern's dimension): numbers for "real", complex numbers for
            "phasor".
        pairs: M.
        codebook_size: C.
        kind: "real" or "phasor".
        snr: power of the memory over that of noise added to it.
    Returns:
        p, computed by quadrature to 1e-9.
    Raises:
        ValueError: if a number is less than 1, the kind is unknown, or the SNR is not positive.
    References:
        Frady, Kleyko and Sommer, A theory of sequence indexing and working memory in recurrent neural networks,
        Neural Computation 30 (2018) 1449.

    >>> print(f"{recall_accuracy(1024, 32, 1000):.2f}")
    0.99
    """
    check_choice("kind", kind, KINDS)
    if min(dimension, pairs, codebook_size) < 1:
        raise ValueError(
            f"dimension, pairs and codebook_size must be at least 1, got {dimension}, {pairs} and {codebook_size}."
        )
    if not snr > 0:
        raise ValueError(f"snr must be positive, a ratio of powers and not in dB, got {snr}.")
    from scipy.special import log_ndtr  # not for all that import a memory

    s = math.sqrt((2 if kind == "phasor" else 1) * dimension / (pairs * (1 + 1 / snr)))
    h = np.linspace(-12, 12, 4801)
    integrand = np.exp(-0.5 * h**2 + (codebook_size - 1) * log_ndtr(h + s)) / math.sqrt(2 * math.pi)
    return float(min(np.sum(integrand) * (h[1] - h[0]), 1.0))  # trapezoids: spectrally exact here


def max_pairs(
    dimension: int,
    codebook_size: int,
    accuracy: float = 0.99,
    kind: str = "real",
    *,
    snr: float | int = math.inf,
) -> int:
    """Computes the largest number of superposed pairs that are recalled with this accuracy; 0 if not even one is.

    Args:
        dimension, codebook_size, kind, snr: as `recall_accuracy`.
        accuracy: share of the pairs recalled, in (0, 1).
    Raises:
        ValueError: if the accuracy is not in (0, 1) or a single entry makes every number of pairs recallable; as
            `recall_accuracy`.

    >>> max_pairs(1024, 1000)
    31
    """
    if not 0 < accuracy < 1:
        raise ValueError(f"accuracy must be in (0, 1), got {accuracy}.")
    if codebook_size >= 1 and accuracy <= 1 / codebook_size:
        raise ValueError(
            f"guessing among {codebook_size} entries already has accuracy {1 / codebook_size:.3g}; ask for more."
        )

    def enough(pairs):
        return recall_accuracy(dimension, pairs, codebook_size, kind, snr=snr) >= accuracy

    if not enough(1):
        return 0
    low, high = 1, 2
    while enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if enough(middle) else (low, middle)
    return low


def recalled_bits(accuracy: float | int, codebook_size: int) -> float:
    """Computes the information that one recalled item carries: log₂C less what its errors cost.

        I = log₂C + p log₂ p + (1 − p) log₂((1 − p)/(C − 1))

    the mutual information between stored and recalled item when all C are equally likely, and all errors. Times the
    pairs and over the dimension: bits for each number of the memory.

    Args:
        accuracy: p.
        codebook_size: C.
    Raises:
        ValueError: if p is not in [0, 1] or C < 1.

    >>> print(recalled_bits(1.0, 1024), recalled_bits(0.5, 2))
    10.0 0.0
    """
    if not 0 <= accuracy <= 1 or codebook_size < 1:
        raise ValueError(
            f"expected accuracy in [0, 1] and codebook_size >= 1, got {accuracy} and {codebook_size}."
        )
    bits = math.log2(codebook_size)
    if accuracy > 0:
        bits += accuracy * math.log2(accuracy)
    if accuracy < 1 and codebook_size > 1:
        bits += (1 - accuracy) * math.log2((1 - accuracy) / (codebook_size - 1))
    return max(bits, 0.0)


def capacity_bits(area: float | int, wavelength: float | int, snr: float | int) -> float:
    """Computes the bound (A/λ²) log₂(1 + SNR) on the bits that a hologram of area A holds.

    Shannon's capacity of A/λ² complex amplitudes in white noise. A real number is half a complex one: N of them hold at
    most (N/2) log₂(1 + SNR).

    Args:
        area: A, in the square of the wavelength's unit; for a memory of N complex numbers A/λ² is N.
        wavelength: λ.
        snr: ratio of the powers of signal and noise of one amplitude (not dB).
    Raises:
        ValueError: if the area or wavelength is not positive and finite, or the SNR is negative.

    >>> capacity_bits(512, 1.0, 3.0)
    1024.0
    """
    if not (0 < area < math.inf and 0 < wavelength < math.inf and snr >= 0):
        raise ValueError(
            f"expected area > 0, wavelength > 0 and snr >= 0, got {area}, {wavelength} and {snr}."
        )
    return area / wavelength**2 * math.log2(1 + snr)
