"""Training on 1, 2, 4 and 8 devices, and on 2 processes of 2: the same parameters, and what the devices exchange.

Found: parameters after 50 steps differ by at most 3e-6 (target 1e-5). Split rows send what they must (×1.00) in every
    strategy, with sharded parameters ×1.53; causal parts ×1.00 on 2 devices, 1.18 on 4, 1.46 on 8, as each gets the
    states of all and not of its neighbour alone; parts both ways ×2.11, 1.54, 1.25. No program gathers a sequence.
Time: 5 minutes on 2 cores
Command: python -m experiments.device_scaling

The devices are parts of one CPU, made by XLA: what is measured is that the results agree and what is sent, no speed.
Fifty steps each, of

    rows    a `ResonanceNet` whose batch of 16 rows is split (`DataParallel`, every strategy)
    time    sequences split along time, causal (`LanguageModel`, 8,192 bytes) and both ways (`LongContextResonanceNet`,
            4,096 bytes), each step written out below

"apart" is the largest difference of a parameter from one device's. "sent" is what a device sends in a step, in bytes:
collectives of the compiled program with arrays of s bytes count 2 (n − 1)/n s for an all-reduce, (n − 1)/n s of the
whole for an all-gather, a reduce-scatter and an all-to-all, s for a permute, as with rings. "least" is what has to be
sent: the gradients of the parameters once to be summed, and what the parts of a sequence have to know of each other
(states or sums of each layer, steps at the edges; the same again for the gradient).
"""

import argparse
import json
import math
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from resonance_jax.data.corpus import load_corpus
from resonance_jax.layers._long_context import TAPS
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig
from resonance_jax.models.long_context import LongContextConfig, LongContextResonanceNet
from resonance_jax.models.resonance_net import ResonanceNet, ResonanceNetConfig
from resonance_jax.training import cluster
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.result import surroundings, write_atomically
from resonance_jax.training.sharding import DataParallel
from resonance_jax.training.step import init_state, train_step

RESULTS = Path(__file__).parent / "results" / "device_scaling.json"
COUNTS = (1, 2, 4, 8)
STEPS = 50
STRATEGIES = ("jit", "shard_map", "pmap", "jit, sharded parameters")
SEQUENCES = ("causal", "bidirectional")

ROWS = ResonanceNetConfig(1, 2, hidden_dim=32, num_layers=2, num_frequencies=8, dropout=0.0)
CAUSAL = LanguageModelConfig(hidden_dim=32, num_layers=2, mlp_dim=64, max_radius=0.999)
BOTH_WAYS = LongContextConfig(
    1,
    10,
    hidden_dim=32,
    num_layers=2,
    mlp_dim=64,
    vocab_size=256,
    dropout=0.0,
    max_context_length=4096,
    chunk_size=128,
    overlap=16,
    num_frequencies=16,
    local_frequencies=16,
    bridge_frequencies=4,
)
FORCE = "--xla_force_host_platform_device_count={}"
BYTES = {"f32": 4, "s32": 4, "u32": 4, "c64": 8, "bf16": 2, "pred": 1}


def count_sent(text: str, devices: int) -> dict[str, dict[str, int]]:
    """Counts the collectives of a compiled program by kind, and the bytes that each device sends in them."""
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
    share = (devices - 1) / devices
    factor = {
        "all-reduce": 2 * share,
        "all-gather": share,
        "all-to-all": share,
        "collective-permute": 1,
        "reduce-scatter": devices - 1,  # the shape in the text is that of the part that is kept
    }
    found: dict[str, dict[str, int]] = {}
    for shapes, kind in re.findall(rf"= (.*?) ({kinds})(?:-start)?\(", text):
        size = sum(
            BYTES[dtype] * math.prod(int(n) for n in shape.split(",") if n)
            for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        )
        row = found.setdefault(kind, {"count": 0, "bytes": 0})
        row["count"] += 1
        row["bytes"] += round(factor[kind] * size)
    return found


def rows_batches() -> Iterator[dict[str, np.ndarray]]:
    """Batches of 16 noisy waves, of two frequencies."""
    rng, steps = np.random.default_rng(0), np.arange(64)
    for _ in range(STEPS):
        labels = rng.integers(0, 2, 16).astype(np.int32)
        waves = np.sin((0.2 + 0.1 * labels[:, None]) * steps + rng.uniform(0, 6, (16, 1)))
        inputs = waves + rng.normal(size=waves.shape)
        yield {"inputs": inputs.astype(np.float32)[..., None], "labels": labels}


