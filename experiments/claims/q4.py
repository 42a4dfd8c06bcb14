"""Q4: the log-phase filter conserves energy.

Source: Q (quaternions and the log-phase filter).
Decided by: the energy of white noise before and after `LogPhaseFilter`, in the Hermitian form and in the even form with
its complex output, over α and over even, odd and prime lengths; and what is left of it where only the real part of the
even form's output is kept.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers, Plot, Series
from resonance_jax.claims.numbers import DIFFERENT, largest, smallest
from resonance_jax.layers.phase_filter import LogPhaseFilter
from resonance_jax.ops.phase_filter import SYMMETRIES, log_phase_filter

LENGTHS = {"quick": (101, 256), "full": (1, 2, 101, 256, 1000, 4096)}
ALPHAS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
ONE = ALPHAS.index(1.0)
NOISES = 200
CLAIMED = 1e-6


@jax.jit
def filtered(x):
    """Both forms of the layer on x [b, t, α, 4], with another α for each feature."""
    parameters = {"params": {"alpha": jnp.array(ALPHAS)}}
    return [
        LogPhaseFilter(alpha_mode="learned", per_feature=True, symmetry=symmetry).apply(
            parameters, x
        )
        for symmetry in SYMMETRIES
    ]


def energy(x) -> np.ndarray:
    """Returns the energy of x [b, t, α, 4] by feature."""
    return np.sum(np.asarray(x, np.float64) ** 2, axis=(0, 1, 3))


def measure(seed: int, size: str) -> Numbers:
    rng = np.random.default_rng(seed)
    found: Numbers = {f"error_{symmetry}": [] for symmetry in SYMMETRIES}
    for n in LENGTHS[size]:
        x = rng.standard_normal((2, n, len(ALPHAS), 4)).astype(np.float32)
        for symmetry, y in zip(SYMMETRIES, filtered(x), strict=True):
            error = np.max(np.abs(energy(y) / energy(x) - 1))
            found[f"error_{symmetry}"].append(float(error))
    n = LENGTHS[size][-1]
    noise = rng.standard_normal((NOISES, n))
    with jax.enable_x64(True):
        response = log_phase_filter(np.fft.fftfreq(n), np.array(ALPHAS), symmetry="even")
    kept = [np.fft.ifft(np.fft.fft(noise) * row).real for row in np.asarray(response)]
    return {
        **found,
        "length": n,
        "real_part_kept": [float(np.sum(y**2) / np.sum(noise**2)) for y in kept],
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    hermitian, even = largest(runs, "error_hermitian"), largest(runs, "error_even")
    at_one = float(np.mean([run["real_part_kept"][ONE] for run in runs]))
    number = (
        f"relative change {hermitian:.1g} (Hermitian), {even:.1g} (even, complex); the even form's real part keeps "
        f"{at_one:.0%} of white noise at α = 1 ({runs[0]['length']} samples), {smallest(runs, 'real_part_kept'):.0%} "
        f"to {largest(runs, 'real_part_kept'):.0%} over α"
    )
    forms = {"the Hermitian form is used": hermitian, "the even form's output stays complex": even}
    conserving = [form for form, error in forms.items() if error <= CLAIMED]
    if not conserving:
        return Decision("fails", number, "Neither form conserves the energy.")
    lost = max(abs(1 - smallest(runs, "real_part_kept")), abs(1 - largest(runs, "real_part_kept")))
    if len(conserving) == len(forms) and lost <= DIFFERENT:
        return Decision("holds", number)
    return Decision(
        "holds when",
        number,
        f"It holds when {', or when '.join(conserving)}. Taking the real part of the even form multiplies every "
        "frequency by cos φ(k).",
    )


def draw(runs: Sequence[Numbers]) -> Plot:
    kept = np.mean([run["real_part_kept"] for run in runs], axis=0).tolist()
    return Plot(
        "α",
        "energy of white noise after / before",
        (
            Series("real part of the even form", ALPHAS, kept),
            Series("Hermitian form, or complex", ALPHAS, [1.0] * len(ALPHAS), "reference"),
        ),
    )
