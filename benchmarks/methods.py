"""Where the two methods of `resonate` cross: FFT over matrix, by length and number of bins spread over the spectrum.

Forward and backward of float32 x [b, n, 256] with b n = 16384 (65536 for n = 64K); bins that are spread are
what no table compresses.
"matrix_bins" in the file is what `_MATRIX_BINS` of resonance_jax/ops/resonance.py should hold for this platform.
"""

import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness import Record
from benchmarks.resonance import PASSES, filters, tensors, timed
from benchmarks.timing import ratio
from resonance_jax.training.plots import INK, PALETTE

LENGTHS = (256, 1024, 4096, 16384, 65536)
BINS = (8, 16, 32, 64, 128, 256, 512)


def run(record: Record) -> None:
    """Times both at each length and number of bins."""
    lengths, counts = (LENGTHS[1:4], BINS[3:6]) if record.quick else (LENGTHS, BINS)
    ratios: dict[int, dict[int, float]] = {}
    for n in lengths:
        for k in (k for k in counts if k <= n // 2 + 1):
            inputs = tensors(n, k)
            forms = filters(n, k, "uniform")
            cases = [
                timed(m, forms[f"{m}, uniform bins"], inputs, 3, PASSES[1:])[0]
                for m in ("fft", "matrix")
            ]
            name = f"matrix {PASSES[1]}"
            record.time({"n": n, "k": k}, cases, name)
            found = ratio(*cases)
            record.target(f"n = {n}, k = {k}: FFT / matrix", found)
            if found is not None:
                ratios.setdefault(n, {})[k] = found
    if record.quick:  # too few to say where they cross
        return
    entries = [(n, most_bins(by_k)) for n, by_k in ratios.items()]
    print(f'_MATRIX_BINS["{jax.default_backend()}"] = {tuple(entries)}')
    record.values["matrix_bins"] = entries


def most_bins(ratios: dict[int, float]) -> int:
    """The k up to which matrix wins, log-interpolated between the last win and the first loss."""
    counts = sorted(ratios)
    for before, after in zip([None, *counts], counts, strict=False):
        if ratios[after] < 1:
            if before is None:
                return 0
            win, loss = np.log(ratios[before]), -np.log(ratios[after])
            return int(before * (after / before) ** (win / (win + loss)))
    return counts[-1]


def draw(values: dict) -> Figure:
    """Draws FFT / matrix over the number of bins, a line a length; below 1 the FFT is faster."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.add_subplot()
    rows = [
        row for row in values["rows"] if row["name"].startswith("fft") and "times_reference" in row
    ]
    for color, n in zip(PALETTE, sorted({row["n"] for row in rows}), strict=False):
        found = [(row["k"], row["times_reference"]) for row in rows if row["n"] == n]
        axes.loglog(
            *zip(*found, strict=True), color=color, marker="o", markersize=3, label=f"n = {n:,}"
        )
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.set(
        xlabel="bins k, spread over the spectrum",
        ylabel="time of the FFT form / of the matrix form",
    )
    axes.legend()
    return figure
