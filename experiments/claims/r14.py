"""R14: phase matters where the magnitude is large; elsewhere in the same text, where the magnitude is small.

Source: R (attention as a frequency-domain resonator).
Decided by: real images as sequences of pixels whose phases are drawn anew in the bins of largest or of smallest
magnitude: the error of the sequence and the accuracy of a linear classifier trained on the intact ones, with as many
bins on either side, and with half of the energy on either side.
"""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.linear import fit_linear, linear_accuracy
from resonance_jax.claims.numbers import largest, relative_error, smallest
from resonance_jax.data.dataset import load_dataset

DATASETS = {"quick": "digits", "full": "fashion_mnist"}
SHARES = [0.1, 0.25, 0.5, 0.75]
HALF = SHARES.index(0.5)
MARGIN = 0.01  # of accuracy: a point, more than the draws of phases change it


def ranks(magnitude: np.ndarray) -> np.ndarray:
    """Returns the place of each bin of each row, 0 for the largest magnitude."""
    return np.argsort(np.argsort(-magnitude, axis=1), axis=1)


def half_energy(magnitude: np.ndarray) -> np.ndarray:
    """Chooses the fewest, largest bins of each row that hold half of its energy, as nearly as whole bins can."""
    energy = np.sort(magnitude**2, axis=1)[:, ::-1]
    below = np.cumsum(energy, axis=1) - energy / 2  # a bin goes where its middle lies
    count = np.sum(below < energy.sum(axis=1, keepdims=True) / 2, axis=1, keepdims=True)
    return ranks(magnitude) < count


def measure(seed: int, size: str) -> Numbers:
    data = load_dataset(DATASETS[size])
    train = data.train.inputs.reshape(len(data.train), -1).astype(np.float64)
    test = data.test.inputs.reshape(len(data.test), -1).astype(np.float64)
    weights, labels = fit_linear(train, data.train.labels), data.test.labels
    n = test.shape[1]
    inner = slice(1, (n + 1) // 2)  # DC and Nyquist have no phase
    spectrum = np.fft.rfft(test)
    magnitude = np.abs(spectrum[:, inner])
    turns = np.exp(2j * np.pi * np.random.default_rng(seed).random(magnitude.shape))
    place, bins = ranks(magnitude), magnitude.shape[1]

    def scramble(chosen):
        changed = spectrum.copy()
        changed[:, inner] = np.where(chosen, magnitude * turns, spectrum[:, inner])
        signal = np.fft.irfft(changed, n=n)
        return relative_error(signal, test), linear_accuracy(weights, signal, labels)

    loud = half_energy(magnitude)
    energy = magnitude**2
    numbers: Numbers = {
        "accuracy_intact": linear_accuracy(weights, test, labels),
        "energy_share_loud": float(np.mean(np.sum(loud * energy, axis=1) / energy.sum(axis=1))),
        "bin_share_loud": float(np.mean(loud)),
    }
    counts = [round(share * bins) for share in SHARES]
    cases = {
        "large": [scramble(place < count) for count in counts],
        "small": [scramble(place >= bins - count) for count in counts],
    }
    for name, pairs in cases.items():
        numbers[f"error_{name}"], numbers[f"accuracy_{name}"] = map(list, zip(*pairs, strict=True))
    for name, chosen in (("loud", loud), ("quiet", ~loud)):
        numbers[f"error_{name}"], numbers[f"accuracy_{name}"] = scramble(chosen)
    return numbers


def decide(runs: Sequence[Numbers]) -> Decision:
    def at_half(name: str) -> np.ndarray:
        return np.array([np.asarray(run[name])[HALF] for run in runs])

    def reading(difference: np.ndarray, margin: float) -> str:
        """Which side hurts more, in every run."""
        if np.all(difference > margin):
            return "large"
        return "small" if np.all(difference < -margin) else "neither"

    loud, quiet = (
        np.array([run[f"accuracy_{name}"] for run in runs]) for name in ("loud", "quiet")
    )
    by = {
        "accuracy at equal numbers of bins": reading(
            at_half("accuracy_small") - at_half("accuracy_large"), MARGIN
        ),
        "accuracy at equal energy": reading(quiet - loud, MARGIN),
    }
    number = (
        f"half of the bins: error {at_half('error_large').mean():.2f} (large) and {at_half('error_small').mean():.2f} "
        f"(small), accuracy {at_half('accuracy_large').mean():.1%} and {at_half('accuracy_small').mean():.1%} of "
        f"{smallest(runs, 'accuracy_intact'):.1%}; half of the energy: {loud.mean():.1%} and {quiet.mean():.1%} "
        f"(the large ones are {largest(runs, 'bin_share_loud'):.0%} of the bins)"
    )
    found = {side: [name for name, where in by.items() if where == side] for side in by.values()}
    if set(found) == {"neither"}:
        return Decision(
            "fails", number, "Phase matters alike where the magnitude is large or small."
        )
    parts = [
        f"{side} magnitudes by {', '.join(found[side])}"
        for side in ("large", "small")
        if side in found
    ]
    if "neither" in found:
        parts.append(f"no difference in {', '.join(found['neither'])}")
    return Decision("holds when", number, f"Phase matters more at {'; '.join(parts)}.")


def draw(runs: Sequence[Numbers]) -> Plot:
    def mean(name: str) -> list[float]:
        return np.mean([run[name] for run in runs], axis=0).tolist()

    intact = float(np.mean([run["accuracy_intact"] for run in runs]))
    return Plot(
        "share of bins whose phase is drawn anew",
        "accuracy of a linear classifier",
        (
            Series("largest magnitudes", SHARES, mean("accuracy_large")),
            Series("smallest magnitudes", SHARES, mean("accuracy_small")),
            Series("intact", SHARES, [intact] * len(SHARES), "reference"),
        ),
    )
