"""N4: ordinary backpropagation fails on frequency parameters; polar ones with their own learning rates fix it.

Source: N (resonance networks with holographic memory).
Decided by: the loss left after training a filter to match a given one, for (real, imaginary) and (log-magnitude, phase)
parameters, with one rate and with two, by SGD and by Adam. Each of the eight gets 25 trials: 25 rates, or 5 × 5 pairs,
over the same range. A form trains if its best trial leaves less than 1 % of the loss. A network of two layers is
trained with either form, with one rate and with its own, by experiments/parametrization.py.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from resonance_jax.array_typing import AnyComplex
from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.ops.polar import from_polar
from resonance_jax.ops.resonance import resonate

LENGTH, FREQUENCIES, FEATURES, BATCH = 32, 8, 4, 4
RANGE = {"sgd": (-3, 1), "adam": (-4, 0)}  # powers of ten, of the rate
FORMS = ("cartesian", "polar")


def make_weights(form: str, parts: jax.Array) -> AnyComplex:
    """Builds w from its two real parts [2, k, d]."""
    if form == "polar":
        return from_polar(jnp.exp(parts[0]), parts[1])
    return jax.lax.complex(parts[0], parts[1])


def rate_pairs(optimizer: str) -> dict[str, np.ndarray]:
    """Returns 25 pairs of rates [25, 2] for one rate and for two, over the same range."""
    low, high = RANGE[optimizer]
    one, two = np.logspace(low, high, 25), np.logspace(low, high, 5)
    return {
        "one": np.stack([one, one], axis=-1),
        "two": np.stack(np.meshgrid(two, two), axis=-1).reshape(25, 2),
    }


def train(key: jax.Array, form: str, optimizer: str, rates: np.ndarray, steps: int) -> jax.Array:
    """Trains once a pair of rates; returns the loss after each step over that of the start, [trials, steps]."""
    keys = jax.random.split(key, 3)
    shape = (2, FREQUENCIES, FEATURES)
    target = make_weights(
        "polar", jax.random.normal(keys[0], shape) * jnp.array([0.5, 1.5])[:, None, None]
    )
    start = 0.02 * jax.random.normal(keys[1], shape)  # near the identity in both forms
    if form == "cartesian":
        start = start + jnp.array([1.0, 0.0])[:, None, None]
    transform = {"sgd": optax.identity(), "adam": optax.scale_by_adam()}[optimizer]
    bins = np.arange(FREQUENCIES)

    def loss(parts, x):
        error = make_weights(form, parts) - target
        return jnp.mean(resonate(x, error, bins, method="matrix") ** 2)

    def run(rates):
        def step(carry, key):
            parts, state = carry
            x = jax.random.normal(key, (BATCH, LENGTH, FEATURES))
            value, gradient = jax.value_and_grad(loss)(parts, x)
            update, state = transform.update(gradient, state)
            return (parts - rates[:, None, None] * update, state), value

        carry = start, transform.init(start)
        losses = jax.lax.scan(step, carry, jax.random.split(keys[2], steps))[1]
        return losses / losses[0]

    return jax.jit(jax.vmap(run))(jnp.asarray(rates, jnp.float32))


def measure(seed: int, size: str) -> Numbers:
    steps = 200 if size == "quick" else 2000
    numbers: Numbers = {}
    for optimizer in RANGE:
        for form in FORMS:
            pairs = rate_pairs(optimizer)
            every = np.concatenate(list(pairs.values()))
            losses = np.asarray(train(jax.random.key(seed), form, optimizer, every, steps), float)
            # The mean of the last steps; a trial that diverged counts as not having learned.
            left = np.nan_to_num(losses[:, -steps // 10 :].mean(axis=-1), nan=1.0, posinf=1.0)
            for name, part in zip(pairs, np.split(left, 2), strict=True):
                numbers[f"{optimizer}_{form}_{name}"] = float(part.min())
                numbers[f"{optimizer}_{form}_{name}_trials"] = np.minimum(part, 1.0).tolist()
    return numbers


def decide(runs: Sequence[Numbers]) -> Decision:
    left = {
        name: float(np.mean([run[name] for run in runs]))
        for name in runs[0]
        if not name.endswith("trials")
    }
    number = "loss left at the best rates: " + ", ".join(
        f"{value:.1e} ({name.replace('_', ' ')})" for name, value in left.items()
    )
    ordinary = {o: left[f"{o}_cartesian_one"] < 0.01 for o in RANGE}
    remedy = {o: left[f"{o}_polar_two"] < 0.01 for o in RANGE}
    needed = [o for o in RANGE if remedy[o] and not ordinary[o]]
    if len(needed) == len(RANGE):
        return Decision("holds", number)
    if needed:
        return Decision("holds when", number, f"It holds when the optimizer is {needed[0]}.")
    if all(ordinary.values()):
        statement = (
            "A filter's real and imaginary parts train with one rate and ordinary gradients: a squared error is "
            "quadratic in them, and not in magnitude and phase. In a network of two layers: see "
            "experiments/parametrization.py."
        )
        return Decision("fails", number, statement)
    return Decision(
        "fails", number, "Where ordinary parameters do not train, polar ones do not either."
    )


def draw(runs: Sequence[Numbers]) -> Plot:
    rates = rate_pairs("adam")["one"][:, 0].tolist()
    series = [Series(form, rates, runs[0][f"adam_{form}_one_trials"]) for form in FORMS]
    return Plot("rate (Adam, one for both parts)", "loss left", tuple(series), True, True)
