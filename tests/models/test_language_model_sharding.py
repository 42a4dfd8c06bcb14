"""A language model, sequences in parts and their experiments on two devices, which take a process of their own."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import pmap_data_parallel, sequence_parallel
from resonance_jax.layers.block import ResonanceBlock
from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig
from resonance_jax.ops.delta_rule import delta_rule
from resonance_jax.ops.distributed_fft import distributed_irfft, distributed_rfft
from resonance_jax.ops.recurrence import chunked, ring_bank

ROOT = Path(__file__).parents[2]


@pytest.mark.slow_process
def test_two_devices(quick_compile):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": paths,
        "PJRT_NPROC": "4",
    }
    process = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr


def sharded_batch_is_not_gathered() -> None:
    """Each device reads its own rows; what they exchange is the sum of the gradients."""
    model = LanguageModel(
        LanguageModelConfig(
            vocab_size=32,
            hidden_dim=16,
            num_layers=1,
            mlp_dim=16,
            num_heads=2,
            dtype="bfloat16",
        )
    )
    ids = np.random.default_rng(0).integers(0, 32, (2, 150)).astype(np.int32)
    params = jax.jit(model.init)(jax.random.key(0), ids[:, :4])

    def loss(params, ids):
        return model.apply(params, ids, ids, method="losses")[0].mean()

    step = jax.jit(jax.value_and_grad(loss))
    whole = step(params, ids)
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    given = (
        jax.device_put(params, NamedSharding(mesh, PartitionSpec())),
        jax.device_put(ids, NamedSharding(mesh, PartitionSpec("rows"))),
    )
    compiled = step.lower(*given).compile()
    text = str(compiled.as_text())
    assert "all-gather" not in text
    assert "all-reduce" in text
    both = zip(jax.tree.leaves(compiled(*given)), jax.tree.leaves(whole), strict=True)
    for values, wanted in both:
        np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-3)


def shards_are_mapped() -> None:
    """In shard_map the state that nothing is given for varies as the sequences do."""
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    x = jax.random.normal(jax.random.key(0), (2, 150, 4))
    bank = jax.jit(ring_bank, static_argnums=(1, 2))(jax.random.key(1), 2, 3)

    def resonate(x):
        return chunked(x, bank)[0]

    def remember(x):
        return delta_rule(x, x / jnp.linalg.norm(x, axis=-1, keepdims=True), x, x[..., 0] * 0 + 1)[
            0
        ]

    for function in (resonate, remember):
        mapped = jax.shard_map(
            function, mesh=mesh, in_specs=PartitionSpec("rows"), out_specs=PartitionSpec("rows")
        )
        np.testing.assert_allclose(jax.jit(mapped)(x), jax.jit(function)(x), rtol=0, atol=1e-5)


def parts_of_a_sequence_are_mapped() -> None:
    """Values, and gradients as a step takes them, of parts of a sequence on the devices are those of the whole."""
    mesh = Mesh(np.array(jax.devices()), ("parts",))
    x = np.random.default_rng(0).normal(size=(2, 300, 4)).astype(np.float32)
    parts_are_the_whole(partial(ResonanceBlock, 4, 3, mlp_dim=4), mesh, x)

    def there_and_back(x):
        return distributed_irfft(distributed_rfft(x, "parts"), 300, "parts")

    split = PartitionSpec(None, "parts")
    mapped = jax.shard_map(there_and_back, mesh=mesh, in_specs=split, out_specs=split)
    np.testing.assert_allclose(jax.jit(mapped)(x), x, rtol=0, atol=1e-5)


def parts_are_the_whole(make: Any, mesh: Mesh, x: np.ndarray) -> None:
    whole, part = (make(axis_name=axis) for axis in (None, "parts"))
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(whole.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda s: (0.3 * rng.normal(size=s.shape)).astype(s.dtype), shapes)

    def loss(layer, variables, x):
        y = layer.apply(variables, x)
        return jnp.mean(jnp.sin(y)), y

    def step(variables, x):
        own = jax.lax.pcast(variables, "parts", to="varying")
        (value, y), gradient = jax.value_and_grad(partial(loss, part), has_aux=True)(own, x)
        value, gradient = jax.lax.pmean((value, gradient), "parts")
        return (value, y), gradient

    split, same = PartitionSpec(None, "parts"), PartitionSpec()
    specs: Any = dict(mesh=mesh, in_specs=(same, split), out_specs=((same, split), same))
    found = jax.jit(jax.shard_map(step, **specs))(variables, x)
    wanted = jax.jit(jax.value_and_grad(partial(loss, whole), has_aux=True))(variables, x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.max(np.abs(b)))


def the_experiments_train() -> None:
    """A few steps of each: with the time on two devices, in bfloat16, as on one; and by pmap."""
    sequence_parallel.CONFIG = LanguageModelConfig(
        hidden_dim=16, num_layers=1, mlp_dim=16, num_heads=2, dtype="bfloat16"
    )
    together, alone = (
        sequence_parallel.train(3, jax.devices()[:count], context=300) for count in (2, 1)
    )
    assert together[2] < together[0]
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-2)
    _, params = pmap_data_parallel.train(2, jax.devices())
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params))


if __name__ == "__main__":
    sharded_batch_is_not_gathered()
    shards_are_mapped()
    parts_of_a_sequence_are_mapped()
    the_experiments_train()
