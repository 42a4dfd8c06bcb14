"""A holographic memory inside a network: tokens read what earlier calls stored."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from resonance_jax.array_typing import RealSequence, SequenceMask
from resonance_jax.layers.hologram import HolographicMemory


class HolographicRecall(nn.Module):
    """Adds to every token what its memory recalls of it, then stores the tokens if asked.

        y = x + W_o r/√(1 + |r|²/d),    r = what a `HolographicMemory` of the row reads by u,    u = LayerNorm(x)

    Tokens u are stored under keys of their own content, and read before they are stored: what comes back is what
    earlier calls stored. The root bounds r, which grows with the number of similar tokens stored, and leaves a small
    one as it is. An empty memory adds exactly 0.

    Parameters: `memory/projection/kernel` and `out/kernel`, W_o, which starts small.

    Attributes:
        features: d.
        pages: of d numbers, the memory of each row.
        rule, decay: of the memory. Gradients flow through its writes.
        dtype, param_dtype: as in `ResonanceLayer`.
    """

    features: int
    pages: int
    rule: str = "add"
    decay: float = 1.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        """Declares norm, memory and output."""
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.norm = nn.LayerNorm(use_bias=False, use_scale=False, **dtypes)
        self.memory = HolographicMemory(
            self.features,
            self.pages * self.features,
            rule=self.rule,
            decay=self.decay,
            differentiable_writes=True,
            **dtypes,
        )
        start = nn.initializers.variance_scaling(0.01, "fan_in", "truncated_normal")
        self.out = nn.Dense(self.features, use_bias=False, kernel_init=start, **dtypes)

    def __call__(
        self,
        x: RealSequence,
        mask: SequenceMask | None = None,
        *,
        recall: bool = True,
        store: bool = False,
    ) -> RealSequence:
        """Maps x [b, t, d] to y [b, t, d]; tokens hidden by the mask are not stored."""
        u, y = self.norm(x), x
        if recall or self.is_initializing():
            found = self.memory.reconstruct(u)
            y = x + self.out(found / jnp.sqrt(1 + jnp.mean(found**2, axis=-1, keepdims=True)))
        if store:
            self.memory.encode(u, mask=mask)
        return y
