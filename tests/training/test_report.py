"""The report against fake run folders whose numbers are known."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from resonance_jax.training import plots, summary
from resonance_jax.training.report import (
    collect_spectra,
    format_table,
    write_inspection,
    write_report,
)

pytestmark = pytest.mark.end_to_end

GROUPS = ("magnitude", "phase", "other")
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Collects table rows, images, text and unbalanced tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.images, self.texts, self.open, self.links = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links += [attributes[name] for name in ("src", "href") if name in attributes]
        if tag == "img":
            self.images.append(attributes)
        if tag == "tr":
            self.rows.append([attributes.get("class", "")])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] == "td":
            self.rows[-1].append(data)


def result_of(model="resonance", seed=0, **changes):
    return {
        "experiment": "forda",
        "model": model,
        "dataset": "FordA",
        "seed": seed,
        "test_accuracy": 0.9,
        "test_loss": 0.25,
        "validation_accuracy": None,
        "parameters": 28034,
        "seconds_per_epoch": 1.5,
        "compile_seconds": 6.25,
        "peak_memory_bytes": 3 * 2**20,
        "train_seconds": 9.0,
        "steps": 20,
        "epochs": 4,
        "confusion": [[50, 10], [5, 35]],
        "class_names": ["no fault", "fault"],
        "date": "2025-06-01",
        "commit": "abc1234",
        "device": "cpu",
        "versions": {"python": "3.11.2", "jax": "0.10.2"},
    } | changes


def metrics_of(accuracy=0.9):
    lines = []
    for step in range(1, 21):
        norms = {f"grad_norm_{group}": 0.1 * step for group in GROUPS}
        rates = dict.fromkeys(["learning_rate_magnitude", "learning_rate_phase"], 1e-3)
        common = {"step": step, "epoch": (step - 1) // 5, "loss": 1 / step, "accuracy": accuracy}
        lines.append(
            common | norms | rates | {"kind": "train", "learning_rate": 3e-3, "skipped": 2}
        )
        if step % 5 == 0:
            lines.append(common | {"kind": "eval", "split": "test"})
    return lines


def make_run(
    folder, model="resonance", seed=0, finished=True, config=None, metrics=None, **changes
):
    run = folder / f"{model}-seed{seed}"
    run.mkdir(parents=True)
    written = {"experiment": "forda", "dataset": "FordA", "seed": seed, "batch_size": 64}
    written |= {"model": {"kind": model, "hidden_dim": 32}} | (config or {})
    (run / "config.json").write_text(json.dumps(written))
    lines = metrics_of() if metrics is None else metrics
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if finished:
        (run / "result.json").write_text(json.dumps(result_of(model, seed, **changes)))
    return run


def spectrum_of(name="block_0/mixer", k=6, d=5, interference=True):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(k, k)) + 1j * rng.normal(size=(k, k)) if interference else None
    magnitude, phase = np.exp(rng.normal(size=(k, d))), 5 * rng.normal(size=(k, d))
    return plots.LayerSpectrum(name, np.arange(k) / 16, magnitude, phase, mixing)


def test_headline_numbers(tmp_path):
    accuracies = (0.90, 0.92, 0.97)
    runs = [make_run(tmp_path, seed=s, test_accuracy=a) for s, a in enumerate(accuracies)]
    runs.append(make_run(tmp_path, "fnet", test_accuracy=0.8, parameters=1234567, test_loss=0.5))
    page = Page(write_report(tmp_path / "report.html", runs).read_text())
    rows = [row for row in page.rows if len(row) == 1 + len(summary.COLUMNS)]
    spread = math.sqrt(sum((a - 0.93) ** 2 for a in accuracies) / 2)
    costs = ["28,034", "1.50 ± 0.00", "6.2 ± 0.0", "3.0 MiB"]
    assert rows == [
        ["best", "resonance", "3", f"0.9300 ± {spread:.4f}", "0.2500 ± 0.0000", *costs],
        ["", "fnet", "1", "0.8000", "0.5000", "1,234,567", "1.50", "6.2", "3.0 MiB"],
    ]
    text = "".join(page.texts)
    assert f"Best test accuracy: resonance, 0.9300 ± {spread:.4f} over 3 runs." in text
    for fact in (
        "forda on FordA",
        "100",
        "abc1234",
        "jax 0.10.2",
        '"hidden_dim": 32',
        "2 steps skipped",
    ):
        assert fact in text


def test_page_is_self_contained(tmp_path):
    run = make_run(tmp_path)
    report = write_report(tmp_path / "out" / "report.html", [run], {run: [spectrum_of()]})
    text = report.read_text()
    page = Page(text)
    assert page.open == []  # every tag is closed, in order
    assert "http://" not in text and "https://" not in text and "url(" not in text
    assert len(page.images) == 4  # curves, gradients, confusion, one spectrum
    assert all(link.startswith("data:image/") for link in page.links)
    assert all(image["alt"] for image in page.images)
    for image in page.images:
        kind, content = image["src"].split(";base64,")
        content = base64.b64decode(content)
        assert content.startswith(b"\x89PNG" if kind == "data:image/png" else b"<?xml")
        assert not re.search(rb'(?:href|src)="(?!#|data:)', content)  # nor does an image load one
    assert [file.name for file in report.parent.iterdir()] == ["report.html"]  # no temporary file
    assert write_report(report, [run], {run: [spectrum_of()]}).read_text() == text


def test_everything_is_escaped(tmp_path):
    evil = "<script>alert('&\"')</script> $\\x$"
    run = make_run(
        tmp_path,
        config={"augment": [evil]},
        experiment=evil,
        dataset=evil,
        model=evil,
        device=evil,
        commit=evil,
        class_names=[evil, "$\\no_mathematics$"],
        versions={evil: evil},
    )
    spectra = {run: [spectrum_of(evil)]}
    text = write_report(tmp_path / "r.html", [run], spectra, title=evil, command=evil).read_text()
    assert "<script" not in text
    assert Page(text).open == []
    assert "".join(Page(text).texts).count(evil) >= 7
    (page, *_) = write_inspection(tmp_path / "i.html", spectra[run], evil)
    assert "<script" not in page.read_text()


def test_unfinished_and_torn_run(tmp_path):
    finished = make_run(tmp_path)
    torn = make_run(tmp_path, "fnet", finished=False)
    with (torn / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')
    empty = make_run(tmp_path, "transformer", finished=False, metrics=[])
    page = Page(write_report(tmp_path / "report.html", [finished, torn, empty]).read_text())
    assert ["", "fnet", "0 of 1", "unfinished", *["–"] * 5] in page.rows
    assert ["", "transformer", "0 of 1", "unfinished", *["–"] * 5] in page.rows
    assert "fnet, seed 0 (unfinished) (2 steps skipped: gradients not finite)" in page.texts
    only = Page(write_report(tmp_path / "only.html", [empty]).read_text())
    assert "No metrics were recorded yet." in only.texts


def test_bad_input(tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(ValueError, match="at least one run"):
        write_report(tmp_path / "r.html", [])
    with pytest.raises(FileNotFoundError, match=r"nothing is not a run folder.*config\.json"):
        write_report(tmp_path / "r.html", [tmp_path / "nothing"])
    with pytest.raises(ValueError, match="not in the report: elsewhere"):
        write_report(tmp_path / "r.html", [run], {"elsewhere": []})
    with pytest.raises(ValueError, match="no spectral layer"):
        write_inspection(tmp_path / "i.html", [], "fnet")
    metrics = run / "metrics.jsonl"
    metrics.write_text("torn {\n" + metrics.read_text())
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 1 is not valid JSON"):
        write_report(tmp_path / "r.html", [run])
    (run / "result.json").write_text("{")
    with pytest.raises(ValueError, match=r"result\.json is not valid JSON"):
        write_report(tmp_path / "r.html", [run])
    assert not (tmp_path / "r.html").exists()


def test_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    run = make_run(tmp_path / "runs")
    report = write_report(tmp_path / "report.html", [run])
    before = report.read_bytes()

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_space)
    with pytest.raises(OSError, match="No space"):
        write_report(report, [run], title="another")
    assert report.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "runs"]


def test_terminal_table_has_the_same_cells():
    results = [result_of(seed=s, test_accuracy=a) for s, a in enumerate((0.90, 0.94))]
    results.append(result_of("fnet[bold]", test_accuracy=None, test_loss=None))
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(format_table(results))
    lines = [line.split("  ") for line in console.export_text().splitlines()]
    lines = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    lines = [line for line in lines if len(line) == len(summary.COLUMNS)]
    assert lines[0] == [column.split()[-1] for column in summary.COLUMNS]  # a word a line
    assert lines[1][:3] == ["resonance *", "2", "0.9200 ± 0.0283"]
    assert lines[2][:4] == ["fnet[bold]", "1", "–", "–"]


def test_collect_spectra_reads_nested_layers():
    rng = np.random.default_rng(1)
    log_magnitude, phase = rng.normal(size=(2, 4, 3))
    mixing = rng.normal(size=(2, 4, 4))
    frequencies = np.array([0.0, 0.1, 0.2, 0.3])
    layer = {"log_magnitude": log_magnitude, "phase": phase}
    params = {
        "embed": {"kernel": np.ones((2, 2))},
        "block_0": {"mixer": layer | {"interference": mixing}, "norm": {"scale": np.ones(3)}},
        "bank": {"log_magnitude": log_magnitude[:, 0], "phase": phase[:, 0]},
    }
    sown = {"frequencies": (np.zeros(4), frequencies)}
    spectra: list[Any] = collect_spectra(params, {"block_0": {"mixer": sown}, "bank": sown})
    first, second = spectra
    assert (first.name, second.name) == ("block_0/mixer", "bank")
    np.testing.assert_array_equal(first.frequencies, frequencies)
    np.testing.assert_allclose(first.magnitude, np.exp(log_magnitude), rtol=1e-15)
    np.testing.assert_array_equal(first.phase, phase)
    np.testing.assert_array_equal(first.interference, mixing[0] + 1j * mixing[1])
    assert second.interference is None
    np.testing.assert_allclose(second.magnitude, np.exp(log_magnitude[:, :1]), rtol=1e-15)
    assert collect_spectra({"embed": params["embed"]}, {}) == []
    with pytest.raises(ValueError, match="block_0/mixer recorded no frequencies"):
        collect_spectra(params, {})
    gated = sown | {"gate": (np.array([0.0, 1.0, 0.0, 1.0]),)}
    spectra = collect_spectra(params, {"block_0": {"mixer": gated}, "bank": sown})
    chosen = spectra[0]
    np.testing.assert_array_equal(chosen.frequencies, [0.1, 0.3])
    np.testing.assert_array_equal(chosen.magnitude, first.magnitude[1::2])
    np.testing.assert_array_equal(chosen.phase, phase[1::2])
    np.testing.assert_array_equal(chosen.interference, (mixing[0] + 1j * mixing[1])[1::2, 1::2])
    wrong = {"frequencies": (np.zeros(5),)}
    with pytest.raises(ValueError, match=r"bank needs frequencies.*\[5\] and \[4, 1\]"):
        collect_spectra({"bank": params["bank"]}, {"bank": wrong})


def test_collect_spectra_reads_every_parametrization():
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(2, 4, 3))
    params = {
        "magnitude": {"log_magnitude": first},
        "phase": {"phase": second},
        "cartesian": {"real": first, "imag": second},
    }
    sown = {"frequencies": (np.arange(4) / 8,)}
    expected = {
        "magnitude": (np.exp(first), np.zeros((4, 3))),
        "phase": (np.ones((4, 3)), second),
        "cartesian": (np.hypot(first, second), np.arctan2(second, first)),
    }
    spectra = collect_spectra(params, dict.fromkeys(params, sown))
    assert [one.name for one in spectra] == list(expected)
    for one in spectra:
        np.testing.assert_allclose(one.magnitude, expected[one.name][0], rtol=1e-12)
        np.testing.assert_allclose(one.phase, expected[one.name][1], rtol=1e-12)


def test_inspection_files(tmp_path):
    spectra = [spectrum_of("a/b"), spectrum_of("a b", interference=False)]
    files = write_inspection(tmp_path / "new" / "inspect.html", spectra, "resonance-seed0")
    names = ["inspect.html", "inspect-00-a-b.png", "inspect-01-a-b.png"]
    assert [file.name for file in files] == names
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files[1:])
    page = Page(files[0].read_text())
    assert len(page.images) == 2
    assert [row[1:4] for row in page.rows if len(row) > 1] == [["a/b", "6", "5"], ["a b", "6", "5"]]
