import numpy as np
import pytest

from resonance_jax.data.augment import AUGMENTATIONS, find_augmentations
from resonance_jax.data.text import PADDING, UNKNOWN

SERIES = ("circular_shift", "flip_time", "jitter", "scale", "speed")
IMAGES = ("shift", "flip_horizontal", "cutout", "jitter", "scale")


def series_batch(mask=True, channels=2):
    rng = np.random.default_rng(0)
    batch = {
        "inputs": rng.standard_normal((32, 21, channels), dtype=np.float32),
        "labels": np.arange(32, dtype=np.int32),
    }
    if mask:
        batch["mask"] = rng.random((32, 21)) < 0.7
        batch["inputs"][~batch["mask"]] = 0
    return batch


def image_batch():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((32, 12, 9, 2), dtype=np.float32)
    return {"inputs": inputs, "labels": np.arange(32, dtype=np.int32)}


def word_batch():
    rng = np.random.default_rng(0)
    batch = {
        "inputs": rng.integers(2, 50, size=(32, 21)).astype(np.int32),
        "labels": np.arange(32, dtype=np.int32),
        "mask": np.arange(21) < rng.integers(5, 22, size=(32, 1)),
    }
    batch["inputs"][~batch["mask"]] = PADDING
    return batch


CASES = [("hide_words", word_batch())]
CASES += [(name, series_batch()) for name in SERIES] + [(name, image_batch()) for name in IMAGES]


def apply(name, batch, seed=0):
    return AUGMENTATIONS[name](np.random.default_rng(seed), batch)


def test_every_augmentation_is_tested():
    assert {name for name, _ in CASES} == set(AUGMENTATIONS)


@pytest.mark.parametrize(("name", "batch"), CASES)
def test_changes_inputs_only_and_by_the_seed_alone(name, batch):
    before = {key: value.copy() for key, value in batch.items()}
    changed, again, other = (apply(name, batch, seed) for seed in (0, 0, 1))
    for key, value in batch.items():
        np.testing.assert_array_equal(value, before[key])  # the caller's arrays
        assert (changed[key].shape, changed[key].dtype) == (value.shape, value.dtype)
        np.testing.assert_array_equal(changed[key], again[key])
    np.testing.assert_array_equal(changed["labels"], batch["labels"])
    assert (changed["inputs"] != batch["inputs"]).any()
    assert (changed["inputs"] != other["inputs"]).any()


def test_a_fifth_of_the_words_is_hidden_and_padding_stays():
    batch = word_batch()
    changed = apply("hide_words", batch)["inputs"]
    hidden = changed != batch["inputs"]
    assert (changed[hidden] == UNKNOWN).all() and (changed[~batch["mask"]] == PADDING).all()
    assert abs(hidden[batch["mask"]].mean() - 0.2) < 0.05
    del batch["mask"]
    assert (apply("hide_words", batch)["inputs"] == UNKNOWN).any()


@pytest.mark.parametrize("name", SERIES)
def test_missing_samples_stay_missing(name):
    changed = apply(name, series_batch())
    assert (changed["inputs"][~changed["mask"]] == 0).all()
    assert (changed["inputs"][changed["mask"]] != 0).all()


@pytest.mark.parametrize("name", SERIES)
def test_series_without_a_mask_get_none(name):
    assert "mask" not in apply(name, series_batch(mask=False))


def test_circular_shift_rolls_each_row():
    batch = series_batch()
    changed = apply("circular_shift", batch)
    shifts = set()
    for old, new, old_mask, new_mask in zip(
        batch["inputs"], changed["inputs"], batch["mask"], changed["mask"], strict=True
    ):
        rolls = [s for s in range(21) if np.array_equal(np.roll(old, s, axis=0), new)]
        assert len(rolls) == 1
        np.testing.assert_array_equal(np.roll(old_mask, rolls[0]), new_mask)
        shifts.add(rolls[0])
    assert len(shifts) > 5


