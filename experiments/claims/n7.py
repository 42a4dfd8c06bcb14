"""N7: a resonance layer conserves mutual information.

Source: N (resonance networks with holographic memory).
Decided by: I(x; layer(x + e)) against I(x; x + e), exact for Gaussian signal x and noise e, from the layer's matrix:
with every bin kept, with bins dropped, a weight of 0, an imaginary weight at DC, an interference that cancels a bin;
and with the noise after the layer.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.numbers import EXACT, largest, smallest
from resonance_jax.ops.information import (
    gaussian_mutual_information,
    spectral_mutual_information,
)
from resonance_jax.ops.resonance import resonate

LENGTHS = {"quick": 16, "full": 128}
KEPT = {"quick": (2, 6), "full": (1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64)}
NOISE = 0.5


channel_information = jax.jit(gaussian_mutual_information)


@functools.partial(jax.jit, static_argnames="n")
def layer_matrix(n: int, weights: jax.Array, mixing: jax.Array) -> jax.Array:
    """Returns A with layer(x) = A x for the layer that keeps the lowest bins."""
    bins, basis = np.arange(len(weights)), jnp.eye(n)[..., None]
    rows = resonate(basis, weights[:, None], bins, interference=mixing, method="fft")
    return jnp.transpose(rows[..., 0])


def information(matrix: np.ndarray, covariance: np.ndarray) -> float:
    """Returns I(x; A (x + e)): what the orthonormal rows that span A's row space see."""
    _, gains, rows = np.linalg.svd(matrix)
    seen = np.where(gains > 1e-9 * gains[0], 1.0, 0.0)[:, None] * rows
    return float(channel_information(seen, covariance, NOISE))


def information_of_bins(power: np.ndarray, n: int) -> np.ndarray:
    """Returns what each bin by itself tells about a signal with this power spectrum."""

    def one(index):
        return spectral_mutual_information(power[:, None], index[None], NOISE, n=n)

    return np.asarray(jax.jit(jax.vmap(one))(jnp.arange(len(power))))


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    n, kept = LENGTHS[size], list(KEPT[size])
    k = n // 2 + 1
    power = 4 / (1 + np.arange(k) / 3) ** 2 + 0.1 * rng.random(k)
    first, t = np.fft.irfft(power, n=n), np.arange(n)
    covariance = first[(t[:, None] - t[None, :]) % n]
    weights = rng.uniform(0.5, 2, k) * np.exp(1j * rng.uniform(-1, 1, k))
    mixing = 0.3 / np.sqrt(k) * (rng.standard_normal((k, k)) + 1j * rng.standard_normal((k, k)))
    zero, imaginary = weights.copy(), weights.copy()
    zero[1], imaginary[0] = 0, 1j
    none, cancelling = np.zeros((2, k, k), complex)
    cancelling[1, 1] = -1  # S ← S + M S
    with jax.enable_x64(True):
        whole = information(np.eye(n), covariance)

        def lost(weights, interference=none):
            count = len(weights)
            matrix = np.asarray(layer_matrix(n, weights, interference[:count, :count]))
            return 1 - information(matrix, covariance) / whole

        by_bin = information_of_bins(power, n)
        after = channel_information(layer_matrix(n, weights, 0 * mixing), covariance, NOISE)
        return {
            "nats": whole,
            "bins": k,
            "lost_none_dropped": abs(lost(weights)),
            "lost_interference": abs(lost(weights, mixing)),
            "lost_weight_zero": lost(zero),
            "lost_imaginary_at_dc": lost(imaginary),
            "lost_cancelled": lost(weights, cancelling),
            "change_noise_after": abs(float(after) / whole - 1),
            "kept": kept,
            "lost_dropped": [lost(weights[:bins]) for bins in kept],
            "lost_predicted": [1 - float(by_bin[:bins].sum()) / whole for bins in kept],
        }


def decide(runs: Sequence[Numbers]) -> Decision:
    kept = max(largest(runs, "lost_none_dropped"), largest(runs, "lost_interference"))
    losses = ("lost_weight_zero", "lost_imaginary_at_dc", "lost_cancelled", "lost_dropped")
    most = max(largest(runs, name) for name in losses)
    off = max(
        float(np.max(np.abs(np.subtract(run["lost_dropped"], run["lost_predicted"]))))
        for run in runs
    )
    number = (
        f"{kept:.1g} of the information lost with every bin kept, "
        f"{smallest(runs, 'lost_weight_zero'):.1%} with one weight 0, "
        f"{smallest(runs, 'lost_dropped'):.1%} to {largest(runs, 'lost_dropped'):.1%} with bins dropped, "
        f"within {off:.1g} of the formula; {smallest(runs, 'change_noise_after'):.0%} change with noise after the layer"
    )
    if kept > EXACT:
        return Decision("fails", number, "Information changes with every bin kept, too.")
    if most <= EXACT:
        return Decision("holds", number, "A bin that is dropped or weighted by 0 told nothing.")
    after = (
        " and no noise is added after the layer"
        if smallest(runs, "change_noise_after") > EXACT
        else ""
    )
    law = ": Σ (c_f/2) log(1 + S_f/σ²) over their bins" if off <= EXACT else ""
    return Decision(
        "holds when",
        number,
        "Every bin is kept, no weight is 0 (nor its real part at DC and Nyquist), the interference is invertible"
        f"{after}. Bins that are dropped take their information along{law}.",
    )


def draw(runs: Sequence[Numbers]) -> Plot:
    run = runs[0]
    share = (np.asarray(run["kept"]) / run["bins"]).tolist()
    measured, formula = (
        (1 - np.asarray(run[name])).tolist() for name in ("lost_dropped", "lost_predicted")
    )
    return Plot(
        "share of bins kept, the lowest ones",
        "share of the information left",
        (
            Series("the layer's matrix", share, measured, "points"),
            Series("sum over the kept bins", share, formula, "reference"),
        ),
    )
