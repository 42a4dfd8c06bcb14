"""The reader of stamps, on a few made here."""

import numpy as np
import pytest

from resonance_jax.data.split import DataNotFoundError
from resonance_jax.data.stamps import describe, load_stamps, make_folds, read_image, trigrams

Image = pytest.importorskip("PIL.Image")
soundfile = pytest.importorskip("soundfile")


def write_stamp(folder, name, english, french="", picture=".png"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    line = f"fr.utf8={french}\nnothing\n" if french else ""
    path.with_suffix(".txt").write_text(f"{english}\n{line}", encoding="utf-8")
    if picture == ".png":
        Image.new("RGBA", (8, 4), (255, 0, 0, 255)).save(path.with_suffix(".png"))
    elif picture:
        path.with_suffix(picture).write_text("<svg/>")
    return path


@pytest.fixture
def folder(tmp_path):
    cat = write_stamp(tmp_path, "animals/cat", "A  cat.", "Un chat.")
    time = np.arange(8000) / 16000
    sound = np.sin(2 * np.pi * 100 * time) * (time > 0.1)
    soundfile.write(f"{cat}_desc_fr.wav", np.stack([sound, sound], axis=1), 16000)
    soundfile.write(f"{cat}_desc.ogg", sound, 16000, format="OGG", subtype="VORBIS")
    write_stamp(tmp_path, "animals/dog", "A dog.", "Un chien")
    write_stamp(tmp_path, "animals/cat2", "a cat.", "Un félin.")
    write_stamp(tmp_path, "food/pea", "A pea.", "un  CHAT.")
    write_stamp(tmp_path, "food/nut", "A nut.")
    write_stamp(tmp_path, "food/egg", "An egg.", "Un œuf.", picture=".svg")
    write_stamp(tmp_path, "food/air", "Air.", "L'air", picture="")
    return tmp_path


def test_captions_are_distinct_and_what_is_left_out_is_counted(folder):
    stamps = load_stamps(folder, ("en", "fr"), side=6)
    assert stamps.names == ("animals/cat", "animals/dog")
    assert stamps.captions == {"en": ("A cat.", "A dog."), "fr": ("Un chat.", "Un chien")}
    assert stamps.categories == ("animals", "animals")
    assert stamps.left_out == {
        "caption of another stamp": 2, "no caption": 1, "drawing": 1, "no picture": 1,
    }  # fmt: skip
    assert describe(stamps)["spoken"] == {"en": 1, "fr": 1}
    more = load_stamps(folder, ("en",), side=6, speech=False)
    assert len(more) == 4 and not any(len(sound) for sound in more.speech["en"])


def test_pictures_are_in_the_middle_of_white(folder):
    image = read_image(folder / "animals" / "cat.png", 8)
    assert image.dtype == np.uint8 and image.shape == (8, 8, 3)
    assert np.all(image[:2] == 255) and np.all(image[6:] == 255)
    assert np.all(image[2:6] == [255, 0, 0])


def test_sounds_are_resampled_from_where_they_begin(folder):
    stamps = load_stamps(folder, ("fr",), side=2, sample_rate=4000, seconds=0.25)
    sound = stamps.speech["fr"][0]
    assert sound.dtype == np.float32 and sound.shape == (1000,)
    spectrum = np.abs(np.fft.rfft(sound))
    assert np.argmax(spectrum) == 25  # 100 Hz in a quarter of a second
    assert not len(stamps.speech["fr"][1])


def test_damaged_files_are_named_or_skipped(folder):
    picture, sound = folder / "animals" / "dog.png", folder / "animals" / "cat_desc_fr.wav"
    whole = picture.read_bytes()
    picture.write_bytes(whole[:40])
    with pytest.raises(ValueError, match=r"dog\.png is damaged"):
        load_stamps(folder, ("fr",), side=2)
    stamps = load_stamps(folder, ("fr",), side=2, damaged="skip")
    assert "animals/dog" not in stamps.names and stamps.left_out["damaged picture"] == 1
    picture.write_bytes(whole)
    sound.write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"cat_desc_fr\.wav is damaged"):
        load_stamps(folder, ("fr",), side=2)
    stamps = load_stamps(folder, ("fr",), side=2, damaged="skip")
    assert stamps.left_out["damaged sound"] == 1 and not len(stamps.speech["fr"][0])


def test_folds_are_even_in_each_category_and_always_the_same():
    names = [f"animals/{i}" for i in range(13)] + [f"food/{i}" for i in range(7)]
    folds = make_folds(names)
    np.testing.assert_array_equal(folds, make_folds(names))
    for rows in (slice(13), slice(13, None)):
        counts = np.bincount(folds[rows], minlength=5)
        assert counts.max() - counts.min() <= 1


def test_trigrams_share_what_words_share():
    a, b = (set(trigrams(text, 1 << 20, 40).tolist()) for text in ("a dinosaur", "Dinosaurs!"))
    assert len(a & b) >= 7 and len(trigrams("a dinosaur", 100, 4)) == 4
    assert trigrams("é", 50, 9).min() >= 1
    with pytest.raises(ValueError, match="vocab_size >= 2"):
        trigrams("a", 1, 4)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(DataNotFoundError, match="tuxpaint-stamps-default"):
        load_stamps(tmp_path)
    with pytest.raises(ValueError, match="damaged one of"):
        load_stamps(tmp_path, damaged="ignore")
