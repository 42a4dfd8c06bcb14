"""What a data set is in memory: a training and a test split of NumPy arrays."""

from dataclasses import dataclass

import numpy as np


class DataNotFoundError(FileNotFoundError):
    """The files of a known data set are absent; the message says how to get them."""


@dataclass(frozen=True)
class Split:
    """Labelled examples, or windows of series with what comes after them, in their order; checked when made.

    Attributes:
        inputs: float32, series [n, t, c] or images [n, h, w, c]; finite, 0 where missing. Or int32, token ids [n, t].
        labels: int32 [n], 0 … num_classes − 1; or, to forecast series, float32 targets [n, h, c], NaN where missing.
        mask: bool [n, t], True where a sample or token was observed; None if nothing is missing.
        covariates: float32 [n, t + h, m], finite: numbers known in advance for each step of a series and its targets
            (h = 0 with classes), such as the hour of the day; None if there are none.
    """

    inputs: np.ndarray
    labels: np.ndarray
    mask: np.ndarray | None = None
    covariates: np.ndarray | None = None

    def __post_init__(self):
        inputs, labels, mask = self.inputs, self.labels, self.mask
        ranks = {np.dtype(np.float32): (3, 4), np.dtype(np.int32): (2,)}
        if inputs.ndim not in ranks.get(inputs.dtype, ()) or 0 in inputs.shape:
            raise ValueError(
                "expected inputs float32 [n, t, c] or [n, h, w, c], or int32 [n, t], none of them 0, "
                f"got {inputs.dtype} {list(inputs.shape)}."
            )
        if inputs.ndim == 2 and inputs.min() < 0:
            raise ValueError(f"token ids out of range: expected 0 or more, got {inputs.min()}.")
        self._check_labels(labels)
        if (row := _first_not_finite(inputs)) is not None:
            raise ValueError(
                f"non-finite input in row {row}: give missing samples as 0 and say so in the mask."
            )
        if mask is not None:
            self._check_mask(mask)
        if self.covariates is not None:
            self._check_covariates(self.covariates)

    def _check_labels(self, labels):
        inputs = self.inputs
        if labels.dtype == np.float32 and labels.ndim == inputs.ndim == 3:
            if labels.shape[::2] == inputs.shape[::2] and labels.shape[1]:
                return
        if labels.shape != (len(inputs),) or labels.dtype != np.int32:
            targets = f", or targets float32 [{len(inputs)}, h, {inputs.shape[-1]}]"
            raise ValueError(
                f"expected labels int32 [{len(inputs)}]{targets if inputs.ndim == 3 else ''}, got {labels.dtype} "
                f"{list(labels.shape)}."
            )
        if labels.min() < 0:
            raise ValueError(f"labels out of range: expected 0 or more, got {labels.min()}.")

    def _check_mask(self, mask):
        shape = self.inputs.shape[:2]
        if self.inputs.ndim == 4 or mask.shape != shape or mask.dtype != bool:
            raise ValueError(
                f"expected a bool mask {list(shape)} for series or text, got {mask.dtype} "
                f"{list(mask.shape)} for inputs {list(self.inputs.shape)}."
            )
        if not mask.any(axis=1).all():
            row = int(np.argmin(mask.any(axis=1)))
            raise ValueError(f"every sample of row {row} is missing: drop the row.")

    def _check_covariates(self, covariates):
        shape, steps = self.inputs.shape, self.inputs.shape[1] + self.horizon
        wrong = covariates.ndim != 3 or covariates.shape[:2] != (shape[0], steps)
        if len(shape) != 3 or wrong or covariates.dtype != np.float32 or not covariates.shape[-1]:
            raise ValueError(
                f"expected covariates float32 [{shape[0]}, {steps}, m] of series, got {covariates.dtype} "
                f"{list(covariates.shape)} for inputs {list(shape)} and {self.horizon} steps to forecast."
            )
        if (row := _first_not_finite(covariates)) is not None:
            raise ValueError(f"non-finite covariate in row {row}: covariates are known everywhere.")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def horizon(self) -> int:
        """Steps of a target; 0 if the labels are classes."""
        return self.labels.shape[1] if self.labels.ndim == 3 else 0

    @property
    def num_covariates(self) -> int:
        """Covariates of a step; 0 if there are none."""
        return 0 if self.covariates is None else self.covariates.shape[-1]

    def take(self, rows: np.ndarray | slice) -> "Split":
        """Returns the given rows, in the given order; of a slice, views."""
        optional = (self.mask, self.covariates)
        mask, covariates = (None if array is None else array[rows] for array in optional)
        return Split(self.inputs[rows], self.labels[rows], mask, covariates)


