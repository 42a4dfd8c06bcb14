"""Training on several devices: on one device in this process, on four in a process of its own."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resonance_jax.data.corpus import make_corpus
from resonance_jax.data.split import Dataset, Split
from resonance_jax.layers.dropout import Dropout
from resonance_jax.models.language_model import LanguageModelConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training import language_run
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.fields import STRATEGIES
from resonance_jax.training.language import load_language_model, train_language_model
from resonance_jax.training.language_config import LanguageTrainConfig
from resonance_jax.training.loop import load_run
from resonance_jax.training.metrics_log import read_metrics
from resonance_jax.training.run import Run
from resonance_jax.training.sharding import DataParallel
from resonance_jax.training.signals import SignalFlag
from resonance_jax.training.step import init_state, train_step

CASES = [(strategy, "replicated") for strategy in STRATEGIES] + [("jit", "sharded")]
# Each strategy compiles all of it: what all devices do with the same gradients is kept small.
OPTIMIZERS: dict[int, Any] = {1: optax.adam(0.01)}
OPTIMIZERS[2] = optax.MultiSteps(OPTIMIZERS[1], 2).gradient_transformation()


class Net(nn.Module):
    """A small network, where asked with a memory of what each row has had."""

    head: str = "classify"
    dropout: float = 0.0
    remembers: bool = False

    @nn.compact
    def __call__(self, inputs, mask=None, *, deterministic=True):
        x = inputs if mask is None else jnp.where(mask[..., None], inputs, 0)
        x = nn.tanh(nn.Dense(4, name="stem")(x))
        x: Any = Dropout(self.dropout)(x, deterministic=deterministic)
        if self.head == "classify":
            x = x.mean(axis=1)
        if self.remembers:
            trace = self.variable("hologram", "trace", jnp.zeros, x.shape)
            x = trace.value = x + 0.5 * trace.value
        return nn.Dense(4, name="head")(x)


def make_state(batch, head="classify", accumulation_steps=1, **options):
    model: Any = Net(head, **options)
    return init_state(
        *(model, OPTIMIZERS[accumulation_steps], jax.random.key(0), batch),
        loss=head,
        ema_decay=0.9,
        accumulation_steps=accumulation_steps,
    )


def make_batches(count, rows, head="classify"):
    """Batches whose rows have more and more observed steps."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        mask = rng.random((rows, 12)) < np.linspace(0.1, 0.9, rows)[:, None]
        batch = {
            "inputs": rng.normal(size=(rows, 12, 2)).astype(np.float32),
            "labels": rng.integers(0, 4, (rows, 12) if head == "per_token" else rows),
            "mask": mask | (np.arange(12) == 0),
        }
        if head == "classify":
            batch["weight"] = rng.uniform(0.5, 2, rows).astype(np.float32)
        yield batch


def assert_close(found, wanted, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@jax.jit
def copy(state):
    return jax.tree.map(jnp.copy, state)


@pytest.mark.slow_process
def test_four_devices(quick_compile):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PJRT_NPROC": "8"}
    command = [sys.executable, __file__]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_device(strategy, quick_compile):
    (batch,) = make_batches(1, 3)
    state, parallel = make_state(batch), DataParallel(strategy)
    placed, metrics = parallel.step(parallel.place(state), parallel.shard(batch))
    found = parallel.fetch(placed)
    wanted, expected = train_step(state, batch)  # which place has left usable
    assert_close(found.params, wanted.params, 1e-6)
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    assert set(metrics) == set(expected)
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-6)


