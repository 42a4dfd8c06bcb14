"""How much memory and time models take over the length of a sequence."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.claims.scaling import fastest_seconds
from resonance_jax.models.baselines import TransformerConfig, make_model
from resonance_jax.models.long_context import LongContextConfig
from resonance_jax.models.sequence_model import SequenceConfig

QUERIES = 128  # whose scores attention makes at a time


def make_configs(longest: int, width: int, layers: int) -> dict[str, SequenceConfig]:
    """Returns the long-context model, and Transformers of its width and depth: all scores, and some at a time."""
    shape: dict[str, Any] = dict(
        input_dim=1,
        output_dim=2,
        vocab_size=256,
        hidden_dim=width,
        num_layers=layers,
        mlp_dim=2 * width,
        dropout=0.0,
    )
    return {
        "resonance": LongContextConfig(
            **shape,
            max_context_length=longest,
            chunk_size=min(2048, longest // 8),
            overlap=16,
            bridge_frequencies=4,
        ),
        "attention": TransformerConfig(**shape),
        "chunked_attention": TransformerConfig(**shape, queries_at_once=QUERIES),
    }


@lru_cache(maxsize=64)  # at quick size two claims ask for the same
def program_bytes(config: SequenceConfig, length: int, *, training: bool) -> int:
    """Returns the bytes of arguments, outputs and temporaries of a forward pass or of gradients, as XLA plans them.

    Nothing is run: lengths may be larger than what fits.
    """
    model = make_model(config)
    ids = jax.ShapeDtypeStruct((1, length), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), ids)

    def loss(variables: Any, ids: jax.Array) -> jax.Array:
        outputs: Any = model.apply(variables, ids)
        return jnp.sum(jnp.square(outputs))

    call = jax.grad(loss) if training else model.apply
    sizes: Any = jax.jit(call).lower(variables, ids).compile().memory_analysis()
    used = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return int(used)


def forward_seconds(config: SequenceConfig, length: int) -> float:
    """Returns the least time of a forward pass over one sequence, after compilation; all parameters are 0."""
    model = make_model(config)
    ids = jnp.zeros((1, length), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), ids)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return fastest_seconds(jax.jit(model.apply), variables, ids, repeats=3)
