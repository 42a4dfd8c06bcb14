"""Pictures of models of images: the learned spectrum of a layer, what it makes of a point, and mistakes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from resonance_jax.training.plots import INK


@dataclass(frozen=True)
class ImageSpectrum:
    """The learned weights of one `ResonanceLayer2D`."""

    name: str  # path of the layer in the parameters, joined by "/"
    rows: np.ndarray  # [k] cycles per pixel along the height, of both signs
    columns: np.ndarray  # [l] cycles per pixel along the width, not negative
    magnitude: np.ndarray  # [k, l, d]
    phase: np.ndarray  # [k, l, d] radians

    @property
    def frequencies(self) -> np.ndarray:
        """Returns the length of each wave's vector of frequencies, [k l]."""
        return np.hypot(self.rows[:, None], self.columns).ravel()


def point_response(spectrum: ImageSpectrum) -> np.ndarray:
    """Computes what the weights, without the interference, make of one bright point, [n, n, d], it in the middle.

    h_yx = Σ_jk c_k Re(w_jk e^{2πi (f_j y + g_k x)}) / Σ c_k, c_k = 1 where g_k is 0 or 1/2, else 2; n pixels are two
    periods of the slowest wave, 64 at most.
    """
    slowest = min((f for f in (*np.abs(spectrum.rows), *spectrum.columns) if f > 1e-9), default=1.0)
    side = int(np.clip(round(2 / slowest), 8, 64))
    lags = np.arange(side) - side // 2
    weights = spectrum.magnitude * np.exp(1j * spectrum.phase)
    share = np.where((spectrum.columns == 0) | (spectrum.columns == 0.5), 1, 2)
    weights = weights * share[:, None]
    down, across = (
        np.exp(2j * np.pi * np.outer(lags, f)) for f in (spectrum.rows, spectrum.columns)
    )
    count = len(spectrum.rows) * share.sum()
    return np.einsum("yj,jkd,xk->yxd", down, weights, across).real / count


def draw(spectrum: ImageSpectrum) -> Figure:
    """Draws mean magnitude, the resultant of the phases, and the responses of the three strongest features."""
    figure = Figure(figsize=(9.7, 2.6), layout="constrained")
    panels = figure.subplots(1, 5)
    phases = np.exp(1j * spectrum.phase).mean(axis=-1)
    waves = dict(origin="lower", aspect="auto", interpolation="nearest", extent=_extent(spectrum))
    pictures = [
        ("mean magnitude", spectrum.magnitude.mean(axis=-1), waves | {"cmap": "viridis"}),
        ("|mean e^{iφ}|", np.abs(phases), waves | {"cmap": "viridis", "vmin": 0, "vmax": 1}),
    ]
    response = point_response(spectrum)
    strongest = np.argsort(-np.square(response).sum(axis=(0, 1)), kind="stable")[:3]
    for feature in strongest:
        limit = float(np.abs(response[..., feature]).max()) or 1.0
        range_ = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        pictures.append((f"response, feature {feature}", response[..., feature], range_))
    for axes in panels[len(pictures) :]:
        axes.set_axis_off()
    for axes, (title, values, style) in zip(panels, pictures, strict=False):
        axes.imshow(values, **style)
        axes.set_title(title, fontsize=9, loc="left", color=INK)
        axes.tick_params(labelsize=7, colors=INK)
    for axes in panels[:2]:
        axes.set_xlabel("cycles per pixel, across", fontsize=8, color=INK)
    panels[0].set_ylabel("cycles per pixel, down", fontsize=8, color=INK)
    for axes in panels[2:]:
        axes.set_xticks([])
        axes.set_yticks([])
    figure.suptitle(spectrum.name, fontsize=11, color=INK, parse_math=False)
    return figure


def mistakes(examples: Sequence[Mapping[str, Any]], class_names: Sequence[str]) -> Figure:
    """Draws images with their true class above the one that they were given, six a row.

    Args:
        examples: "image" [h, w, c] of 0 … 255, "label", "predicted" and "probability" each.
        class_names: of the labels.
    """
    rows = -(-len(examples) // 6)
    figure = Figure(figsize=(9.7, 2.1 * rows), layout="constrained")
    panels = figure.subplots(rows, 6, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, example in zip(panels, examples, strict=False):
        image = np.asarray(example["image"], np.uint8)
        if image.shape[-1] != 3:  # shades of grey, of the mean of other channels
            image = image.mean(axis=-1)
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        names = [str(class_names[example[kind]])[:16] for kind in ("label", "predicted")]
        title = f"{names[0]}\n{names[1]} ({example['probability']:.2f})"
        axes.set_title(title, fontsize=8, color=INK, parse_math=False)
    return figure


def _extent(spectrum: ImageSpectrum) -> tuple[float, float, float, float]:
    """Left, right, bottom and top edges of the cells of the waves."""
    edges = []
    for values in (spectrum.columns, spectrum.rows):
        half = (values[1] - values[0]) / 2 if len(values) > 1 else 0.5
        edges += [float(values[0] - half), float(values[-1] + half)]
    return edges[0], edges[1], edges[2], edges[3]
