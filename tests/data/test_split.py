import numpy as np
import pytest

from resonance_jax.data.iterator import BatchIterator
from resonance_jax.data.split import Dataset, Split, hold_out, standardize


def make_split(labels, length=4, **kwargs):
    labels = np.asarray(labels, np.int32)
    inputs = np.arange(len(labels) * length, dtype=np.float32).reshape(-1, length, 1)
    return Split(inputs, labels, **kwargs)


def test_hold_out_is_stratified_and_keeps_every_row_once():
    split = make_split([0] * 50 + [1] * 20 + [2] * 3 + [3])
    train, validation = hold_out(split, 0.2, seed=1)
    assert np.bincount(validation.labels).tolist() == [10, 4, 1]
    rows = np.concatenate([train.inputs, validation.inputs])[:, 0, 0]
    assert sorted(rows) == split.inputs[:, 0, 0].tolist()
    assert (np.diff(train.inputs[:, 0, 0]) > 0).all()


def test_hold_out_depends_on_the_seed_alone():
    split = make_split(np.arange(100) % 2)
    again = [hold_out(split, 0.3, seed=seed)[1].inputs for seed in (0, 0, 1)]
    np.testing.assert_array_equal(again[0], again[1])
    assert (again[0] != again[2]).any()


def test_hold_out_takes_the_mask_along():
    mask = np.ones((10, 4), bool)
    mask[3, 2] = False
    parts = hold_out(make_split([0] * 10, mask=mask), 0.5, seed=0)
    missing = [part.inputs[~part.mask, 0] for part in parts if part.mask is not None]
    assert np.concatenate(missing).tolist() == [3 * 4 + 2]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5])
def test_hold_out_refuses_other_fractions(fraction):
    with pytest.raises(ValueError, match="between 0 and 1"):
        hold_out(make_split([0, 0]), fraction, seed=0)


def test_hold_out_refuses_single_rows():
    with pytest.raises(ValueError, match="every class has a single row"):
        hold_out(make_split([0, 1, 2]), 0.5, seed=0)


def test_standardize_uses_the_training_split_and_what_was_observed():
    inputs = np.array([[[1.0], [3.0], [0.0]], [[5.0], [7.0], [0.0]]], np.float32)
    mask = np.array([[True, True, False], [True, True, False]])
    labels = np.zeros(2, np.int32)
    test = Split(inputs + 10, labels, None)
    train, test = standardize(Split(inputs, labels, mask), test)
    deviation = np.std([1, 3, 5, 7])
    expected = (np.array([[1, 3, 4], [5, 7, 4]]) - 4) / deviation  # missing: the mean
    np.testing.assert_allclose(train.inputs[..., 0], expected, rtol=1e-6)
    np.testing.assert_allclose(test.inputs, (inputs + 10 - 4) / deviation, rtol=1e-6)


def test_standardize_refuses_constant_data():
    split = Split(np.full((2, 3, 1), 7, np.float32), np.zeros(2, np.int32))
    with pytest.raises(ValueError, match="equals 7"):
        standardize(split, split)


@pytest.mark.parametrize(
    ("inputs", "labels", "mask", "message"),
    [
        (np.zeros((2, 3), np.float32), [0, 0], None, r"float32 \[2, 3\]"),
        (np.zeros((2, 3, 1), np.int32), [0, 0], None, r"int32 \[2, 3, 1\]"),
        (np.full((2, 3), -1, np.int32), [0, 0], None, "token ids out of range: .* got -1"),
        (np.zeros((2, 0, 1), np.float32), [0, 0], None, "none of them 0"),
        (np.zeros((2, 3, 1)), [0, 0], None, "float64"),
        (np.zeros((2, 3, 1), np.float32), [0], None, r"expected labels int32 \[2\]"),
        (np.zeros((2, 3, 1), np.float32), [0, -1], None, "labels out of range"),
        (np.full((2, 3, 1), np.nan, np.float32), [0, 0], None, "non-finite input in row 0"),
        (np.zeros((2, 3, 1), np.float32), [0, 0], np.ones((2, 2), bool), r"bool mask \[2, 3\]"),
        (np.zeros((2, 3, 1), np.float32), [0, 0], np.ones((2, 3)), "got float64"),
        (np.zeros((2, 3, 3, 1), np.float32), [0, 0], np.ones((2, 3), bool), "for series"),
        (np.zeros((2, 3, 1), np.float32), [0, 0], np.eye(2, 3, k=-1) > 0, "row 0 is missing"),
    ],
)
def test_bad_splits_are_refused(inputs, labels, mask, message):
    with pytest.raises(ValueError, match=message):
        Split(inputs, np.array(labels, np.int32), mask)


