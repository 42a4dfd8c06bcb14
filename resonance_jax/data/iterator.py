"""Batches for training, whose order is a function of counters, and for evaluation."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from resonance_jax.data.augment import Batch, find_augmentations
from resonance_jax.data.split import Split

_STATE_KEYS = ("epoch", "position", "seed")


def rows_of_part(
    batch_size: int, part: tuple[int, int]
) -> tuple[slice | np.ndarray, np.ndarray | None]:
    """Returns which rows of a batch one of several processes takes, and their weights.

    Args:
        batch_size: rows of the batch.
        part: (index of the process, number of processes).
    Returns:
        As many rows for each process, and None; or, where some are missing for this, with the last one of the batch in
        their place, and the weights, float32, which are 0 there.
    Raises:
        ValueError: if there is no such part.

    >>> rows_of_part(4, (1, 2))
    (slice(2, 4, None), None)
    >>> [rows.tolist() for rows in rows_of_part(3, (1, 2))]
    [[2, 2], [1.0, 0.0]]
    """
    index, count = part
    if not 0 <= index < count:
        raise ValueError(f"expected a part (index, count) with 0 ≤ index < count, got {part}.")
    own = -(-batch_size // count)
    if own * count == batch_size:
        return slice(index * own, (index + 1) * own), None
    rows = index * own + np.arange(own)
    return np.minimum(rows, batch_size - 1), (rows < batch_size).astype(np.float32)


class CountedBatches(ABC):
    """Batches without end, each a function of the seed, the epoch and the position in it; can be set to any place.

    A subclass says what an epoch and a batch are, by `_start_epoch` and `_batch`.

    Attributes:
        batches_per_epoch: positions in an epoch.
    """

    def __init__(self, batches_per_epoch: int, seed: int):
        """Starts at the first batch of epoch 0."""
        if seed < 0:
            raise ValueError(f"expected a seed of 0 or more, got {seed}.")
        self.batches_per_epoch = batches_per_epoch
        self._seed = int(seed)
        self._go_to(0, 0)

    @abstractmethod
    def _start_epoch(self, epoch: int) -> None:
        """Prepares the batches of an epoch."""

    @abstractmethod
    def _batch(self, epoch: int, position: int) -> Batch:
        """Returns a batch of the epoch that was started last."""

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = self.peek()
        if self._position + 1 < self.batches_per_epoch:
            self._position += 1
        else:
            self._go_to(self._epoch + 1, 0)
        return batch

    def peek(self) -> Batch:
        """Returns the next batch, which stays the next one."""
        return self._batch(self._epoch, self._position)

    def get_state(self) -> dict[str, int]:
        """Returns the place of the next batch: its epoch, its position there, and the seed."""
        return {"epoch": self._epoch, "position": self._position, "seed": self._seed}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Goes to a place that `get_state` returned, of this or of an equal iterator.

        Raises:
            ValueError: if the state has other keys or values out of range, or is of another seed.
        """
        if set(state) != set(_STATE_KEYS):
            raise ValueError(f"expected a state of {list(_STATE_KEYS)}, got {sorted(state)}.")
        epoch, position, seed = (int(state[key]) for key in _STATE_KEYS)
        if seed != self._seed:
            raise ValueError(f"the state is of seed {seed}, the iterator of seed {self._seed}.")
        if epoch < 0 or not 0 <= position < self.batches_per_epoch:
            raise ValueError(
                f"expected epoch ≥ 0 and position 0 to {self.batches_per_epoch - 1}, got epoch "
                f"{epoch} and position {position}: was the state saved with another batch size?"
            )
        self._go_to(epoch, position)

    def _go_to(self, epoch: int, position: int) -> None:
        self._epoch, self._position = epoch, position
        self._start_epoch(epoch)


