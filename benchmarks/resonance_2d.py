"""Times the two methods of `resonate_2d` beside each other, and what `method="auto"` takes.

    python -m benchmarks.resonance_2d [--out FILE]

Float32 images [b, n, n, 64], b chosen for 200,704 pixels in all (64 images of 56 × 56), the lowest 2k − 1 rows and k
columns; forward, and forward with gradients. Medians over interleaved rounds.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import compiled_case, environment, ratio, time_interleaved
from resonance_jax.ops.resonance_2d import choose_method_2d, resonate_2d, select_image_bins

SIDES = (7, 14, 28, 56, 112)
FREQUENCIES = (2, 4, 8, 16, 29)
PIXELS, FEATURES, REPEATS = 64 * 56**2, 64, 7
RESULTS = Path(__file__).parent / "results"


def measure(side: int, k: int, gradients: bool) -> dict:
    """Times both methods for one size and number of frequencies."""
    rng = np.random.default_rng(0)
    rows, columns = select_image_bins((side, side), min(2 * k - 1, side), k)
    x = jnp.asarray(rng.normal(size=(PIXELS // side**2, side, side, FEATURES)), jnp.float32)
    shape = (len(rows), len(columns), FEATURES)
    weights = jnp.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape), jnp.complex64)

    def loss(x, weights, method):
        return jnp.sum(jnp.sin(resonate_2d(x, weights, rows, columns, method=method)))

    cases = []
    for method in ("fft", "matrix"):
        call = partial(resonate_2d, rows=rows, columns=columns, method=method)
        if gradients:
            call = jax.grad(partial(loss, method=method), argnums=(0, 1))
        cases.append(compiled_case(method, call, (x, weights), REPEATS))
    time_interleaved(cases)
    chosen = choose_method_2d((side, side), len(rows), len(columns))
    fft_over_matrix = round(ratio(cases[0], cases[1]), 3)
    return {
        "side": side,
        "k": k,
        "gradients": gradients,
        "chosen": chosen,
        "fft_over_matrix": fft_over_matrix,
        "lost_by_choice": max(1.0, fft_over_matrix if chosen == "fft" else 1 / fft_over_matrix),
        **{case.name: case.row() for case in cases},
    }


def main() -> None:
    """Measures all rows, prints and writes them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "resonance_2d-cpu.json")
    options = parser.parse_args()
    record = {**environment(), "rows": []}
    for side in SIDES:
        for k in (k for k in FREQUENCIES if k <= side // 2 + 1):
            for gradients in (False, True):
                row = measure(side, k, gradients)
                record["rows"].append(row)
                kind = "with gradients" if gradients else "forward"
                print(
                    f"{side:4} x {side:<4} k {k:3} {kind:15} fft {row['fft']['median_ms']:8.1f} ms  matrix "
                    f"{row['matrix']['median_ms']:8.1f} ms  auto: {row['chosen']}",
                    flush=True,
                )
    worst = max(record["rows"], key=lambda row: row["lost_by_choice"])
    print(f"at worst auto takes {worst['lost_by_choice']:.2f} times as long as the other method")
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
