"""Loads a data set by its name.

>>> "FordA" in available_datasets()
True
"""

import difflib
from pathlib import Path

from resonance_jax.data import audio, forecasting, images, text, ucr
from resonance_jax.data.split import DataNotFoundError, Dataset, Split, hold_out

__all__ = [
    "DataNotFoundError",
    "Dataset",
    "Split",
    "available_datasets",
    "hold_out",
    "load_dataset",
]


_LOADERS = {**images.LOADERS, **text.LOADERS, **forecasting.LOADERS, **audio.LOADERS}


def available_datasets() -> tuple[str, ...]:
    """Returns the names that `load_dataset` knows, whether or not their files are here."""
    return tuple(sorted(ucr.SETS)) + tuple(_LOADERS)


def load_dataset(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Reads a data set from the package that ships it, or from a folder in its published format.

    Real inputs are scaled by the mean and deviation of the training split; documents are word ids. Nothing is
    downloaded.

    Args:
        name: one of `available_datasets()`; with a folder, any further set of the UCR archive too.
        data_dir: the folder to read instead of the installed package. UCR: NAME_TRAIN.tsv and
            NAME_TEST.tsv in it or in its subfolder NAME. fashion_mnist: the four IDX files, plain
            or .gz. mnist5k and digits: mnist_5k.csv and digits.csv, plain or .gz. reuters_r8:
            r8-train-all-terms.txt and r8-test-all-terms.txt, or reuters-r8-train.tab and reuters-r8-test.tab;
            reuters_r52 and newsgroups: the same of r52, and of 20ng and 20newsgroups. forecast_NAME_HORIZON and
            forecast_NAME_HORIZON_calendar: the file of `forecasting.SERIES`. word_languages and prompt_languages: the
            folder that their Debian packages were unpacked in.
    Returns:
        The data set.
    Raises:
        ValueError: if the name is unknown or a file is damaged.
        DataNotFoundError: if the files are absent; the message says how to get them.
    """
    folder = None if data_dir is None else Path(data_dir).expanduser()
    if folder is not None and not folder.is_dir():
        raise DataNotFoundError(f"the data folder {folder} does not exist.")
    if name in _LOADERS:
        return _LOADERS[name](folder)
    if name in ucr.SETS or (folder is not None and ucr.find_files(name, folder)):
        return ucr.load_ucr(name, folder)
    known = available_datasets()
    folded = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.5)
    hint = f" Did you mean {folded[close[0]]!r}?" if close else ""
    here = "" if folder is None else f", and {folder} holds no {name}_TRAIN.tsv"
    raise ValueError(f"unknown data set {name!r}{here}.{hint} Known: {', '.join(known)}.")
