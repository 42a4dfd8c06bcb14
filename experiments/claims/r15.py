"""R15: normalised patterns, scores in the log domain and the complex softmax shifted by the largest modulus are stable.

Source: R (attention as a frequency-domain resonator).
Decided by: values and gradients that are not finite, in float32 with numbers up to 1e4: of a stack of resonators with
normalisation (and values without it), and of the complex softmax as exp(z − max|z|) and as a softmax of moduli that
keeps phases; and the largest gain of the normalised stack.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import largest, smallest
from resonance_jax.ops.polar import complex_softmax
from resonance_jax.ops.resonator import resonator

LAYERS, PATTERNS, BINS = 16, 4, 9
EXAMPLES = {"quick": 50, "full": 2000}
SIZES = (0.0, 1e-6, 1.0, 1e2, 1e4)


def shifted_exponential(z):
    """The softmax of complex numbers as it is written: exp(z − max|z|) over its sum."""
    weights = jnp.exp(z - jnp.max(jnp.abs(z)))
    return weights / jnp.sum(weights)


def value_and_gradient(function):
    """[examples, …] complex → whether each example's value and gradient are finite, and its largest modulus."""

    def one(*arrays):
        y, pull = jax.vjp(function, *arrays)
        gradients = pull(jnp.ones_like(y))
        finite = [jnp.all(jnp.isfinite(a.real) & jnp.isfinite(a.imag)) for a in (y, *gradients)]
        return jnp.all(jnp.stack(finite)), jnp.max(jnp.abs(y))

    return jax.jit(jax.vmap(one))


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)

    def draw(*shape):
        shape = (len(SIZES), EXAMPLES[size], *shape)
        z = rng.standard_normal(shape) * np.exp(2j * np.pi * rng.random(shape))
        z = z.astype(np.complex64) * np.reshape(
            np.array(SIZES, np.float32), (-1,) + (1,) * (z.ndim - 1)
        )
        return z.reshape(-1, *shape[2:])

    spectrum = np.ones((len(SIZES) * EXAMPLES[size], 1, BINS), np.complex64)
    pool, layers, z = draw(PATTERNS, BINS), draw(LAYERS, BINS), draw(PATTERNS)
    stable = partial(resonator, normalize=True, log_domain=True)
    finite, gain = value_and_gradient(stable)(spectrum, pool, layers)
    raw = np.all(np.isfinite(jax.jit(jax.vmap(resonator))(spectrum, pool, layers)), axis=(1, 2))
    moduli, _ = value_and_gradient(complex_softmax)(z)
    direct, _ = value_and_gradient(shifted_exponential)(z)
    return {
        "share_broken_stable_stack": float(1 - np.mean(finite)),
        "share_broken_raw_stack": float(1 - np.mean(raw)),
        "share_broken_softmax_of_moduli": float(1 - np.mean(moduli)),
        "share_broken_shifted_exponential": float(1 - np.mean(direct)),
        "largest_gain": float(np.max(np.where(np.isfinite(gain), gain, 1e38))),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    shares = {
        name: largest(runs, f"share_broken_{name}")
        for name in ("stable_stack", "softmax_of_moduli", "shifted_exponential")
    }
    gain = largest(runs, "largest_gain")
    number = (
        f"not finite: {shares['stable_stack']:.0%} of normalised stacks in the log domain (largest gain {gain:.3f}), "
        f"{smallest(runs, 'share_broken_raw_stack'):.0%} of raw ones; {shares['softmax_of_moduli']:.0%} of softmaxes "
        f"of moduli, {shares['shifted_exponential']:.0%} of exp(z − max|z|)"
    )
    if shares["stable_stack"] or shares["softmax_of_moduli"] or gain > 1 + 1e-4:
        return Decision("fails", number, "The stabilised forms are not stable either.")
    if not shares["shifted_exponential"]:
        return Decision("holds", number)
    return Decision(
        "holds when",
        number,
        "The complex softmax weighs by moduli and keeps the phases. exp(z − max|z|) divides by zero: its sum vanishes "
        "where every Re z lies far below the largest modulus, and where phases cancel (z = 0 and iπ).",
    )
