"""Recall of holographic memories: beside theory, and how many bits a number each way of writing and reading holds.

Claim: superposed pairs are recalled within 0.03 of the closed form; error-correcting writes hold at least twice as many
bits.
Command: python -m experiments.hologram_capacity, and python -m experiments.hologram_capacity --plot
Time: about an hour of CPU on one core
Score: at 256 patterns 0.28 bits a number by superposition, 0.95 by corrective writes, 1.34 read jointly, at least 9.2
from falling strengths (results/hologram_capacity.json; other codebooks incomplete)

A memory of 512 real float32 numbers (or 256 complex ones) holds M pairs of a drawn key and one of C drawn patterns;
keys and codebook are drawn anew in each trial and are free, as in all theories of capacity. Recall is the share of
pairs found among the C. A way holds a rate, M log₂C bits over 512, if it recalls 99 % of all pairs of the trials;
reported are `capacity.recalled_bits` of them. Rates are 1.12 apart.
Noise is white, its power that of the memory over the SNR. Patterns are normal numbers, for the joint ways unitary ones
(flat spectra: what their decoder assumes); delta writes have 64 pages for patterns of 8 numbers, `pages` 8 for 64.
"""

import argparse
import functools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.result_file import ResultFile, open_results, work
from resonance_jax.ops import capacity, hologram
from resonance_jax.ops.joint_recall import recall_jointly
from resonance_jax.training import plots

RESULTS = Path(__file__).parent / "results" / "hologram_capacity.json"
NUMBERS = 512
PAGES = 8
DELTA_PAGES = 64
ACCURACY = 0.99
ROUNDS = 300
FALL = 1.6  # strengths fall to 2^(−FALL · rate); 1 is what Shannon's capacity asks for
ITERATIONS = {"joint": 64, "joint, falling": 256}
CODEBOOKS = (2, 16, 256, 1024)
CURVE = 256
RATIO = 1.12
LOWEST = 0.05
NOISE_DB = (0, 10, 20, 30)
NOISY = ("superposition", "corrective writes", "joint", "joint, falling")
NOISY_CODEBOOK = CURVE

GRID = {
    "dimension": (64, 256, 1024),
    "load": (1 / 64, 1 / 32, 1 / 16, 1 / 8),
    "codebook": (10, 100, 1000),
}
GRID_TRIALS = 200
TABLE = {512: (250, 0.042, 4096), 1024: (500, 0.038, 16384), 2048: (1000, 0.051, 65536)}
"""Numbers -> patterns, error and bits as published."""
GARDNER = 2.0  # bits a weight of a linear threshold read-out (Gardner, J. Phys. A 21 (1988) 257)
PUBLISHED = {
    "small codebooks": 1.40,
    "large codebooks": 1.26,
}  # Kleyko et al., Neural Computation 35 (2023) 1159


def draw(
    key: jax.Array,
    shape: tuple[int, ...],
    pairs: int,
    size: int,
    kind: str = "real",
    flat: bool = False,
):
    """Draws keys [pairs, *shape], a codebook [size, N], of flat spectra if asked, and labels."""
    first, second, third = jax.random.split(key, 3)
    keys = hologram.unitary_key(first, (pairs, *shape), kind)
    entries = hologram.unitary_key if flat else hologram.random_pattern
    codebook = entries(second, (size, shape[-1]), kind)
    return keys, codebook, jax.random.randint(third, (pairs,), 0, size)


def superpose(keys, patterns, *, pages: bool = False):
    return hologram.bundle(hologram.bind(patterns[:, None] if pages else patterns, keys))


def found(memory, keys, codebook, *, pages: bool = False):
    query = hologram.read(memory, keys, pages=pages)
    return hologram.cleanup(query, codebook).index[:, 0]


def add_noise(key, memory, noise):
    """Adds white noise with the share `noise` of the memory's power, for each real number."""
    complex_memory = jnp.iscomplexobj(memory)
    parts = jax.random.normal(key, (2 if complex_memory else 1, *memory.shape))
    draws = jax.lax.complex(*parts) if complex_memory else parts[0]
    return memory + draws * jnp.sqrt(
        noise * jnp.mean(jnp.abs(memory) ** 2) / (2 if complex_memory else 1)
    )


