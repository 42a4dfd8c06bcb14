"""The two methods of `resonate_2d` beside each other, and what `method="auto"` takes.

Float32 images [b, n, n, 64], b chosen for 200,704 pixels in all (64 images of 56 × 56), the lowest 2k − 1 rows and k
columns; forward, and forward with gradients. Medians over interleaved rounds.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Record
from benchmarks.timing import compiled_case, ratio
from resonance_jax.ops.resonance_2d import choose_method_2d, resonate_2d, select_image_bins

SIDES = (7, 14, 28, 56, 112)
FREQUENCIES = (2, 4, 8, 16, 29)
PIXELS, FEATURES, REPEATS = 64 * 56**2, 64, 7


def measure(record: Record, side: int, k: int, gradients: bool) -> None:
    """Times both methods at one size and number of frequencies; asked of "auto" is the better one."""
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
        cases.append(compiled_case(method, call, (x, weights), 3 if record.quick else REPEATS))
    chosen = choose_method_2d((side, side), len(rows), len(columns))
    kind = "with gradients" if gradients else "forward"
    record.time({"side": side, "k": k, "pass": kind, "auto": chosen}, cases, "matrix")
    lost = ratio(*cases) if chosen == "fft" else ratio(*reversed(cases))
    what = f"{side} × {side}, k = {k}, {kind}: auto / better method"
    record.target(what, None if lost is None else max(1.0, lost), at_most=1.1)


def run(record: Record) -> None:
    """Times both methods at each size and number of frequencies."""
    for side in SIDES[:3] if record.quick else SIDES:
        for k in (k for k in FREQUENCIES if k <= side // 2 + 1):
            for gradients in (False, True):
                measure(record, side, k, gradients)
