"""Q5: noisy high frequencies cancel by interference.

Source: Q (quaternions and the log-phase filter).
Decided by: a signal of low frequencies in noise through the log-phase filter: the signal-to-noise ratio (the filter is
linear, so signal and noise go through it one by one and their energies are compared), the power |Ψ̂(k)|² of every
frequency, and the ratio against the clean signal at the shift and scale that suit it best; the same with the amplitude
|k|^(−α/2), which the filter can be given, and with Wiener's filter.
"""

from collections.abc import Sequence

import jax
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.numbers import largest, smallest
from resonance_jax.ops.phase_filter import AMPLITUDES, SYMMETRIES, log_phase_filter

SHAPES = {"quick": (50, 512), "full": (300, 2048)}  # draws, n
ALPHAS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0)
ONE = ALPHAS.index(1.0)
CORNER = 8  # the index at which the signal's power begins to fall
FORMS = tuple((symmetry, amplitude) for amplitude in AMPLITUDES for symmetry in SYMMETRIES)
CANCELS = 1.0  # dB; below it, nothing that could be called cancelled
UNCHANGED = 1e-6


def draw_signals(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Returns the spectra of signals, white noises and noises above n/8, of equal energy, and the signal's law."""
    k = np.abs(np.fft.fftfreq(shape[1])) * shape[1]
    signal, white, high = np.fft.fft(rng.standard_normal((3, *shape)))
    power = 1 / (1 + (k / CORNER) ** 4)
    spectra = signal * np.sqrt(power), white, high * (k > shape[1] / 8)
    unit = [a / np.sqrt(np.mean(np.abs(a) ** 2, axis=-1, keepdims=True)) for a in spectra]
    return *unit, power / power.mean()


def decibels(ratio) -> float:
    return float(10 * np.mean(np.log10(ratio)))


def energy_ratio(signal: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Returns ‖s‖²/‖n‖² of each draw, from spectra."""
    return np.sum(np.abs(signal) ** 2, -1) / np.sum(np.abs(noise) ** 2, -1)


def aligned_ratio(noisy: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Returns max ‖c s_τ‖²/‖y − c s_τ‖² over shifts τ and factors c, from the spectra of y and s."""
    correlation = np.abs(np.fft.ifft(noisy * clean.conj())).max(-1) * noisy.shape[-1]
    share = correlation**2 / np.prod([np.sum(np.abs(a) ** 2, -1) for a in (noisy, clean)], axis=0)
    return share / (1 - share)


def measure(seed: int, size: str) -> Numbers:
    signal, white, high, power = draw_signals(np.random.default_rng(seed), SHAPES[size])
    frequencies = np.fft.fftfreq(SHAPES[size][1])
    noises, found = {"white": white, "high": high}, {}
    change = 0.0
    for symmetry, amplitude in FORMS:
        with jax.enable_x64(True):
            response = log_phase_filter(
                frequencies, np.array(ALPHAS), symmetry=symmetry, amplitude=amplitude
            )
        rows = np.asarray(response)
        if amplitude == "unit":
            noisy = np.abs(signal + white) ** 2
            change = max(change, *(relative_change(noisy, row * (signal + white)) for row in rows))
        for name, noise in noises.items():
            before = energy_ratio(signal, noise), aligned_ratio(signal + noise, signal)
            key = f"{amplitude}_{symmetry}_{name}"
            found[key] = [
                decibels(energy_ratio(row * signal, row * noise) / before[0]) for row in rows
            ]
            found[f"{key}_aligned"] = [
                decibels(aligned_ratio(row * (signal + noise), signal) / before[1]) for row in rows
            ]
    wiener = power / (power + 1)  # signal and white noise have equal energy
    gain = energy_ratio(wiener * signal, wiener * white) / energy_ratio(signal, white)
    aligned = aligned_ratio(wiener * (signal + white), signal) / aligned_ratio(
        signal + white, signal
    )
    return {
        **found,
        "power_change": change,
        "wiener": decibels(gain),
        "wiener_aligned": decibels(aligned),
    }


def relative_change(power: np.ndarray, spectrum: np.ndarray) -> float:
    """Returns the largest relative change of the power of a frequency."""
    return float(np.max(np.abs(np.abs(spectrum) ** 2 / power - 1)))


def decide(runs: Sequence[Numbers]) -> Decision:
    def extreme(amplitude: str, ending: str, choose=largest) -> float:
        keys = [f"{amplitude}_{symmetry}_{ending}" for symmetry in SYMMETRIES]
        return (max if choose is largest else min)(choose(runs, key) for key in keys)

    by = {
        name: extreme("unit", name) for name in ("white", "high", "white_aligned", "high_aligned")
    }
    low = mean(runs, "power_law_hermitian_white")[ONE]
    aligned = mean(runs, "power_law_hermitian_white_aligned")
    best = int(np.argmax(aligned))
    wiener = mean(runs, "wiener"), mean(runs, "wiener_aligned")
    number = (
        f"the filter raises the ratio by {max(by['white'], by['high']):.1g} dB at most and changes |Ψ̂(k)|² by "
        f"{largest(runs, 'power_change'):.1g}; against the clean signal it changes by {by['white_aligned']:.2f} to "
        f"{extreme('unit', 'white_aligned', smallest):.1f} dB; with |k|^(−α/2) it rises by {low:.1f} dB at α = 1"
    )
    cancelled = [name for name, gain in by.items() if gain >= CANCELS]
    if len(cancelled) == len(by):
        return Decision("holds", number)
    if cancelled:
        return Decision(
            "holds when", number, f"It holds by the ratios {', '.join(cancelled)} only."
        )
    if largest(runs, "power_change") > UNCHANGED:
        return Decision("fails", number, "The filter is not all-pass, but noise does not cancel.")
    statement = "An all-pass filter changes no |Ψ̂(k)|² and cannot cancel noise: it moves signal and noise in time."
    if aligned[best] >= CANCELS:
        statement += (
            f" The amplitude |k|^(−α/2), a low-pass, removes white noise: against the clean signal {aligned[best]:.1f} "
            f"dB at α = {ALPHAS[best]:g}, the best; Wiener's filter {wiener[1]:.1f} dB ({wiener[0]:.1f} by energies)."
        )
    return Decision("fails", number, statement)


def mean(runs: Sequence[Numbers], key: str):
    """Returns the mean of a number, or of each of a list, over the runs."""
    return np.mean([run[key] for run in runs], axis=0).tolist()


def draw(runs: Sequence[Numbers]) -> Plot:
    names = {"unit": "|F| = 1", "power_law": "|F| = |k|^(−α/2)"}
    series = [
        Series(
            f"{names[amplitude]}{kind}", ALPHAS, mean(runs, f"{amplitude}_hermitian_white{ending}")
        )
        for amplitude in AMPLITUDES
        for ending, kind in (("", ", by energies"), ("_aligned", ", against the clean signal"))
    ]
    wiener = Series(
        "Wiener, against the clean signal",
        ALPHAS,
        [mean(runs, "wiener_aligned")] * len(ALPHAS),
        "reference",
    )
    return Plot("α", "gain of the signal-to-noise ratio (dB), white noise", (*series, wiener))
