"""Figures of the report: pure functions from arrays to matplotlib figures.

Only matplotlib's object-oriented interface is used: no pyplot, no global figure, no screen.
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours, which stay apart for every common form of colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")
GROUPS = ("magnitude", "phase", "other")
INK = "#333333"
_SPLIT_STYLES: dict[str, dict] = {
    "train": {"linewidth": 1.0, "linestyle": "-", "alpha": 0.45},
    "validation": {"linewidth": 1.4, "linestyle": (0, (4, 1.5)), "alpha": 0.9},
    "test": {"linewidth": 1.8, "linestyle": "-", "alpha": 0.9, "marker": "o", "markersize": 2.5},
}
_SVG_LIMIT_BYTES = 200_000
_MAX_KERNEL_LAGS = 512


@dataclass(frozen=True)
class Curve:
    """Loss and accuracy of one run on one split, by epoch."""

    label: str  # what the legend says; runs that share it share a colour
    split: str  # "train", "validation" or "test"
    epochs: np.ndarray  # [n]
    loss: np.ndarray  # [n]
    accuracy: np.ndarray  # [n], NaN where there is none


@dataclass(frozen=True)
class GroupTrace:
    """Gradient norm and learning rate of each parameter group of one run, by step."""

    label: str
    steps: np.ndarray  # [n]
    norms: Mapping[str, np.ndarray]  # group -> [n]
    rates: Mapping[str, np.ndarray]  # group -> [n]


@dataclass(frozen=True)
class LayerSpectrum:
    """The learned spectral weights of one layer."""

    name: str  # path of the layer in the parameters, joined by "/"
    frequencies: np.ndarray  # [k] cycles per sample
    magnitude: np.ndarray  # [k, d]
    phase: np.ndarray  # [k, d] radians
    interference: np.ndarray | None = None  # [k, k] complex


def training_curves(curves: Sequence[Curve]) -> Figure:
    """Draws loss and, where there is one, accuracy by epoch, one colour a label."""
    has_accuracy = any(np.isfinite(curve.accuracy).any() for curve in curves)
    figure = Figure(figsize=(9.7, 3.7) if has_accuracy else (6.0, 3.7), layout="constrained")
    panels = ("loss", "accuracy") if has_accuracy else ("loss",)
    colors = _colors(curve.label for curve in curves)
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        for curve in curves:
            values = getattr(curve, panel)
            style = _SPLIT_STYLES.get(curve.split, _SPLIT_STYLES["test"])
            axes.plot(curve.epochs, values, color=colors[curve.label], **style)
        _style(axes, panel, "epoch")
        if panel == "loss":
            _log_scale_if_wide(axes, [getattr(curve, panel) for curve in curves])
    drawn = [split for split in _SPLIT_STYLES if any(c.split == split for c in curves)]
    splits = [Line2D([], [], color=INK, label=name, **_SPLIT_STYLES[name]) for name in drawn]
    _legend(figure, colors, splits)
    return figure


def gradient_traces(traces: Sequence[GroupTrace]) -> Figure:
    """Draws gradient norm (above, logarithmic) and learning rate (below), one column a group."""
    figure = Figure(figsize=(9.7, 4.6), layout="constrained")
    grid = figure.subplots(2, len(GROUPS), sharex=True, squeeze=False)
    colors = _colors(trace.label for trace in traces)
    for column, group in enumerate(GROUPS):
        norm_axes, rate_axes = grid[0, column], grid[1, column]
        for trace in traces:
            norms = np.asarray(trace.norms.get(group, []), dtype=float)
            if not (norms > 0).any():  # this model has no such parameters
                continue
            line = {"color": colors[trace.label], "alpha": 0.8}
            norm_axes.plot(trace.steps, np.where(norms > 0, norms, np.nan), linewidth=1.0, **line)
            norm_axes.set_yscale("log")
            rate_axes.plot(trace.steps, trace.rates[group], linewidth=1.5, **line)
        _style(norm_axes, f"gradient norm: {group}", "")
        _style(rate_axes, f"learning rate: {group}", "step")
        rate_axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        rate_axes.yaxis.get_offset_text().set_fontsize(8)
        rate_axes.set_ylim(bottom=0)
        if not norm_axes.lines:
            for axes in (norm_axes, rate_axes):
                axes.set_yticks([])
                axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color="#888888")
    _legend(figure, colors)
    return figure


def confusion_matrix(counts: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws counts as numbers and each row's share as shade; rows are the true classes."""
    counts = np.asarray(counts)
    num_classes = counts.shape[0]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    cell = float(np.clip(9.0 / num_classes, 0.17, 0.62))  # inches
    names = [_shorten(str(name)) for name in class_names]
    margin = 0.75 + 0.075 * max((len(name) for name in names), default=1)
    size = cell * num_classes + margin
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot()
    axes.pcolormesh(share, cmap="Blues", vmin=0, vmax=1, edgecolors="#e6e6e6", linewidth=0.4)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    tick_size = min(9.0, cell * 72 * 0.6)
    centers = np.arange(num_classes) + 0.5
    upright = max((len(name) for name in names), default=1) > 3
    ticks = {"fontsize": tick_size, "parse_math": False}
    axes.set_xticks(centers, names, rotation=90 if upright else 0, **ticks)
    axes.set_yticks(centers, names, **ticks)
    axes.set_xlabel("predicted class", fontsize=9, color=INK)
    axes.set_ylabel("true class", fontsize=9, color=INK)
    axes.tick_params(length=0, colors=INK)
    widest = len(str(counts.max(initial=0)))
    text_size = min(10.0, cell * 72 * 0.85 / (0.62 * max(widest, 2)))
    for row, column in np.argwhere(counts > 0) if num_classes > 5 else np.ndindex(counts.shape):
        color = "white" if share[row, column] > 0.55 else INK
        where = (column + 0.5, row + 0.5)
        text = f"{counts[row, column]}"
        drawn = axes.text(*where, text, ha="center", va="center", fontsize=text_size, color=color)
        drawn.set_in_layout(False)  # thousands of them would slow the layout
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def forecasts(examples: Sequence[Mapping[str, Any]], middle: int = 0) -> Figure:
    """Draws windows, a panel each: the end of the input, the targets, and the forecast or its quantiles.

    Args:
        examples: "inputs" [t], "targets" [h], and "forecast" [h] or [h, q] each; None where missing.
        middle: place of the quantile that is drawn as a line, among the others as a band.
    """
    figure = Figure(figsize=(9.7, 2.1 * len(examples) + 0.4), layout="constrained")
    grid = figure.subplots(len(examples), squeeze=False)[:, 0]
    for axes, example in zip(grid, examples, strict=True):
        inputs, targets, forecast = (
            np.array(example[name], float) for name in ("inputs", "targets", "forecast")
        )
        shown = inputs[-2 * len(targets) :]
        steps = 1 + np.arange(len(targets))
        axes.plot(1 - len(shown) + np.arange(len(shown)), shown, color="#999999", linewidth=1.0)
        axes.plot(steps, targets, color=INK, linewidth=1.2)
        if forecast.ndim > 1:
            outer = forecast[:, 0], forecast[:, -1]
            axes.fill_between(steps, *outer, color=PALETTE[0], alpha=0.2, lw=0)
            forecast = forecast[:, middle]
        axes.plot(steps, forecast, color=PALETTE[0], linewidth=1.4)
        _style(axes, "", "step" if axes is grid[-1] else "")
    names = {"input window": "#999999", "truth": INK, "forecast": PALETTE[0]}
    _legend(figure, names)
    return figure


