"""N8: the hologram H = |P + R|² is read back by R.

Source: N (resonance networks with holographic memory).
Decided by: the relative error of H R against P for a reference R of modulus 1; with the DC terms |P|² + |R|²
subtracted; with the best gain; with four recordings whose references are shifted by a quarter turn each; in an off-axis
recording of a band-limited pattern; and with ten exposures on the four plates.
"""

from collections.abc import Sequence

import jax
import numpy as np

from resonance_jax.claims.ledger import Decision, Numbers
from resonance_jax.claims.numbers import EXACT, largest, relative_error, smallest
from resonance_jax.ops import optics

EXPOSURES = 10
DIMENSION = {"quick": 512, "full": 65_536}


def complex_normal(rng: np.random.Generator, size: int) -> np.ndarray:
    """Draws circular complex normal numbers with E|z|² = 1."""
    return (rng.standard_normal(size) + 1j * rng.standard_normal(size)) / np.sqrt(2)


def measure(seed: int, size: str) -> Numbers:
    rng, n = np.random.default_rng(seed), DIMENSION[size]
    patterns = np.stack([complex_normal(rng, n) for _ in range(EXPOSURES)])
    references = np.exp(2j * np.pi * rng.random((EXPOSURES, n)))
    pattern, reference = patterns[0], references[0]
    bandwidth = n // 16
    spectrum = np.fft.fft(pattern)
    spectrum[bandwidth + 1 : -bandwidth] = 0
    narrow = np.fft.ifft(spectrum)
    with jax.enable_x64(True):
        hologram = optics.intensity(pattern, reference)
        bare = optics.suppress_dc(hologram, reference, np.abs(pattern) ** 2)
        twins = np.asarray(optics.reconstruct(bare, reference))
        plates = optics.phase_shifted_intensities(patterns, references)
        tilted = optics.off_axis_reference(n, bandwidth)
        off_axis = optics.reconstruct_off_axis(optics.intensity(narrow, tilted), tilted, bandwidth)
        stepped = optics.reconstruct_phase_shifted(plates[:, 0], reference)
        superposed = optics.demodulate(np.sum(plates, axis=1)) * reference
        read = optics.reconstruct(hologram, reference)
    gain = np.vdot(twins, pattern) / np.vdot(twins, twins)
    return {
        "error_read": relative_error(read, pattern),
        "error_without_dc": relative_error(twins, pattern),
        "error_best_gain": relative_error(gain * twins, pattern),
        "error_twin": relative_error(twins - pattern, np.conj(pattern) * reference**2),
        "error_four_steps": relative_error(stepped, pattern),
        "error_off_axis": relative_error(off_axis, narrow),
        "error_ten_exposures": relative_error(superposed, pattern),
    }


def decide(runs: Sequence[Numbers]) -> Decision:
    stepped = largest(runs, "error_four_steps")
    number = (
        f"relative error {smallest(runs, 'error_read'):.2f} as written, "
        f"{smallest(runs, 'error_without_dc'):.2f} without the DC terms, "
        f"{smallest(runs, 'error_best_gain'):.2f} with the best gain, {stepped:.1g} with four phase steps, "
        f"{largest(runs, 'error_off_axis'):.1g} off axis; {smallest(runs, 'error_ten_exposures'):.2f} of ten exposures"
    )
    if largest(runs, "error_read") <= EXACT:
        return Decision("holds", number)
    if stepped > EXACT or largest(runs, "error_off_axis") > EXACT:
        return Decision("fails", number, "The pattern does not come back by both remedies either.")
    rest = (
        "one recording gives P (|R|² = 1) beside (|P|² + 1) R and the twin image P̄ R²"
        if largest(runs, "error_twin") <= EXACT
        else "one recording does not give P"
    )
    crosstalk = smallest(runs, "error_ten_exposures")
    others = f"; M exposures leave cross-talk of √(M − 1) ({np.sqrt(EXPOSURES - 1):.0f} for ten)"
    return Decision(
        "holds when",
        number,
        f"Four recordings with R, iR, −R, −iR are combined, which leaves the cross term P R̄, or a band-limited pattern "
        f"is recorded off axis; {rest}{others if abs(crosstalk / np.sqrt(EXPOSURES - 1) - 1) < 0.1 else ''}.",
    )
