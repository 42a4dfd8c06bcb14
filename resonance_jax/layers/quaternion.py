"""Layers of quaternions: Hamilton-product weights, a norm, and with the log-phase filter the ΨQRH layer and block.

Quaternions are real arrays [..., d, 4], components (w, x, y, z) last; where a layer takes features [b, t, 4d],
quaternion i is features 4i … 4i + 3.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from resonance_jax.array_typing import (
    AnyShape,
    Quaternions,
    RealSequence,
    SequenceMask,
)
from resonance_jax.layers import initializers
from resonance_jax.layers.dropout import Dropout
from resonance_jax.layers.phase_filter import LogPhaseFilter
from resonance_jax.ops._checks import (
    check_choice,
    check_quaternions,
    check_real_sequence,
)
from resonance_jax.ops.quaternion import (
    left_matrix,
    normalize,
    rotate_so4,
)

ROTATIONS = ("channel", "layer", "none")


class QuaternionDense(nn.Module):
    """A linear layer whose weights are quaternions: y_o = Σ_i W_oi x_i + b_o, products after Hamilton.

    A quarter of the parameters of a real layer of the same width. It starts with W's components from N(0, 1/(4 d_in)),
    which is a uniform direction times a magnitude of 4 degrees of freedom, and keeps the variance of x.

    Parameters: `kernel` [d_in, features, 4], `bias` [4 · features].

    Attributes:
        features: quaternions in the output.
        use_bias: add b.
        dtype, param_dtype: as in `ResonanceLayer`.
    """

    features: int
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Quaternions) -> Quaternions:
        """Maps x [..., d_in, 4] to y [..., features, 4].

        Raises:
            ValueError: if x has no axes (d_in, 4) or is not real floating point.
        """
        x = check_quaternions("x", jnp.asarray(x, self.dtype or jnp.asarray(x).dtype))
        if x.ndim < 2:
            raise ValueError(f"x must have shape [..., d_in, 4], got {x.shape}.")
        inputs = x.shape[-2]
        start = nn.initializers.normal((4 * inputs) ** -0.5)
        kernel = self.param("kernel", start, (inputs, self.features, 4), self.param_dtype)
        # One product with the real matrix [4 d_in, 4 features]: out[k] = Σ_j M[k, j] x[j] for each pair (i, o).
        blocks = left_matrix(jnp.asarray(kernel, x.dtype))
        matrix = jnp.transpose(blocks, (0, 3, 1, 2)).reshape(4 * inputs, 4 * self.features)
        y = x.reshape(*x.shape[:-2], 4 * inputs) @ matrix
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (4 * self.features,), self.param_dtype)
            y = y + jnp.asarray(bias, x.dtype)
        return y.reshape(*x.shape[:-2], self.features, 4)


class QuaternionLayerNorm(nn.Module):
    """Centres and scales quaternions over their features: γ_i (x_i − μ) / sqrt(mean_i |x_i − μ|²/4 + ε) + β_i.

    γ is real, so without β the norm commutes with every rotation Ψ → q_L Ψ q_R†.

    Parameters: `scale` [d] and `bias` [4d].

    Attributes:
        epsilon: ε.
        dtype, param_dtype: as in `ResonanceLayer`.
    """

    epsilon: float = 1e-6
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Quaternions) -> Quaternions:
        """Maps x [..., d, 4] to [..., d, 4].

        Raises:
            ValueError: if x is not real floating point [..., d, 4] with d ≥ 2.
        """
        x = check_quaternions("x", jnp.asarray(x, self.dtype or jnp.asarray(x).dtype))
        if x.ndim < 2 or x.shape[-2] < 2:
            raise ValueError(
                f"x must have shape [..., d, 4] with d >= 2 quaternions, got {x.shape}: one alone is its own mean."
            )
        features = x.shape[-2]
        scale = self.param("scale", nn.initializers.ones, (features,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (4 * features,), self.param_dtype)
        wide = jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
        centred = wide - jnp.mean(wide, axis=-2, keepdims=True)
        variance = jnp.mean(centred * centred, axis=(-2, -1), keepdims=True)
        y = centred * jax.lax.rsqrt(variance + self.epsilon) * scale[:, None]
        return jnp.asarray(y + bias.reshape(features, 4), x.dtype)


class QRHLayer(nn.Module):
    """The ΨQRH layer: embed → log-phase filter along time → rotation of ℝ⁴ → dropout, residual, norm.

        Ψ = D x,    Ψ ← F⁻¹{F(k) · F{Ψ}},    y = QuaternionLayerNorm(x + dropout(q_L Ψ q_R†))

    D is a `QuaternionDense`, q_L and q_R are learned unit quaternions. `post_norm=False` gives the rotated Ψ with
    dropout alone, for use inside a block. For a fixed α the layer is affine before the norm. It is bidirectional: see
    `LogPhaseFilter`.

    Parameters: `embed` (QuaternionDense), `filter` (LogPhaseFilter), `left_rotation` and `right_rotation` [d, 4] or [4]
    (normalised where they are used). Without quaternions: `embed` (Dense), `rotation_matrix` [d, 4, 4] or [4, 4],
    both real and unconstrained.

    Attributes:
        features: d quaternions, of 4d real features.
        alpha, alpha_mode, per_feature, symmetry, unit, amplitude: of the `LogPhaseFilter`.
        rotation: one pair (q_L, q_R) for each "channel" or for the "layer", or "none".
        use_quaternion: False puts real matrices in the place of Hamilton products (ablation).
        use_filter: False leaves the filter out (ablation): nothing then mixes along time.
        dropout: rate on the layer's output.
        post_norm: add the residual and the norm.
        dtype, param_dtype: as in `ResonanceLayer`.
    """

    features: int
    alpha: float = 1.0
    alpha_mode: str = "fixed"
    per_feature: bool = False
    symmetry: str = "hermitian"
    unit: str = "index"
    amplitude: str = "unit"
    rotation: str = "channel"
    use_quaternion: bool = True
    use_filter: bool = True
    dropout: float = 0.0
    post_norm: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: RealSequence, mask: SequenceMask | None = None, *, deterministic: bool = True
    ) -> RealSequence:
        """Maps x [b, t, 4 · features] to y of the same shape; hidden steps of the mask neither speak nor hear.

        Raises:
            ValueError: if x is not real [b, t, 4 · features] or an option is not as stated.
        """
        x = jnp.asarray(x, self.dtype or jnp.asarray(x).dtype)
        _check_features(x, self.features)
        check_choice("rotation", self.rotation, ROTATIONS)
        dtypes: dict[str, Any] = dict(dtype=x.dtype, param_dtype=self.param_dtype)
        psi = dense(x, self.features, self.use_quaternion, name="embed", **dtypes)
        psi = psi.reshape(*x.shape[:-1], self.features, 4)
        if self.use_filter:
            psi = LogPhaseFilter(
                self.alpha,
                self.alpha_mode,
                per_feature=self.per_feature,
                symmetry=self.symmetry,
                unit=self.unit,
                amplitude=self.amplitude,
                name="filter",
                **dtypes,
            )(psi, mask, deterministic=deterministic)
        psi = self._rotate(psi)
        y = psi.reshape(x.shape)
        if mask is not None:
            y = jnp.where(mask[..., None], y, 0)
        y = Dropout(self.dropout)(y, deterministic=deterministic)
        if not self.post_norm:
            return y
        return norm(x + y, self.use_quaternion, name="norm", **dtypes)

    def _rotate(self, psi):
        if self.rotation == "none":
            return psi
        channels = (self.features,) if self.rotation == "channel" else ()
        if self.use_quaternion:
            left, right = (
                normalize(
                    self.param(name, initializers.near_identity, (*channels, 4), self.param_dtype)
                )
                for name in ("left_rotation", "right_rotation")
            )
            return rotate_so4(psi, left.astype(psi.dtype), right.astype(psi.dtype))
        start = initializers.near_identity_matrix
        matrix = self.param("rotation_matrix", start, (*channels, 4, 4), self.param_dtype)
        letters = "...dj,dkj->...dk" if channels else "...dj,kj->...dk"
        return jnp.einsum(letters, psi, matrix.astype(psi.dtype))


class QRHBlock(nn.Module):
    """norm → QRHLayer (⊙ gate) → residual → norm → MLP → residual, on x [b, t, 4d], all in quaternions.

    The gate is silu of a `QuaternionDense` of the block's input, component by component, smooth everywhere; the MLP is
    two `QuaternionDense` with gelu between. Without quaternions each is its real counterpart.

    Attributes:
        features: d quaternions.
        mlp_dim: real hidden width of the MLP, a multiple of 4; 0 leaves it out.
        gate: multiply the layer's output by the gate, then project.
        alpha … use_filter: of the `QRHLayer`.
        dropout, dtype, param_dtype: as in `ResonanceBlock`.
    """

    features: int
    mlp_dim: int
    gate: bool = True
    alpha: float = 1.0
    alpha_mode: str = "fixed"
    per_feature: bool = False
    symmetry: str = "hermitian"
    unit: str = "index"
    amplitude: str = "unit"
    rotation: str = "channel"
    use_quaternion: bool = True
    use_filter: bool = True
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: RealSequence, mask: SequenceMask | None = None, *, deterministic: bool = True
    ) -> RealSequence:
        """Maps x [b, t, 4d] to y [b, t, 4d].

        Raises:
            ValueError: if mlp_dim is not a multiple of 4, or as `QRHLayer`.
        """
        if self.mlp_dim % 4:
            raise ValueError(f"mlp_dim must be a multiple of 4, got {self.mlp_dim}.")
        x = jnp.asarray(x, self.dtype or jnp.asarray(x).dtype)
        _check_features(x, self.features)
        dtypes: dict[str, Any] = dict(dtype=x.dtype, param_dtype=self.param_dtype)

        def project(u, features, name):
            return dense(u, features, self.use_quaternion, name=name, **dtypes)

        u = norm(x, self.use_quaternion, name="mixer_norm", **dtypes)
        y = QRHLayer(
            self.features,
            self.alpha,
            self.alpha_mode,
            per_feature=self.per_feature,
            symmetry=self.symmetry,
            unit=self.unit,
            amplitude=self.amplitude,
            rotation=self.rotation,
            use_quaternion=self.use_quaternion,
            use_filter=self.use_filter,
            post_norm=False,
            name="qrh",
            **dtypes,
        )(u, mask, deterministic=deterministic)
        if self.gate:
            y = project(y * nn.silu(project(u, self.features, "gate")), self.features, "gate_out")
        x = x + Dropout(self.dropout)(y, deterministic=deterministic)
        if self.mlp_dim:
            u = norm(x, self.use_quaternion, name="mlp_norm", **dtypes)
            u = nn.gelu(project(u, self.mlp_dim // 4, "mlp_in"))
            u = project(u, self.features, "mlp_out")
            x = x + Dropout(self.dropout)(u, deterministic=deterministic)
        return x


def dense(x: AnyShape, features: int, use_quaternion: bool, **options: Any) -> AnyShape:
    """Maps real features [..., 4 d_in] to [..., 4 · features] by a linear layer; called inside a module."""
    if not use_quaternion:
        return nn.Dense(4 * features, **options)(x)
    y = QuaternionDense(features, **options)(x.reshape(*x.shape[:-1], -1, 4))
    return y.reshape(*x.shape[:-1], 4 * features)


def norm(x: RealSequence, use_quaternion: bool, **options: Any) -> RealSequence:
    """Normalises real features [..., 4d], as quaternions or as they are; called inside a module."""
    if not use_quaternion:
        return nn.LayerNorm(**options)(x)
    return QuaternionLayerNorm(**options)(x.reshape(*x.shape[:-1], -1, 4)).reshape(x.shape)


def _check_features(x, features: int) -> None:
    """Requires a real x [..., t, 4 · features]."""
    check_real_sequence("x", x)
    if x.shape[-1] != 4 * features:
        raise ValueError(
            f"expected 4 · {features} = {4 * features} features, four to a quaternion, got x {x.shape}."
        )
