"""Q7: α adapts to the fractal dimension of the data.

Source: Q (quaternions and the log-phase filter).
Decided by: fractional Brownian motion, whose graph has the dimension D = 2 − H: α from Higuchi's estimate for single
sequences of several lengths; the α of a `LogPhaseFilter` with alpha_mode="fractal" after it has seen such data, after
the data change, and where the data are a mixture; each against α₀(1 + λ (D − 2)/2) at the true D. Whether such an α
helps a network is measured by `experiments/quaternion.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.numbers import largest, smallest
from resonance_jax.claims.trials import QUICK_COMPILE
from resonance_jax.layers.phase_filter import LogPhaseFilter
from resonance_jax.ops.fractal import alpha_from_dimension, higuchi
from resonance_jax.ops.fractal_sets import fractional_brownian_motion

HURST = (0.8, 0.5, 0.2)  # D = 1.2, 1.5, 1.8
LENGTHS = (32, 256, 1024, 4096)  # the last is what the layer sees
COUNT = {"quick": 64, "full": 400}
STEPS, BATCH = 40, 16
START = {"dimension": np.float32(2), "updates": np.int32(0)}
TOLERANCE = 0.02  # of α: a twentieth of what it ranges over, 0.05 of D


def alpha_of(dimension):
    """Returns the α that the layer's defaults give to the graph of a signal of this dimension."""
    return alpha_from_dimension(dimension, euclidean_dimension=2)


def draw_motions(seed: int, count: int) -> np.ndarray:
    """Returns paths [H, count, n]; a beginning of one is itself such a motion."""

    def draw_all(keys):
        motions = (
            partial(fractional_brownian_motion, n=LENGTHS[-1], hurst=hurst) for hurst in HURST
        )
        return [jax.vmap(motion)(keys) for motion in motions]

    keys = jax.random.split(jax.random.key(seed), count)
    return np.stack(jax.jit(draw_all, compiler_options=QUICK_COMPILE)(keys))


@partial(jax.jit, compiler_options=QUICK_COMPILE)
def estimated_alphas(paths):
    """Returns the α of each path, cut to each length, [length, H, count]."""
    return jnp.stack([alpha_of(higuchi(paths[..., :n]).dimension) for n in LENGTHS])


@jax.jit
def step(state, x):
    """Filters one batch; returns the state of the layer and its α."""
    layer = LogPhaseFilter(alpha_mode="fractal")
    collections = ["fractal", "intermediates"]
    _, changed = layer.apply({"fractal": state}, x, deterministic=False, mutable=collections)
    return changed["fractal"], changed["intermediates"]["alpha"][0]


def follow(batches: Iterator[np.ndarray], state: Mapping = START) -> tuple[Mapping, float]:
    """Shows a layer STEPS batches of paths [b, n]; returns its state and its α."""
    alpha = np.nan
    for _ in range(STEPS):
        x = next(batches).reshape(-1, 1, 4, LENGTHS[-1])  # four paths are a quaternion
        state, alpha = step(state, np.moveaxis(x, -1, 1))
    return state, float(alpha)


def batches_of(rng: np.random.Generator, paths: np.ndarray) -> Iterator[np.ndarray]:
    while True:
        yield paths[rng.integers(len(paths), size=BATCH)]


def measure(seed: int, size: str) -> Numbers:
    paths, rng = draw_motions(seed, COUNT[size]), np.random.default_rng(seed)
    truth = np.asarray(alpha_of(2 - np.array(HURST)))
    errors = np.asarray(estimated_alphas(paths)) - truth[:, None]
    rms = np.sqrt(np.mean(errors**2, axis=-1)).max(-1)
    followed = [follow(batches_of(rng, data)) for data in paths]
    _, switched = follow(batches_of(rng, paths[-1]), followed[0][0])
    _, mixture = follow(batches_of(rng, paths[[0, -1]].reshape(-1, LENGTHS[-1])))
    return {
        "alpha_true": truth.tolist(),
        "alpha_range": alpha_of(np.array([1.0, 2.0])).tolist(),
        "sequences": COUNT[size],
        "error_by_length": rms.tolist(),
        "mean_error_by_length": np.abs(errors.mean(-1)).max(-1).tolist(),
        "alpha_layer": [alpha for _, alpha in followed],
        "error_switched": abs(switched - float(truth[-1])),
        "alpha_mixture": mixture,
        "error_mixture": float(np.max(np.abs(mixture - truth[[0, -1]]))),
    }


def enough(errors: np.ndarray) -> int | str:
    """Returns the length from which on every error is tolerable."""
    too_short = np.flatnonzero(errors > TOLERANCE)
    first = too_short[-1] + 1 if len(too_short) else 0
    return LENGTHS[first] if first < len(LENGTHS) else f"more than {LENGTHS[-1]}"


def decide(runs: Sequence[Numbers]) -> Decision:
    def mean(name: str) -> np.ndarray:
        return np.mean([run[name] for run in runs], axis=0)

    layer = max(
        float(np.max(np.abs(np.subtract(run["alpha_layer"], run["alpha_true"])))) for run in runs
    )
    errors, (low, high) = mean("error_by_length"), mean("alpha_range")
    found = ", ".join(f"{alpha:.3f}" for alpha in mean("alpha_layer"))
    dimensions = ", ".join(f"{2 - hurst:.1f}" for hurst in HURST)
    number = (
        f"α = {found} after {STEPS} batches of data of D = {dimensions} (error up to {layer:.1g}, "
        f"{largest(runs, 'error_switched'):.1g} after a change of data); for one sequence the error of α is "
        f"{errors[0]:.3f} at {LENGTHS[0]} samples and {errors[-1]:.3f} at {LENGTHS[-1]}, of its mean over "
        f"{runs[0]['sequences']} {mean('mean_error_by_length')[0]:.3f} and {mean('mean_error_by_length')[-1]:.3f}"
    )
    if max(layer, largest(runs, "error_switched")) > TOLERANCE:
        return Decision("fails", number, "The layer's α is not the one that belongs to the data.")
    single, many = enough(errors), enough(mean("mean_error_by_length"))
    conditions = []
    if single != LENGTHS[0]:
        conditions.append(
            f"α is the mean over many sequences of {many} samples or more, or from one of {single}"
        )
    if smallest(runs, "error_mixture") > TOLERANCE:
        conditions.append(
            f"the data share one dimension, since all get the same α: {mean('alpha_mixture'):.2f} for a mixture of "
            f"D = {2 - HURST[0]:.1f} and {2 - HURST[-1]:.1f}"
        )
    remark = f"With the defaults α of signals stays within {low:.1f} to {high:.1f}."
    if conditions:
        statement = f"It holds when {'; and when '.join(conditions)}. {remark}"
        return Decision("holds when", number, statement)
    return Decision("holds", number, remark)


def draw(runs: Sequence[Numbers]) -> Plot:
    errors = np.mean([run["error_by_length"] for run in runs], axis=0).tolist()
    return Plot(
        "samples",
        "rms error of α from one sequence",
        (
            Series("largest of three dimensions", LENGTHS, errors),
            Series("tolerated", LENGTHS, [TOLERANCE] * len(LENGTHS), "reference"),
        ),
        log_x=True,
        log_y=True,
    )
