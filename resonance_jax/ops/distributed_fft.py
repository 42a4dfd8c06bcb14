"""The whole FFT of a sequence whose parts lie on several devices: all-to-all exchanges of time against features.

Inside shard_map, pmap or a vmap with an axis name, D parts of one sequence lie along that axis in their order, each
[..., t, d]. Few frequencies do not need this: `fourier.project` with `axis_name` exchanges k d numbers, this t d.
"""

import jax
import jax.numpy as jnp

from resonance_jax.array_typing import RealSequence, SpectrumShard
from resonance_jax.ops._checks import check_complex, check_real_sequence


def distributed_rfft(x: RealSequence, axis_name: str) -> SpectrumShard:
    """Transforms all D t samples: this device gets the spectrum of its D-th of the features.

    Args:
        x: this device's part, real [..., t, d], d a multiple of D.
        axis_name: of the parts.
    Returns:
        Complex [..., D t // 2 + 1, d / D]: device m has the features m d/D … (m + 1) d/D − 1.
    Raises:
        ValueError: if x is not real [..., t, d], or the devices do not divide its features.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(0), (2, 8, 6))  # two parts of 8 samples, 6 features
    >>> parts = jax.vmap(lambda x: distributed_rfft(x, "parts"), axis_name="parts")(x)
    >>> whole = jnp.fft.rfft(x.reshape(16, 6), axis=0)
    >>> bool(jnp.allclose(jnp.concatenate([*parts], axis=-1), whole, atol=1e-5))
    True
    """
    x = jnp.asarray(x)
    check_real_sequence("x", x)
    count = jax.lax.axis_size(axis_name)
    if x.shape[-1] % count:
        raise ValueError(
            f"the {count} devices of axis {axis_name!r} must divide the features, got {x.shape[-1]}; pad them."
        )
    last = x.ndim - 1
    whole = jax.lax.all_to_all(x, axis_name, last, last - 1, tiled=True)
    whole = jnp.swapaxes(whole.astype(jnp.promote_types(x.dtype, jnp.float32)), -1, -2)
    return jnp.swapaxes(jnp.fft.rfft(whole), -1, -2)


def distributed_irfft(spectrum: SpectrumShard, length: int, axis_name: str) -> RealSequence:
    """Undoes `distributed_rfft`: from this device's features of all frequencies to its part of all features.

    Args:
        spectrum: complex [..., n // 2 + 1, d / D].
        length: n = D t, samples of the whole sequence.
        axis_name: of the parts.
    Returns:
        This device's part, real [..., n / D, d].
    Raises:
        ValueError: if the spectrum is not complex with n // 2 + 1 frequencies, or the devices do not divide n.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(0), (2, 8, 6))
    >>> there_and_back = lambda x: distributed_irfft(distributed_rfft(x, "parts"), 16, "parts")
    >>> bool(jnp.allclose(jax.vmap(there_and_back, axis_name="parts")(x), x, atol=1e-5))
    True
    """
    spectrum = jnp.asarray(spectrum)
    check_complex("spectrum", spectrum)
    count = jax.lax.axis_size(axis_name)
    if spectrum.ndim < 2 or spectrum.shape[-2] != length // 2 + 1:
        raise ValueError(
            f"spectrum must be [..., {length // 2 + 1}, features] for length {length}, got {spectrum.shape}."
        )
    if length % count:
        raise ValueError(
            f"the {count} devices of axis {axis_name!r} must divide the length, got {length}."
        )
    whole = jnp.fft.irfft(jnp.swapaxes(spectrum, -1, -2), n=length)
    last = whole.ndim - 1
    return jnp.swapaxes(jax.lax.all_to_all(whole, axis_name, last, last - 1, tiled=True), -1, -2)
