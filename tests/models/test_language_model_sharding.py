"""A language model on two devices, which only a process of its own can have on a CPU."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from resonance_jax.models.language_model import LanguageModel, LanguageModelConfig
from resonance_jax.ops.delta_rule import delta_rule
from resonance_jax.ops.recurrence import chunked, ring_bank


@pytest.mark.slow_process
def test_two_devices():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    process = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True
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
    bank = ring_bank(jax.random.key(1), 2, 3)

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
        np.testing.assert_allclose(jax.jit(mapped)(x), function(x), rtol=0, atol=1e-5)


if __name__ == "__main__":
    sharded_batch_is_not_gathered()
    shards_are_mapped()
