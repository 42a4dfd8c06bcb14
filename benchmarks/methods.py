"""Where the two methods of `resonate` cross: FFT over matrix, by what the matrix form costs, in columns.

Forward and backward of float32 x [b, n, d] with bins spread over the spectrum, which no narrow table serves: b n =
16384 (65536 for n = 64K) and d = 256, and at n = 4096 other batches and widths.
"matrix_columns" in the file is what `_MATRIX_COLUMNS` of resonance_jax/ops/resonance.py should hold for this platform.
"""

import math

import jax
import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness import Record
from benchmarks.resonance import FEATURES, PASSES, filters, tensors, timed
from benchmarks.timing import ratio
from resonance_jax.ops._two_level import work_in_columns
from resonance_jax.ops.fourier import select_bins
from resonance_jax.training.plots import INK, PALETTE

LENGTHS = (256, 1024, 4096, 16384, 65536)
BINS = (64, 256, 1000, 2049, 4500, 5000, 8193)
MOST = 1000  # columns: far beyond where the FFT wins
OTHERS = ((1, FEATURES), (16, FEATURES), (64, 32), (1, 1024))  # (batch, features) at n = 4096


def run(record: Record) -> None:
    """Times both at each shape and number of bins."""
    lengths = LENGTHS[1:3] if record.quick else LENGTHS
    shapes = [(max(1, 16384 // n), n, FEATURES) for n in lengths]
    if not record.quick:
        shapes += [(b, 4096, d) for b, d in OTHERS]
    entries = []
    for batch, n, features in shapes:
        ratios: dict[float, float] = {}
        for k in {min(k, n // 2 + 1): None for k in (BINS[:2] if record.quick else BINS)}:
            columns = work_in_columns(select_bins(n // 2 + 1, k, "uniform") / n, n, np.float32)
            if columns > MOST:
                continue
            inputs = tensors(n, k, batch, features)
            forms = filters(n, k, "uniform")
            cases = [
                timed(m, forms[f"{m}, uniform bins"], inputs, 5, PASSES[1:])[0]
                for m in ("fft", "matrix")
            ]
            where = {"b": batch, "n": n, "d": features, "k": k, "columns": round(columns, 1)}
            record.time(where, cases, f"matrix {PASSES[1]}")
            found = ratio(*cases)
            shape = f"[{batch}, {n}, {features}], k = {k}"
            record.target(f"{shape}: FFT / matrix, {columns:.0f} columns", found)
            if found is not None:
                ratios[columns] = found
        if not record.quick and ratios:  # quick ones are too few to say where they cross
            entries.append((batch, n, features, most_columns(ratios)))
    print(f'columns on "{jax.default_backend()}", by (batch, n, features): {entries}')
    record.values["matrix_columns"] = entries


def most_columns(ratios: dict[float, float]) -> int:
    """The columns up to which matrix wins, log-interpolated between the last win and the first loss."""
    counts = sorted(ratios)
    for before, after in zip([None, *counts], counts, strict=False):
        if ratios[after] < 1:
            if before is None:
                return 0
            win, loss = np.log(ratios[before]), -np.log(ratios[after])
            return math.ceil(before * (after / before) ** (win / (win + loss)))
    return math.ceil(counts[-1])


def draw(values: dict) -> Figure:
    """Draws FFT / matrix over the columns, a line a length at the usual width; below 1 the FFT is faster."""
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.add_subplot()
    rows = [
        row
        for row in values["rows"]
        if row["name"].startswith("fft")
        and "times_reference" in row
        and (row["b"], row["d"]) == (max(1, 16384 // row["n"]), FEATURES)
    ]
    for color, n in zip(PALETTE, sorted({row["n"] for row in rows}), strict=False):
        found = sorted((row["columns"], row["times_reference"]) for row in rows if row["n"] == n)
        axes.loglog(
            *zip(*found, strict=True), color=color, marker="o", markersize=3, label=f"n = {n:,}"
        )
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.set(
        xlabel="what the matrix form costs, in columns of a table",
        ylabel="time of the FFT form / of the matrix form",
    )
    axes.set_xticks([64, 128, 256, 512], ["64", "128", "256", "512"])
    axes.set_yticks([1, 2, 3], ["1", "2", "3"])
    axes.minorticks_off()
    axes.legend()
    return figure