def test_float_labels_are_refused():
    with pytest.raises(ValueError, match="got float64"):
        Split(np.zeros((2, 3, 1), np.float32), np.zeros(2))


def test_dataset_checks_its_splits_against_each_other():
    with pytest.raises(ValueError, match=r"test inputs are \[5, 1\], expected \[4, 1\]"):
        Dataset("mine", make_split([0]), make_split([0], length=5), ("a",))
    with pytest.raises(ValueError, match="test labels out of range: expected 0 to 1, got 2"):
        Dataset("mine", make_split([0]), make_split([2]), ("a", "b"))
    with pytest.raises(ValueError, match="train labels out of range"):
        Dataset("mine", make_split([1]), make_split([0]), ("a",))


def test_dataset_of_token_ids():
    mask = np.array([[True, True, False]])
    split = Split(np.array([[3, 1, 0]], np.int32), np.zeros(1, np.int32), mask)
    dataset = Dataset("mine", split, split, ("a",), vocab_size=4)
    assert (dataset.input_shape, dataset.vocab_size) == ((3,), 4)
    kept = split.take(np.array([0, 0]))
    assert kept.mask is not None and kept.mask.tolist() == [[True, True, False]] * 2
    for vocab_size, train in ((3, split), (0, split), (4, make_split([0]))):
        with pytest.raises(ValueError, match=f"does not fit vocab_size = {vocab_size}"):
            Dataset("mine", train, train, ("a",), vocab_size=vocab_size)


def test_dataset_says_its_shape():
    dataset = Dataset("mine", make_split([0, 1]), make_split([1]), ("a", "b"))
    assert (dataset.num_classes, dataset.input_shape, len(dataset.test)) == (2, (4, 1), 1)


def test_covariates_go_with_their_rows():
    known = np.arange(24, dtype=np.float32).reshape(2, 6, 2)
    inputs, targets = np.zeros((2, 4, 1), np.float32), np.zeros((2, 2, 1), np.float32)
    split = Split(inputs, targets, covariates=known)
    kept = split.take(np.array([1]))
    assert kept.covariates is not None and kept.num_covariates == 2
    np.testing.assert_array_equal(kept.covariates, known[1:])
    scaled, _ = standardize(*[Split(inputs + known[:, :4, :1], targets, covariates=known)] * 2)
    assert scaled.covariates is known
    classes = Split(inputs, np.zeros(2, np.int32), covariates=known[:, :4])
    with pytest.raises(ValueError, match="augmentations do not change covariates"):
        BatchIterator(classes, 1, seed=0, augment=["jitter"])
    with pytest.raises(ValueError, match="test rows have 0 covariates, 2 in training"):
        Dataset("mine", split, Split(inputs, targets), ())
    with pytest.raises(ValueError, match="non-finite covariate in row 1"):
        Split(inputs, targets, covariates=np.where(known == 20, np.nan, known))
    for wrong in (known[:, :5], known[0], known.astype(float), known[..., :0]):
        with pytest.raises(ValueError, match=r"expected covariates float32 \[2, 6, m\] of series"):
            Split(inputs, targets, covariates=wrong)


def test_dataset_to_forecast_has_no_classes():
    def windows(horizon):
        return Split(np.zeros((3, 4, 1), np.float32), np.zeros((3, horizon, 1), np.float32))

    dataset = Dataset("mine", windows(2), windows(2), ())
    assert (dataset.num_classes, dataset.horizon, dataset.input_shape) == (0, 2, (4, 1))
    for train, test, names in ((2, 3, ()), (2, 2, ("a",))):
        with pytest.raises(ValueError, match="no names and targets of one length"):
            Dataset("mine", windows(train), windows(test), names)
