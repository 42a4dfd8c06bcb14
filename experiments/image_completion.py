"""Completion of half-masked Fashion-MNIST images by a hologram of bounded size, of stored and of unseen images.

Question: how well does a memory keyed by the upper half of an image (14 of 28 rows) return the lower half? For stored
images: the error, and the share whose reading is most similar (cosine) to their own lower half among all stored. For
unseen ones: the error, beside the mean image, the nearest neighbour, and ridge regression that stores as many numbers.
Found, unseen images, 2^18 numbers from 20,000 images: error 0.355 by the least-squares memory (0.329 in 2^20), 0.378 by
the delta rule, 0.649 by superposition; linear ridge regression, of 154K numbers, 0.395; the nearest of all 20,000 (16
million numbers) 0.573. In 2^16 numbers linear regression (0.394) is still ahead of the memory (0.406).
Found, stored images: 1,000 in 2^18 numbers are told apart at 0.62 by superposition, 0.78 by the delta rule and 0.95 by
least squares, which returns them exactly where there are as many pages as images.
Command: python -m experiments.image_completion, and python -m experiments.image_completion --plot
Time: 3 minutes of CPU on one core, 10 beside other work
Needs: the Debian package dataset-fashion-mnist.

The memory is that of experiments/verse_retrieval.py: pages of complex numbers, keys e^{iWx} of one phase a page. A
pattern is the lower half less its mean over the training images, two pixels in one complex number; x is the upper half
less its mean, of mean square norm 1. The width of W and the penalty are chosen on 2,000 other training images. Errors
are in units of the variance of the lower half: that of the mean image is 1 on the images it is the mean of. The width
found for superposition is the largest one tried, the penalty found the smallest; linear regression has one penalty,
not chosen. Stored images: the widths are the best for 1,000 images in 2^18 numbers, chosen on that very figure, for
least squares the smallest one tried. One seed, one draw of W.
"""

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.result_file import ResultFile, open_results, work
from experiments.verse_retrieval import (
    Memory,
    make_keys,
    make_memory,
    normalize,
    read,
    rehearse,
    superpose,
)
from resonance_jax.data.dataset import load_dataset

RESULTS = Path(__file__).parent / "results" / "image_completion.json"
SIDE, HALF = 28, 14
PIXELS = HALF * SIDE  # of a half
STORED, VALIDATION, TEST = 20_000, 2_000, 4_000
COUNTS = (100, 1_000, 10_000)  # images stored, for recall
PROBES = 2_000  # of them asked for
SIZES = (14, 16, 18, 20)  # log₂ of the real numbers
SEARCH_SIZE = 18
WRITES = ("superposition", "delta rule", "ridge")
SQUARES = (0.1, 0.3, 1.0, 3.0)  # σ² tried for unseen images
PENALTIES = (0.01, 0.1, 1.0)  # λ tried for "ridge", beside M/a, the mean eigenvalue of the keys
# σ² for stored images, the best of 10, 30, 100 and 300 for 1,000 images in 2^18 numbers, by accuracy.
RECALL_SQUARES = {"superposition": 100.0, "delta rule": 30.0, "ridge": 10.0}
RECALL_PENALTY = 1e-3  # they are to come back as they are


class Halves(NamedTuple):
    """Upper halves x (scaled) and lower halves p (of mean 0 where stored), each [n, 392]."""

    upper: np.ndarray
    lower: np.ndarray


class Images(NamedTuple):
    """What is stored, what chooses, what is tested, and how to make an image again."""

    stored: Halves
    validation: Halves
    test: Halves
    means: Halves
    scale: float


@functools.cache
def load() -> Images:
    """Reads the images and cuts them into halves."""
    dataset = load_dataset("fashion_mnist")
    rows = np.random.default_rng(0).permutation(len(dataset.train))[: STORED + VALIDATION]
    train = dataset.train.inputs[rows].reshape(len(rows), -1)
    return split(train[:STORED], train[STORED:], dataset.test.inputs[:TEST].reshape(TEST, -1))


def split(stored: np.ndarray, validation: np.ndarray, test: np.ndarray) -> Images:
    """Cuts images [n, 784] into halves, less the mean of the stored ones."""
    middle = stored.shape[1] // 2
    mean = stored.mean(axis=0)
    scale = float(np.sqrt(np.mean(np.sum((stored - mean)[:, :middle] ** 2, axis=1))))

    def cut(x: np.ndarray) -> Halves:
        return Halves((x - mean)[:, :middle] / np.float32(scale), (x - mean)[:, middle:])

    means = Halves(mean[:middle], mean[middle:])
    return Images(cut(stored), cut(validation), cut(test), means, scale)