def _first_not_finite(array: np.ndarray) -> int | None:
    """The first row that is not finite; part by part: windows may be views of far less than they are."""
    for start in range(0, len(array), 1024):
        finite = np.isfinite(array[start : start + 1024]).reshape(-1, array[0].size).all(1)
        if not finite.all():
            return start + int(np.argmin(finite))
    return None


@dataclass(frozen=True)
class Dataset:
    """A data set with its published (or fixed) training and test splits."""

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    """In the order of the labels; none in a data set to forecast."""
    vocab_size: int = 0
    """Ids that inputs are made of; 0 if they are real numbers."""

    def __post_init__(self):
        for name, split in (("train", self.train), ("test", self.test)):
            is_text = split.inputs.dtype == np.int32
            if is_text != (self.vocab_size > 0) or (
                is_text and split.inputs.max() >= self.vocab_size
            ):
                found = f"ids up to {split.inputs.max()}" if is_text else "real numbers"
                raise ValueError(
                    f"{self.name}: {name} inputs are {found}, which does not fit vocab_size = {self.vocab_size}."
                )
            if split.inputs.shape[1:] != self.input_shape:
                raise ValueError(
                    f"{self.name}: {name} inputs are {list(split.inputs.shape[1:])}, "
                    f"expected {list(self.input_shape)} as in training."
                )
            if split.num_covariates != self.num_covariates:
                raise ValueError(
                    f"{self.name}: {name} rows have {split.num_covariates} covariates, {self.num_covariates} in "
                    "training."
                )
            if split.horizon != self.horizon or (self.horizon and self.num_classes):
                raise ValueError(
                    f"{self.name}: expected class names and classes, or no names and targets of one length, got "
                    f"{self.num_classes} names, {name} targets of {split.horizon} steps, {self.horizon} in training."
                )
            if not self.horizon and split.labels.max() >= self.num_classes:
                raise ValueError(
                    f"{self.name}: {name} labels out of range: expected 0 to "
                    f"{self.num_classes - 1}, got {split.labels.max()}."
                )

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 in a data set to forecast."""
        return len(self.class_names)

    @property
    def horizon(self) -> int:
        """Steps to forecast; 0 in a classification."""
        return self.train.horizon

    @property
    def num_covariates(self) -> int:
        """Covariates of a step; 0 if there are none."""
        return self.train.num_covariates

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example: [t, c], [h, w, c] or, of token ids, [t]."""
        return self.train.inputs.shape[1:]


def hold_out(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Splits off a stratified part, the same one for the same seed.

    Every class gives round(fraction · count) of its rows, at least one and at most all but one; a
    class of a single row gives none. Both parts keep the order of the rows.

    Of windows with targets it is the last part, and windows whose targets reach into it are in neither part.

    Args:
        split: what to divide.
        fraction: the part to hold out, 0 < fraction < 1.
        seed: chooses the rows, ≥ 0; not used for windows.
    Returns:
        (train, validation).
    Raises:
        ValueError: if fraction is outside (0, 1), no class has two rows, or a part would be empty.

    >>> split = Split(np.zeros((8, 5, 1), np.float32), np.arange(8, dtype=np.int32) % 2)
    >>> [np.bincount(part.labels).tolist() for part in hold_out(split, 0.25, seed=0)]
    [[3, 3], [1, 1]]
    """
    if not 0 < fraction < 1:
        raise ValueError(f"expected a fraction between 0 and 1, got {fraction}.")
    if split.horizon:
        start = len(split) - round(fraction * len(split))
        end = start - split.horizon + 1
        if end < 1 or start == len(split):
            raise ValueError(
                f"cannot hold out {fraction} of {len(split)} windows with targets of {split.horizon} steps: nothing is "
                "left."
            )
        return split.take(slice(0, end)), split.take(slice(start, None))
    rng = np.random.default_rng(seed)
    held = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        rows = rng.permutation(np.flatnonzero(split.labels == label))
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        held[rows[:count]] = True
    if not held.any():
        raise ValueError("cannot hold out a stratified part: every class has a single row.")
    return split.take(np.flatnonzero(~held)), split.take(np.flatnonzero(held))


def standardize(train: Split, test: Split) -> tuple[Split, Split]:
    """Subtracts the training mean and divides by the training deviation: one number each.

    Missing samples don't count and stay 0, which is then the mean.

    Raises:
        ValueError: if all training samples are equal.
    """
    seen = train.inputs if train.mask is None else train.inputs[train.mask]
    mean, deviation = seen.mean(dtype=np.float64), seen.std(dtype=np.float64)
    if deviation == 0:
        raise ValueError(f"every training sample equals {mean}: there is nothing to learn from.")

    def scale(split: Split) -> Split:
        inputs = (split.inputs - np.float32(mean)) / np.float32(deviation)
        if split.mask is not None:
            inputs[~split.mask] = 0
        return Split(inputs, split.labels, split.mask, split.covariates)

    return scale(train), scale(test)