@pytest.mark.error_message
def test_errors():
    with pytest.raises(ValueError, match="strategy 'pjit'"):
        DataParallel("pjit")
    with pytest.raises(ValueError, match="needs strategy='jit'"):
        DataParallel("pmap", parameters="sharded")
    with pytest.raises(ValueError, match=r"in 1 \.\. 1, .* got 8; .*device_count=8"):
        DataParallel(num_devices=8)
    with pytest.raises(ValueError, match=r"got 0\.$"):
        DataParallel(num_devices=0)
    with pytest.raises(ValueError, match="same number of rows"):
        DataParallel().shard({"inputs": np.zeros((3, 2)), "labels": np.zeros(2)})
    (batch,) = make_batches(1, 2)
    state = make_state(batch)
    with pytest.raises(ValueError, match="takes no axis"):
        DataParallel("pmap").place(state.replace(loss_fn=lambda outputs, batch: (0.0, {})))
    with pytest.raises(ValueError, match="collections of rows alone, got 'fractal'"):
        DataParallel("shard_map").place(state.replace(collections={"fractal": jnp.ones(())}))
    with pytest.raises(ValueError, match=r"divide the rows .* shape \(\)"):
        DataParallel().place(state.replace(collections={"hologram": jnp.ones(())}))


def strategies_agree() -> None:
    """50 steps, 2 an update, of 3 rows on 4 devices, and one on 2 that is not finite on one of them: as one device."""
    batches = [*make_batches(50, 3)]
    spoiled = dict(batches[0])
    spoiled["inputs"] = spoiled["inputs"] * np.array([1, 1, np.nan], np.float32)[:, None, None]
    other = DataParallel("shard_map", num_devices=2)
    wanted = make_state(batches[0], accumulation_steps=2)
    for batch in (*batches, spoiled):
        wanted, expected = train_step(wanted, batch)
    assert int(expected["skipped"]) == 1
    for strategy, parameters in CASES:
        parallel = DataParallel(strategy, parameters=parameters)
        state = parallel.place(make_state(batches[0], accumulation_steps=2))
        for batch in batches:
            state, _ = parallel.step(state, parallel.shard(batch))
        if parameters == "sharded":
            kernel = state.params["head"]["kernel"]
            assert kernel.addressable_shards[0].data.size == kernel.size // 4
        found = parallel.fetch(state)
        parallel.step(state, parallel.shard(batches[0]))  # uses up `state`, not what was fetched
        state, _ = other.step(other.place(found), other.shard(spoiled))
        found = other.fetch(state)
        assert_close((found.params, found.ema_params), (wanted.params, wanted.ema_params))
        assert (int(found.step), int(found.skipped)) == (51, 1)


def losses_of_tokens_agree() -> None:
    """Masks of unequal counts on the devices, with and without missing rows."""
    for rows in (4, 6):
        (batch,) = make_batches(1, rows, "per_token")
        state = make_state(batch, "per_token")
        wanted, expected = train_step(copy(state), batch)
        parallel = DataParallel("shard_map")
        placed, metrics = parallel.step(parallel.place(state), parallel.shard(batch))
        assert_close(metrics, expected)
        assert_close(parallel.fetch(placed).params, wanted.params)


def dropout_is_that_of_one_device_under_jit_alone() -> None:
    (batch,) = make_batches(1, 4)
    state = make_state(batch, dropout=0.5)
    _, expected = train_step(copy(state), batch)
    for strategy in ("jit", "shard_map"):
        parallel = DataParallel(strategy)
        given = parallel.place(state), parallel.shard(batch)
        if strategy == "jit":  # Each device draws the masks of its own rows.
            assert "all-gather" not in str(parallel._step.lower(*given).compile().as_text())
        _, metrics = parallel.step(*given)
        same = abs(float(metrics["loss"] - expected["loss"])) < 1e-6
        assert same == (strategy == "jit"), strategy


def a_memory_stays_with_its_rows() -> None:
    (batch,) = make_batches(1, 4)
    trace = jnp.arange(16.0).reshape(4, 4)
    state = make_state(batch, remembers=True).replace(collections={"hologram": {"trace": trace}})
    wanted = train_step(copy(state), batch)[0]
    assert np.all(wanted.collections["hologram"]["trace"] != trace)
    for strategy in ("pmap", "shard_map"):
        parallel = DataParallel(strategy)
        placed, _ = parallel.step(parallel.place(state), parallel.shard(batch))
        assert_close(parallel.fetch(placed).collections, wanted.collections)
    with pytest.raises(ValueError, match="the devices, 3, must divide the rows"):
        DataParallel(num_devices=3).place(state)


