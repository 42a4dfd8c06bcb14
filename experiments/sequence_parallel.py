"""One sequence on several devices, written out to be read and changed: each device holds and trains on a part of it.

    python -m experiments.sequence_parallel

Runs on all devices that JAX has; a CPU is made into four. A language model reads 8,192 bytes of the King James text at
once. Resonators exchange one state a layer and part, the convolution its last three steps: no device ever holds the
whole sequence, which would be 524,288 numbers. Printed of the compiled step's collectives: how many, and the numbers in
the largest array that each kind gives.

Found on four devices of a CPU: two all-gathers of 4,096 numbers (states), two reduce-scatters of 1,024 (their
gradients), four permutes of 192 (steps of the convolution), one all-reduce (gradients of parameters, the embedding's
16,384 the largest); 3.04 bits a byte after 50 steps, one device's to 1e-6.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from resonance_jax.data.corpus import load_corpus
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.optimizer import make_optimizer

CONTEXT = 8192
CONFIG = LanguageModelConfig(hidden_dim=64, num_layers=2, mlp_dim=128, max_radius=0.999)


def make_step(devices: Sequence[Any], optimizer: optax.GradientTransformation) -> Any:
    """Makes (params, opt_state, ids [b, t], labels [b, t]) -> (params, opt_state, loss), the time on the devices."""
    model = LanguageModel(CONFIG, axis_name="time")

    def step(params, opt_state, ids, labels):
        def share(params):
            losses, _ = model.apply({"params": params}, ids, labels, method="losses")
            return losses.mean() / len(devices)

        # Each device has the gradient of its own share; the sum of them is that of the mean over all steps.
        own = jax.lax.pcast(params, "time", to="varying")
        loss, gradients = jax.lax.psum(jax.value_and_grad(share)(own), "time")
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    parts, same = PartitionSpec(None, "time"), PartitionSpec()
    mesh = Mesh(np.array(devices), ("time",))
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(same, same, parts, parts), out_specs=same)
    return jax.jit(mapped, donate_argnums=(0, 1))


def count_collectives(text: str) -> dict[str, tuple[int, int]]:
    """Counts the collectives of a compiled program, and the numbers in the largest array that each kind gives."""
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    found = {}
    for shapes, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text):
        sizes = [
            np.prod([int(n) for n in shape.split(",") if n], dtype=int)
            for shape in re.findall(r"\[([\d,]*)\]", shapes)
        ]
        count, largest = found.get(kind, (0, 0))
        found[kind] = count + 1, max(largest, *sizes)
    return {kind: (count, int(largest)) for kind, (count, largest) in found.items()}


def train(steps: int, devices: Sequence[Any], context: int = CONTEXT) -> list[float]:
    """Trains on these devices; prints their collectives, and returns the losses in bits a byte."""
    text = np.frombuffer(b"".join(load_corpus("kjv").train), np.uint8).astype(np.int32)
    optimizer = make_optimizer(TrainConfig(learning_rate=3e-3), steps)
    params = jax.jit(LanguageModel(CONFIG).init)(jax.random.key(0), text[None, :8])["params"]
    state, losses = (params, optimizer.init(params)), []
    windows = text[: steps * context].reshape(steps, 1, context)
    following = text[1 : steps * context + 1].reshape(steps, 1, context)
    step = make_step(devices, optimizer).lower(*state, windows[0], following[0]).compile()
    print(f"{len(devices)} devices:", count_collectives(step.as_text()) or "no collectives")
    for ids, labels in zip(windows, following, strict=True):
        *state, loss = step(*state, ids, labels)
        losses.append(float(loss) / np.log(2))  # waits: devices of one CPU must not get far ahead
    return losses


def main() -> None:
    flags = os.environ.get("XLA_FLAGS", "")  # read when JAX first looks for devices; for CPUs alone
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=4"
    os.environ.setdefault("PJRT_NPROC", "8")  # with fewer threads they could wait for each other
    if CONTEXT % len(jax.devices()):
        raise SystemExit(
            f"{len(jax.devices())} devices do not divide {CONTEXT} bytes: change CONTEXT."
        )
    together, alone = (train(50, jax.devices()[:count]) for count in (None, 1))
    apart = np.max(np.abs(np.subtract(together, alone)))
    print(
        f"{together[0]:.3f} bits a byte at first, {together[-1]:.3f} after 50 steps; one device's to {apart:.0e}"
    )


if __name__ == "__main__":
    main()
