"""Q3: q_L Ψ q_R† is a rotation in SO(4).

Source: Q (quaternions and the log-phase filter).
Decided by: M Mᵀ = 1 and det M = 1 for the matrix of the map with random unit quaternions, the matrix against the
two-sided product, random rotations of ℝ⁴ against the map of the pair found for them, and the maps of (−q_L, −q_R),
(−q_L, q_R) and of quaternions that are not of unit norm.
"""

from collections.abc import Sequence

import jax
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import DIFFERENT, EXACT, largest, smallest
from resonance_jax.ops.quaternion import from_so4_matrix, rotate_so4, so4_matrix

COUNT = {"quick": 1000, "full": 100_000}


def random_rotations(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draws from SO(4), uniformly."""
    q, r = np.linalg.qr(rng.standard_normal((count, 4, 4)))
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[:, None]
    q[:, :, 0] *= np.linalg.det(q)[:, None]
    return q


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    psi, *pair = rng.standard_normal((3, COUNT[size], 4))
    sizes = [np.linalg.norm(q, axis=-1, keepdims=True) for q in pair]
    left, right = (q / length for q, length in zip(pair, sizes, strict=True))
    rotations = random_rotations(rng, COUNT[size])
    with jax.enable_x64(True):
        matrix = jax.jit(so4_matrix)
        m, turned, long = (
            np.asarray(matrix(*p)) for p in ((left, right), (-left, -right), tuple(pair))
        )
        half_turned = np.asarray(matrix(-left, right))
        product = np.asarray(jax.jit(rotate_so4)(psi, left, right))
        reached = np.asarray(matrix(*jax.jit(from_so4_matrix)(rotations)))
    scaled = (sizes[0] * sizes[1])[..., None] * m

    def off(one, other):
        return float(np.max(np.abs(one - other)))

    return {
        "error_orthogonal": off(m @ np.swapaxes(m, 1, 2), np.eye(4)),
        "error_determinant": off(np.linalg.det(m), 1),
        "error_matrix": off(np.einsum("nij,nj->ni", m, psi), product),
        "error_reached": off(reached, rotations),
        "error_both_negated": off(turned, m),
        "distance_one_negated": float(np.min(np.linalg.norm(half_turned - m, axis=(1, 2)))),
        "error_scale": off(long, scaled),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    orthogonal, determinant = largest(runs, "error_orthogonal"), largest(runs, "error_determinant")
    cover, reached = largest(runs, "error_both_negated"), largest(runs, "error_reached")
    number = (
        f"largest error {orthogonal:.1g} of M Mᵀ = 1, {determinant:.1g} of det M = 1, {reached:.1g} over random "
        f"rotations; (−q_L, −q_R) differs by {cover:.1g}, (−q_L, q_R) by {smallest(runs, 'distance_one_negated'):.2g}"
    )
    if max(orthogonal, largest(runs, "error_matrix")) > EXACT:
        return Decision("fails", number, "The map is not orthogonal.")
    if determinant > EXACT:
        return Decision("fails", number, "The map is orthogonal, but it reflects.")
    twice = cover <= EXACT and smallest(runs, "distance_one_negated") > DIFFERENT
    remarks = [
        "every rotation of ℝ⁴ has this form" if reached <= EXACT else "not every rotation has it",
        "from two pairs, (q_L, q_R) and (−q_L, −q_R): a double cover" if twice else "",
        "quaternions of other norms scale by |q_L| |q_R|"
        if largest(runs, "error_scale") <= EXACT
        else "",
    ]
    text = "; ".join(remark for remark in remarks if remark)
    return Decision("holds", number, f"For unit quaternions: {text}.")
