"""Training on several devices: on one device in this process, on four in a process of its own."""

import os
import subprocess
import sys
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resonance_jax.training.sharding import STRATEGIES, DataParallel
from resonance_jax.training.step import init_state, train_step

CASES = [(strategy, "replicated") for strategy in STRATEGIES] + [("jit", "sharded")]
# Each strategy compiles all of it: what all devices do with the same gradients is kept small.
OPTIMIZER = optax.adam(0.01)


class Net(nn.Module):
    """A small network, where asked with a memory of what each row has had."""

    head: str = "classify"
    dropout: float = 0.0
    remembers: bool = False

    @nn.compact
    def __call__(self, inputs, mask=None, *, deterministic=True):
        x = inputs if mask is None else jnp.where(mask[..., None], inputs, 0)
        x = nn.tanh(nn.Dense(4, name="stem")(x))
        x = nn.Dropout(self.dropout)(x, deterministic=deterministic)
        if self.head == "classify":
            x = x.mean(axis=1)
        if self.remembers:
            trace = self.variable("hologram", "trace", jnp.zeros, x.shape)
            x = trace.value = x + 0.5 * trace.value
        return nn.Dense(4, name="head")(x)


def make_state(batch, head="classify", **options):
    model: Any = Net(head, **options)
    return init_state(model, OPTIMIZER, jax.random.key(0), batch, loss=head, ema_decay=0.9)


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
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
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
    """25 steps of 3 rows on 4 devices, 25 on 2, and one that is not finite on one of them: as one device."""
    batches = [*make_batches(50, 3)]
    spoiled = dict(batches[0])
    spoiled["inputs"] = spoiled["inputs"] * np.array([1, 1, np.nan], np.float32)[:, None, None]
    other = DataParallel("shard_map", num_devices=2)
    wanted = make_state(batches[0])
    for batch in (*batches, spoiled):
        wanted, expected = train_step(wanted, batch)
    assert int(expected["skipped"]) == 1
    for strategy, parameters in CASES:
        parallel = DataParallel(strategy, parameters=parameters)
        state = parallel.place(make_state(batches[0]))
        for batch in batches[:25]:
            state, _ = parallel.step(state, parallel.shard(batch))
        if parameters == "sharded":
            kernel = state.params["head"]["kernel"]
            assert kernel.addressable_shards[0].data.size == kernel.size // 4
        half = parallel.fetch(state)
        parallel.step(state, parallel.shard(batches[0]))  # uses up `state`, not what was fetched
        state = other.place(half)
        for batch in (*batches[25:], spoiled):
            state, _ = other.step(state, other.shard(batch))
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
        _, metrics = parallel.step(parallel.place(state), parallel.shard(batch))
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


if __name__ == "__main__":
    strategies_agree()
    losses_of_tokens_agree()
    dropout_is_that_of_one_device_under_jit_alone()
    a_memory_stays_with_its_rows()
    gradients_are_exchanged_once()
