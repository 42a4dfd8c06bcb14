"""Starting values for magnitudes, phases and frequencies."""

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.ops._checks import check_frequency_range


def small_normal(scale: float):
    """Draws N(0, scale²): log-magnitudes and phases near 0 make a filter near the identity."""
    return jax.nn.initializers.normal(scale)


def exp_normal(scale: float, key: jax.Array):
    """Returns initializers of Re w and Im w for w = exp(a + ib), a and b ~ N(0, scale²), both of one draw by `key`."""

    def start(part: str):
        def init(own_key, shape, dtype=jnp.float32):
            del own_key  # the parts of one w belong together
            a, b = scale * jax.random.normal(
                key, (2, *shape), jnp.promote_types(dtype, jnp.float32)
            )
            return jnp.asarray(getattr(jnp.exp(jax.lax.complex(a, b)), part), dtype)

        return init

    return start("real"), start("imag")


def small_interference(key, shape, dtype=jnp.float32):
    """Draws real and imaginary parts [2, k, k] from N(0, (0.1/k)²): a sum over k mixes in about a tenth / √k."""
    return 0.1 / shape[-1] * jax.random.normal(key, shape, dtype)


def frequency_logit(frequencies: np.ndarray):
    """Returns an initializer of ℓ with f = ½ sigmoid(ℓ), f in cycles per sample strictly inside (0, ½).

    Raises:
        ValueError: if a frequency is not inside (0, ½).
    """
    check_frequency_range(frequencies)

    def init(key, shape, dtype=jnp.float32):
        del key, shape  # the frequencies are given
        return jnp.asarray(np.log(2 * frequencies) - np.log1p(-2 * frequencies), dtype)

    return init


def near_identity(key, shape, dtype=jnp.float32):
    """Draws quaternions [..., 4] of components N(0, 0.1²) around 1: rotations by about 0.35 radians."""
    return jnp.eye(1, 4, dtype=dtype)[0] + 0.1 * jax.random.normal(key, shape, dtype)


def near_identity_matrix(key, shape, dtype=jnp.float32):
    """Draws matrices [..., 4, 4] of entries N(0, 0.1²) around the identity."""
    return jnp.eye(4, dtype=dtype) + 0.1 * jax.random.normal(key, shape, dtype)
