"""Reads the stamps of Tux Paint: pictures with captions, in many languages, and with captions that are spoken.

Of the Debian package tuxpaint-stamps-default (2022.06.04): NAME.png is a picture, NAME.txt its caption, in English in
the first line and as LANGUAGE.utf8=… in others, NAME_desc_LANGUAGE.ogg or .wav the caption read aloud.

References:
    Tux Paint, https://tuxpaint.org, stamps by many contributors under free licences.
"""

import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resonance_jax.data.split import DataNotFoundError

FOLDER = Path("/usr/share/tuxpaint/stamps")  # of the Debian package
FOLDS = 5
_FOLD_SEED = 0  # part of the data set's definition: changing it changes every result
_DAMAGED = ("raise", "skip")
_SOUNDS = (".ogg", ".wav")
_LINE = re.compile(r"([\w@]+)\.utf8=(.*)")


@dataclass(frozen=True)
class Stamps:
    """Pictures, what they are called, and how that sounds; row i of everything is one stamp.

    Attributes:
        names: paths below the folder, without suffix, ascending.
        images: uint8 [n, side, side, 3], on white, in the middle.
        captions: of each language n texts.
        speech: of each language n sounds, float32 [samples] in −1 … 1; of no samples where nobody reads that caption.
        folds: int32 [n], 0 … FOLDS − 1: every category's stamps are spread over all folds, the same at every call.
        left_out: how many stamps are left out, and why.
    """

    names: tuple[str, ...]
    images: np.ndarray
    captions: dict[str, tuple[str, ...]]
    speech: dict[str, tuple[np.ndarray, ...]]
    folds: np.ndarray
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def categories(self) -> tuple[str, ...]:
        """The folder of each stamp right below the top: "animals"."""
        return tuple(name.split("/")[0] for name in self.names)


def load_stamps(
    folder: Path | None = None,
    languages: Sequence[str] = ("en",),
    *,
    side: int = 48,
    sample_rate: int = 8000,
    seconds: float = 2.0,
    speech: bool = True,
    damaged: str = "raise",
) -> Stamps:
    """Loads the stamps that have a picture of pixels and a caption in each of these languages.

    Left out are drawings (SVG), stamps without a caption in one of the languages, and those whose caption in one of
    them is that of an earlier stamp, but for capitals and white space. Few captions are read in English: 65; about 900
    each in "fr", "ru", "ro", "ca", "bg" and "es".

    Args:
        folder: that of the stamps; None is where the Debian package puts it.
        languages: as the files name them: "en", "fr", "pt_BR".
        side: pixels of an image; it is scaled to fit and keeps its shape.
        sample_rate: of the sounds, in Hz.
        seconds: longest sound; the rest is cut.
        speech: read the sounds, with the package soundfile; False gives sounds of no samples.
        damaged: "raise" names the first damaged file; "skip" leaves its stamp out (of a sound, the sound).
    Raises:
        DataNotFoundError: if there are no stamps, or a package that reads them is absent.
        ValueError: if an option is not as stated, or a file is damaged.
    """
    if damaged not in _DAMAGED or not languages or side < 1 or not sample_rate * seconds >= 1:
        raise ValueError(
            f"expected languages, side >= 1, sample_rate · seconds >= 1 and damaged one of {_DAMAGED}, got "
            f"{tuple(languages)}, {side}, {sample_rate}, {seconds} and {damaged!r}."
        )
    place = FOLDER if folder is None else folder
    texts = sorted(place.rglob("*.txt")) if place.is_dir() else []
    if not texts:
        raise DataNotFoundError(
            f"The stamps were not found: {place} holds no captions. Install the Debian package "
            "tuxpaint-stamps-default, or name a folder (--data-dir) with its stamps: apt-get download, dpkg -x, then "
            "usr/share/tuxpaint/stamps."
        )
    left_out: Counter[str] = Counter()
    chosen, images = [], []
    for path, captions in _with_captions(texts, languages, left_out):
        try:
            images.append(read_image(path.with_suffix(".png"), side))
        except ValueError:
            if damaged == "raise":
                raise
            left_out["damaged picture"] += 1
            continue
        chosen.append((path, captions))
    names = tuple(path.relative_to(place).with_suffix("").as_posix() for path, _ in chosen)
    options: dict[str, Any] = dict(rate=sample_rate, samples=int(sample_rate * seconds))
    sounds = {
        language: tuple(
            _speech(path, language, damaged, left_out, **options) if speech else _SILENCE
            for path, _ in chosen
        )
        for language in languages
    }
    spoken = {language: tuple(text[language] for _, text in chosen) for language in languages}
    images = np.stack(images) if images else np.zeros((0, side, side, 3), np.uint8)
    return Stamps(names, images, spoken, sounds, make_folds(names), dict(left_out))


_SILENCE = np.zeros(0, np.float32)