def train_rows(strategy: str, count: int) -> tuple[Any, str]:
    """Trains with the rows of each batch split over devices; returns the parameters and the compiled text."""
    name, _, sharded = strategy.partition(", ")
    parameters = "sharded" if sharded else "replicated"
    parallel = DataParallel(name, num_devices=count, parameters=parameters)
    batches = list(rows_batches())
    optimizer = make_optimizer(TrainConfig(), STEPS)
    state = init_state(ResonanceNet(ROWS), optimizer, jax.random.key(0), batches[0])
    state = parallel.place(state)
    own = len(batches[0]["labels"]) // jax.process_count()
    rows = slice(own * jax.process_index(), own * (jax.process_index() + 1))
    shards = [{name: part[rows] for name, part in batch.items()} for batch in batches]
    step, compiled = parallel.compile(state, parallel.shard(shards[0]))
    for batch in shards:
        state, _ = step(state, parallel.shard(batch))
    return jax.device_get(parallel.fetch(state).params), compiled.as_text()


def sequence_batches(kind: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Bytes of the King James text [1, t], and what follows each, or [1] the number of "the" among them, below 10."""
    text = np.frombuffer(b"".join(load_corpus("kjv").train), np.uint8).astype(np.int32)
    length = 8192 if kind == "causal" else BOTH_WAYS.max_context_length
    for start in range(0, STEPS * length, length):
        ids, following = text[start : start + length], text[start + 1 : start + length + 1]
        if kind == "causal":
            yield ids[None], following[None]
        else:
            the = ids.astype(np.uint8).tobytes().count(b" the ")
            yield ids[None], np.array([the % 10], np.int32)


def make_loss(kind: str, count: int) -> tuple[Any, Callable[[Any, Any, Any], Any]]:
    """Returns the model, and the loss of a part: those of all parts add up to the loss."""
    axis_name = None if count == 1 else "time"
    if kind == "causal":
        model = LanguageModel(CAUSAL, axis_name=axis_name)

        def share(params, ids, labels):
            losses, _ = model.apply({"params": params}, ids, labels, method="losses")
            return losses.mean() / count

        return model, share
    classifier = LongContextResonanceNet(BOTH_WAYS, axis_name=axis_name)

    def whole(params, ids, labels):
        logits: Any = classifier.apply({"params": params}, ids)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss / count  # every part has the same

    return classifier, whole


def train_sequence(kind: str, count: int) -> tuple[Any, str]:
    """Trains with each sequence split over devices; returns the parameters and the compiled text."""
    optimizer = make_optimizer(TrainConfig(learning_rate=3e-3), STEPS)
    model, loss_of_part = make_loss(kind, count)
    batches = list(sequence_batches(kind))
    ids, labels = batches[0]
    params = jax.jit(model.init)(jax.random.key(0), ids[:, :128])["params"]

    def step(params, opt_state, ids, labels):
        if count == 1:
            gradients = jax.grad(loss_of_part)(params, ids, labels)
        else:
            own = jax.lax.pcast(params, "time", to="varying")
            gradients = jax.lax.psum(jax.grad(loss_of_part)(own, ids, labels), "time")
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    if count > 1:
        parts, same = PartitionSpec(None, "time"), PartitionSpec()
        mesh = Mesh(np.array(jax.devices()[:count]), ("time",))
        specs = (same, same, parts, parts if labels.ndim > 1 else same)
        step = jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=same)
    opt_state = optimizer.init(params)
    compiled = jax.jit(step).lower(params, opt_state, ids, labels).compile()
    for ids, labels in batches:
        params, opt_state = compiled(params, opt_state, ids, labels)
        jax.block_until_ready(params)  # devices of one CPU must not get far ahead of each other
    return jax.device_get(params), str(compiled.as_text())


def least_sent(kind: str, parameters: int, count: int) -> int:
    """Bytes that a device has to send in a step; see the module."""
    gradients = 2 * 4 * parameters * (count - 1) / count
    if kind == "causal":
        # One complex state for each resonator, and the steps that the convolution reaches back to; to the next part.
        state = 8 * CAUSAL.num_resonators * CAUSAL.hidden_dim
        edge = 4 * (CAUSAL.conv_size - 1) * CAUSAL.hidden_dim
        return round(gradients + 2 * CAUSAL.num_layers * (state + edge) * (count > 1))
    if kind == "bidirectional":
        d = BOTH_WAYS.hidden_dim
        spectra = 8 * (BOTH_WAYS.num_frequencies + BOTH_WAYS.bridge_frequencies) * d
        sums = 2 * (count - 1) / count * (spectra + 4 * d + 4)
        edge = 4 * (BOTH_WAYS.overlap + TAPS - 1) * d * (count > 1)
        return round(gradients + 2 * BOTH_WAYS.num_layers * (sums + edge))
    return round(gradients)


def measure(kind: str, count: int, alone: Any) -> tuple[dict[str, Any], Any]:
    """Trains, and compares with what one device gave; returns the row and the parameters."""
    train = train_sequence if kind in SEQUENCES else train_rows
    params, text = train(kind, count)
    found = jax.tree.leaves(params)
    wanted = found if alone is None else alone
    apart = max(float(np.max(np.abs(a - b))) for a, b in zip(found, wanted, strict=True))
    collectives = count_sent(text, count)
    row = {
        "kind": kind,
        "processes": jax.process_count(),
        "devices": count,
        "apart": apart,
        "collectives": collectives,
        "sent": sum(each["bytes"] for each in collectives.values()),
        "least": least_sent(kind, sum(leaf.size for leaf in found), count),
    }
    return row, found


def measure_processes() -> list[dict[str, Any]]:
    """Rows of two processes with two devices each, by every strategy; compared with one device of one of them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = f"{os.environ.get('XLA_FLAGS', '')} {FORCE.format(2)}"
    environment = os.environ | {"XLA_FLAGS": flags, "PJRT_NPROC": "8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "experiments.device_scaling", "--process", str(port)]
    started = [
        subprocess.Popen([*command, str(index)], env=environment, stdout=subprocess.PIPE, text=True)
        for index in range(2)
    ]
    outputs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError("a process of the two failed; its error is above.")
    return json.loads(outputs[0].splitlines()[-1])


def work_in_process(port: int, index: int) -> None:
    """One of the two processes."""
    cluster.join(f"127.0.0.1:{port}", 2, index)
    alone = one_device()
    rows = [measure(strategy, jax.device_count(), alone)[0] for strategy in STRATEGIES]
    print(json.dumps(rows))


def one_device() -> list[np.ndarray]:
    """The parameters that `train_step` on one device gives for split rows."""
    batches = list(rows_batches())
    optimizer = make_optimizer(TrainConfig(), STEPS)
    state = init_state(ResonanceNet(ROWS), optimizer, jax.random.key(0), batches[0])
    for batch in batches:
        state, _ = train_step(state, batch)
    return jax.tree.leaves(jax.device_get(state.params))


def describe(row: dict[str, Any]) -> str:
    """A line of the table."""
    kinds = ", ".join(f"{each['count']} {kind}" for kind, each in row["collectives"].items())
    devices = f"{row['processes']} x {row['devices'] // row['processes']}"
    ratio = row["sent"] / row["least"] if row["least"] else 1.0
    return (
        f"{row['kind']:24} {devices:6} apart {row['apart']:.0e}  sent {row['sent']:9,} of {row['least']:9,} bytes "
        f"({ratio:.2f})  {kinds or 'no collectives'}"
    )


def main() -> None:
    """Measures all rows, writes and prints them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--process", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process:
        work_in_process(*options.process)
        return
    rows = measure_processes()
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FORCE.format(max(COUNTS))}"
    os.environ |= {"PJRT_NPROC": str(2 * max(COUNTS)), "JAX_PLATFORMS": "cpu"}
    alone: dict[str, Any] = dict.fromkeys(STRATEGIES, one_device())
    for kind in (*STRATEGIES, *SEQUENCES):
        for count in COUNTS:
            row, params = measure(kind, count, alone.get(kind))
            alone.setdefault(kind, params)
            rows.append(row)
            print(describe(row), flush=True)
    for row in rows:
        if row["processes"] > 1:
            print(describe(row))
    record = {"rows": rows, "steps": STEPS, "largest_difference": max(row["apart"] for row in rows)}
    write_atomically(options.out, json.dumps(record | surroundings(), indent=1) + "\n")
    print(f"largest difference of a parameter: {record['largest_difference']:.1e}, target 1e-05")


if __name__ == "__main__":
    main()
