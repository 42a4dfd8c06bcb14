"""The dropout module: the op, while training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.layers.dropout import Dropout


def test_module_draws_while_training_alone():
    x = jnp.ones((3, 8))
    layer = Dropout(0.5)
    np.testing.assert_array_equal(layer.apply({}, x, deterministic=True), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, deterministic=False), x)
    first, again, other = (
        np.asarray(layer.apply({}, x, deterministic=False, rngs={"dropout": jax.random.key(seed)}))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first == 0) and np.any(first == 2) and np.any(first != other)


@pytest.mark.error_message
def test_a_rate_outside_is_refused_before_training():
    with pytest.raises(ValueError, match=r"rate must be in \[0, 1\), got 1.0"):
        Dropout(1.0).apply({}, jnp.ones(3), deterministic=True)
