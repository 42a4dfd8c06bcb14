"""The report of an experiment: one self-contained HTML file, made from the files of its runs alone.

`write_report` compares runs, `write_inspection` shows the learned spectra of one model, and
`format_table` gives the report's headline table to a terminal.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from resonance_jax.models.sequence_model import unstack_layers
from resonance_jax.training import html, image_plots, plots, summary
from resonance_jax.training.image_plots import ImageSpectrum
from resonance_jax.training.losses import middle_quantile
from resonance_jax.training.plots import LayerSpectrum
from resonance_jax.training.result import write_atomically
from resonance_jax.training.summary import Run, read_run, summarize


def collect_spectra(
    params: Mapping[str, Any], intermediates: Mapping[str, Any]
) -> list[LayerSpectrum | ImageSpectrum]:
    """Reads the spectral weights of every layer out of a model's parameters.

    Args:
        params: the nested `variables["params"]`; a layer is a level with `log_magnitude` or `phase`
            or both, or with `real` and `imag` ([k, d] or [k]), perhaps with `interference`
            [2, k, k] (real, imaginary).
        intermediates: the nested `variables["intermediates"]` of a call with that collection
            mutable: `frequencies` at the same path, a tuple ending in [k], cycles per sample;
            where there is a `gate` [k] too, the frequencies at which it is 0 are left out. Of a layer of images,
            with weights [k, l, d], `row_frequencies` [k] and `column_frequencies` [l], cycles per pixel.
    Returns:
        One `LayerSpectrum` or `ImageSpectrum` a layer in the order of the parameters; `phase` as stored, not wrapped.
        Of a magnitude or phase that a layer does not have, the 1 or 0 at which it is fixed.
    Raises:
        ValueError: if a layer recorded no frequencies, or not one for each of its weights.
    """
    return list(_walk_spectra(unstack_layers(params), unstack_layers(intermediates), ()))


def write_report(
    path: str | os.PathLike,
    runs: Sequence[str | os.PathLike],
    spectra: Mapping[Any, Sequence[LayerSpectrum | ImageSpectrum]] | None = None,
    *,
    title: str | None = None,
    command: str | None = None,
) -> Path:
    """Writes the report that compares runs, in one step that leaves no half-written file.

    Args:
        path: the HTML file to write; its folder is made if absent.
        runs: run folders, each with `config.json` and, as far as it got, `metrics.jsonl` and
            `result.json`; without the latter the run is shown as unfinished.
        spectra: run folder -> what `collect_spectra` returned for it.
        title: heading; the experiment and its data set by default.
        command: the command that made the runs, printed as it is.
    Returns:
        The path written.
    Raises:
        FileNotFoundError: if a folder holds no `config.json`.
        ValueError: if there is no run, `spectra` names another one, or a file is not valid JSON.
    """
    records = [read_run(Path(run)) for run in runs]
    if not records:
        raise ValueError("a report needs at least one run folder, got none")
    summary.label_runs(records)
    layers = {Path(key): value for key, value in (spectra or {}).items()}
    strangers = sorted(str(key) for key in layers if key not in [run.path for run in records])
    if strangers:
        raise ValueError(f"spectra of a run that is not in the report: {', '.join(strangers)}")
    title = title or summary.title(records)
    known = summary.facts(records, command).items()
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in known)
    sections = [
        f"<dl>{facts}</dl>",
        "<h2>Result</h2>" + _headline(records),
        _curves(records) + _confusions(records) + _examples(records),
        *(_spectra_section(run, layers[run.path]) for run in records if layers.get(run.path)),
        _configurations(records),
    ]
    write_atomically(path, html.page(title, sections))
    return Path(path)


def write_inspection(
    path: str | os.PathLike, spectra: Sequence[LayerSpectrum | ImageSpectrum], title: str
) -> list[Path]:
    """Writes the learned spectra of one model as a page, and each layer as a PNG beside it.

    Returns:
        The files written: `path`, then one `<stem>-<index>-<layer>.png` a layer.
    Raises:
        ValueError: if there is no layer to show.
    """
    if not spectra:
        raise ValueError("no spectral layer to inspect: this model has no magnitudes and phases")
    path, written = Path(path), []
    for index, spectrum in enumerate(spectra):
        name = re.sub(r"[^A-Za-z0-9_]+", "-", spectrum.name).strip("-") or "layer"
        png = path.with_name(f"{path.stem}-{index:02d}-{name}.png")
        write_atomically(png, plots.png_bytes(_draw_spectrum(spectrum)))
        written.append(png)
    page = html.page(title, [_spectrum_table(spectra), _spectrum_figures(spectra)])
    write_atomically(path, page)
    return [path, *written]


def format_table(results: Iterable[Any]) -> Table:
    """Returns the headline table for a terminal; several seeds as mean ± standard deviation.

    Args:
        results: contents of `result.json` files: mappings, or dataclasses of the same fields.
    """
    dicts = [dataclasses.asdict(r) if dataclasses.is_dataclass(r) else dict(r) for r in results]  # pyright: ignore
    records = [Run(Path(f"{r['model']}-seed{r['seed']}"), {}, r) for r in dicts]
    summary.label_runs(records)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for index, column in enumerate(summary.columns(records)):
        header = column.replace(" ", "\n")  # a word a line: a narrower table
        table.add_column(header, justify="right" if index else "left", no_wrap=True)
    for row in summarize(records):
        cells = (f"{row.cells[0]} *" if row.best else row.cells[0], *row.cells[1:])
        # Text, not markup: a name may hold brackets.
        table.add_row(*map(Text, cells), style="bold green" if row.best else None)
    return table


def _walk_spectra(
    params: Mapping[str, Any], recorded: Any, path: tuple[str, ...]
) -> Iterator[LayerSpectrum | ImageSpectrum]:
    recorded = recorded if isinstance(recorded, Mapping) else {}
    leaves = {name for name, child in params.items() if not isinstance(child, Mapping)}
    if leaves & {"log_magnitude", "phase", "real"}:
        yield _read_spectrum(params, recorded, "/".join(path) or "layer")
    for name, child in params.items():
        if isinstance(child, Mapping):
            yield from _walk_spectra(child, recorded.get(name), (*path, name))


def _read_spectrum(
    params: Mapping[str, Any], recorded: Mapping[str, Any], name: str
) -> LayerSpectrum | ImageSpectrum:
    magnitude, phase = _polar_weights(params)
    if recorded.get("row_frequencies"):
        rows, columns = (
            np.asarray(recorded[f"{axis}_frequencies"][-1]) for axis in ("row", "column")
        )
        return ImageSpectrum(name, rows, columns, magnitude, phase)
    if not recorded.get("frequencies"):
        raise ValueError(
            f"{name} recorded no frequencies: pass the intermediates of "
            "model.apply(..., mutable=['intermediates'])"
        )
    frequencies = np.asarray(recorded["frequencies"][-1])
    if magnitude.ndim == 1:
        magnitude, phase = magnitude[:, None], phase[:, None]
    if frequencies.shape != magnitude.shape[:1] or magnitude.ndim != 2:
        raise ValueError(
            f"{name} needs frequencies [k] and weights [k, d], got {list(frequencies.shape)} "
            f"and {list(magnitude.shape)}"
        )
    mixing = params.get("interference")
    if mixing is not None:
        mixing = np.asarray(mixing)[0] + 1j * np.asarray(mixing)[1]
    gate = np.asarray(recorded.get("gate", [np.ones(len(frequencies))])[-1])
    (kept,) = np.nonzero(gate)
    mixing = None if mixing is None else mixing[np.ix_(kept, kept)]
    return LayerSpectrum(name, frequencies[kept], magnitude[kept], phase[kept], mixing)


def _polar_weights(params: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Returns magnitude and phase, whichever of the layer's parametrizations they are stored in."""
    if "real" in params:
        weights = np.asarray(params["real"]) + 1j * np.asarray(params["imag"])
        return np.abs(weights), np.angle(weights)
    stored = np.asarray(params["log_magnitude" if "log_magnitude" in params else "phase"])
    log_magnitude, phase = (
        np.asarray(params.get(name, np.zeros_like(stored))) for name in ("log_magnitude", "phase")
    )
    return np.exp(log_magnitude), phase


