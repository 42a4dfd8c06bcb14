"""Q9: quaternion weights need a quarter of the parameters.

Source: Q (quaternions and the log-phase filter).
Decided by: the parameters of `QuaternionDense` against a real layer of the same width, and those of a whole QRHNet
(without gate) against the same network with real matrices; the test accuracy of both on digits after the same training,
at equal width, and at equal parameters with the real one half as wide.
"""

from collections.abc import Sequence
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.trials import QUICK_COMPILE, make_config, train
from resonance_jax.data.dataset import load_dataset
from resonance_jax.layers.quaternion import QuaternionDense
from resonance_jax.models.baselines import make_model

WIDTH = 16
WIDTHS = (16, 64, 256)  # of which parameters are counted
EPOCHS = {"quick": 8, "full": 30}
CLAIMED = 0.25


def count(module: nn.Module, *inputs, name: str = "") -> int:
    """Counts the parameters of a module, or those of one name, without drawing any."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes[name] if name else shapes))


def share_of_layer(width: int, name: str = "") -> float:
    """Returns the parameters of a quaternion layer / those of a real layer, both from and to so many real features."""
    x = jnp.zeros((1, width))
    quaternion = count(QuaternionDense(width // 4), x.reshape(1, -1, 4), name=name)
    return quaternion / count(nn.Dense(width), x, name=name)


def measure(seed: int, size: str) -> Numbers:
    data = load_dataset("digits")
    images = data.train.inputs[:1]

    def network(width, quaternion=True):
        return make_config("qrh", width, data, use_quaternion=quaternion, gate=False)

    def parameters(config):
        return count(make_model(config), images)

    whole, real = network(WIDTH), network(WIDTH, quaternion=False)
    narrow = network(WIDTH // 2, quaternion=False)
    first, second = (parameters(replace(narrow, mlp_dim=width)) for width in (4, 8))
    steps = round((parameters(whole) - first) / (second - first))  # linear in the MLP's width
    equal = replace(narrow, mlp_dim=4 + 4 * steps)
    right = {}
    for name, config in (("quaternion", whole), ("real", real), ("equal", equal)):
        trial = train(config, data, EPOCHS[size], seed, QUICK_COMPILE)
        choice = np.argmax(trial.scores(trial.params, data.test.inputs), axis=-1)
        right[name] = choice == data.test.labels
    return {
        "share_of_kernel": [share_of_layer(width, "kernel") for width in WIDTHS],
        "share_of_layer": [share_of_layer(width) for width in WIDTHS],
        "share_of_network": [
            parameters(network(width)) / parameters(network(width, quaternion=False))
            for width in WIDTHS
        ],
        "share_at_equal": parameters(whole) / parameters(equal),
        "tests": len(data.test),
        **{f"accuracy_{name}": float(np.mean(found)) for name, found in right.items()},
        # Of the examples that one network alone gets right depends how sure a difference is.
        **{
            f"disagreements_{name}": int(np.sum(right["quaternion"] != right[name]))
            for name in ("real", "equal")
        },
    }


def gain_in_points(runs: Sequence[Numbers], name: str) -> tuple[float, float]:
    """Returns accuracy − that of another network, in points, and the half-width of its 95 % interval over test sets."""
    gains = [run["accuracy_quaternion"] - run[f"accuracy_{name}"] for run in runs]
    variances = [
        run[f"disagreements_{name}"] / run["tests"] ** 2 - gain**2 / run["tests"]
        for run, gain in zip(runs, gains, strict=True)
    ]
    return 100 * float(np.mean(gains)), 196 * float(np.mean(np.maximum(variances, 0))) ** 0.5


def decide(runs: Sequence[Numbers]) -> Decision:
    first = runs[0]
    (same, half), (equal, half_equal) = (gain_in_points(runs, name) for name in ("real", "equal"))
    number = (
        f"{first['share_of_kernel'][0]:.4g} of the kernel's parameters, {first['share_of_network'][0]:.2f} of the "
        f"network's at width {WIDTH} and {first['share_of_network'][-1]:.2f} at {WIDTHS[-1]}; accuracy on digits "
        f"{same:+.1f} ± {half:.1f} points at equal width, {equal:+.1f} ± {half_equal:.1f} at equal parameters"
    )
    if any(share != CLAIMED for run in runs for share in run["share_of_kernel"]):
        return Decision("fails", number, "The kernels' parameters are not a quarter.")
    rest = "Biases, norms, stem and head are not quaternions: of a whole network it is more."
    if same + half < 0:
        return Decision(
            "holds when",
            number,
            f"It holds for kernels of equal width, not of equal accuracy: that falls by {-same:.1f} points. {rest}",
        )
    return Decision("holds", number, f"It holds for kernels. {rest}")


def draw(runs: Sequence[Numbers]) -> Plot:
    series = [
        Series(name, WIDTHS, runs[0][f"share_of_{name}"]) for name in ("network", "layer", "kernel")
    ]
    claimed = Series("claimed", WIDTHS, [CLAIMED] * len(WIDTHS), "reference")
    return Plot(
        "width (real features)", "parameters, quaternion / real", (*series, claimed), log_x=True
    )
