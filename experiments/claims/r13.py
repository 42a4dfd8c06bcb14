"""R13: phase carries about 11 % of the information, and dropping it costs less than 3 % of accuracy.

Source: R (attention as a frequency-domain resonator).
Decided by: on real images, read row by row, and on real text, as a sequence of random word vectors: the share of the
phase in the mutual information of bins and class, and what a linear classifier loses when it sees magnitudes only.
Printed too: how much of a sequence comes back from its phases and from its magnitudes alone.
"""

from collections.abc import Sequence

import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.linear import fit_linear, linear_accuracy
from resonance_jax.claims.mutual_information import polar_mutual_information
from resonance_jax.data.dataset import Dataset, load_dataset

IMAGES = {"quick": "digits", "full": "fashion_mnist"}
TEXT, CHANNELS = "reuters_r8", 4
SAMPLES = {"quick": 1000, "full": 4000}  # for the estimate of information
PARTS = ("magnitude", "phase", "both")


def sequences(dataset: Dataset, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns training and test sequences [samples, t, channels] of images or of text."""
    splits = dataset.train, dataset.test
    if not np.issubdtype(dataset.train.inputs.dtype, np.integer):
        train, test = (split.inputs.reshape(len(split), -1, 1) for split in splits)
        return train.astype(np.float64), test.astype(np.float64)
    words = 1 + max(int(split.inputs.max()) for split in splits)
    vectors = np.random.default_rng(seed).normal(size=(words, CHANNELS))
    vectors[0] = 0  # padding
    return vectors[splits[0].inputs], vectors[splits[1].inputs]


def features(spectrum: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what a classifier may see of a spectrum [samples, k]."""
    magnitude = np.abs(spectrum)
    phase = np.angle(spectrum)
    return {
        "magnitude": magnitude,
        "phase": np.hstack([np.cos(phase), np.sin(phase)]),
        "both": np.hstack([np.real(spectrum), np.imag(spectrum), magnitude]),
    }


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the mean over samples of the correlation along time."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean(np.sum(a * b, axis=1) / np.maximum(norms, 1e-12)))


def measure_dataset(dataset: Dataset, seed: int, samples: int) -> Numbers:
    train, test = sequences(dataset, seed)
    n = train.shape[1]
    spectra = [np.fft.rfft(x, axis=1)[:, 1 : (n + 1) // 2] for x in (train, test)]
    flat = [spectrum.reshape(len(spectrum), -1) for spectrum in spectra]
    chosen = np.random.default_rng(seed).permutation(len(train))[:samples]
    # All channels of a random embedding tell alike: the first stands for them.
    found = polar_mutual_information(
        spectra[0][chosen, :, 0], dataset.train.labels[chosen], seed=seed
    )
    numbers: Numbers = {
        "information_share": float(found.phase.sum() / (found.phase.sum() + found.magnitude.sum()))
    }
    seen = [features(spectrum) for spectrum in flat]
    for part in PARTS:
        weights = fit_linear(seen[0][part], dataset.train.labels)
        numbers[f"accuracy_{part}"] = linear_accuracy(weights, seen[1][part], dataset.test.labels)
    magnitude = np.abs(spectra[1])
    phase = np.exp(1j * np.angle(spectra[1]))
    typical = np.abs(spectra[0]).mean(axis=0)
    turns = np.exp(2j * np.pi * np.random.default_rng(seed).random(magnitude.shape))
    for name, spectrum in (("phase", typical * phase), ("magnitude", magnitude * turns)):
        whole = np.pad(spectrum, ((0, 0), (1, n // 2 - (n - 1) // 2), (0, 0)))
        numbers[f"recovered_from_{name}"] = correlation(np.fft.irfft(whole, n=n, axis=1), test)
    return numbers


def measure(seed: int, size: str) -> Numbers:
    sets = {"images": load_dataset(IMAGES[size]), "text": load_dataset(TEXT)}
    return {
        f"{kind}_{name}": value
        for kind, dataset in sets.items()
        for name, value in measure_dataset(dataset, seed, SAMPLES[size]).items()
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    mean = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
    kinds = ("images", "text")
    share = {kind: mean[f"{kind}_information_share"] for kind in kinds}
    cost = {
        kind: mean[f"{kind}_accuracy_both"] - mean[f"{kind}_accuracy_magnitude"] for kind in kinds
    }
    number = "; ".join(
        f"{kind}: {share[kind]:.0%} of the information, accuracy {mean[f'{kind}_accuracy_both']:.1%} with and "
        f"{mean[f'{kind}_accuracy_magnitude']:.1%} without phase "
        f"({mean[f'{kind}_accuracy_phase']:.1%} by phase alone), "
        f"correlation {mean[f'{kind}_recovered_from_phase']:.2f} from phase and "
        f"{mean[f'{kind}_recovered_from_magnitude']:.2f} from magnitude alone"
        for kind in kinds
    )
    small_share = [kind for kind in kinds if abs(share[kind] - 0.11) <= 0.04]
    cheap = [kind for kind in kinds if cost[kind] < 0.03]
    both = [kind for kind in kinds if kind in small_share and kind in cheap]
    if both == list(kinds):
        return Decision("holds", number)
    if both:
        return Decision("holds when", number, f"The data are {' and '.join(both)}.")
    statement = (
        f"Nowhere both: 7 to 15 % of the information on {' and '.join(small_share) or 'neither'}, less than 3 points "
        f"of accuracy lost on {' and '.join(cheap) or 'neither'}."
    )
    return Decision("fails", number, statement)


def draw(runs: Sequence[Numbers]) -> Plot:
    def mean(kind: str) -> list[float]:
        return [float(np.mean([run[f"{kind}_accuracy_{part}"] for run in runs])) for part in PARTS]

    places = list(range(len(PARTS)))
    series = [Series(kind, places, mean(kind), "points") for kind in ("images", "text")]
    return Plot(f"what is seen: {', '.join(PARTS)}", "accuracy", tuple(series))