def to_complex(lower: np.ndarray) -> np.ndarray:
    """Takes pairs of pixels as complex numbers, [n, 392] -> [n, 196]."""
    return np.ascontiguousarray(lower, np.float32).view(np.complex64)


def to_pixels(pattern: np.ndarray) -> np.ndarray:
    """Takes complex numbers as pairs of pixels, [n, 196] -> [n, 392]."""
    return np.ascontiguousarray(pattern, np.complex64).view(np.float32)


def solve(memory: Memory, x: np.ndarray, patterns: np.ndarray, penalty: float) -> Memory:
    """Returns the memory with the smallest Σ_i |read(m, x_i) − p_i|² + λ (M/a) |m|²/a, M pairs on a pages."""
    pages, width = memory.pages.shape
    gram = np.zeros((pages, pages), np.complex64)
    moment = np.zeros((pages, width), np.complex64)
    for start in range(0, len(x), 2048):
        keys = make_keys(x[start : start + 2048], memory.directions)
        gram += keys.T @ keys.conj() / np.float32(pages)
        moment += keys.T @ patterns[start : start + 2048]
    gram += np.float32(penalty * len(x) / pages) * np.eye(pages, dtype=np.float32)
    return memory._replace(pages=np.linalg.solve(gram, moment))


class Completion(NamedTuple):
    """A memory, and the factor that its readings are scaled by."""

    memory: Memory
    factor: float


def store(
    write: str, numbers: int, halves: Halves, square: float, penalty: float = 0.0
) -> Completion:
    """Fills a memory of so many real numbers.

    A superposition reads too strongly, by what similar keys add: one factor, the best for the first 1,000 stored
    images, scales its readings.
    """
    x, patterns = halves.upper, to_complex(halves.lower)
    memory = make_memory(numbers, patterns.shape[1], square, x.shape[1])
    if write == "ridge":
        return Completion(solve(memory, x, patterns, penalty), 1.0)
    if write == "delta rule":
        return Completion(rehearse(memory, x, patterns), 1.0)
    memory = superpose(memory, x, patterns)
    found, wanted = to_pixels(read(memory, x[:1000])), halves.lower[:1000]
    return Completion(memory, float(np.sum(found * wanted) / np.sum(found**2)))


def complete(completion: Completion, upper: np.ndarray) -> np.ndarray:
    """Returns the lower halves, [n, 392], less their mean."""
    return completion.factor * to_pixels(read(completion.memory, upper))


def relative_error(found: np.ndarray, wanted: np.ndarray, variance: float) -> float:
    """Returns the mean square error of a pixel over the variance of the pixels of the lower half."""
    return float(np.mean((found - wanted) ** 2) / variance)