def superposition(key, pairs, size, noise, *, kind="real", keys_are="unitary"):
    keys, codebook, labels = draw(
        key, (NUMBERS // (2 if kind == "phasor" else 1),), pairs, size, kind
    )
    if keys_are == "random":
        keys = hologram.random_pattern(jax.random.fold_in(key, 1), keys.shape)
    memory = add_noise(key, superpose(keys, codebook[labels]), noise)
    return found(memory, keys, codebook) == labels


def on_pages(key, pairs, size, noise):
    keys, codebook, labels = draw(key, (PAGES, NUMBERS // PAGES), pairs, size)
    memory = superpose(keys, codebook[labels], pages=True)
    return found(add_noise(key, memory, noise), keys, codebook, pages=True) == labels


def delta(key, pairs, size, noise):
    shape = (DELTA_PAGES, NUMBERS // DELTA_PAGES)
    keys, codebook, labels = draw(key, shape, pairs, size)
    write = functools.partial(hologram.delta_write, pages=True)
    memory = hologram.consolidate(write, jnp.zeros(shape), codebook[labels], keys, ROUNDS)
    return found(add_noise(key, memory, noise), keys, codebook, pages=True) == labels


def corrective(key, pairs, size, noise):
    keys, codebook, labels = draw(key, (NUMBERS,), pairs, size)

    def write(memory, label, key):
        return hologram.corrective_write(memory, label, key, codebook)

    memory = hologram.consolidate(write, jnp.zeros(NUMBERS), labels, keys, ROUNDS)
    return found(add_noise(key, memory, noise), keys, codebook) == labels


def jointly(key, pairs, size, noise, *, falling):
    keys, codebook, labels = draw(key, (NUMBERS,), pairs, size, flat=True)
    rate = pairs * math.log2(size) / NUMBERS
    strength = 2.0 ** (-FALL * rate * np.arange(pairs) / pairs) if falling else np.ones(pairs)
    strength = jnp.asarray(strength.astype(np.float32))
    memory = add_noise(key, superpose(keys, strength[:, None] * codebook[labels]), noise)
    iterations = ITERATIONS["joint, falling" if falling else "joint"]
    return recall_jointly(memory, keys, codebook, strength, iterations).index == labels


WAYS: dict[str, tuple[Callable[..., Any], int, float]] = {
    "superposition, random keys": (functools.partial(superposition, keys_are="random"), 40, LOWEST),
    "superposition": (superposition, 40, LOWEST),
    "superposition, phasors": (functools.partial(superposition, kind="phasor"), 40, LOWEST),
    "pages": (on_pages, 40, LOWEST),
    "delta writes": (delta, 10, 0.2),
    "corrective writes": (corrective, 10, 0.3),
    "joint": (functools.partial(jointly, falling=False), 10, 0.3),
    "joint, falling": (functools.partial(jointly, falling=True), 10, 0.6),
}
"""Way of writing and reading -> function (key, pairs, C, noise) -> hits [pairs], trials, first rate without noise."""


def accuracy(way: str, pairs: int, size: int, noise: float = 0.0) -> float:
    """Returns the share of pairs recalled over all trials."""
    function, trials, _ = WAYS[way]

    @jax.jit
    def every(keys):
        return jnp.mean(jax.vmap(lambda key: function(key, pairs, size, noise))(keys))

    return float(every(jax.random.split(jax.random.key(pairs), trials)))


def rates() -> list[float]:
    return [LOWEST * RATIO**step for step in range(60)]


def search(results: ResultFile, way: str, size: int, decibels: int | None = None) -> None:
    """Finds the highest rate recalled with 99 %: every fourth until it is passed, then by bisection.

    For the curve, 256 patterns without noise, every rate is tried until two in a row fail.
    """
    lowest = WAYS[way][2] / (1 if decibels is None else 4)
    pairs = [max(1, round(rate * NUMBERS / math.log2(size))) for rate in rates()]
    pairs = list(dict.fromkeys(pairs))
    first = next(i for i, n in enumerate(pairs) if n * math.log2(size) >= lowest * NUMBERS)
    if (size, decibels) == (CURVE, None):
        failed = 0
        for count in pairs[first:]:
            failed = 0 if recalls(results, way, size, decibels, count) else failed + 1
            if failed == 2:
                return
    low, high = first, first
    while low >= 0 and not recalls(results, way, size, decibels, pairs[low]):
        low, high = low - 4, low
    low = max(low, -1)
    while high < len(pairs) and recalls(results, way, size, decibels, pairs[high]):
        low, high = high, high + 4
    high = min(high, len(pairs))
    while high - low > 1:
        middle = (low + high) // 2
        good = recalls(results, way, size, decibels, pairs[middle])
        low, high = (middle, high) if good else (low, middle)


def recalls(results: ResultFile, way: str, size: int, decibels: int | None, pairs: int) -> bool:
    """Whether 99 % of so many pairs are recalled; measured unless the file has it."""
    key = {"way": way, "codebook": size, "snr_db": decibels, "pairs": pairs}
    row = results.find("rates", **key)
    if row is None:
        started = time.process_time()
        noise = 0.0 if decibels is None else 10 ** (-decibels / 10)
        found = accuracy(way, pairs, size, noise)
        seconds = round(time.process_time() - started, 2)
        row = {"rate": pairs * math.log2(size) / NUMBERS, "accuracy": found, "seconds": seconds}
        results.add("rates", key, row)
    return row["accuracy"] >= ACCURACY


def compare(results: ResultFile, dimension: int, pairs: int, size: int, kind: str) -> None:
    """Measures the recall of superposed pairs over 200 trials beside the closed form."""
    key = {"dimension": dimension, "pairs": pairs, "codebook": size, "kind": kind}
    if results.find("grid", **key):
        return

    @jax.jit
    def trial(seed):
        keys, codebook, labels = draw(seed, (dimension,), pairs, size, kind)
        return jnp.mean(found(superpose(keys, codebook[labels]), keys, codebook) == labels)

    measured = float(np.mean([trial(jax.random.key(seed)) for seed in range(GRID_TRIALS)]))
    theory = capacity.recall_accuracy(dimension, pairs, size, kind)
    results.add("grid", key, {"measured": measured, "theory": theory})


def published(results: ResultFile, dimension: int) -> None:
    """Superposes as many patterns as the published table says, and sets beside it what is possible."""
    patterns, error, bits = TABLE[dimension]
    keys, codebook, _ = draw(jax.random.key(0), (dimension,), patterns, patterns)
    memory = jax.jit(superpose)(keys, codebook)
    read = np.asarray(jax.jit(hologram.read)(memory, keys))
    measured = float(np.linalg.norm(read - codebook) / np.linalg.norm(codebook))
    needed = patterns * math.log2(
        1 / error
    )  # rate-distortion of normal numbers, for each number of the memory
    values = {
        "patterns": patterns,
        "published_error": error,
        "measured_error": measured,
        "theory_error": math.sqrt(patterns - 1),
        "bits_needed_per_number": needed,
        "lowest_error_with_float32": 2 ** (-32 / patterns),
        "published_bits_per_number": bits / dimension,
    }
    results.add("published", {"dimension": dimension}, values)


def held(
    record: Mapping[str, Any], way: str, size: int, decibels: int | None = None
) -> float | None:
    """Returns the bits a number, of the highest rate recalled with 99 %; None if the search has not been made."""
    rows = [
        r
        for r in record["rates"]
        if (r["way"], r["codebook"], r["snr_db"]) == (way, size, decibels)
    ]
    good = [r for r in rows if r["accuracy"] >= ACCURACY]
    if not rows:
        return None
    return max(
        (
            r["pairs"] * capacity.recalled_bits(min(r["accuracy"], 1.0), size) / NUMBERS
            for r in good
        ),
        default=0.0,
    )


def theory(size: int, kind: str = "real", snr: float = math.inf) -> float:
    """Returns the bits a number that the closed form gives superposition at 99 %."""
    dimension = NUMBERS // (2 if kind == "phasor" else 1)
    pairs = capacity.max_pairs(dimension, size, ACCURACY, kind, snr=snr)
    return pairs * capacity.recalled_bits(ACCURACY, size) / NUMBERS


class Results(ResultFile):
    """The JSON file of this experiment."""

    TABLES = ("grid", "rates", "published")

    def summary(self) -> dict[str, Any]:
        """Returns the bounds, and for each way and codebook the bits a number it holds."""
        record = self.record
        bits = {way: {str(c): held(record, way, c) for c in CODEBOOKS} for way in WAYS}
        noisy = {
            way: {str(db): held(record, way, NOISY_CODEBOOK, db) for db in NOISE_DB}
            for way in NOISY
        }
        worst: dict[str, float] = {}
        for row in record["grid"]:
            size = str(row["dimension"])
            worst[size] = max(worst.get(size, 0), abs(row["measured"] - row["theory"]))
        return {
            "numbers": NUMBERS,
            "bits_per_number": bits,
            "bits_per_number_theory": {str(c): theory(c) for c in CODEBOOKS},
            "bits_per_number_in_noise": noisy,
            "bound_in_noise": {
                str(db): capacity.capacity_bits(0.5, 1.0, 10 ** (db / 10)) for db in NOISE_DB
            },
            "gardner": GARDNER,
            "published_bits": PUBLISHED,
            "grid_largest_difference": worst,
        }


def jobs() -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [
        (compare, n, max(1, round(load * n)), c, kind)
        for n in GRID["dimension"]
        for load in GRID["load"]
        for c in GRID["codebook"]
        for kind in hologram.KINDS
    ]
    found += [(published, dimension) for dimension in TABLE]
    found += [(search, way, c) for c in CODEBOOKS[::-1] for way in WAYS]
    return found + [(search, way, NOISY_CODEBOOK, db) for db in NOISE_DB for way in NOISY]


def table(record: Mapping[str, Any]) -> str:
    """Writes what the file holds as lines of columns."""

    def line(name: str, values) -> str:
        return f"{name:<28}" + "".join("       –" if v is None else f"{v:8.3f}" for v in values)

    lines = []
    if record["grid"]:
        worst = [f"{gap:.3f} at N = {n}" for n, gap in record["grid_largest_difference"].items()]
        lines.append(
            f"recall beside the closed form, {len(record['grid'])} cells, largest difference: {', '.join(worst)}"
        )
    lines += ["", f"{'bits a number, C =':<28}" + "".join(f"{c:>8}" for c in CODEBOOKS)]
    for way, values in record["bits_per_number"].items():
        lines.append(line(way, values.values()))
    lines.append(line("superposition, theory", record["bits_per_number_theory"].values()))
    lines += ["", f"{'in noise, C = 256, SNR dB':<28}" + "".join(f"{db:>8}" for db in NOISE_DB)]
    for way, values in record["bits_per_number_in_noise"].items():
        lines.append(line(way, values.values()))
    lines.append(line("½ log₂(1 + SNR)", record["bound_in_noise"].values()))
    for row in record["published"]:
        lines.append(
            f"{row['dimension']} numbers, {row['patterns']} patterns: error {row['published_error']} published, "
            f"{row['measured_error']:.2f} measured, {row['theory_error']:.2f} by theory; it would take "
            f"{row['bits_needed_per_number']:.0f} bits a number"
        )
    return "\n".join(lines)


def draw_curves(record: Mapping[str, Any]) -> Figure:
    """Draws recall over bits a number for each way, and what each holds in noise beside the bound."""
    figure = Figure(figsize=(8.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for index, way in enumerate(WAYS):
        rows = [
            r for r in record["rates"] if (r["way"], r["codebook"], r["snr_db"]) == (way, 256, None)
        ]
        rows.sort(key=lambda row: row["rate"])
        color = plots.PALETTE[index % len(plots.PALETTE)]
        style = "-" if index < len(plots.PALETTE) else "--"
        left.plot(
            [r["rate"] for r in rows], [r["accuracy"] for r in rows], style, color=color, label=way
        )
        if way in NOISY:
            points = [(db, held(record, way, NOISY_CODEBOOK, db)) for db in NOISE_DB]
            points = [(db, bits) for db, bits in points if bits]
            right.plot(
                *zip(*points, strict=True), "o" + style, color=color, label=way
            ) if points else None
    left.axhline(ACCURACY, color="grey", linewidth=0.8, linestyle=":")
    left.set(xscale="log", xlabel="bits stored for each number", ylabel="share of pairs recalled")
    left.set_title("512 real numbers, 256 patterns, no noise", fontsize=9)
    ticks = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
    left.set_xticks(ticks, [f"{t:g}" for t in ticks])
    left.legend(fontsize=6.5)
    decibels = np.linspace(min(NOISE_DB), max(NOISE_DB), 61)
    bound = 0.5 * np.log2(1 + 10 ** (decibels / 10))
    right.plot(decibels, bound, color="grey", linestyle="--", label="½ log₂(1 + SNR)")
    right.set(xlabel="SNR of the memory (dB)", ylabel="bits recalled for each number", yscale="log")
    right.set_yticks(ticks[1:-1], [f"{t:g}" for t in ticks[1:-1]])
    right.minorticks_off()
    right.legend(fontsize=6.5)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    _, results = open_results(parser, Results, RESULTS, draw_curves)
    work(results, jobs())
    print(table(results.record))


if __name__ == "__main__":
    main()
