"""N3: gradients are bounded by the magnitudes of the spectra and do not grow with time.

Source: N (resonance networks with holographic memory).
Decided by: the largest |∂L/∂r_f| / (‖X_f‖ ‖G_f‖), and the log-log slope of the parameters' gradient norm over the
length, for a resonance layer beside a GRU and, at full size, attention and an LSTM, at the start and while training;
"no growth" is a slope below 0.1. Printed beside it is the reach: the gradient that the first step gets from a loss on
the last one, over the last step's own.
"""

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.scaling import fit_slope
from resonance_jax.layers.block import MixerBlock
from resonance_jax.layers.resonance import ResonanceLayer
from resonance_jax.models.baselines import SelfAttention
from resonance_jax.ops.polar import from_polar, polar_gradient
from resonance_jax.ops.resonance import resonate

WIDTH, FREQUENCIES, BATCH, RATE = 16, 16, 4, 0.03
KINDS = ("resonance", "gru", "transformer", "lstm")


class Recurrent(nn.Module):
    """A recurrent layer over x [b, t, d]."""

    cell: str

    @nn.compact
    def __call__(self, x):
        cell = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}[self.cell](WIDTH)
        return nn.RNN(cell)(x)


@functools.cache
def make_layer(kind: str) -> nn.Module:
    """Returns one layer of width 16, called as layer(x)."""
    if kind == "resonance":
        return ResonanceLayer(WIDTH, FREQUENCIES)
    if kind == "transformer":
        return MixerBlock(SelfAttention(num_heads=4), mlp_dim=0)
    return Recurrent(kind)


@functools.partial(jax.jit, static_argnums=1)
def bound_ratio(key: jax.Array, n: int) -> jax.Array:
    """Returns the largest |∂L/∂r_f| / (‖X_f‖ ‖G_f‖) over frequencies and features, for a random loss Σ g y."""
    keys = jax.random.split(key, 4)
    x, g = (jax.random.normal(k, (n, WIDTH)) for k in keys[:2])
    bins = np.arange(n // 2 + 1)
    shape = (len(bins), WIDTH)
    weights = from_polar(
        *(jnp.exp(jax.random.normal(keys[2], shape)), jax.random.normal(keys[3], shape))
    )
    gradient = jax.grad(lambda w: jnp.sum(g * resonate(x, w, bins, method="fft")))(weights)
    # Of y = irfft(W X): G_f, the derivative in the bin's value, is c_f / n times the spectrum of g.
    count = np.where((bins == 0) | (2 * bins == n), 1, 2)[:, None]
    limit = jnp.abs(jnp.fft.rfft(x, axis=0)) * jnp.abs(jnp.fft.rfft(g, axis=0)) * count / n
    return jnp.max(jnp.abs(polar_gradient(weights, gradient).magnitude) / limit)


def train(seed: int, kind: str, n: int, steps: int) -> tuple[list[float], float]:
    """Learns to repeat the first step at the last; returns the gradient norms, and the reach at the start."""
    layer = make_layer(kind)
    params = start_parameters(kind, seed)

    def loss(params, x, target):
        y = jnp.asarray(layer.apply({"params": params}, x))
        return jnp.mean((y[:, -1] - target) ** 2)

    @jax.jit
    def step(params, key):
        x = jax.random.normal(key, (BATCH, n, WIDTH))
        gradient, in_x = jax.grad(loss, argnums=(0, 1))(params, x, x[:, 0])
        first, last = (jnp.linalg.norm(in_x[:, i]) for i in (0, -1))
        trained = jax.tree.map(lambda p, g: p - RATE * g, params, gradient)
        return trained, optax.tree.norm(gradient), first / last

    norms, reach = [], []
    for key in jax.random.split(jax.random.key(seed), steps):
        params, norm, ratio = step(params, key)
        norms.append(float(norm))
        reach.append(float(ratio))
    return norms, reach[0]


@functools.cache
def start_parameters(kind: str, seed: int):
    """Returns the parameters, which are the same at every length."""
    init = jax.jit(make_layer(kind).init)
    return init(jax.random.key(seed + 100), jnp.zeros((1, 64, WIDTH)))["params"]


def measure(seed: int, size: str) -> Numbers:
    key, quick = jax.random.key(seed), size == "quick"
    lengths = [32, 128, 512] if quick else [2**i for i in range(6, 15)]
    numbers: Numbers = {
        "bound_ratio": max(float(bound_ratio(key, n)) for n in (63, 256)),
        "lengths": lengths,
    }
    for kind in KINDS[:2] if quick else KINDS:
        longest = 2048 if kind == "transformer" else 2**14  # n² scores
        curves = [train(seed, kind, n, 5 if quick else 50) for n in lengths if n <= longest]
        numbers[f"{kind}_norm_start"] = [norms[0] for norms, _ in curves]
        numbers[f"{kind}_norm_training"] = [max(norms) for norms, _ in curves]
        numbers[f"{kind}_reach"] = [reach for _, reach in curves]
    return numbers


def decide(runs: Sequence[Numbers]) -> Decision:
    def slope(kind: str, when: str) -> float:
        curves = [run[f"{kind}_norm_{when}"] for run in runs]
        mean = np.exp(np.mean(np.log(curves), axis=0)).tolist()
        return fit_slope(runs[0]["lengths"][: len(mean)], mean).slope

    kinds = [kind for kind in KINDS if f"{kind}_reach" in runs[0]]
    bound = max(run["bound_ratio"] for run in runs)
    slopes = {kind: max(slope(kind, "start"), slope(kind, "training")) for kind in kinds}
    reach = {kind: runs[0][f"{kind}_reach"][-1] for kind in kinds}
    number = (
        f"|∂L/∂r| is at most {bound:.4f} of its bound; gradient norm ∝ n^a with a = "
        + ", ".join(f"{value:.2f} ({kind})" for kind, value in slopes.items())
        + "; the first step gets "
        + ", ".join(f"{value:.0e} ({kind})" for kind, value in reach.items())
        + " of the last step's gradient at the longest n"
    )
    bounded, grows = bound <= 1 + 1e-4, slopes["resonance"] >= 0.1
    if not bounded:
        return Decision("fails", number, "The bound |∂L/∂r_f| ≤ ‖X_f‖ ‖G_f‖ was exceeded.")
    if grows:
        return Decision("fails", number, "The bound holds, but the norm grows with the length.")
    others = [kind for kind in kinds[1:] if slopes[kind] < 0.1]
    remark = f"No growth either: {', '.join(others)}." if others else ""
    return Decision("holds", number, remark)


def draw(runs: Sequence[Numbers]) -> Plot:
    lengths = runs[0]["lengths"]
    series = []
    for name, norms in runs[0].items():
        if name.endswith("norm_start"):
            series.append(Series(name.split("_")[0], lengths[: len(norms)], norms))
    return Plot("length n", "gradient norm at the start", tuple(series), log_x=True, log_y=True)
