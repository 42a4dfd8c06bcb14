"""Run folders as records: what counts when lines repeat, settings differ or numbers are missing."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from resonance_jax.training import summary
from resonance_jax.training.summary import Run


def run_of(name, result=None, metrics=(), **config):
    return Run(Path(name), config, result, list(metrics))


def labelled(*runs):
    summary.label_runs(runs)
    return list(runs)


def test_a_step_that_a_resumed_run_repeats_counts_once(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    lines = [
        {"kind": "train", "step": step, "loss": loss} for step, loss in ((1, 5), (2, 6), (2, 7))
    ]
    lines.append({"kind": "eval", "split": "test", "step": 2, "loss": 9})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = summary.read_run(tmp_path)
    assert [record["loss"] for record in run.records("train")] == [5, 7]
    assert [record["loss"] for record in run.records("eval", "test")] == [9]
    assert run.result is None


def test_only_runs_that_differ_in_the_seed_share_a_row():
    model = {"kind": "resonance"}
    runs = labelled(
        run_of("x/resonance-seed0", model=model, seed=0, data_dir="a"),
        run_of("x/resonance-seed1", model=model, seed=1, data_dir="b"),
        run_of("y/resonance-seed0", model=model | {"hidden_dim": 64}, seed=0),
        run_of("y/fnet-seed0", model={"kind": "fnet"}, seed=0),
    )
    assert [run.label for run in runs] == [
        *["resonance 1 (x/resonance)"] * 2,
        "resonance 2 (y/resonance)",
        "fnet",
    ]
    assert [row.cells[1] for row in summary.summarize(runs)] == ["0 of 2", "0 of 1", "0 of 1"]
    assert runs[0].title == "resonance 1 (x/resonance), seed 0"


def test_model_name_falls_back_to_the_folder():
    assert run_of("r/wavelet-seed12").model == "wavelet"
    assert run_of("r/x", model={"kind": "fnet"}).model == "fnet"
    assert run_of("r/x", {"model": "resonance"}, model={"kind": "fnet"}).model == "resonance"


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.8, 0.1), (0.9, 0.9)], [False, True]),
        ([(0.9, 0.1), (0.9, 0.9)], [True, True]),
        ([(None, 0.3), (None, 0.2)], [False, True]),
        ([(math.nan, math.nan), (0.1, 5.0)], [False, True]),
        ([(math.nan, math.nan), (None, None)], [False, False]),
    ],
)
def test_best_row(scores, best):
    names = ("test_accuracy", "test_loss")
    runs = [run_of(f"m{i}", dict(zip(names, s, strict=True))) for i, s in enumerate(scores)]
    rows = summary.summarize(labelled(*runs))
    assert [row.best for row in rows] == best
    sentence = summary.best_sentence(runs)
    assert bool(sentence) == any(best)
    assert ("test loss: m1, 0.2000" in sentence) == (scores[0][0] is None)


def test_curves_are_placed_at_fractional_epochs():
    train = [
        {"kind": "train", "step": s, "epoch": 0, "loss": s, "accuracy": 0.5} for s in range(1, 41)
    ]
    evals = [
        {"kind": "eval", "split": "test", "step": s, "epoch": 9, "loss": 1.0} for s in (20, 40)
    ]
    finished = run_of("a", {"steps": 40, "epochs": 2}, train + evals)
    training, test = summary.curves(finished)
    np.testing.assert_allclose(test.epochs, [1, 2])
    assert np.isnan(test.accuracy).all()  # none was recorded
    np.testing.assert_allclose(training.epochs, np.arange(1.5, 41, 2) / 20)
    np.testing.assert_allclose(training.loss, np.arange(1.5, 41, 2))
    # Unfinished: the distance of two evaluations tells, whether epochs count from 0 or from 1.
    evals = [record | {"epoch": i} for i, record in enumerate(evals)]
    np.testing.assert_allclose(summary.curves(run_of("a", None, evals))[0].epochs, [1, 2])
    np.testing.assert_allclose(summary.curves(run_of("a", None, evals[1:]))[0].epochs, [1])


def test_group_trace_names_the_rates_of_the_groups():
    rates = {"learning_rate": 3.0, "learning_rate_magnitude": 1.0, "learning_rate_phase": 2.0}
    norms = {"grad_norm_magnitude": 4.0, "grad_norm_phase": math.inf, "grad_norm_other": 6.0}
    trace = summary.group_trace(run_of("a", None, [{"kind": "train", "step": 7} | rates | norms]))
    assert {group: float(rate[0]) for group, rate in trace.rates.items()} == {
        "magnitude": 1.0,
        "phase": 2.0,
        "other": 3.0,
    }
    assert trace.steps.tolist() == [7.0]
    assert trace.norms["magnitude"].tolist() == [4.0] and trace.norms["other"].tolist() == [6.0]
    assert np.isnan(trace.norms["phase"]).all()


def test_memory_in_binary_units():
    sizes = (1.5 * 2**20, 3 * 2**30)
    runs = labelled(*(run_of(f"m{i}", {"peak_memory_bytes": s}) for i, s in enumerate(sizes)))
    assert [row.cells[-1] for row in summary.summarize(runs)] == ["1.5 MiB", "3.00 GiB"]


def test_facts_name_the_span_of_the_dates_and_leave_out_what_is_not_known():
    dates = ("2025-06-02T10:00:00", "2025-06-01T09:00:00", "2025-06-01T12:00:00")
    runs = labelled(
        *(run_of(f"a-seed{i}", {"date": d, "epochs": 8.0}) for i, d in enumerate(dates))
    )
    assert summary.facts(runs, "make train") == {
        "Models": "a",
        "Epochs": "8",
        "Command": "make train",
        "Date": "2025-06-01T09:00:00 to 2025-06-02T10:00:00",
    }
    assert summary.facts(runs[:1])["Date"] == dates[0]
