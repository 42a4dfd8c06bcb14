"""Q2: the quaternion q(θ, ω, φ) of three angles has unit norm.

Source: Q (quaternions and the log-phase filter).
Decided by: the largest ||q| − 1| over random angles of many turns and all multiples of π/2, in float64 and float32; and
the distance of random unit quaternions from the quaternion of their own angles.
"""

from collections.abc import Sequence

import jax
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import EXACT, largest
from resonance_jax.ops.quaternion import from_angles

COUNT = {"quick": 10_000, "full": 1_000_000}
ROUNDING = 1e-6  # of float32


def to_angles(q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns θ, ω, φ of unit quaternions."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    across = np.hypot(y, z)
    return 2 * np.arctan2(np.hypot(x, across), w), np.arctan2(across, x), np.arctan2(z, y)


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    corners = np.stack(np.meshgrid(*[np.arange(-4, 5) * np.pi / 2] * 3)).reshape(3, -1)
    angles = np.concatenate([corners, rng.uniform(-30, 30, (3, COUNT[size]))], -1)
    q = rng.standard_normal((COUNT[size], 4))
    q /= np.linalg.norm(q, axis=-1, keepdims=True)
    with jax.enable_x64(True):
        run = jax.jit(from_angles)
        double = np.asarray(run(*angles))
        single = np.asarray(run(*angles.astype(np.float32)), np.float64)
        back = np.asarray(run(*to_angles(q)))
    off, off_single = (
        float(np.max(np.abs(np.linalg.norm(a, axis=-1) - 1))) for a in (double, single)
    )
    return {
        "error_float64": off,
        "error_float32": off_single,
        "error_back": float(np.max(np.linalg.norm(back - q, axis=-1))),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    off, single = largest(runs, "error_float64"), largest(runs, "error_float32")
    number = f"largest ||q| − 1| {off:.1g} in float64, {single:.1g} in float32"
    if off > EXACT or single > ROUNDING:
        return Decision("fails", number, "The norm depends on the angles.")
    back = largest(runs, "error_back")
    if back > EXACT:
        return Decision("holds", number, "But not every unit quaternion has such angles.")
    return Decision("holds", number, f"Every unit quaternion has such angles (error {back:.1g}).")
