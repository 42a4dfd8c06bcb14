"""N9: capacity (A/λ²) log₂(1+SNR): 512, 1024, 2048 numbers hold 250, 500, 1000 patterns at error 0.04 to 0.05.

Source: N (resonance networks with holographic memory).
Decided by: the relative error of as many superposed patterns under unitary keys, and the bits a number that the errors
of the table would take (rate-distortion of normal numbers) beside the 32 of a float32; then, with noise on the memory,
the bits a number recalled exactly beside ½ log₂(1+SNR) for a real number, read one by one and jointly.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.numbers import largest, smallest
from resonance_jax.ops import capacity, hologram
from resonance_jax.ops.joint_recall import recall_jointly

TABLE = {512: (250, 0.042), 1024: (500, 0.038), 2048: (1000, 0.051)}
ROWS = {"quick": (512,), "full": tuple(TABLE)}
SHAPE = {"quick": (128, 16), "full": (512, 64)}  # numbers, codebook
DECIBELS = {"quick": (0, 20), "full": (-10, 0, 10, 20, 30, 40)}
RATES = {"quick": 6, "full": 24}  # fractions of the bound that are tried, up to 1.2 times it
TRIALS = {"quick": 4, "full": 20}
ITERATIONS = 60
FALL = 1.6  # strengths fall to 2^(−FALL · rate)
AS_PUBLISHED = 2.0  # an error within this factor of the table's counts as the table's
FLOAT32 = 32
ACCURACY = 0.99


def table_error(key: jax.Array, dimension: int) -> float:
    """Superposes as many patterns as the table says and returns the relative error of reading them."""
    patterns = TABLE[dimension][0]

    @jax.jit
    def error(key):
        draws = jax.random.split(key)
        keys = hologram.unitary_key(draws[0], (patterns, dimension))
        stored = hologram.random_pattern(draws[1], (patterns, dimension))
        read = hologram.read(hologram.bundle(hologram.bind(stored, keys)), keys)
        return jnp.linalg.norm(read - stored) / jnp.linalg.norm(stored)

    return float(error(key))


def recalled(key: jax.Array, pairs: jax.Array, noise: jax.Array, most: int, shape: tuple[int, int]):
    """Returns the shares recalled one by one from equal strengths, and jointly from equal and from falling ones.

    `most` pairs are drawn, so that one program serves every number of pairs; those beyond `pairs` have strength 0.
    """
    numbers, size = shape
    draws = jax.random.split(key, 4)
    keys = hologram.unitary_key(draws[0], (most, numbers))
    codebook = hologram.unitary_key(draws[1], (size, numbers))
    labels = jax.random.randint(draws[2], (most,), 0, size)
    stored = jnp.arange(most) < pairs
    falling = 2.0 ** (-FALL * math.log2(size) / numbers * jnp.arange(most))

    def share(strength, iterations):
        memory = hologram.bundle(hologram.bind(strength[:, None] * codebook[labels], keys))
        white = jax.random.normal(draws[3], memory.shape)
        memory += white * jnp.sqrt(noise * jnp.mean(memory**2))
        found = recall_jointly(memory, keys, codebook, strength, iterations).index
        return jnp.sum((found == labels) & stored) / pairs

    strengths = jnp.stack([stored, stored, stored * falling]).astype(jnp.float32)
    iterations = jnp.array([1, ITERATIONS, ITERATIONS])
    return jax.lax.map(lambda way: share(*way), (strengths, iterations))


def measure(seed: int, size: str) -> Numbers:
    key = jax.random.key(seed)
    rows = ROWS[size]
    found: Numbers = {
        "dimension": list(rows),
        "error": [table_error(jax.random.fold_in(key, n), n) for n in rows],
        "published_error": [TABLE[n][1] for n in rows],
        "theory_error": [math.sqrt(TABLE[n][0] - 1) for n in rows],
        # M N numbers at a relative error e take M N log₂(1/e) bits
        "bits_for_table": [TABLE[n][0] * math.log2(1 / TABLE[n][1]) for n in rows],
    }
    snrs = [10 ** (decibel / 10) for decibel in DECIBELS[size]]
    bounds = [capacity.capacity_bits(0.5, 1.0, snr) for snr in snrs]
    held = {name: [0.0] * len(snrs) for name in ("one_by_one", "joint", "joint_falling")}
    trials = jax.random.split(jax.random.fold_in(key, 1), TRIALS[size])
    numbers, codebook = SHAPE[size]
    to_pairs = numbers / math.log2(codebook)
    fractions = np.linspace(1.2, 0, RATES[size], endpoint=False)[::-1]
    most = round(fractions[-1] * max(bounds) * to_pairs)
    one = functools.partial(recalled, most=most, shape=SHAPE[size])
    every = jax.jit(jax.vmap(one, (0, None, None)))
    for index, (snr, bound) in enumerate(zip(snrs, bounds, strict=True)):
        for fraction in fractions:
            pairs = max(1, round(fraction * bound * to_pairs))
            shares = np.mean(every(trials, pairs, 1 / snr), axis=0)
            for name, share in zip(held, shares, strict=True):
                if share >= ACCURACY:
                    bits = pairs * capacity.recalled_bits(min(float(share), 1.0), codebook)
                    held[name][index] = bits / numbers
    return found | held | {"decibels": list(DECIBELS[size]), "bound": bounds}


def decide(runs: Sequence[Numbers]) -> Decision:
    errors = [e for run in runs for e in run["error"]]
    published = [e for run in runs for e in run["published_error"]]
    ways = ("one_by_one", "joint", "joint_falling")
    shares = {
        way: [h / b for run in runs for h, b in zip(run[way], run["bound"], strict=True)]
        for way in ways
    }
    bounded = max(max(share) for share in shares.values()) <= 1
    reached = all(e <= AS_PUBLISHED * p for e, p in zip(errors, published, strict=True))
    number = (
        f"relative error {min(errors):.1f} to {max(errors):.1f} where {min(published)} to {max(published)} is claimed, "
        f"which takes at least {smallest(runs, 'bits_for_table'):.0f} bits a number; of ½ log₂(1+SNR) are recalled "
        + ", ".join(f"{max(share):.0%} {way.replace('_', ' ')}" for way, share in shares.items())
    )
    if reached and bounded:
        return Decision("holds", number)
    if not bounded:
        return Decision("fails", number, "More was recalled than the formula allows.")
    if reached:
        return Decision("holds when", number, "The errors are as published; the formula bounds.")
    law = max(
        abs(e / t - 1)
        for run in runs
        for e, t in zip(run["error"], run["theory_error"], strict=True)
    )
    statement = "The formula bounds what can be recalled" + (
        f"; M superposed patterns come back with relative error √(M − 1) (within {law:.0%})"
        if law < 0.1
        else ""
    )
    if largest(runs, "bits_for_table") > FLOAT32:
        statement += f", and no memory of {FLOAT32}-bit numbers can reach the table"
    return Decision("fails", number, statement + ".")


def draw(runs: Sequence[Numbers]) -> Plot:
    x = runs[0]["decibels"]
    names = {
        "one_by_one": "one by one",
        "joint": "jointly",
        "joint_falling": "jointly, falling strengths",
    }
    series = [
        Series(label, x, np.mean([run[way] for run in runs], axis=0).tolist())
        for way, label in names.items()
    ]
    bound = Series("½ log₂(1 + SNR)", x, runs[0]["bound"], "reference")
    return Plot("SNR of the memory (dB)", "bits recalled for each number", (*series, bound))
