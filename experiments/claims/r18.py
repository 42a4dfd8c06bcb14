"""R18: a vector of n pattern values replaces the n × n attention matrix, and with it its memory.

Source: R (attention as a frequency-domain resonator).
Decided by: XLA's count of the memory over n, arguments and working memory, of filtering by such a vector, of a product
with the matrix, and of attention that makes the matrix a few rows at a time; and how far what the vector computes is
from what the matrix computes, for circulant weights and for softmax weights.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.filters import softmax_weights
from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.numbers import largest, relative_error, smallest
from resonance_jax.claims.scaling import fit_slope
from resonance_jax.ops.resonator import circulant_projection, resonator

LENGTHS = {"quick": (512, 1024, 2048, 4096), "full": (512, 1024, 2048, 4096, 8192, 16384)}
FEATURES, CHUNK = 16, 128
SAME = 1e-4  # float32


def by_vector(column, x):
    """Filters x [n, d] by the n real numbers of a column."""
    pattern = jnp.fft.rfft(column)[None]
    return jnp.fft.irfft(resonator(jnp.fft.rfft(x.T), pattern, pattern), n=len(x)).T


def by_matrix(weights, x):
    return weights @ x


def by_chunks(x):
    def rows(queries):
        return jax.nn.softmax(queries @ x.T / FEATURES**0.5) @ x

    return jax.lax.map(rows, x.reshape(-1, CHUNK, FEATURES)).reshape(x.shape)


def memory_bytes(function, *shapes: tuple[int, ...]) -> int:
    """Bytes of arguments and intermediate values, as the compiled program allocates them; nothing is run."""
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    sizes: Any = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return sizes.argument_size_in_bytes + sizes.temp_size_in_bytes


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    lengths = LENGTHS[size]
    found: Numbers = {
        "lengths": list(lengths),
        "bytes_vector": [memory_bytes(by_vector, (n,), (n, FEATURES)) for n in lengths],
        "bytes_matrix": [memory_bytes(by_matrix, (n, n), (n, FEATURES)) for n in lengths],
        "bytes_chunks": [memory_bytes(by_chunks, (n, FEATURES)) for n in lengths],
    }
    for name in ("vector", "matrix", "chunks"):
        found[f"exponent_{name}"] = fit_slope(lengths, found[f"bytes_{name}"]).slope
    n = 256
    x = rng.standard_normal((n, FEATURES)).astype(np.float32)
    softmax = softmax_weights(*rng.standard_normal((2, n, FEATURES))).astype(np.float32)
    circulant = np.asarray(jax.jit(circulant_projection)(softmax))
    filtered = np.asarray(jax.jit(by_vector)(circulant[:, 0], x))
    found["error_circulant"] = relative_error(filtered, circulant @ x)
    found["error_softmax"] = relative_error(filtered, softmax @ x)
    return found


def decide(runs: Sequence[Numbers]) -> Decision:
    vector, matrix = largest(runs, "exponent_vector"), smallest(runs, "exponent_matrix")
    circulant = largest(runs, "error_circulant")
    chunks = largest(runs, "exponent_chunks")
    last = {name: runs[0][f"bytes_{name}"][-1] / 2**20 for name in ("vector", "matrix", "chunks")}
    number = (
        f"memory ∝ n^{vector:.2f} (vector), n^{matrix:.2f} (matrix), n^{chunks:.2f} (matrix, {CHUNK} rows at a time), "
        f"{last['vector']:.1f}, {last['matrix']:.0f} and {last['chunks']:.1f} MB at n = {runs[0]['lengths'][-1]}; "
        f"relative error {circulant:.1g} (circulant weights), {smallest(runs, 'error_softmax'):.2f} (softmax)"
    )
    if vector > 1.3 or matrix < 1.7 or circulant > SAME:
        what = "a circulant matrix" if circulant > SAME else "the memory of the matrix"
        return Decision("fails", number, f"The vector does not replace {what}.")
    if largest(runs, "error_softmax") <= SAME:
        return Decision("holds", number)
    also = " The memory alone is no reason: attention by rows needs no n × n matrix either."
    return Decision(
        "holds when",
        number,
        "The weights depend on (i − j) mod n only; for other weights the vector takes as little memory, but computes "
        f"something else.{also if chunks < 1.3 else ''}",
    )


def draw(runs: Sequence[Numbers]) -> Plot:
    n = runs[0]["lengths"]
    labels = {"matrix": "n × n matrix", "chunks": f"{CHUNK} rows at a time", "vector": "vector"}
    series = tuple(Series(label, n, runs[0][f"bytes_{name}"]) for name, label in labels.items())
    return Plot(
        "sequence length n", "bytes of arguments and working memory", series, log_x=True, log_y=True
    )
