"""Polar against cartesian in a network: the trials, the file, the interval and what the verdict follows from."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import scipy.stats

from experiments import parametrization, scaling
from resonance_jax.data.split import Dataset, Split
from resonance_jax.models.baselines import make_model
from resonance_jax.training.monitor import NonFiniteGradientError

ARMS = parametrization.ARMS
ROW = np.zeros((1, 500, 1), np.float32)


@pytest.mark.parametrize("arm", ARMS)
def test_each_arm_tries_every_rate_once_in_every_group(arm):
    tried = parametrization.trials(arm)
    for group in parametrization.GROUPS:
        assert sorted(trial[group] for trial in tried) == sorted(parametrization.LEVELS)
    equal = [len(set(trial.values())) == 1 for trial in tried]
    assert all(equal) if ARMS[arm][1] == "one rate" else not any(equal)
    assert parametrization.trials(arm) == tried


@pytest.mark.parametrize("arm", ARMS)
def test_arms_differ_in_form_and_rates_alone(arm):
    rates = parametrization.trials(arm)[3]
    config = parametrization.make_config(arm, rates, 2)
    assert {name: getattr(config, name) for name in rates} == rates
    plain = scaling.make_config("forda", "resonance", parametrization.WIDTH, 1e-3, 2)
    assert dataclasses.replace(config, model=plain.model, **dict.fromkeys(rates, 1e-3)) == plain
    tree = jax.eval_shape(make_model(config.model).init, jax.random.key(0), ROW)["params"]
    names = {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(tree)}
    own = {"polar": {"log_magnitude", "phase"}, "cartesian": {"real", "imag"}}
    assert names >= own.pop(ARMS[arm][0])
    assert not names & next(iter(own.values()))


def test_distance_from_identity_is_the_same_in_both_forms():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4))
    w = np.exp(a) * (np.cos(b) + 1j * np.sin(b))
    polar = {"block": {"log_magnitude": a, "phase": b}, "head": {"bias": a}}
    cartesian = {"block": {"real": w.real, "imag": w.imag}, "head": {"bias": a}}
    expected = np.sqrt(sum(abs(v - 1) ** 2 for v in w.ravel()) / w.size)
    for params in (polar, cartesian):
        assert parametrization.distance_from_identity(params) == pytest.approx(expected, rel=1e-12)


def test_interval_is_welchs():
    first, second = [0.94, 0.95, 0.93], [0.90, 0.935]
    found = parametrization.welch(first, second)
    interval = scipy.stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high), rel=1e-9)
    assert found["difference"] == pytest.approx(0.0225)
    same = parametrization.welch([0.5, 0.5], [0.25, 0.25])
    assert same == {"difference": 0.25, "low": 0.25, "high": 0.25}


def record_of(accuracy, loss):
    """Returns a finished file's tables; accuracy and loss by arm, 0.9 and 0.2 where not given."""
    search, runs = [], []
    for arm in ARMS:
        for index, rates in enumerate(parametrization.trials(arm)):
            scores = {"validation_accuracy": 0.9 - 0.1 * abs(index // 2 - 2)}
            scores["validation_loss"] = 0.1 * (index % 2)  # of two equal ones the first is better
            search.append({"arm": arm, **rates, **scores})
        chosen = parametrization.trials(arm)[4]
        for seed in range(3):
            scores = {"test_accuracy": accuracy.get(arm, 0.9) + 0.001 * seed}
            scores |= {"training_loss": loss.get(arm, 0.2) + 0.001 * seed}
            scores |= {"distance_from_identity": 0.1}
            runs.append({"arm": arm, **chosen, "seed": seed, **scores})
    return {"search": search, "runs": runs}


@pytest.mark.parametrize(
    ("accuracy", "loss", "gained", "trained"),
    [
        (0.92, 0.1, "is a gain", "is lower"),
        (0.88, 0.3, "is a loss", "is higher"),
        (0.9005, 0.2005, "is within", "cannot be told apart"),
    ],
)
def test_verdict_follows_from_the_numbers(accuracy, loss, gained, trained):
    remedy = parametrization.REMEDY
    record = record_of({remedy: accuracy}, {remedy: loss})
    found = parametrization.analyse(record)
    assert found["arms"][remedy]["learning_rate"] == parametrization.LEVELS[4]
    assert gained in found["verdict"] and trained in found["verdict"]
    assert f"{accuracy + 0.001:.2%}" in found["verdict"]
    assert (" none." in found["verdict"]) == (gained == "is within")
    assert found["verdict"] in parametrization.table(found)


def test_analysis_of_a_file_that_is_not_finished():
    record = record_of({}, {})
    remedy = parametrization.REMEDY
    of_remedy = [row for row in record["runs"] if row["arm"] == remedy]
    assert "verdict" not in parametrization.analyse({**record, "runs": of_remedy})
    assert "no verdict" in parametrization.table(parametrization.analyse({**record, "runs": []}))
    assert parametrization.best({"search": record["search"][:-1]}, list(ARMS)[-1]) is None
    # Runs of rates that the search does not hold best are not this arm's.
    other = {**of_remedy[0], "learning_rate": 1.0, "test_accuracy": 0.0}
    found = parametrization.analyse({**record, "runs": [*record["runs"], other]})
    assert found["arms"][remedy]["seeds"] == 3


def test_picture_has_every_arm():
    left, right = parametrization.draw(record_of({}, {})).axes
    assert left.get_legend_handles_labels()[1] == list(ARMS)
    assert [label.get_text() for label in right.get_yticklabels()] == list(ARMS)
    assert [np.size(line.get_xdata()) for line in right.lines] == [3] * len(ARMS)


@pytest.fixture
def small(monkeypatch, one_layer):
    """64 noisy sines, one epoch, one trial."""
    rng = np.random.default_rng(0)
    labels = (np.arange(64) % 2).astype(np.int32)
    wave = np.sin((1 + labels[:, None]) * np.arange(200) / 10) + 0.1 * rng.normal(size=(64, 200))
    split = Split(wave[..., None].astype(np.float32), labels)
    monkeypatch.setattr(scaling, "load", lambda name: Dataset("small", split, split, ("a", "b")))
    task = dataclasses.replace(scaling.TASKS["forda"], num_epochs=1, batch_size=16)
    monkeypatch.setattr(scaling, "TASKS", {"forda": task})
    one_layer(scaling)
    monkeypatch.setattr(parametrization, "WIDTH", 4)
    monkeypatch.setattr(parametrization, "LEVELS", (1e-2,))


def test_an_arm_is_searched_trained_and_not_repeated(small, tmp_path, quick_compile):
    path, arm = tmp_path / "parametrization.json", "cartesian, own rates"
    jobs = [(parametrization.search, arm, 0), (parametrization.run, arm, 1)]
    with pytest.raises(ValueError, match="search first"):
        parametrization.run(parametrization.Results(path), arm, 1)
    parametrization.work(parametrization.Results(path), jobs)
    written = path.read_text()
    record = json.loads(written)
    assert {"commit", "device", "versions", "date", "budget"} < record.keys()
    assert [row["steps"] for row in record["search"]] == [3]  # a fifth is held out
    (row,) = record["runs"]
    assert (row["arm"], row["seed"], row["steps"]) == (arm, 1, 4)
    assert np.isfinite([row["training_loss"], row["test_loss"]]).all()
    # The test split is the training split here: without dropout both losses are one.
    assert row["training_loss"] == pytest.approx(row["test_loss"], rel=1e-6)
    assert 0 < row["distance_from_identity"] < 0.2
    parametrization.work(parametrization.Results(path), jobs)
    assert path.read_text() == written


def test_a_trial_that_diverges_is_kept_as_such(tmp_path, monkeypatch):
    def diverge(config):
        raise NonFiniteGradientError("20 steps in a row")

    monkeypatch.setattr(parametrization, "train", diverge)
    results, arm = parametrization.Results(tmp_path / "parametrization.json"), next(iter(ARMS))
    for index in range(len(parametrization.LEVELS)):
        parametrization.search(results, arm, index)
    assert results.record["search"][0]["diverged"] == "20 steps in a row"
    assert parametrization.best(results.record, arm) is None
