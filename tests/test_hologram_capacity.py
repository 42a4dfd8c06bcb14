"""The search for what a memory holds: it raises the rate until recall fails, resumes, and reads its own file."""

import json
import math

import jax.numpy as jnp
import pytest

from experiments import hologram_capacity as experiment
from resonance_jax.ops import capacity

LIMIT = 13  # pairs


def step(key, pairs, size, noise):
    """Recalls all of 13 pairs and none of more: the search without anything to compile."""
    return jnp.full(pairs, pairs <= LIMIT * (1 - noise))


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "WAYS", {"superposition": (step, 1, 0.05)})
    monkeypatch.setattr(experiment, "NOISY", ("superposition",))
    return experiment.Results(tmp_path / "results.json")


@pytest.mark.parametrize(("size", "first"), [(16, 0.05), (16, 0.5), (experiment.CURVE, 0.05)])
def test_the_search_ends_at_the_limit_and_is_not_repeated(size, first, results, monkeypatch):
    """From below as from above."""
    monkeypatch.setitem(experiment.WAYS, "superposition", (step, 1, first))
    experiment.search(results, "superposition", size)
    rows = sorted(results.record["rates"], key=lambda row: row["pairs"])
    found = max(row["pairs"] for row in rows if row["accuracy"] == 1)
    above = min(row["pairs"] for row in rows if row["accuracy"] == 0)
    assert found <= LIMIT < above <= found * experiment.RATIO + 1
    bits = found * math.log2(size) / experiment.NUMBERS
    assert experiment.held(results.record, "superposition", size) == pytest.approx(bits)
    monkeypatch.setattr(experiment, "accuracy", None)
    again = experiment.Results(results.path)
    experiment.search(again, "superposition", size)
    assert again.record == results.record


def test_noise_lowers_it_and_the_table_and_picture_show_both(results):
    for decibels in (None, 0, 10):
        experiment.search(results, "superposition", experiment.NOISY_CODEBOOK, decibels)
    clean, noisy = (experiment.held(results.record, "superposition", 256, db) for db in (None, 10))
    assert clean is not None
    assert noisy is not None
    assert 0 < noisy < clean
    experiment.published(results, 512)
    record = json.loads(results.path.read_text())
    assert record["bound_in_noise"]["10"] == pytest.approx(0.5 * math.log2(11))
    lines = experiment.table(record)
    assert f"{clean:8.3f}" in lines
    assert "error 0.042 published" in lines
    assert len(experiment.draw_curves(record).axes) == 2


def test_a_published_row_is_measured_beside_what_it_takes(results):
    experiment.published(results, 512)
    (row,) = results.record["published"]
    assert row["measured_error"] == pytest.approx(row["theory_error"], rel=0.05)
    assert row["bits_needed_per_number"] == pytest.approx(250 * math.log2(1 / 0.042))


def test_recall_is_written_beside_the_closed_form(results, monkeypatch):
    monkeypatch.setattr(experiment, "GRID_TRIALS", 20)
    experiment.compare(results, 64, 4, 10, "real")
    (row,) = results.record["grid"]
    assert row["theory"] == capacity.recall_accuracy(64, 4, 10)
    assert row["measured"] == pytest.approx(row["theory"], abs=0.1)


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("way", ["delta writes", "corrective writes", "joint, falling"])
def test_ways_that_correct_or_read_jointly_recall_all(way, monkeypatch):
    """Half a bit a number, which superposition does not hold."""
    monkeypatch.setattr(experiment, "NUMBERS", 64)
    monkeypatch.setattr(experiment, "DELTA_PAGES", 16)
    monkeypatch.setattr(experiment, "ROUNDS", 30)
    monkeypatch.setitem(experiment.WAYS, way, (experiment.WAYS[way][0], 3, 0.05))
    assert experiment.accuracy(way, 8, 16) == pytest.approx(1, abs=1e-6)
