"""The pre-norm block around any sequence mixer."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from resonance_jax.array_typing import RealSequence, SequenceMask
from resonance_jax.layers.dropout import Dropout
from resonance_jax.layers.resonance import MultiScaleResonance, ResonanceLayer


class MixerBlock(nn.Module):
    """norm → mixer (⊙ gate) → residual → norm → MLP → residual, on x [b, t, d].

    Attributes:
        mixer: a module called as mixer(x, mask, deterministic=…).
        mlp_dim: hidden width of the MLP; 0 leaves it out.
        gate: multiply the mixer's output by silu of a projection of its input, then project.
        dropout: rate on the output of both branches.
        dtype, param_dtype: as in `ResonanceLayer`.
    """

    mixer: nn.Module
    mlp_dim: int
    gate: bool = False
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: RealSequence, mask: SequenceMask | None = None, *, deterministic: bool = True
    ) -> RealSequence:
        """Maps x [b, t, d] to y [b, t, d]."""
        x = jnp.asarray(x, self.dtype or x.dtype)
        dtypes: dict[str, Any] = dict(dtype=x.dtype, param_dtype=self.param_dtype)
        shape, features = x.shape, x.shape[-1]
        u = nn.LayerNorm(name="mixer_norm", **dtypes)(x)
        y = self.mixer(u, mask, deterministic=deterministic)
        # Matrices [b t, d]: XLA's CPU gradient of a kernel alone is faster with one batch axis than with two.
        x, u, y = (array.reshape(-1, features) for array in (x, u, y))
        if self.gate:
            y = y * nn.silu(nn.Dense(features, name="gate", **dtypes)(u))
            y = nn.Dense(features, name="gate_out", **dtypes)(y)
        x = x + Dropout(self.dropout)(y, deterministic=deterministic)
        if self.mlp_dim:
            u = nn.LayerNorm(name="mlp_norm", **dtypes)(x)
            u = nn.gelu(nn.Dense(self.mlp_dim, name="mlp_in", **dtypes)(u))
            u = nn.Dense(features, name="mlp_out", **dtypes)(u)
            x = x + Dropout(self.dropout)(u, deterministic=deterministic)
        return x.reshape(shape)


class ResonanceBlock(nn.Module):
    """A `MixerBlock` around resonance.

    Attributes:
        features, num_frequencies, selection, num_candidates, reference_length, use_interference, unselected,
            component, parametrization, initial_spread, method, axis_name: of the `ResonanceLayer`; with num_scales > 1
            of the `MultiScaleResonance`, which has neither `num_candidates` nor `unselected` nor `axis_name`.
        mlp_dim: hidden width of the MLP; None is 2 · features.
        gate, dropout, dtype, param_dtype: of the block.
    """

    features: int
    num_frequencies: int
    selection: str = "low"
    dropout: float = 0.0
    num_candidates: int | None = None
    num_scales: int = 1
    reference_length: int | None = None
    use_interference: bool = True
    unselected: str = "drop"
    component: str = "complex"
    parametrization: str = "polar"
    initial_spread: float = 0.02
    mlp_dim: int | None = None
    gate: bool = True
    method: str = "auto"
    axis_name: str | None = None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: RealSequence, mask: SequenceMask | None = None, *, deterministic: bool = True
    ) -> RealSequence:
        """Maps x [b, t, d] to y [b, t, d].

        Raises:
            ValueError: if several scales are given `num_candidates`, unselected="pass" or `axis_name`.
        """
        if self.num_scales > 1 and (
            self.num_candidates or self.unselected != "drop" or self.axis_name
        ):
            raise ValueError(
                "num_candidates, unselected='pass' and axis_name need num_scales=1: parallel bands are concatenated, "
                f"got {self.num_candidates}, {self.unselected!r}, {self.axis_name!r} and num_scales={self.num_scales}."
            )
        options: dict[str, Any] = dict(
            selection=self.selection,
            reference_length=self.reference_length,
            use_interference=self.use_interference,
            component=self.component,
            parametrization=self.parametrization,
            initial_spread=self.initial_spread,
            post_norm=False,
            method=self.method,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="resonance",
        )
        make: Callable[..., nn.Module] = ResonanceLayer
        if self.num_scales > 1:
            make, options["num_scales"] = MultiScaleResonance, self.num_scales
        else:
            options["unselected"] = self.unselected
            options["num_candidates"] = self.num_candidates
            options["axis_name"] = self.axis_name
        return MixerBlock(
            make(self.features, self.num_frequencies, **options),
            2 * self.features if self.mlp_dim is None else self.mlp_dim,
            gate=self.gate,
            dropout=self.dropout,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name="block",
        )(x, mask, deterministic=deterministic)