def _headline(runs: Sequence[Run]) -> str:
    columns = summary.columns(runs)
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = ""
    for row in summarize(runs):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row.cells)
        body += f'<tr class="best">{cells}</tr>' if row.best else f"<tr>{cells}</tr>"
    note = (
        "Scores of the last step on the test split, never selected on it. With several "
        "seeds: mean ± standard deviation over the runs. The best row is tinted. Seconds per epoch "
        "are without compilation. Peak memory is the compiler's own figure for one training step."
    )
    table = f"<table><caption>{note}</caption><thead><tr>{head}</tr></thead>{body}</table>"
    return f'<p>{escape(summary.best_sentence(runs))}</p><div class="wide">{table}</div>'


def _curves(runs: Sequence[Run]) -> str:
    if not any(run.metrics for run in runs):
        return '<h2>Training</h2><p class="note">No metrics were recorded yet.</p>'
    curves = [curve for run in runs for curve in summary.curves(run)]
    traces = [summary.group_trace(run) for run in runs]
    learning = "Thin: mean over the training batches, with dropout and augmentation if they are on."
    groups = "Each group has its own rate and its own clipping; norms are taken before clipping."
    return (
        "<h2>Training</h2>"
        + html.figure(plots.training_curves(curves), "Loss and scores by epoch", learning)
        + "<h2>Gradient norms and learning rates</h2>"
        + html.figure(plots.gradient_traces(traces), "Gradient norms and learning rates", groups)
    )


