"""Trained models of several sizes, and what a step and an answer cost: the numbers behind the claims about models.

The loop is the plainest there is, Adam on the mean cross-entropy, so that a model compiles in a second or two;
`experiments/scaling.py` asks the same of the library's trainer.
"""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from resonance_jax.data.dataset import Dataset, load_dataset
from resonance_jax.models.baselines import TransformerConfig, make_model
from resonance_jax.models.quaternion_net import QRHNetConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.models.sequence_model import SequenceConfig

KINDS = ("resonance", "transformer")
RATE, BATCH = 1e-2, 64
# For what runs once or a few times: XLA takes longer to optimize it than to run it.
QUICK_COMPILE: dict[str, bool | str] = {
    "xla_backend_optimization_level": "0",
    "xla_llvm_disable_expensive_passes": True,
}


class Trial:
    """One classifier in training.

    Args:
        config: of the model.
        inputs: as many examples as a batch has.
        seed: of the parameters.
        compiler_options: of a step and of the scores; see `QUICK_COMPILE`.

    Attributes:
        params: as they are now.
        parameters: how many there are.
        peak_memory_bytes: XLA's figure for a step: arguments + outputs + temporaries − aliased; 0 if it gives none.
    """

    def __init__(
        self,
        config: SequenceConfig,
        inputs: np.ndarray,
        seed: int = 0,
        compiler_options: dict[str, bool | str] | None = None,
    ) -> None:
        model, optimizer = make_model(config), optax.adam(RATE)

        def loss(params, inputs, labels):
            scores = jnp.asarray(model.apply({"params": params}, inputs))
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, labels))

        def step(state, inputs, labels):
            params, moments = state
            updates, moments = optimizer.update(jax.grad(loss)(params, inputs, labels), moments)
            return optax.apply_updates(params, updates), moments

        def start(key, inputs):
            params = model.init(key, inputs)["params"]
            return params, optimizer.init(params)

        first = jax.jit(start, compiler_options=QUICK_COMPILE)
        self._state = first(jax.random.key(seed), inputs[:1])
        self.params = self._state[0]
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        labels = np.zeros(len(inputs), np.int32)
        lowered = jax.jit(step).lower(self._state, inputs, labels)
        self._step = lowered.compile(compiler_options)
        self.peak_memory_bytes = 0
        if sizes := self._step.memory_analysis():
            used = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
            used += sizes.temp_size_in_bytes - sizes.alias_size_in_bytes
            self.peak_memory_bytes = int(used)
        self.scores = jax.jit(
            lambda params, inputs: model.apply({"params": params}, inputs),
            compiler_options=compiler_options,
        )

    def step(self, inputs: np.ndarray, labels: np.ndarray) -> Any:
        """Takes a step and returns the parameters."""
        self._state = self._step(self._state, inputs, labels)
        self.params = self._state[0]
        return self.params


def median_milliseconds(call: Callable[[], Any], repeats: int = 10) -> float:
    """Median CPU time of a call, over all threads, after two: on one core, the time of a machine that is idle."""
    times = []
    for _ in range(2 + repeats):
        started = time.process_time()
        jax.block_until_ready(call())
        times.append(1e3 * (time.process_time() - started))
    return statistics.median(times[2:])


def train(
    config: SequenceConfig,
    data: Dataset,
    epochs: int,
    seed: int,
    compiler_options: dict[str, bool | str] | None = None,
) -> Trial:
    """Trains a classifier on whole batches of the training split, in an order drawn anew each epoch."""
    examples, rng = data.train, np.random.default_rng(seed)
    trial = Trial(config, examples.inputs[:BATCH], seed, compiler_options)
    steps = len(examples) // BATCH
    for _ in range(epochs):
        order = rng.permutation(len(examples))
        for rows in np.split(order[: steps * BATCH], steps):
            trial.step(examples.inputs[rows], examples.labels[rows])
    return trial


@functools.cache
def size_records(dataset: str, size: str, seed: int) -> tuple[dict[str, Any], ...]:
    """Trains a resonance network and a Transformer of several widths; returns records for `claims.matched`.

    Both have the same stem, depth, MLP and budget. They are trained once in a process.

    Args:
        dataset: "digits" (images, 2 × 2 patches) or the name of a UCR set (patches of 32 every 16).
        size: "quick" or "full": how long they train, and how many widths there are.
        seed: of the parameters and of the order of the examples.
    """
    data = load_dataset(dataset)
    epochs, widths = (8, (4, 16)) if size == "quick" else (20, (4, 8, 16, 32))
    return tuple(
        _record(kind, make_config(kind, width, data), data, epochs, seed)
        for width in widths
        for kind in KINDS
    )


def _record(kind: str, config: SequenceConfig, data: Dataset, epochs: int, seed: int) -> dict:
    trial, examples = train(config, data, epochs, seed), data.train
    choice = np.argmax(trial.scores(trial.params, data.test.inputs), axis=-1)
    params, steps = trial.params, len(examples) // BATCH
    step_ms = median_milliseconds(
        lambda: trial.step(examples.inputs[:BATCH], examples.labels[:BATCH])
    )
    return {
        "model": kind,
        "parameters": trial.parameters,
        "accuracy": float(np.mean(choice == data.test.labels)),
        "train_seconds": epochs * steps * step_ms / 1e3,
        "inference_ms": median_milliseconds(lambda: trial.scores(params, data.test.inputs)),
        "peak_memory_bytes": trial.peak_memory_bytes,
    }


def make_config(kind: str, width: int, data: Dataset, **options: Any) -> SequenceConfig:
    """Returns one layer of a kind of network for a data set, with an MLP of twice its width.

    Args:
        kind: one of `KINDS`, or "qrh".
        width: of the layer; for "qrh" a multiple of 4.
        data: sequences are cut into patches of 32 every 16, images into 2 × 2.
        **options: further fields of the configuration, or other values.
    """
    images = len(data.input_shape) == 3
    shape: dict[str, Any] = (
        dict(
            input_dim=data.input_shape[-1],
            output_dim=data.num_classes,
            hidden_dim=width,
            num_layers=1,
            mlp_dim=2 * width,
            patch_size=2 if images else 32,
            patch_stride=0 if images else 16,
            pooling="mean_max",
            position="learned",
            dropout=0.0,
        )
        | options
    )
    if kind == "resonance":
        return ResonanceNetConfig(**{"num_frequencies": min(width, 8), **shape})
    return {"transformer": TransformerConfig, "qrh": QRHNetConfig}[kind](**shape)