def layer_spectrum(spectrum: LayerSpectrum) -> Figure:
    """Draws one layer: mean magnitude by frequency, kernel in time, heat maps of the weights."""
    order = np.argsort(spectrum.frequencies, kind="stable")
    frequencies = np.asarray(spectrum.frequencies)[order]
    magnitude, phase = spectrum.magnitude[order], spectrum.phase[order]
    below = "mmmppp" if spectrum.interference is None else "mmppii"
    figure = Figure(figsize=(9.7, 6.0), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)  # pyright: ignore
    panels = figure.subplot_mosaic(f"fffkkk;{below}")
    _draw_profile(panels["f"], frequencies, magnitude)
    _draw_kernel(panels["k"], spectrum)
    _draw_heat_map(panels["m"], "magnitude", magnitude, frequencies, "viridis")
    image = _draw_heat_map(
        panels["p"], "phase", np.angle(np.exp(1j * phase)), frequencies, "twilight"
    )
    image.set_clim(-np.pi, np.pi)
    assert image.colorbar is not None
    image.colorbar.set_ticks([-np.pi, 0, np.pi], labels=["−π", "0", "π"])
    if spectrum.interference is not None:
        strength = np.abs(spectrum.interference)[np.ix_(order, order)]
        axes = panels["i"]
        _draw_heat_map(axes, "|interference|", strength, frequencies, "viridis")
        axes.set_xlabel("frequency index, from low to high", fontsize=9, color=INK)
    figure.suptitle(spectrum.name, fontsize=11, color=INK, parse_math=False)
    return figure


def time_kernel(spectrum: LayerSpectrum) -> tuple[np.ndarray, np.ndarray]:
    """Inverts the spectral weights: h_τ = Σ_k Re(w_k e^{2πi f_k τ}) / k, over one common period.

    Returns:
        lags: [n] in samples, centred on 0; n ≤ 512.
        kernel: [n, d].
    """
    frequencies = np.asarray(spectrum.frequencies, dtype=float)
    gaps = np.diff(np.unique(np.append(np.abs(frequencies), 0.0)))
    gaps = gaps[gaps > 1e-9]
    period = round(1 / gaps.min()) if gaps.size else 1
    num_lags = int(np.clip(period, 8, _MAX_KERNEL_LAGS))
    lags = np.arange(num_lags) - num_lags // 2
    weights = spectrum.magnitude * np.exp(1j * spectrum.phase)
    waves = np.exp(2j * np.pi * np.outer(lags, frequencies))
    return lags, np.real(waves @ weights) / len(frequencies)