def _confusions(runs: Sequence[Run]) -> str:
    figures = ""
    for run in runs:
        counts = run.get("confusion")
        if counts:
            names = run.get("class_names") or range(len(counts))
            image = plots.confusion_matrix(np.asarray(counts), [str(name) for name in names])
            accuracy = f"{run.title}: test accuracy {run.number('test_accuracy'):.4f}"
            figures += html.figure(image, f"Confusion matrix of {run.title}", accuracy)
    note = "Numbers are test examples; the shade is the share of the true class."
    head = f'<h2>Confusion</h2><p class="note">{note}</p>'
    return f'{head}<div class="grid">{figures}</div>' if figures else ""


def _examples(runs: Sequence[Run]) -> str:
    figures = ""
    for run in runs:
        if not run.examples or run.result is None:
            continue
        if "forecast" in run.examples[0]:
            quantiles = run.config.get("model", {}).get("quantiles")
            image = plots.forecasts(run.examples, middle_quantile(quantiles) if quantiles else 0)
            note = "Windows of the test split, evenly spaced: the end of each, the truth and the forecast. "
            note += f"Test MSE {run.number('mse'):.4f}."
        else:
            image = image_plots.mistakes(run.examples, run.get("class_names"))
            note = "Test images that were given a wrong class with the highest probability: true class, given class."
        figures += html.figure(image, f"Examples of {run.title}", f"{run.title}. {note}")
    return f"<h2>Examples</h2>{figures}" if figures else ""


def _spectra_section(run: Run, spectra: Sequence[LayerSpectrum | ImageSpectrum]) -> str:
    inner = _spectrum_table(spectra) + _spectrum_figures(spectra)
    return f"<h2>Learned spectra: {escape(run.title)}</h2>{inner}"


def _spectrum_figures(spectra: Sequence[LayerSpectrum | ImageSpectrum]) -> str:
    return "".join(html.figure(_draw_spectrum(s), f"Spectrum of {s.name}", "") for s in spectra)


def _draw_spectrum(spectrum: LayerSpectrum | ImageSpectrum) -> Figure:
    if isinstance(spectrum, ImageSpectrum):
        return image_plots.draw(spectrum)
    return plots.layer_spectrum(spectrum)


def _spectrum_table(spectra: Sequence[LayerSpectrum | ImageSpectrum]) -> str:
    columns = ["layer", "k", "features", "lowest", "highest", "strongest", "mean magnitude"]
    body = ""
    for one in spectra:
        strongest = one.frequencies[int(np.argmax(one.magnitude.mean(axis=-1)))]
        ends = one.frequencies.min(), one.frequencies.max()
        numbers = [f"{value:.4g}" for value in (*ends, strongest, one.magnitude.mean())]
        *waves, features = map(str, one.magnitude.shape)
        cells = (one.name, " × ".join(waves), features, *numbers)
        body += "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    note = (
        "k frequencies, in cycles per sample or, of images, per pixel (of a wave that runs aslant, along it); the "
        "strongest has the largest mean magnitude."
    )
    table = f"<table><caption>{note}</caption><thead><tr>{head}</tr></thead>{body}</table>"
    return f'<div class="wide">{table}</div>'


def _configurations(runs: Sequence[Run]) -> str:
    body = "<h2>Configurations</h2>"
    for run in runs:
        state = "" if run.result is not None else " (unfinished)"
        skipped = max((m.get("skipped") or 0 for m in run.records("train")), default=0)
        state += f" ({skipped:.0f} steps skipped: gradients not finite)" if skipped else ""
        text = escape(json.dumps(run.config, indent=2, ensure_ascii=False))
        head = f"<summary>{escape(run.title + state)}</summary>"
        body += f"<details>{head}<pre>{text}</pre></details>"
    return body
