"""A resonance model decodes a million steps from a state that neither grows nor drifts.

Claim: over 1,000,000 steps of a model as it starts (|λ| up to 0.999: it remembers a thousand steps) state and logits
    stay finite and bounded, the logits at the end are those of a model that has read the last 32,768 ids alone, and
    resident memory stays constant.
Found: relative difference 3.2e-7; the largest norms of the states differ by 0 to 4 % between the halves, resident
    memory by 8 KiB in 400 MiB; 17.5 KiB of state, 55 seconds on one core.
Command: python -m experiments.endless_decoding
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.models.generation import decode_step, prefill, sample_logits
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig
from resonance_jax.training.result import surroundings, write_atomically

RESULT = Path(__file__).parent / "results" / "endless_decoding.json"
PIECE = 10_000
WINDOW = 32_768


def make_model() -> tuple[LanguageModel, Any]:
    """A model of width 64 with parameters as they are at the start."""
    config = LanguageModelConfig(hidden_dim=64, num_layers=2, mlp_dim=128, max_radius=0.999)
    model = LanguageModel(config)
    return model, jax.jit(model.init)(jax.random.key(0), np.zeros((1, 2), np.int32))


def resident_bytes() -> int:
    """Resident memory of this process, from /proc."""
    fields = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in fields if line.startswith("VmRSS")).split()[1]) * 1024


def decode(model, variables, steps: int, piece: int = PIECE, window: int = WINDOW) -> dict:
    """Draws and reads `steps` ids; returns what was seen after each piece, and the drift at the end."""

    def choose(carry, step):
        logits, state = carry
        ids = sample_logits(logits, jax.random.fold_in(jax.random.key(0), step))
        logits, state = decode_step(model, variables, ids, state)
        sizes = jnp.stack([jnp.max(jnp.abs(logits)), *_norms(state)])
        return (logits, state), (ids[0], sizes)

    @jax.jit
    def run(carry, start):
        carry, (ids, sizes) = jax.lax.scan(choose, carry, start + jnp.arange(piece))
        return carry, ids, jnp.max(sizes, axis=0)  # NaN stays NaN

    carry = prefill(model, variables, np.zeros((1, 1), np.int32))
    seen, recent, begun = [], np.zeros(0, np.int32), time.perf_counter()
    for start in range(0, steps, piece):
        carry, ids, sizes = run(carry, start)
        recent = np.concatenate([recent, np.asarray(ids)])[-window:]
        seen.append((np.asarray(sizes), resident_bytes()))
    fresh, _ = prefill(model, variables, recent[None])
    drift = np.linalg.norm(carry[0] - fresh) / np.linalg.norm(fresh)
    sizes, memory = np.array([entry[0] for entry in seen]), [entry[1] for entry in seen]
    half = len(seen) // 2
    return {
        "steps": len(seen) * piece,
        "finite": bool(np.all(np.isfinite(sizes))),
        "largest_logit": float(sizes[:, 0].max()),
        "largest_state_norms_first_half": sizes[:half, 1:].max(axis=0).tolist(),
        "largest_state_norms_second_half": sizes[half:, 1:].max(axis=0).tolist(),
        "relative_difference_from_fresh": float(drift),
        "window": window,
        "state_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(carry[1])),
        "resident_bytes_after_first_piece": memory[0],
        "resident_bytes_at_half": memory[half],
        "resident_bytes_at_end": memory[-1],
        "seconds": round(time.perf_counter() - begun, 1),
    }


def _norms(state):
    return [jnp.linalg.norm(leaf.ravel()) for leaf in jax.tree.leaves(state)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args()
    if args.steps < 2 * PIECE or args.steps % PIECE:
        parser.error(f"--steps must be a multiple of {PIECE}, and at least two of them")
    result = decode(*make_model(), args.steps) | surroundings()
    print(json.dumps(result, indent=2))
    write_atomically(args.out, json.dumps(result, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
