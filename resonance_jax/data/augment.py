"""Random changes of a training batch that leave its labels true, chosen by name.

Each takes a generator and a batch (dict of inputs [b, t, c], [b, h, w, c] or ids [b, t], labels, and mask
[b, t] if there is one) and returns a new batch of the same shapes and dtypes; the old one stays as it was.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from resonance_jax.data.text import UNKNOWN

Batch = dict[str, np.ndarray]
Augmentation = Callable[[np.random.Generator, Batch], Batch]

JITTER = np.float32(0.05)  # standard deviation, in units of the training deviation
LOG_SCALE = 0.1  # standard deviation of the log amplitude
SPEED = 0.1  # the most by which it changes
MAX_SHIFT = 2  # pixels
HIDDEN = 0.2  # part of the words


def circular_shift(rng: np.random.Generator, batch: Batch) -> Batch:
    """Rolls each series, and its mask, by its own uniform number of samples."""
    count, length = batch["inputs"].shape[:2]
    start = rng.integers(length, size=count)

    def roll(array: np.ndarray) -> np.ndarray:
        twice = np.concatenate([array, array], axis=1)
        windows = sliding_window_view(twice, length, axis=1)[np.arange(count), start]
        return np.ascontiguousarray(np.moveaxis(windows, -1, 1))

    return _change_times(batch, roll)


def flip_time(rng: np.random.Generator, batch: Batch) -> Batch:
    """Reverses each series, and its mask, with probability 1/2."""
    flip = rng.random(len(batch["inputs"])) < 0.5

    def reverse(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[flip] = array[flip, ::-1]
        return array

    return _change_times(batch, reverse)


def jitter(rng: np.random.Generator, batch: Batch) -> Batch:
    """Adds Gaussian noise of standard deviation 0.05; missing samples stay 0."""
    inputs = batch["inputs"]
    noise = JITTER * rng.standard_normal(inputs.shape, dtype=np.float32)
    if "mask" in batch:
        noise *= batch["mask"][..., np.newaxis]
    return {**batch, "inputs": inputs + noise}


def scale(rng: np.random.Generator, batch: Batch) -> Batch:
    """Multiplies each example by exp(0.1 z), z standard normal."""
    inputs = batch["inputs"]
    amplitude = np.exp(LOG_SCALE * rng.standard_normal(len(inputs))).astype(np.float32)
    return {**batch, "inputs": inputs * amplitude.reshape(-1, *[1] * (inputs.ndim - 1))}


def speed(rng: np.random.Generator, batch: Batch) -> Batch:
    """Plays each series, and its mask, at 0.9 to 1.1 times its speed: what ends early is padded, what ends late cut.

    Between two samples lies what a straight line between them has; a sample is observed if both are. Padding needs a
    mask: without one the last sample is repeated.
    """
    inputs = batch["inputs"]
    count, length = inputs.shape[:2]
    factor = rng.uniform(1 - SPEED, 1 + SPEED, size=(count, 1)).astype(np.float32)
    places = factor * np.arange(length, dtype=np.float32)
    whole = np.minimum(np.floor(places), np.float32(length - 1))
    part = np.minimum(places - whole, np.float32(1))[..., np.newaxis]
    before = whole.astype(np.int64)
    after = np.minimum(before + 1, length - 1)
    rows = np.arange(count)[:, np.newaxis]
    changed = {**batch, "inputs": (1 - part) * inputs[rows, before] + part * inputs[rows, after]}
    if "mask" in batch:
        mask = batch["mask"][rows, before] & batch["mask"][rows, after] & (places <= length - 1)
        changed["mask"] = mask
        changed["inputs"] *= mask[..., np.newaxis]
    return changed


def shift(rng: np.random.Generator, batch: Batch) -> Batch:
    """Moves each image by −2 … 2 pixels along each axis; what comes in is its darkest value.

    That is a zero pixel as published: after scaling, black is no longer 0.
    """
    inputs = batch["inputs"]
    count, height, width, _ = inputs.shape
    offset = rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, size=(2, count, 1))
    rows = np.arange(height) - offset[0]  # [b, h]
    columns = np.arange(width) - offset[1]  # [b, w]
    moved = inputs[
        np.arange(count)[:, np.newaxis, np.newaxis],
        np.clip(rows, 0, height - 1)[:, :, np.newaxis],
        np.clip(columns, 0, width - 1)[:, np.newaxis, :],
    ]
    inside = ((rows >= 0) & (rows < height))[:, :, np.newaxis] & (
        (columns >= 0) & (columns < width)
    )[:, np.newaxis, :]
    darkest = inputs.min(axis=(1, 2), keepdims=True)
    return {**batch, "inputs": np.where(inside[..., np.newaxis], moved, darkest)}


def flip_horizontal(rng: np.random.Generator, batch: Batch) -> Batch:
    """Mirrors each image left to right with probability 1/2."""
    inputs = batch["inputs"].copy()
    flip = rng.random(len(inputs)) < 0.5
    inputs[flip] = inputs[flip, :, ::-1]
    return {**batch, "inputs": inputs}


def cutout(rng: np.random.Generator, batch: Batch) -> Batch:
    """Sets a square of each image, a quarter of its shorter side wide, to 0, the training mean."""
    inputs = batch["inputs"]
    count, height, width, _ = inputs.shape
    side = max(1, min(height, width) // 4)
    top = rng.integers(height - side + 1, size=(count, 1))
    left = rng.integers(width - side + 1, size=(count, 1))
    rows, columns = np.arange(height), np.arange(width)
    hole = ((rows >= top) & (rows < top + side))[:, :, np.newaxis] & (
        (columns >= left) & (columns < left + side)
    )[:, np.newaxis, :]
    return {**batch, "inputs": np.where(hole[..., np.newaxis], np.float32(0), inputs)}


def hide_words(rng: np.random.Generator, batch: Batch) -> Batch:
    """Makes each word unknown (id 1 of `data.text`) with probability 0.2; padding stays."""
    hidden = rng.random(batch["inputs"].shape) < HIDDEN
    if "mask" in batch:
        hidden &= batch["mask"]
    return {**batch, "inputs": np.where(hidden, np.int32(UNKNOWN), batch["inputs"])}


_FOR_WORDS: dict[str, Augmentation] = {"hide_words": hide_words}
_FOR_SERIES: dict[str, Augmentation] = {
    "circular_shift": circular_shift,
    "flip_time": flip_time,
    "speed": speed,
}
_FOR_IMAGES: dict[str, Augmentation] = {
    "shift": shift,
    "flip_horizontal": flip_horizontal,
    "cutout": cutout,
}
_FOR_BOTH: dict[str, Augmentation] = {"jitter": jitter, "scale": scale}
AUGMENTATIONS: dict[str, Augmentation] = _FOR_WORDS | _FOR_SERIES | _FOR_IMAGES | _FOR_BOTH


def find_augmentations(names: Sequence[str], input_rank: int) -> tuple[Augmentation, ...]:
    """Returns the named augmentations, in order.

    Args:
        names: keys of AUGMENTATIONS.
        input_rank: 2 for batches of token ids, 3 for batches of series, 4 for batches of images.
    Raises:
        ValueError: if a name is unknown or doesn't suit the inputs.
    """
    kind, suited = {
        2: ("token ids", _FOR_WORDS),
        3: ("series", _FOR_BOTH | _FOR_SERIES),
        4: ("images", _FOR_BOTH | _FOR_IMAGES),
    }[input_rank]
    for name in names:
        if name not in suited:
            problem = "is not for" if name in AUGMENTATIONS else "is unknown; for"
            known = ", ".join(suited)
            raise ValueError(f"augmentation {name!r} {problem} {kind}: expected any of {known}.")
    return tuple(suited[name] for name in names)


def _change_times(batch: Batch, change: Callable[[np.ndarray], np.ndarray]) -> Batch:
    """Changes axis 1 of the inputs, and of the mask if there is one, alike."""
    return {**batch, **{key: change(batch[key]) for key in ("inputs", "mask") if key in batch}}
