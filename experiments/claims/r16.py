"""R16: padding stops wrap-around, a low-pass stops aliasing, normalising the input before the FFT loses nothing.

Source: R (attention as a frequency-domain resonator).
Decided by: filtering through spectra against direct convolution, with enough padding and one sample less; every second
sample of a sum of waves against those of its slow waves alone, with a low-pass at the new Nyquist frequency and with
one just above; the input recovered from its normalised form with mean and deviation kept, and without.
"""

from collections.abc import Sequence

import jax
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import EXACT, largest, relative_error, smallest
from resonance_jax.ops.fourier import low_pass
from resonance_jax.ops.resonance import resonate

SHAPES = {"quick": ((24, 7),), "full": ((24, 7), (255, 64), (1000, 1000))}


def wrap_error(x: np.ndarray, kernel: np.ndarray, padded: int) -> float:
    """Filters by resonate at an FFT length and compares with the direct sum, where x and result have t samples."""
    expected = np.convolve(x, kernel)[: len(x)]
    bins = np.arange(padded // 2 + 1)
    turns = np.outer(bins, np.arange(len(kernel))) % padded
    weights = (np.exp(-2j * np.pi * turns / padded) @ kernel)[:, None]
    run = jax.jit(lambda x: resonate(x, weights, bins, fft_length=padded, method="fft"))
    return relative_error(np.asarray(run(x[:, None]))[:, 0], expected)


def alias_error(amplitudes: np.ndarray, cutoff: float) -> float:
    """Compares every second sample of filtered waves with those of the waves below 1/4 cycles per sample."""
    n, f = 2 * len(amplitudes), np.arange(len(amplitudes))
    waves = amplitudes * np.cos(2 * np.pi * np.outer(np.arange(n), f) / n + amplitudes)
    slow, fast = waves[:, 4 * f < n].sum(axis=1), waves[:, 4 * f > n].sum(axis=1)
    filtered = jax.jit(lambda x: low_pass(x, cutoff))((slow + fast)[:, None])
    return relative_error(np.asarray(filtered)[::2, 0], slow[::2])


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    names = ("padded", "too_short", "low_pass", "too_wide", "kept", "discarded")
    errors: dict[str, list[float]] = {name: [] for name in names}
    for n, m in SHAPES[size]:
        x, kernel = 3 + rng.standard_normal(n), rng.standard_normal(m)
        with jax.enable_x64(True):
            errors["padded"].append(wrap_error(x, kernel, n + m - 1))
            errors["too_short"].append(wrap_error(x, kernel, n + m - 2))
            errors["low_pass"].append(alias_error(x[: n // 2], 0.25))
            errors["too_wide"].append(alias_error(x[: n // 2], 0.25 + 2 / n))
        mean, deviation = x.mean(), x.std()
        back = np.fft.irfft(np.fft.rfft((x - mean) / deviation), n=n)
        errors["kept"].append(relative_error(deviation * back + mean, x))
        errors["discarded"].append(relative_error(back, x))
    return {f"error_{name}": values for name, values in errors.items()}


def decide(runs: Sequence[Numbers]) -> Decision:
    right = ("error_padded", "error_low_pass", "error_kept")
    wrong = ("error_too_short", "error_too_wide", "error_discarded")
    worst = [largest(runs, name) for name in right]
    least = [smallest(runs, name) for name in wrong]
    number = (
        f"relative error {worst[0]:.1g} with m − 1 zeros and {least[0]:.2g} with m − 2; {worst[1]:.1g} with a low-pass "
        f"at 1/4 and {least[1]:.2g} just above; {worst[2]:.1g} with mean and deviation kept, {least[2]:.2g} without"
    )
    if max(worst) > EXACT:
        parts = ("padding", "the low-pass", "normalising")
        failing = [part for part, error in zip(parts, worst, strict=True) if error > EXACT]
        return Decision("fails", number, f"What fails: {', '.join(failing)}.")
    if max(largest(runs, name) for name in wrong) <= EXACT:
        return Decision("holds", number)
    return Decision(
        "holds when",
        number,
        "There are at least m − 1 zeros for a kernel of m samples (weights set freely at each frequency have a kernel "
        "as long as the padded signal), the low-pass cuts at the new Nyquist frequency, mean and deviation are kept.",
    )