def nearest(queries: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Returns the row at the smallest Euclidean distance from each query."""
    squares = np.sum(entries**2, axis=1) / 2
    blocks = [queries[start : start + 500] for start in range(0, len(queries), 500)]
    return np.concatenate([(block @ entries.T - squares).argmax(axis=1) for block in blocks])


def regress(halves: Halves, numbers: int | None, penalty: float = 1e-3) -> tuple[np.ndarray, int]:
    """Fits the lower halves by ridge regression, cut to the rank that so many numbers hold; None: not cut.

    Returns the matrix [392, 392] and the numbers it takes.
    """
    x, y = halves.upper.astype(np.float64), halves.lower.astype(np.float64)
    gram = x.T @ x / len(x)
    matrix = np.linalg.solve(gram + penalty / len(gram) * np.eye(len(gram)), x.T @ y / len(x))
    rank = len(matrix) if numbers is None else numbers // sum(matrix.shape)
    if rank * sum(matrix.shape) >= matrix.size:
        return matrix, matrix.size
    # The best approximation of the fit of this rank: projected on the main directions of what is fitted.
    _, vectors = np.linalg.eigh(matrix.T @ gram @ matrix)
    main = vectors[:, len(vectors) - rank :]
    return matrix @ main @ main.T, rank * sum(matrix.shape)


class Results(ResultFile):
    """The JSON file of this experiment."""

    TABLES = ("recall", "search", "unseen", "rivals")

    def summary(self) -> dict[str, Any]:
        """Returns what all rows share."""
        return {"visible": "upper half", "stored": STORED, "test": TEST, "squares": RECALL_SQUARES}


def run_recall(results: Results, count: int, write: str, log_numbers: int) -> None:
    """Measures how stored images are completed, unless the file has it."""
    key = {"images": count, "write": write, "numbers": 2**log_numbers}
    if results.find("recall", **key):
        return
    stored = load().stored
    halves = Halves(stored.upper[:count], stored.lower[:count])
    completion = store(write, 2**log_numbers, halves, RECALL_SQUARES[write], RECALL_PENALTY)
    found = complete(completion, halves.upper[:PROBES])
    right = nearest(normalize(found), normalize(halves.lower)) == np.arange(len(found))
    error = relative_error(found, halves.lower[:PROBES], float(np.mean(stored.lower**2)))
    results.add("recall", key, {"error": error, "accuracy": float(np.mean(right))})


def points(write: str) -> list[tuple[float, float]]:
    """Returns (σ², λ) to be tried."""
    penalties = PENALTIES if write == "ridge" else (0.0,)
    return [(square, penalty) for square in SQUARES for penalty in penalties]


def search(results: Results, write: str, square: float, penalty: float) -> None:
    """Measures a width and a penalty on the validation images, unless the file has it."""
    key = {"write": write, "square": square, "penalty": penalty}
    if results.find("search", **key):
        return
    images = load()
    completion = store(write, 2**SEARCH_SIZE, images.stored, square, penalty)
    variance = float(np.mean(images.stored.lower**2))
    found = complete(completion, images.validation.upper)
    results.add("search", key, {"error": relative_error(found, images.validation.lower, variance)})


def best(record: Mapping[str, Any], write: str) -> tuple[float, float]:
    """Returns (σ², λ) of the smallest validation error."""
    rows = [row for row in record["search"] if row["write"] == write]
    row = min(rows, key=lambda row: row["error"])
    return row["square"], row["penalty"]


def run_unseen(results: Results, write: str, log_numbers: int) -> None:
    """Measures how unseen images are completed, unless the file has it."""
    key = {"write": write, "numbers": 2**log_numbers}
    if results.find("unseen", **key):
        return
    images, point = load(), best(results.record, write)
    completion = store(write, 2**log_numbers, images.stored, *point)
    variance = float(np.mean(images.stored.lower**2))
    error = relative_error(complete(completion, images.test.upper), images.test.lower, variance)
    values = dict(zip(("square", "penalty"), point, strict=True))
    results.add("unseen", key, values | {"error": error})


def run_rivals(results: Results, log_numbers: int | None) -> None:
    """Measures nearest neighbour and ridge regression of so many numbers; None: of all, and the mean image."""
    key = {"numbers": None if log_numbers is None else 2**log_numbers}
    if results.find("rivals", **key):
        return
    images = load()
    stored, test = images.stored, images.test
    count = STORED if log_numbers is None else 2**log_numbers // (2 * PIXELS)
    matrix, used = regress(stored, key["numbers"])
    rows = nearest(test.upper, stored.upper[:count])
    found = {
        "nearest neighbour": stored.lower[rows],
        "ridge regression": test.upper @ matrix,
        "mean image": np.zeros_like(test.lower),
    }
    variance = float(np.mean(stored.lower**2))
    errors = {name: relative_error(x, test.lower, variance) for name, x in found.items()}
    results.add("rivals", key, {"neighbours": count, "regression_numbers": used, "errors": errors})


def draw(record: Mapping[str, Any]) -> Figure:
    """Draws eight unseen images: whole, masked, completed by memories of 2^18 numbers and by the rivals."""
    images, shown = load(), slice(0, 8)
    upper = images.test.upper[shown]
    rows = nearest(upper, images.stored.upper)
    lower = {"original": images.test.lower[shown], "masked": None}
    for write in WRITES:
        memory = store(write, 2**SEARCH_SIZE, images.stored, *best(record, write))
        lower[write] = complete(memory, upper)
    lower["nearest neighbour"] = images.stored.lower[rows]
    lower["ridge regression"] = upper @ regress(images.stored, None)[0]
    figure = Figure(figsize=(7.6, 6.4), layout="constrained")
    panels = figure.subplots(len(lower), len(upper))
    top = upper * images.scale + images.means.upper
    low, high = float(top.min()), float(top.max())
    for line, (name, half) in zip(panels, lower.items(), strict=True):
        for column, panel in enumerate(line):
            below = np.full(PIXELS, low) if half is None else half[column] + images.means.lower
            picture = np.concatenate([top[column], below]).reshape(SIDE, SIDE)
            panel.imshow(picture, cmap="gray", vmin=low, vmax=high)
            panel.set(xticks=[], yticks=[])
        label = f"{name}\n2^{SEARCH_SIZE} numbers" if name in WRITES else name
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    return figure


def jobs() -> list[tuple[Any, ...]]:
    """Everything to be measured, in order."""
    found: list[tuple[Any, ...]] = [(run_rivals, size) for size in (*SIZES, None)]
    found += [(search, write, *point) for write in WRITES for point in points(write)]
    found += [(run_unseen, write, size) for size in SIZES for write in WRITES]
    found += [
        (run_recall, count, write, size) for count in COUNTS for size in SIZES for write in WRITES
    ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    _, results = open_results(parser, Results, RESULTS, draw)
    work(results, jobs())


if __name__ == "__main__":
    main()