class BatchIterator(CountedBatches):
    """Yields shuffled training batches without end, and can be set to any place.

    Nothing but (seed, epoch, position) decides a batch: the order of an epoch comes from
    default_rng([seed, epoch]) and the augmentation of a batch from default_rng([seed, epoch,
    position, 1]), so an iterator set to another's state continues with the same bits.

    Attributes:
        batches_per_epoch: whole batches in an epoch; the rows left over are dropped, others in
            each epoch when shuffled.

    >>> split = Split(np.zeros((5, 3, 1), np.float32), np.arange(5, dtype=np.int32))
    >>> batches = BatchIterator(split, 2, seed=0, shuffle=False)
    >>> [next(batches)["labels"].tolist() for _ in range(3)], batches.get_state()
    ([[0, 1], [2, 3], [0, 1]], {'epoch': 1, 'position': 1, 'seed': 0})
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool = True,
        augment: Sequence[str] = (),
        part: tuple[int, int] = (0, 1),
    ):
        """Starts at the first batch of epoch 0.

        Args:
            split: the examples.
            batch_size: rows per batch, 1 … len(split).
            seed: ≥ 0.
            shuffle: a new order in each epoch; otherwise the order of the split.
            augment: names of augmentations, applied in this order.
            part: (index, number) of the processes that take their rows of each batch, see `rows_of_part`; the place of
                the iterator is the same on all.
        Raises:
            ValueError: if an argument is out of range, or an augmentation is unknown or unsuitable.
        """
        if not 1 <= batch_size <= len(split):
            raise ValueError(
                f"expected a batch size from 1 to the {len(split)} rows of the split, "
                f"got {batch_size}."
            )
        if augment and split.horizon:
            raise ValueError(
                f"augmentations do not change targets: expected none of windows to forecast, got {list(augment)}."
            )
        if augment and split.covariates is not None:
            raise ValueError(
                f"augmentations do not change covariates: expected none beside them, got {list(augment)}."
            )
        self._split = split
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._augmentations = find_augmentations(augment, split.inputs.ndim)
        self._own, self._weight = rows_of_part(batch_size, part)
        super().__init__(len(split) // batch_size, seed)

    def _batch(self, epoch: int, position: int) -> Batch:
        start = position * self._batch_size
        rows = self._order[start : start + self._batch_size]
        if self._augmentations:  # They are drawn for the whole batch.
            batch = _rows(self._split, rows)
            rng = np.random.default_rng([self._seed, epoch, position, 1])
            for augmentation in self._augmentations:
                batch = augmentation(rng, batch)
            batch = {key: value[self._own] for key, value in batch.items()}
        else:
            batch = _rows(self._split, rows[self._own])
        return batch if self._weight is None else {**batch, "weight": self._weight}

    def _start_epoch(self, epoch: int) -> None:
        rows = len(self._split)
        if self._shuffle:
            self._order = np.random.default_rng([self._seed, epoch]).permutation(rows)
        else:
            self._order = np.arange(rows)


def evaluation_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """Yields every row once, in order, in batches of one size.

    Args:
        split: the examples.
        batch_size: rows per batch, ≥ 1.
    Returns:
        An iterator over batches that also have weight, float32 [b]: 1, and 0 for the copies of the
        first row that fill the last batch.
    Raises:
        ValueError: if batch_size < 1.
    """
    if batch_size < 1:
        raise ValueError(f"expected a batch size of 1 or more, got {batch_size}.")
    count = -(-len(split) // batch_size)
    rows = np.zeros(count * batch_size, np.int64)
    rows[: len(split)] = np.arange(len(split))
    weight = (np.arange(len(rows)) < len(split)).astype(np.float32)
    edges = range(0, len(rows) + 1, batch_size)
    return ({**_rows(split, rows[a:b]), "weight": weight[a:b]} for a, b in pairwise(edges))


def _rows(split: Split, rows: np.ndarray) -> Batch:
    names = "inputs", "labels", "mask", "covariates"
    arrays = {name: getattr(split, name) for name in names}
    return {name: array[rows] for name, array in arrays.items() if array is not None}
