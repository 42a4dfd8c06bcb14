"""Fusion of two senses: the spectrum of one modulates the other's, without attention."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import RealSequence, SequenceMask, SourceMask, SourceSequence
from resonance_jax.layers import initializers
from resonance_jax.layers.dropout import Dropout
from resonance_jax.ops.fusion import cross_modulation
from resonance_jax.ops.polar import from_polar


class CrossModalResonance(nn.Module):
    """Multiplies a target's low frequencies by 1 + G of a source's: y = x + dropout(r), of any two lengths.

    With u = LayerNorm(x), v = LayerNorm(source) K, their spectra U and V at 0 … k − 1 cycles in each row's window, and
    W = exp(log_magnitude + i·phase) (`ops.fusion.cross_modulation`):

        G = W ⊙ V / √(ε² + mean |V|² + |V|²),    r = synthesis of G ⊙ U,    |G| < |W|

    Where a row observes nothing of the source, y = x exactly. Steps are not compared with each other: the cost is that
    of k waves over the n + m steps. Rolling either sequence along its window turns phases alone; a permutation of the
    steps is another sequence.

    Parameters: `log_magnitude`, `phase` [k, features]; the norms' `scale` and `bias`; `kernel` K [source features,
    features].

    Attributes:
        features: d of the target.
        num_frequencies: k; above half a window's steps a frequency is left alone.
        dropout: rate on r.
        residual: add x; False returns dropout(r).
        dtype, param_dtype: of the computation and result (None is the input's); of the parameters.

    >>> import jax
    >>> layer = CrossModalResonance(features=4, num_frequencies=3)
    >>> image, sound = jnp.ones((2, 9, 4)), jnp.ones((2, 30, 6))
    >>> variables = jax.jit(layer.init)(jax.random.key(0), image, sound)
    >>> jax.jit(layer.apply)(variables, image, sound).shape
    (2, 9, 4)
    """

    features: int
    num_frequencies: int
    dropout: float = 0.0
    residual: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: RealSequence,
        source: SourceSequence,
        mask: SequenceMask | None = None,
        source_mask: SourceMask | None = None,
        *,
        deterministic: bool = True,
    ) -> RealSequence:
        """Maps x [b, t, d] and a source [b, m, e] to y [b, t, d]; True in a mask is observed, a row may be all False.

        Raises:
            ValueError: if a shape, dtype or option does not fit.
        """
        x, source = (jnp.asarray(array, self.dtype or x.dtype) for array in (x, source))
        if x.shape[-1] != self.features or self.num_frequencies < 1:
            raise ValueError(
                f"expected x [..., {self.features}] and num_frequencies >= 1, got {x.shape} and {self.num_frequencies}."
            )
        dtypes: dict[str, Any] = dict(dtype=x.dtype, param_dtype=self.param_dtype)
        u = nn.LayerNorm(name="target_norm", **dtypes)(_observed(x, mask))
        v = nn.LayerNorm(name="source_norm", **dtypes)(_observed(source, source_mask))
        v = nn.Dense(self.features, use_bias=False, name="source", **dtypes)(v)
        shape, start = (self.num_frequencies, self.features), initializers.small_normal(0.02)
        log_magnitude = self.param("log_magnitude", start, shape, self.param_dtype)
        phase = self.param("phase", start, shape, self.param_dtype)
        weights, cycles = from_polar(jnp.exp(log_magnitude), phase), np.arange(shape[0])
        r = cross_modulation(u, v, weights, cycles, mask=mask, source_mask=source_mask)
        r = Dropout(self.dropout)(r, deterministic=deterministic)
        return x + r if self.residual else r


def _observed(x, mask):
    """x with 0 in what is hidden, which may be anything: NaN there would reach the norm's gradient."""
    if mask is None or mask.shape != x.shape[:-1]:  # the op says what it should be
        return x
    return jnp.where(mask[..., None], x, 0)