def png_bytes(figure: Figure) -> bytes:
    """Renders a figure as PNG at 160 dots per inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def data_uri(figure: Figure) -> str:
    """Renders a figure as a data URI: SVG where that is small, else PNG; equal each time."""
    content, kind = b"", "png"
    if sum(len(axes.texts) for axes in figure.axes) < 500:  # else never small, and slow to write
        buffer = io.BytesIO()
        with matplotlib.rc_context({"svg.hashsalt": "resonance"}):
            figure.savefig(buffer, format="svg", dpi=200, metadata={"Date": None, "Creator": None})
        content, kind = buffer.getvalue(), "svg+xml"
    if not 0 < len(content) < _SVG_LIMIT_BYTES:
        content, kind = png_bytes(figure), "png"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def bin_means(values: np.ndarray, num_bins: int) -> np.ndarray:
    """Averages consecutive values into at most `num_bins`; NaN where a bin has no finite value."""
    values = np.asarray(values, dtype=float)
    if not values.size:
        return values
    size = -(-values.size // num_bins)  # equal bins, so that noise is averaged evenly
    parts = np.split(values, range(size, values.size, size))
    finite = [part[np.isfinite(part)] for part in parts]
    return np.array([part.mean() if part.size else np.nan for part in finite])


def _draw_profile(axes: Axes, frequencies: np.ndarray, magnitude: np.ndarray) -> None:
    low, high = np.quantile(magnitude, [0.1, 0.9], axis=1)
    band = "10th to 90th percentile of the features"
    axes.fill_between(frequencies, low, high, color=PALETTE[0], alpha=0.2, lw=0, label=band)
    marker = "o" if frequencies.size <= 80 else ""
    line = {"color": PALETTE[0], "linewidth": 1.5, "marker": marker, "markersize": 2.5}
    axes.plot(frequencies, magnitude.mean(axis=1), label="mean", **line)
    _style(axes, "magnitude by frequency", "frequency, cycles per sample")
    positive = frequencies[frequencies > 0]
    if positive.size > 2 and np.median(positive) < positive.max() / 4:  # spaced about evenly in log
        axes.set_xscale("symlog", linthresh=float(positive.min()))
    axes.set_ylim(0, 1.25 * max(float(high.max()), float(magnitude.mean(axis=1).max()), 1e-12))
    axes.legend(fontsize=8, frameon=False, loc="upper right", ncols=2)


def _draw_kernel(axes: Axes, spectrum: LayerSpectrum) -> None:
    lags, kernel = time_kernel(spectrum)
    strongest = np.argsort(-np.square(kernel).sum(axis=0), kind="stable")[:3]
    for color, feature in zip(PALETTE, strongest, strict=False):
        label = f"feature {feature}"
        axes.plot(lags, kernel[:, feature], color=color, linewidth=1.1, alpha=0.85, label=label)
    _style(axes, "kernel in time, three strongest features", "lag, samples")
    low, high = float(kernel.min()), float(kernel.max())
    axes.set_ylim(low - 0.05 * (high - low), high + 0.3 * (high - low) + 1e-12)
    axes.legend(fontsize=8, frameon=False, loc="upper right", ncols=3)


def _draw_heat_map(axes: Axes, title: str, values: np.ndarray, frequencies: np.ndarray, cmap: str):
    """Draws rows by rising frequency (upwards) and returns the image."""
    image = axes.imshow(values, cmap=cmap, aspect="auto", origin="lower", interpolation="nearest")
    rows = np.unique(np.linspace(0, len(frequencies) - 1, 6).round().astype(int))
    axes.set_yticks(rows, [f"{frequencies[row]:.3g}" for row in rows])
    _style(axes, title, "feature")
    axes.grid(False)
    axes.set_ylabel("frequency, cycles per sample", fontsize=9, color=INK)
    assert axes.figure is not None
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02, aspect=30)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)  # pyright: ignore
    return image


def _style(axes: Axes, title: str, x_label: str) -> None:
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.set_xlabel(x_label, fontsize=9, color=INK)
    axes.tick_params(which="both", labelsize=8, colors=INK)
    axes.grid(True, color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=not x_label.startswith("freq")))


def _legend(figure: Figure, colors: Mapping[str, str], extra: Sequence[Line2D] = ()) -> None:
    handles = [Line2D([], [], color=c, linewidth=3, label=label) for label, c in colors.items()]
    style = {"loc": "outside upper left", "fontsize": 9, "frameon": False, "labelcolor": INK}
    legend = figure.legend(handles=[*handles, *extra], ncols=6, handlelength=1.8, **style)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _log_scale_if_wide(axes: Axes, series: Iterable[np.ndarray]) -> None:
    values = np.concatenate([np.ravel(one) for one in series] or [np.zeros(0)]).astype(float)
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > 30 * values.min():
        axes.set_yscale("log")


def _colors(labels: Iterable[str]) -> dict[str, str]:
    return {label: PALETTE[i % len(PALETTE)] for i, label in enumerate(dict.fromkeys(labels))}


def _shorten(name: str, limit: int = 18) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
