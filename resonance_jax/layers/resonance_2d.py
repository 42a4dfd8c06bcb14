"""Resonance of images: a filter of a few frequencies along height and width."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import Images
from resonance_jax.layers import initializers
from resonance_jax.layers.block import MixerBlock
from resonance_jax.layers.dropout import Dropout
from resonance_jax.ops._checks import check_choice
from resonance_jax.ops.polar import from_polar
from resonance_jax.ops.resonance import METHODS, UNSELECTED
from resonance_jax.ops.resonance_2d import resonate_2d, resonate_2d_at


class ResonanceLayer2D(nn.Module):
    """Filters images [b, h, w, d] at the waves of 0 … k − 1 cycles along either axis: y = LayerNorm(x + dropout(r)).

    With the half-plane X of their spectrum, weights W and interference A, B (`ops.resonance_2d.resonate_2d`):

        S = W ⊙ X,   S ← S + A S + S Bᵀ,   r = synthesis of S

    Parameters: `log_magnitude`, `phase` [2k − 1, k, d] of W; `row_interference` [2, 2k − 1, 2k − 1] and
    `column_interference` [2, k, k], real and imaginary parts of A and B. Fewer where the reference image, or
    without one the image that it was initialised with, has fewer; smaller images use those that they have.
    With the collection "intermediates" mutable, `row_frequencies` [2k − 1] and `column_frequencies` [k] are recorded,
    in cycles per pixel.

    Attributes:
        features: d.
        num_frequencies: k.
        reference_shape: (height, width) of images whose frequencies, in cycles per pixel, are kept at every size; None
            takes cycles per image: what is drawn larger on a larger image meets the same weights.
        use_interference: let frequencies mix.
        unselected: "drop" zeroes other frequencies, "pass" leaves them as they are.
        dropout: rate on the filter's output.
        post_norm: return LayerNorm(x + r); False returns r.
        method: "fft", "matrix" or "auto"; off the grid of an image's size always "matrix".
        dtype, param_dtype: of the computation and result (None is the input's); of the parameters.
    """

    features: int
    num_frequencies: int
    reference_shape: tuple[int, int] | None = None
    use_interference: bool = True
    unselected: str = "drop"
    dropout: float = 0.0
    post_norm: bool = True
    method: str = "auto"
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Images, mask: None = None, *, deterministic: bool = True) -> Images:
        """Maps x [b, h, w, d] to y [b, h, w, d].

        Raises:
            ValueError: if x is no images [b, h, w, features], an option is unknown, or there is a mask.
        """
        x = jnp.asarray(x, self.dtype or x.dtype)
        self._check(x, mask)
        y = self._filter(x)
        y = Dropout(self.dropout)(y, deterministic=deterministic)
        if not self.post_norm:
            return y
        return nn.LayerNorm(dtype=x.dtype, param_dtype=self.param_dtype)(x + y)

    def _filter(self, x):
        size = (x.shape[1], x.shape[2])
        reference = self.reference_shape or size
        most = self._shape_of_weights(reference)
        shape = (*most, self.features)
        small = initializers.small_normal(0.02)
        log_magnitude = self.param("log_magnitude", small, shape, self.param_dtype)
        phase = self.param("phase", small, shape, self.param_dtype)
        weights = from_polar(jnp.exp(log_magnitude), phase)
        interference = None
        if self.use_interference:
            interference = (
                self._matrix("row_interference", most[0]),
                self._matrix("column_interference", most[1]),
            )
        rows = np.arange(most[0]) - (most[0] - 1) // 2
        columns = np.arange(most[1])
        over = reference if self.reference_shape else size
        self.sow("intermediates", "row_frequencies", jnp.asarray(rows / over[0], jnp.float32))
        self.sow("intermediates", "column_frequencies", jnp.asarray(columns / over[1], jnp.float32))
        options: dict[str, Any] = dict(unselected=self.unselected)
        if self.reference_shape and tuple(reference) != size:
            f, g = rows / reference[0], columns / reference[1]
            return resonate_2d_at(x, weights, f, g, interference=interference, **options)
        # A smaller image than the first one has fewer cycles in it.
        j = np.flatnonzero((2 * np.abs(rows) < size[0]) | (2 * rows == size[0]))
        k = np.flatnonzero(2 * columns <= size[1])
        weights = weights[j[:, None], k]
        if interference is not None:
            interference = interference[0][j[:, None], j], interference[1][k[:, None], k]
        options |= dict(interference=interference, method=self.method)
        return resonate_2d(x, weights, rows[j], columns[k], **options)

    def _shape_of_weights(self, reference) -> tuple[int, int]:
        """Rows and columns of W: those that it has, or as many as asked for and there."""
        if self.has_variable("params", "log_magnitude"):
            return self.get_variable("params", "log_magnitude").shape[:2]
        k = self.num_frequencies
        return min(2 * k - 1, reference[0]), min(k, reference[1] // 2 + 1)

    def _matrix(self, name: str, size: int):
        start = initializers.small_interference
        parts = self.param(name, start, (2, size, size), self.param_dtype)
        parts = jnp.asarray(parts, jnp.promote_types(parts.dtype, jnp.float32))
        return jax.lax.complex(parts[0], parts[1])

    def _check(self, x, mask) -> None:
        if x.ndim != 4 or x.shape[-1] != self.features:
            raise ValueError(f"expected images [b, h, w, {self.features}], got shape {x.shape}.")
        if mask is not None:
            raise ValueError("images take no mask: fill hidden pixels with 0.")
        check_choice("method", self.method, METHODS)
        check_choice("unselected", self.unselected, UNSELECTED)
        if self.num_frequencies < 1:
            raise ValueError(f"num_frequencies must be at least 1, got {self.num_frequencies}.")


class LocalMixer(nn.Module):
    """Resonance and, beside it, a depthwise convolution of 3 × 3 pixels, for what a few frequencies cannot see.

        out_yx = r_yx + Σ_ij w_ij ⊙ u_{y+i−1, x+j−1}

    with zeros beyond the edges. A sum of nine products: on CPUs XLA takes 40 times as long for the same as a
    convolution by groups (128 images of 13 × 13 × 32 on one core: 28 against 0.7 ms, with gradients 121 against 13).

    Attributes:
        resonance: a module called as resonance(x, mask, deterministic=…); None is the convolution alone.
        dtype, param_dtype: as in `ResonanceLayer2D`.
    """

    resonance: nn.Module | None
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Images, mask: None = None, *, deterministic: bool = True) -> Images:
        """Maps x [b, h, w, d] to y [b, h, w, d]."""
        x = jnp.asarray(x, self.dtype or x.dtype)
        height, width, features = x.shape[1:]
        start = nn.initializers.normal(1 / 3)  # nine of them keep the variance
        kernel = self.param("kernel", start, (3, 3, features), self.param_dtype)
        kernel = jnp.asarray(kernel, x.dtype)
        around = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        local = jnp.zeros_like(x)
        for i, j in np.ndindex(3, 3):
            local += around[:, i : i + height, j : j + width] * kernel[i, j]
        if self.resonance is None:
            return local
        return local + self.resonance(x, mask, deterministic=deterministic)


class ResonanceBlock2D(nn.Module):
    """A `MixerBlock` around resonance of images, with a gate.

    Attributes:
        features, num_frequencies, reference_shape, use_interference: of `ResonanceLayer2D`; no frequencies leave the
            convolution of a `LocalMixer` alone, to compare with.
        dropout, dtype, param_dtype: of both.
        local: a `LocalMixer` beside it.
        mlp_dim: hidden width of the MLP; 0 leaves it out.
    """

    features: int
    num_frequencies: int
    reference_shape: tuple[int, int] | None = None
    use_interference: bool = True
    local: bool = True
    mlp_dim: int = 0
    dropout: float = 0.0
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Images, mask: None = None, *, deterministic: bool = True) -> Images:
        """Maps x [b, h, w, d] to y [b, h, w, d]."""
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        mixer: nn.Module | None = None
        if self.num_frequencies:
            mixer = ResonanceLayer2D(
                self.features,
                self.num_frequencies,
                reference_shape=self.reference_shape,
                use_interference=self.use_interference,
                post_norm=False,
                name="resonance",
                **dtypes,
            )
        if self.local:
            mixer = LocalMixer(mixer, name="local", **dtypes)
        if mixer is None:
            raise ValueError("a block needs num_frequencies of at least 1, or local=True.")
        block = MixerBlock(
            mixer, self.mlp_dim, gate=True, dropout=self.dropout, name="block", **dtypes
        )
        return block(x, mask, deterministic=deterministic)