def test_speed_plays_a_line_as_a_line_of_another_slope():
    line = np.tile(np.arange(100, dtype=np.float32)[:, np.newaxis], (8, 1, 1))
    mask = np.tile(np.arange(100) < 60, (8, 1))
    batch = {"inputs": line * mask[..., np.newaxis], "labels": np.zeros(8, np.int32), "mask": mask}
    changed = apply("speed", batch)
    slopes = changed["inputs"][:, 1, 0]
    assert (np.abs(slopes - 1) <= 0.1).all() and len(set(slopes)) == 8
    for row, seen, slope in zip(changed["inputs"][..., 0], changed["mask"], slopes, strict=True):
        assert abs(seen.sum() - 59 / slope) <= 1 and not seen[seen.sum() :].any()
        np.testing.assert_allclose(row, np.where(seen, slope * np.arange(100), 0), atol=1e-4)


def test_flip_time_reverses_about_half_of_the_rows():
    batch = series_batch()
    changed = apply("flip_time", batch)
    flipped = [
        np.array_equal(a[::-1], b) for a, b in zip(batch["inputs"], changed["inputs"], strict=True)
    ]
    same = (batch["inputs"] == changed["inputs"]).all(axis=(1, 2))
    assert (same ^ np.array(flipped)).all()
    assert 8 < sum(flipped) < 24
    np.testing.assert_array_equal(changed["mask"][flipped], batch["mask"][flipped, ::-1])


def test_jitter_adds_noise_of_the_stated_size():
    inputs = np.zeros((64, 500, 1), np.float32)
    noise = apply("jitter", {"inputs": inputs})["inputs"]
    assert abs(noise.std() - 0.05) < 0.001
    assert abs(noise.mean()) < 0.001


def test_scale_multiplies_each_row_by_one_number():
    batch = {"inputs": np.ones((4000, 3, 2), np.float32)}
    scaled = apply("scale", batch)["inputs"]
    assert (scaled == scaled[:, :1, :1]).all()
    assert abs(np.log(scaled).std() - 0.1) < 0.005


def test_shift_moves_by_at_most_two_pixels_and_fills_with_the_darkest():
    batch = image_batch()
    changed = apply("shift", batch)["inputs"]
    seen = set()
    for old, new in zip(batch["inputs"], changed, strict=True):
        padded = np.broadcast_to(old.min(axis=(0, 1)), (16, 13, 2)).copy()
        padded[2:-2, 2:-2] = old
        found = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(padded[2 - down : 14 - down, 2 - right : 11 - right], new)
        ]
        assert len(found) == 1
        seen.update(found)
    assert {down for down, _ in seen} == {right for _, right in seen} == {-2, -1, 0, 1, 2}


def test_flip_horizontal_mirrors_the_width():
    batch = image_batch()
    changed = apply("flip_horizontal", batch)["inputs"]
    mirrored = (changed == batch["inputs"][:, :, ::-1]).all(axis=(1, 2, 3))
    same = (changed == batch["inputs"]).all(axis=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert 8 < mirrored.sum() < 24


def test_cutout_zeroes_one_square():
    changed = apply("cutout", image_batch())["inputs"]
    for image in changed:
        rows, columns = np.nonzero((image == 0).all(axis=-1))
        assert len(rows) == 4  # side 9 // 4 = 2
        assert np.ptp(rows) == np.ptp(columns) == 1


@pytest.mark.parametrize(
    ("names", "rank", "message"),
    [
        (["jiter"], 3, "'jiter' is unknown; for series: expected any of"),
        (["scale", "cutout"], 3, "'cutout' is not for series"),
        (["circular_shift"], 4, "'circular_shift' is not for images"),
    ],
)
def test_unknown_and_unsuitable_names_are_refused(names, rank, message):
    with pytest.raises(ValueError, match=message):
        find_augmentations(names, rank)


def test_found_in_the_order_given():
    found = find_augmentations(["scale", "circular_shift"], 3)
    assert found == (AUGMENTATIONS["scale"], AUGMENTATIONS["circular_shift"])