def gradients_are_exchanged_once() -> None:
    (batch,) = make_batches(1, 4, "per_token")
    del batch["mask"]
    parallel = DataParallel("shard_map")
    state, rows = parallel.place(make_state(batch, "per_token")), parallel.shard(batch)
    text = parallel._step.lower(state, rows).as_text()
    assert text.count("stablehlo.all_reduce") == len(jax.tree.leaves(state.params)) + 2
    assert "all_gather" not in text


def runs_agree() -> None:
    """Parameters sharded over 4 devices, then replicated by pmap on 2, in one run: as on one device."""
    rng = np.random.default_rng(0)
    labels = np.arange(12, dtype=np.int32) % 2
    inputs = rng.normal(size=(12, 8, 1)) + labels[:, None, None]
    split = Split(inputs.astype(np.float32), labels)
    shape: Any = dict(hidden_dim=4, num_layers=1, mlp_dim=0, num_frequencies=2, gate=False)
    model = ResonanceNetConfig(1, 2, dropout=0.0, **shape)
    config = TrainConfig(model=model, num_epochs=2, batch_size=6, log_every=1, ema_decay=0.9)
    sharded = dataclasses.replace(config, num_devices=0, parameters="sharded")
    mapped = dataclasses.replace(config, num_devices=2, strategy="pmap")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, given, stop in (("one", config, 4), ("four", sharded, 3), ("four", mapped, 4)):
            run = Run(given, Path(folder, name), Dataset("toy", split, split, ("low", "high")))
            with contextlib.closing(run):
                found[name] = run.train(SignalFlag(), progress=False, max_steps=stop)
        one, four = (load_run(Path(folder, name))[2] for name in ("one", "four"))
        lines = [read_metrics(Path(folder, name, "metrics.jsonl")) for name in ("one", "four")]
    assert_close(four, one)
    assert found["four"].parameters == found["one"].parameters
    assert abs(found["four"].test_loss - found["one"].test_loss) < 1e-5
    first, second = ([r for r in records if r["kind"] == "train"] for records in lines)
    for key in ("step", "loss", "accuracy", "grad_norm", "learning_rate"):
        assert_close([r[key] for r in second], [r[key] for r in first])


def runs_of_language_models_agree() -> None:
    """Windows that the devices do not divide, by pmap, rates set from outside: as on one device."""
    shape: Any = dict(vocab_size=256, hidden_dim=8, num_layers=1, mlp_dim=8, num_heads=2)
    times: Any = dict(num_steps=4, time_budget=None, warmup_steps=1, log_every=1)
    sizes: Any = dict(context_length=16, batch_size=3, eval_length=32, eval_rows=1)
    config = LanguageTrainConfig(
        model=LanguageModelConfig(**shape, mixer="attention"), **times, **sizes
    )
    language_run.load_corpus = lambda *_: make_corpus("kjv", [b"Let there be light.\n"] * 30)
    mapped = dataclasses.replace(config, num_devices=0, strategy="pmap")
    with tempfile.TemporaryDirectory() as folder:
        one, four = (
            train_language_model(given, Path(folder, name), progress=False)
            for name, given in (("one", config), ("four", mapped))
        )
        wanted, found = (load_language_model(Path(folder, name))[1] for name in ("one", "four"))
    assert_close(found, wanted)
    assert abs(four.test_bits_per_byte - one.test_bits_per_byte) < 1e-5
    assert four.parameters == one.parameters


if __name__ == "__main__":
    strategies_agree()
    runs_agree()
    runs_of_language_models_agree()
    losses_of_tokens_agree()
    dropout_is_that_of_one_device_under_jit_alone()
    a_memory_stays_with_its_rows()
    gradients_are_exchanged_once()
