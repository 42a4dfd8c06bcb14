"""ResonanceTimeSeriesNet: forecasts a series by its spectrum, and by resonance over patches of it."""

import dataclasses
import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import Array
from resonance_jax.layers.block import ResonanceBlock
from resonance_jax.layers.dropout import Dropout
from resonance_jax.layers.initializers import small_normal
from resonance_jax.models.sequence_model import pool
from resonance_jax.ops._checks import check_choice, check_rate, check_shape
from resonance_jax.ops.forecast import (
    WindowStatistics,
    continue_periodically,
    interpolate_spectrum,
    normalize_window,
    observed_steps,
    restore_window,
)
from resonance_jax.ops.polar import from_polar

HEADS = ("forecast", "classify")
NORMALIZATIONS = ("mean_deviation", "mean", "none")
INTERPOLATIONS = ("dense", "polar", "none")
CHANNELS = ("independent", "joint")


@dataclasses.dataclass(frozen=True)
class TimeSeriesConfig:
    """The shape of a `ResonanceTimeSeriesNet`."""

    pred_horizon: int = 96
    """Steps h to forecast."""
    context_length: int = 336
    """Steps t of the window that is read."""
    input_dim: int = 1
    """Channels c of a window [b, t, c]; all are forecast."""
    head: str = "forecast"
    """"forecast", or "classify" the window."""
    num_classes: int = 0
    """Classes of head="classify"."""
    quantiles: tuple[float, ...] = ()
    """Rising probabilities in (0, 1) of the quantiles to forecast; none forecasts the mean."""
    normalization: str = "mean_deviation"
    """What of each window's channels is taken out and given back: "mean_deviation", "mean" or "none"."""
    affine: bool = False
    """Scale and shift normalised channels by learned numbers, undone at the end."""
    interpolation: str = "dense"
    """Path through the window's spectrum: "dense", a complex map from its bins to those of window and forecast;
    "polar", waves that run on, each with a magnitude and a phase; or "none"."""
    num_frequencies: int = 0
    """Lowest bins of the window that the path reads; 0 is all."""
    num_layers: int = 2
    """Resonance blocks over patches, whose forecast is added; 0 leaves the linear path alone."""
    hidden_dim: int = 32
    """Width of the blocks, and of the network for covariates."""
    mlp_dim: int = 64
    """Hidden width of each block's MLP; 0 leaves it out."""
    block_frequencies: int = 12
    """Frequencies of each block, along patches; fewer where the patches have fewer."""
    patch_size: int = 16
    """Steps in one patch."""
    patch_stride: int = 8
    """Steps between two patches, at most patch_size."""
    channels: str = "independent"
    """"independent": blocks read each channel by itself, with one set of weights; "joint": all in one patch."""
    covariate_dim: int = 0
    """Numbers known in advance for each step of window and forecast, such as the hour of the day; 0 is none."""
    dropout: float = 0.1
    """Rate inside blocks and before the head."""

    def __post_init__(self):
        """Checks each field."""
        object.__setattr__(self, "quantiles", tuple(self.quantiles))
        for name in (
            "pred_horizon",
            "context_length",
            "input_dim",
            "hidden_dim",
            "block_frequencies",
            "patch_size",
            "patch_stride",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("num_classes", "num_frequencies", "num_layers", "mlp_dim", "covariate_dim"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}.")
        check_choice("head", self.head, HEADS)
        check_choice("normalization", self.normalization, NORMALIZATIONS)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        check_choice("channels", self.channels, CHANNELS)
        check_rate("dropout", self.dropout)
        self._check_paths()
        self._check_heads()

    def _check_paths(self):
        bins = self.context_length // 2 + 1
        if self.num_frequencies > bins:
            raise ValueError(
                f"a window of {self.context_length} steps has {bins} bins, fewer than num_frequencies = "
                f"{self.num_frequencies}."
            )
        if self.num_layers and not self.patch_stride <= self.patch_size <= self.context_length:
            raise ValueError(
                "expected patch_stride <= patch_size <= context_length, got "
                f"{self.patch_stride}, {self.patch_size} and {self.context_length}."
            )

    def _check_heads(self):
        if (self.head == "classify") != (self.num_classes > 0):
            raise ValueError(
                f"head='classify' needs num_classes, and no other head has them: got head={self.head!r} and "
                f"{self.num_classes}."
            )
        if self.head == "classify" and (self.num_layers == 0 or self.quantiles):
            raise ValueError(
                "head='classify' reads the blocks' patches: it needs num_layers of at least 1, and no quantiles, got "
                f"{self.num_layers} and {self.quantiles}."
            )
        levels = (0.0, *self.quantiles, 1.0)
        if any(a >= b for a, b in itertools.pairwise(levels)):
            raise ValueError(f"quantiles must rise inside (0, 1), got {self.quantiles}.")

    @property
    def output_dim(self) -> int:
        """Classes, or steps to forecast."""
        return self.num_classes or self.pred_horizon

    @property
    def vocab_size(self) -> int:
        """0: the inputs are real numbers."""
        return 0

    @property
    def num_patches(self) -> int:
        """Patches of a window; they reach back from its last step, the first perhaps beyond its beginning."""
        return 1 + -(-(self.context_length - self.patch_size) // self.patch_stride)


class ResonanceTimeSeriesNet(nn.Module):
    """Normalise the window → a linear path through its spectrum + resonance blocks over its patches → give back.

        x̂ = (x − μ)/σ − g(z),    y = σ (F(x̂) + B(x̂) + β + g(z⁺)) + μ

    μ and σ are those of the observed steps of each channel (`ops.forecast.normalize_window`), F the path through the
    spectrum, B the blocks, whose last layer starts at 0, and β a number for each step. With covariates, z in the window
    and z⁺ in the forecast, a network g of the covariates of a step alone tells what they explain: it is taken out of
    the window and given back in the forecast. Every channel is forecast by the same weights.

    Called with windows [b, t, c], perhaps a mask bool [b, t] or [b, t, c] (True = observed), and covariates
    [b, t + h, m] (to classify, [b, t, m]); returns forecasts [b, h, c], or [b, h, c, q] in rising order with quantiles,
    or logits [b, num_classes]. NaN is missing too. What is missing is read as 0 after normalisation, affine gain and
    covariates, and is neither in μ nor in σ; a channel without any observation is forecast with μ = 0 and σ = 1:
    finite, in units of the data's scale, and blind. Logits know neither level nor scale of a normalised window.

    Parameters: `interpolation` [2, j, k] (real and imaginary part), or `log_magnitude` and `phase` [k]; `bias` [h, q];
    of affine `gain` (log_magnitude, bias [c]); `covariates_in`, `covariates_out`; `stem`, `position`, blocks, `norm`,
    `head`.

    >>> import jax, jax.numpy as jnp
    >>> config = TimeSeriesConfig(pred_horizon=12, context_length=48, num_layers=1, hidden_dim=8)
    >>> model = ResonanceTimeSeriesNet(config)
    >>> variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 48, 1)))
    >>> jax.jit(model.apply)(variables, jnp.ones((5, 48, 1))).shape
    (5, 12, 1)
    """

    config: Any
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Array,
        mask: Array | None = None,
        covariates: Array | None = None,
        *,
        deterministic: bool = True,
    ):
        """Computes forecasts or logits.

        Raises:
            ValueError: if windows, mask or covariates do not fit the configuration.
        """
        config = self.config
        inputs = jnp.asarray(inputs)
        _check_inputs(inputs, covariates, config)
        observed = observed_steps(inputs, mask)
        x, statistics = self._normalize(inputs, observed)
        if config.affine:
            gain, shift = _Gain(config.input_dim, self.param_dtype, name="gain")()
            x = x * gain + shift
        known = self._explain(covariates, x.dtype) if config.covariate_dim else None
        if known is not None:
            x = x - known[:, : config.context_length]
        x = jnp.where(observed, x, 0)
        if config.head == "classify":
            return self._classify(x, observed, deterministic)
        y = self._interpolate(x)[..., None]
        start, levels = nn.initializers.zeros, max(len(config.quantiles), 1)
        bias = self.param("bias", start, (config.pred_horizon, levels), self.param_dtype)
        y = y + bias[:, None]
        if config.num_layers:
            y = y + self._read_patches(x, observed, levels, deterministic)
        if known is not None:
            y = y + known[:, config.context_length :, :, None]
        if config.affine:
            y = (y - shift[..., None]) / gain[..., None]
        moments = WindowStatistics(*(moment[..., None] for moment in statistics))
        y = restore_window(y, moments)
        return jnp.sort(y, axis=-1) if config.quantiles else y[..., 0]

    def _normalize(self, inputs, observed):
        """Float32 or wider, whatever the inputs are."""
        wide = inputs.astype(jnp.promote_types(inputs.dtype, jnp.float32))
        if self.config.normalization != "none":
            return normalize_window(
                wide, observed, scale=self.config.normalization == "mean_deviation"
            )
        zeros = jnp.zeros((wide.shape[0], 1, wide.shape[2]), wide.dtype)
        return jnp.where(observed, wide, 0), WindowStatistics(zeros, zeros + 1)

    def _explain(self, covariates, dtype):
        """g of each step, [b, t + h, c]."""
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        u = nn.Dense(self.config.hidden_dim, name="covariates_in", **dtypes)(covariates)
        return nn.Dense(self.config.input_dim, name="covariates_out", **dtypes)(nn.gelu(u)).astype(
            dtype
        )

    def _interpolate(self, x):
        """The path through the spectrum, [b, h, c]."""
        config = self.config
        length, horizon = config.context_length, config.pred_horizon
        k = config.num_frequencies or length // 2 + 1
        if config.interpolation == "none":
            return jnp.zeros((x.shape[0], horizon, x.shape[2]), x.dtype)
        if config.interpolation == "polar":
            small = small_normal(0.02)
            log_magnitude = self.param("log_magnitude", small, (k,), self.param_dtype)
            phase = self.param("phase", small, (k,), self.param_dtype)
            return continue_periodically(x, from_polar(jnp.exp(log_magnitude), phase), horizon)
        # As many bins as reach the frequency of the window's highest one.
        j = min(-(-(k - 1) * (length + horizon) // length) + 1, (length + horizon) // 2 + 1)
        start = nn.initializers.zeros
        parts = self.param("interpolation", start, (2, j, k), self.param_dtype)
        parts = jnp.asarray(parts, jnp.promote_types(parts.dtype, jnp.float32))
        return interpolate_spectrum(x, jax.lax.complex(parts[0], parts[1]), horizon)[:, length:]

    def _read_patches(self, x, observed, levels: int, deterministic: bool):
        """The blocks' forecast, [b, h, c, q]."""
        config = self.config
        tokens, _ = self._mix_patches(x, observed, deterministic)
        tokens = Dropout(config.dropout)(tokens, deterministic=deterministic)
        outputs = 1 if config.channels == "independent" else config.input_dim
        head = nn.Dense(
            config.pred_horizon * outputs * levels,
            kernel_init=nn.initializers.zeros,
            name="head",
            dtype=self.param_dtype,
        )
        y = head(
            tokens.reshape(len(x), config.input_dim // outputs, -1)
        )  # [b, c or 1, h · (1 or c) · q]
        y = y.reshape(len(x), -1, config.pred_horizon, outputs, levels)
        return jnp.swapaxes(y, 1, 2).reshape(len(x), config.pred_horizon, -1, levels)

    def _mix_patches(self, x, observed, deterministic: bool):
        """Tokens [b or b · c, p, d] after the blocks, and which of them were observed."""
        config = self.config
        dtypes: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        if config.channels == "independent":
            x, observed = (
                jnp.swapaxes(array, 1, 2).reshape(-1, config.context_length, 1)
                for array in (x, observed)
            )
        size, stride = (config.patch_size,), (config.patch_stride,)
        missing = (config.num_patches - 1) * stride[0] + size[0] - config.context_length
        padding = [(missing, 0)]  # so that the last patch ends with the window
        x = nn.Conv(config.hidden_dim, size, stride, padding, name="stem", **dtypes)(x)
        seen = jnp.pad(jnp.any(observed, axis=-1), [(0, 0), *padding])
        starts = stride[0] * np.arange(config.num_patches)
        seen = jnp.any(seen[:, starts[:, None] + np.arange(size[0])], axis=-1)
        start = nn.initializers.normal(0.02)
        position = self.param("position", start, x.shape[1:], self.param_dtype)
        x = x + jnp.asarray(position, x.dtype)
        for layer in range(config.num_layers):
            x = self.make_block(f"layer_{layer}")(x, seen, deterministic=deterministic)
        return nn.LayerNorm(name="norm", **dtypes)(x), seen

    def _classify(self, x, observed, deterministic: bool):
        """Logits from the mean over observed patches, and then over channels with any."""
        config = self.config
        tokens, seen = self._mix_patches(x, observed, deterministic)
        pooled = pool(tokens, seen, "mean").reshape(len(x), -1, config.hidden_dim)
        pooled = pool(pooled, jnp.any(seen, axis=1).reshape(len(x), -1), "mean")
        pooled = Dropout(config.dropout)(pooled, deterministic=deterministic)
        return nn.Dense(config.num_classes, name="head", dtype=self.param_dtype)(pooled)

    def make_block(self, name: str) -> nn.Module:
        """Returns a `ResonanceBlock`."""
        config = self.config
        return ResonanceBlock(
            config.hidden_dim,
            min(config.block_frequencies, config.num_patches // 2 + 1),
            mlp_dim=config.mlp_dim,
            dropout=config.dropout,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )


class _Gain(nn.Module):
    """Declares exp(log_magnitude) and a shift for each channel."""

    features: int
    param_dtype: Any

    @nn.compact
    def __call__(self):
        start, shape = nn.initializers.zeros, (self.features,)
        log_magnitude = self.param("log_magnitude", start, shape, self.param_dtype)
        return jnp.exp(log_magnitude), self.param("bias", start, shape, self.param_dtype)


def _check_inputs(inputs, covariates, config: TimeSeriesConfig) -> None:
    expected = config.context_length, config.input_dim
    if inputs.ndim != 3 or inputs.shape[1:] != expected or not inputs.shape[0]:
        raise ValueError(
            f"inputs must be windows [b, t, c] of t = {expected[0]} steps (context_length) and c = {expected[1]} "
            f"channels (input_dim), got shape {inputs.shape}."
        )
    if (covariates is not None) != (config.covariate_dim > 0):
        raise ValueError(
            f"covariate_dim = {config.covariate_dim}: expected covariates if and only if it is positive, got "
            f"{'none' if covariates is None else f'shape {jnp.shape(covariates)}'}."
        )
    if covariates is not None:
        ahead = config.pred_horizon if config.head == "forecast" else 0
        steps = config.context_length + ahead
        check_shape(
            "covariates", jnp.asarray(covariates), (len(inputs), steps, config.covariate_dim)
        )
