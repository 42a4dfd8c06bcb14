"""The table of experiments/fractal_dimension.py, shrunk."""

import json
import math

import pytest

from experiments import fractal_dimension
from experiments.fractal_dimension import SETS, all_cases, measure, render, summarise

pytestmark = pytest.mark.usefixtures("quick_compile")


def row(bias: float, points: int = 4096, made_for: bool = True) -> dict:
    return {"bias": bias, "points": points, "made_for": made_for}


def test_only_what_an_estimator_is_made_for_is_judged_and_from_4096_points_on():
    rows = [row(0.04), row(-0.06, 4097), row(0.9, 4095), row(0.9, made_for=False)]
    summary = summarise(rows)
    assert summary == {"judged": 2, "missed": [rows[1]], "worst": rows[1]}
    assert summarise(rows[:1])["missed"] == []


def test_every_estimator_has_cases_and_every_set_its_number_of_points():
    assert {case.estimator for case in all_cases()} == set(fractal_dimension.ESTIMATORS)
    assert [s.copies ** s.levels(4096) for s in SETS] == [4096, 4096, 6561, 4096]
    assert all(math.isclose(s.copies, (1 / s.ratio) ** s.dimension) for s in SETS)
    image = render(SETS[2].generate(4), 64)
    assert image.shape == (64, 64) and image[0].any() and image[-1].any()  # as large as fits
    assert image.sum() == 81


def test_the_table_is_measured_and_written(tmp_path, monkeypatch, capsys):
    cases = [c for c in all_cases() if (c.name, c.estimator) == ("Koch curve", "box_counting")]
    monkeypatch.setattr(fractal_dimension, "all_cases", lambda: cases)
    monkeypatch.setattr(
        "sys.argv", ["x", "--trials", "3", "--sizes", "4096", "--results", str(tmp_path / "t.json")]
    )
    fractal_dimension.main()
    record = json.loads((tmp_path / "t.json").read_text())
    (measured,) = record["rows"]
    assert (measured["object"], measured["points"], measured["trials"]) == ("Koch curve", 4097, 3)
    assert record["worst"] == measured == measure(cases[0], 4096, 3)
    assert abs(measured["bias"]) < 0.05 and 0 < measured["std"] < 0.05
    assert record["versions"] and record["device"] and record["missed"] == []
    assert "1 judged, 0 missed" in capsys.readouterr().out
