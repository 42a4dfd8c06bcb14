"""Q1: the Hamilton product is associative, not commutative, norm-multiplicative.

Source: Q (quaternions and the log-phase filter).
Decided by: the largest errors of (p q) r = p (q r), of |p q| = |p| |q| and of p q against products of complex 2 × 2
matrices, over random quaternions of many sizes; and |p q − q p| of random pairs and of such with parallel vector parts.
"""

from collections.abc import Sequence

import jax
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import DIFFERENT, EXACT, largest, smallest
from resonance_jax.ops.quaternion import hamilton_product, norm

COUNT = {"quick": 10_000, "full": 1_000_000}


@jax.jit
def products(p, q, r, parallel):
    """Returns p q, q p, (p q) r, p (q r), the norms of the first and of its factors, and p and `parallel` both ways."""
    pq = hamilton_product(p, q)
    left, right = hamilton_product(pq, r), hamilton_product(p, hamilton_product(q, r))
    both = hamilton_product(p, parallel), hamilton_product(parallel, p)
    return pq, hamilton_product(q, p), left, right, norm(pq), norm(p) * norm(q), *both


def complex_matrices(q: np.ndarray) -> np.ndarray:
    """Returns [[a, b], [−b̄, ā]] for q = a + b j: their products are those of the quaternions."""
    a, b = q[..., 0] + 1j * q[..., 1], q[..., 2] + 1j * q[..., 3]
    return np.stack([np.stack([a, b], -1), np.stack([-b.conj(), a.conj()], -1)], -2)


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    shape = (3, COUNT[size], 1)
    p, q, r = rng.standard_normal((*shape[:-1], 4)) * 10 ** rng.uniform(-3, 3, shape)
    parallel = rng.standard_normal((2, *shape[1:])) * p  # [scale, ...]
    parallel = np.concatenate([parallel[0, :, :1], parallel[1, :, 1:]], -1)
    with jax.enable_x64(True):
        found = [np.asarray(array) for array in products(p, q, r, parallel)]
    pq, qp, left, right, size_pq, sizes, along, back = found

    def off(one, other):
        """Distances relative to the sizes of what is compared."""
        return np.linalg.norm(one - other, axis=-1) / np.linalg.norm(one, axis=-1)

    matrices = complex_matrices(p) @ complex_matrices(q)
    commutator = off(pq, qp)
    return {
        "error_associative": float(off(left, right).max()),
        "error_norm": float(np.max(np.abs(size_pq / sizes - 1))),
        "error_matrices": float(
            np.max(np.abs(complex_matrices(pq) - matrices) / sizes[:, None, None])
        ),
        "commutator_mean": float(commutator.mean()),
        "share_commuting": float(np.mean(commutator <= EXACT)),
        "commutator_parallel": float(off(along, back).max()),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    associative, size = largest(runs, "error_associative"), largest(runs, "error_norm")
    commutator, commuting = smallest(runs, "commutator_mean"), largest(runs, "share_commuting")
    number = (
        f"relative error {associative:.1g} (associative), {size:.1g} (norms), {largest(runs, 'error_matrices'):.1g} "
        f"(against 2 × 2 matrices); |p q − q p|/|p q| is {commutator:.2f} in the mean, 0 for {commuting:.0%} of pairs"
    )
    wrong = [
        property_
        for property_, found in (
            ("not associative", associative > EXACT),
            ("not multiplicative in the norm", size > EXACT),
            ("not Hamilton's", largest(runs, "error_matrices") > EXACT),
            ("commutative", commutator <= DIFFERENT or commuting > DIFFERENT),
        )
        if found
    ]
    if wrong:
        return Decision("fails", number, f"The product is {' and '.join(wrong)}.")
    if largest(runs, "commutator_parallel") <= EXACT:
        return Decision(
            "holds", number, "Two quaternions commute if their vector parts are parallel."
        )
    return Decision("holds", number)
