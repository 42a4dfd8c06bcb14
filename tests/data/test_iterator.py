import numpy as np
import pytest

from resonance_jax.data.iterator import BatchIterator, evaluation_batches
from resonance_jax.data.split import Split


def make_split(rows=23, mask=True):
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((rows, 7, 1), dtype=np.float32)
    observed = rng.random((rows, 7)) < 0.8
    observed[:, 0] = True
    labels = np.arange(rows, dtype=np.int32)
    return Split(inputs, labels, observed if mask else None)


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_equal(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


def test_an_epoch_holds_every_row_at_most_once_and_drops_the_rest():
    iterator = BatchIterator(make_split(), 5, seed=0)
    assert iterator.batches_per_epoch == 4
    epochs = [np.concatenate([b["labels"] for b in take(iterator, 4)]) for _ in range(2)]
    for labels in epochs:
        assert len(set(labels.tolist())) == 20
    assert (epochs[0] != epochs[1]).any()
    assert set(epochs[0]) != set(epochs[1])  # other rows are dropped


def test_rows_stay_together():
    split = make_split()
    batch = next(BatchIterator(split, 5, seed=0))
    rows = batch["labels"]
    np.testing.assert_array_equal(batch["inputs"], split.inputs[rows])
    assert split.mask is not None
    np.testing.assert_array_equal(batch["mask"], split.mask[rows])
    assert "mask" not in next(BatchIterator(make_split(mask=False), 5, seed=0))


def test_same_seed_same_batches_other_seed_other_batches():
    split = make_split()
    first, again, other = (
        take(BatchIterator(split, 5, seed=seed, augment=["jitter"]), 10) for seed in (3, 3, 4)
    )
    assert_equal(first, again)
    assert (first[0]["labels"] != other[0]["labels"]).any()


def test_the_order_is_the_documented_function_of_the_counters():
    iterator = BatchIterator(make_split(), 5, seed=3)
    iterator.set_state({"epoch": 2, "position": 1, "seed": 3})
    order = np.random.default_rng([3, 2]).permutation(23)
    np.testing.assert_array_equal(next(iterator)["labels"], order[5:10])


def test_unshuffled_batches_keep_the_order():
    iterator = BatchIterator(make_split(), 5, seed=0, shuffle=False)
    for _ in range(2):
        labels = np.concatenate([batch["labels"] for batch in take(iterator, 4)])
        assert labels.tolist() == list(range(20))


def test_augmentation_changes_inputs_and_differs_by_batch_epoch_and_seed():
    split = Split(np.zeros((10, 7, 1), np.float32), np.zeros(10, np.int32))
    batches = take(BatchIterator(split, 5, seed=0, augment=["jitter"]), 4)
    batches += take(BatchIterator(split, 5, seed=1, augment=["jitter"]), 1)
    noise = [batch["inputs"] for batch in batches]
    assert all((a != b).any() for i, a in enumerate(noise) for b in noise[:i])


def test_augmentations_apply_in_the_order_given():
    split = make_split()
    one, two = (
        next(BatchIterator(split, 5, seed=0, augment=names))["inputs"]
        for names in (["jitter", "scale"], ["scale", "jitter"])
    )
    assert (one != two).any()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 11])
@pytest.mark.parametrize("shuffle", [True, False])
def test_resuming_continues_with_the_same_bits(count, shuffle):
    def make():
        return BatchIterator(
            make_split(), 5, seed=7, shuffle=shuffle, augment=["circular_shift", "jitter"]
        )

    through = make()
    take(through, count)
    state = through.get_state()
    assert state == {"epoch": count // 4, "position": count % 4, "seed": 7}
    resumed = make()
    take(resumed, 2)  # wherever it was before
    resumed.set_state(state)
    assert_equal(take(through, 9), take(resumed, 9))
    assert through.get_state() == resumed.get_state()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"epoch": 0, "position": 0}, "expected a state of"),
        ({"epoch": 0, "position": 0, "seed": 0, "more": 1}, "expected a state of"),
        ({"epoch": 0, "position": 0, "seed": 1}, "the state is of seed 1"),
        ({"epoch": -1, "position": 0, "seed": 0}, "got epoch -1"),
        ({"epoch": 0, "position": 4, "seed": 0}, "another batch size"),
        ({"epoch": 0, "position": -1, "seed": 0}, "position 0 to 3"),
    ],
)
def test_foreign_states_are_refused_and_change_nothing(state, message):
    iterator = BatchIterator(make_split(), 5, seed=0)
    next(iterator)
    with pytest.raises(ValueError, match=message):
        iterator.set_state(state)
    assert iterator.get_state() == {"epoch": 0, "position": 1, "seed": 0}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 24}, "from 1 to the 23 rows"),
        ({"batch_size": 0}, "got 0"),
        ({"batch_size": 5, "seed": -1}, "seed of 0 or more"),
        ({"batch_size": 5, "part": (2, 2)}, "0 ≤ index < count"),
        ({"batch_size": 5, "augment": ["blur"]}, "'blur' is unknown"),
        ({"batch_size": 5, "augment": ["cutout"]}, "'cutout' is not for series"),
    ],
)
def test_bad_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        BatchIterator(make_split(), **{"seed": 0, **kwargs})


@pytest.mark.parametrize("batch_size", [1, 5, 23, 24, 100])
def test_evaluation_sees_every_row_once_in_full_batches(batch_size):
    split = make_split()
    batches = list(evaluation_batches(split, batch_size))
    assert len(batches) == -(-23 // batch_size)
    for batch in batches:
        assert {len(value) for value in batch.values()} == {batch_size}
        assert batch["weight"].dtype == np.float32
        assert batch["mask"].any(axis=1).all()  # padding rows are no all-masked rows
    labels = np.concatenate([batch["labels"][batch["weight"] == 1] for batch in batches])
    assert labels.tolist() == list(range(23))
    assert sum(batch["weight"].sum() for batch in batches) == 23


@pytest.mark.parametrize("augment", [(), ("jitter", "circular_shift")])
@pytest.mark.parametrize(("batch_size", "count"), [(6, 2), (5, 2), (2, 4)])
def test_parts_make_up_the_batches(batch_size, count, augment):
    whole, *parts = (
        BatchIterator(make_split(), batch_size, seed=0, augment=augment, part=part)
        for part in ((0, 1), *((index, count) for index in range(count)))
    )
    for _ in range(whole.batches_per_epoch + 1):
        batch, *own = (next(iterator) for iterator in (whole, *parts))
        assert len({len(rows["labels"]) for rows in own}) == 1
        assert ("weight" in own[0]) == (batch_size % count > 0)
        joined = {key: np.concatenate([rows[key] for rows in own]) for key in own[0]}
        kept = joined.pop("weight", np.ones(batch_size)) > 0
        assert_equal([{key: rows[kept] for key, rows in joined.items()}], [batch])
    assert all(part.get_state() == whole.get_state() for part in parts)


def test_evaluation_refuses_an_empty_batch_at_once():
    with pytest.raises(ValueError, match="1 or more"):
        evaluation_batches(make_split(), 0)