def make_folds(names: Sequence[str]) -> np.ndarray:
    """Deals the stamps of each category, in a random order that is always the same, to the folds in turn.

    >>> make_folds([f"animals/{i}" for i in range(7)]).tolist()
    [0, 1, 0, 2, 1, 4, 3]
    """
    rng = np.random.default_rng(_FOLD_SEED)
    categories = np.array([name.split("/")[0] for name in names])
    order = rng.permutation(len(names))
    order = order[np.argsort(categories[order], kind="stable")]
    folds = np.empty(len(names), np.int32)
    folds[order] = np.arange(len(names)) % FOLDS
    return folds


def read_captions(path: Path) -> dict[str, str]:
    """Reads the captions of a stamp by language, white space made single; those that are empty are left out.

    Raises:
        ValueError: if the file is not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    found = {"en": lines[0] if lines else ""}
    found |= {match[1]: match[2] for line in lines[1:] if (match := _LINE.match(line))}
    return {language: " ".join(text.split()) for language, text in found.items() if text.strip()}


def read_image(path: Path, side: int) -> np.ndarray:
    """Reads a picture on white, scaled to fit [side, side, 3], uint8.

    Raises:
        DataNotFoundError: if the package Pillow is absent.
        ValueError: if the file is damaged.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DataNotFoundError("pictures are read by Pillow: pip install pillow.") from error
    try:
        with Image.open(path) as file:
            picture = file.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    scale = side / max(picture.size)
    size = (max(1, round(scale * picture.width)), max(1, round(scale * picture.height)))
    picture = picture.resize(size, Image.Resampling.BOX)
    canvas = Image.new("RGBA", (side, side), "white")
    canvas.alpha_composite(picture, ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(canvas.convert("RGB"))


def read_sound(path: Path, rate: int, samples: int) -> np.ndarray:
    """Reads a sound, all channels as one, at `rate` Hz, the first `samples` after what is silent at its start.

    Silent is what stays below a hundredth of its largest sample.

    Raises:
        DataNotFoundError: if the package soundfile is absent.
        ValueError: if the file is damaged or holds no sound.
    """
    try:
        import soundfile
    except ImportError as error:
        raise DataNotFoundError("sounds are read by soundfile: pip install soundfile.") from error
    from scipy.signal import resample_poly

    try:
        sound, own = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    sound = sound.mean(axis=1)
    if not len(sound) or not np.isfinite(sound).all() or not sound.any():
        raise ValueError(f"{path} is damaged: it holds no sound.")
    common = np.gcd(rate, own)
    sound = resample_poly(sound, rate // common, own // common)
    loud = np.abs(sound) > 0.01 * np.abs(sound).max()
    return sound[np.argmax(loud) :][:samples].astype(np.float32)


def trigrams(text: str, vocab_size: int, length: int) -> np.ndarray:
    """Returns hashed trigrams of the bytes of a text in lower case, int32 [at most length], 1 … vocab_size − 1.

    0 is free for padding. The text begins and ends with a space, so that words differ from their parts.

    References:
        Bojanowski et al., Enriching word vectors with subword information, arXiv:1607.04606.

    >>> trigrams("A cat", 1000, 8).tolist() == trigrams("a  CAT", 1000, 8).tolist()
    True
    """
    if vocab_size < 2 or length < 1:
        raise ValueError(f"expected vocab_size >= 2 and length >= 1, got {vocab_size}, {length}.")
    data = f" {' '.join(text.lower().split())} ".encode()
    parts = [data[i : i + 3] for i in range(max(len(data) - 2, 1))][:length]
    return np.array([1 + zlib.crc32(part) % (vocab_size - 1) for part in parts], np.int32)


def _with_captions(texts: Sequence[Path], languages: Sequence[str], left_out: Counter[str]):
    """Yields the caption file and the captions of stamps that are kept."""
    seen: set[tuple[str, str]] = set()
    for path in texts:
        captions = read_captions(path)
        own = {(language, captions.get(language, "").casefold()) for language in languages}
        if not path.with_suffix(".png").is_file():
            drawn = path.with_suffix(".svg").is_file()
            left_out["drawing" if drawn else "no picture"] += 1
        elif not all(text for _, text in own):
            left_out["no caption"] += 1
        elif own & seen:
            left_out["caption of another stamp"] += 1
        else:
            seen |= own
            yield path, captions


def _speech(
    path: Path, language: str, damaged: str, left_out: Counter[str], rate: int, samples: int
) -> np.ndarray:
    tail = "_desc" if language == "en" else f"_desc_{language}"
    for suffix in _SOUNDS:
        file = path.with_name(path.stem + tail + suffix)
        if not file.is_file():
            continue
        try:
            return read_sound(file, rate, samples)
        except ValueError:
            if damaged == "raise":
                raise
            left_out["damaged sound"] += 1
    return _SILENCE


def describe(stamps: Stamps) -> Mapping[str, Any]:
    """Returns how many there are of what, for a result file."""
    spoken = {name: sum(len(s) > 0 for s in sounds) for name, sounds in stamps.speech.items()}
    return {"stamps": len(stamps), "spoken": spoken, "left_out": stamps.left_out}
