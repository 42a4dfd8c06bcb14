"""R9: the resonator R makes no new frequencies, and relative magnitudes stay as they are.

Source: R (attention as a frequency-domain resonator).
Decided by: the energy that appears at frequencies at which the input has none, with fixed and with input-dependent
filters and after a ReLU for comparison; and the spread of |Y|/|X| over frequencies, for patterns of constant and of any
magnitude.
"""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import DIFFERENT, EXACT, largest, smallest
from resonance_jax.ops.resonator import keep_component, resonator

LENGTHS = {"quick": 256, "full": 4096}
PRESENT = 8


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    n = LENGTHS[size]
    bins = n // 2 + 1
    present = rng.choice(np.arange(1, bins - 1), PRESENT, replace=False)
    spectrum, layer, *pool = rng.standard_normal((5, bins)) + 1j * rng.standard_normal((5, bins))
    absent = np.setdiff1d(np.arange(bins), present)
    spectrum[absent] = 0
    x = np.fft.irfft(spectrum, n=n)
    pool = np.stack(pool)
    pool[:, [0, -1]] = np.real(pool[:, [0, -1]])  # of a real filter

    def new_energy(y):
        """Share of the energy at bins that the input does not have."""
        energy = np.abs(np.fft.rfft(y)) ** 2
        return float(np.sum(energy[absent]) / np.sum(energy))

    def spread(gain):
        return float(np.std(gain) / np.mean(gain))

    with jax.enable_x64(True):
        fixed, adaptive = (
            jax.jit(partial(resonator, scores=s, scale=0.01)) for s in ("parameters", "input")
        )
        transform = np.fft.rfft(x)[None]
        y = np.asarray(fixed(transform, pool, layer[None]))[0]
        chosen = np.asarray(adaptive(transform, pool, layer[None]))[0]
        all_pass = np.asarray(keep_component(pool[:1], "phase"))
        turned = np.asarray(fixed(transform, all_pass, layer[None]))[0]
    size_in = np.abs(transform[0, present])
    return {
        "new_energy": max(new_energy(np.fft.irfft(z, n=n)) for z in (y, chosen, turned)),
        "new_energy_relu": new_energy(np.maximum(x, 0)),
        "spread_any": spread(np.abs(y[present]) / size_in),
        "spread_constant": spread(np.abs(turned[present]) / size_in),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    new, constant = largest(runs, "new_energy"), largest(runs, "spread_constant")
    any_pattern = smallest(runs, "spread_any")
    number = (
        f"new frequencies hold {new:.1g} of the energy ({smallest(runs, 'new_energy_relu'):.2f} after a ReLU); |Y|/|X| "
        f"varies by {any_pattern:.2f} over frequencies, by {constant:.1g} where |P| is constant"
    )
    if new > EXACT or constant > EXACT:
        what = "New frequencies appear." if new > EXACT else "Magnitudes change at constant |P|."
        return Decision("fails", number, what)
    if any_pattern < DIFFERENT:
        return Decision("holds", number)
    return Decision(
        "holds when",
        number,
        "|P(f)| is constant, as for the second part; the first part, no new frequencies, holds for every pattern and "
        "also where the input chooses the filter.",
    )
