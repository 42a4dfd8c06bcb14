"""Reads spoken words and prompts, and says which language they are in, from sounds that two programs ship.

Each is cut or padded to 2 seconds of 8,000 samples, scaled to a mean square of 1 (how loud a recording is would tell
who made it), and has a mask. Words are the names of things in a game for children, in 13 languages, mostly one voice a
language; those that are tested are never heard in training, in any language. Prompts are those of a telephone exchange
that are there in five languages, each one voice, but English and Spanish the same; one that is tested is heard in
training in no language. So what is learned may be the voice or the room as well as the language.

References:
    KTuberling (KDE), sounds under the GPL and free licences; Asterisk core sounds (Digium), CC BY-SA 3.0.
"""

import math
import re
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from resonance_jax.data.split import DataNotFoundError, Dataset, Split, standardize

SAMPLE_RATE = 8000
MAX_SAMPLES = 2 * SAMPLE_RATE
WORDS_FOLDER = "usr/share/ktuberling/sounds"  # of the Debian package ktuberling-data
PROMPTS_FOLDER = "usr/share/asterisk/sounds"  # of asterisk-core-sounds-{en,es,fr,it,ru}-wav
# Words of each language whose theme has more than a few, as of ktuberling 22.12; two of the same bytes count once.
WORDS = {
    **{"ca": 190, "da": 166, "de": 71, "el": 70, "en": 71, "fr": 190, "gl": 71, "lt": 167},
    **{"nn": 190, "ru": 164, "sl": 70, "uk": 184, "wa": 71},
}
PROMPTS = {
    **{"en": "en_US_f_Allison", "es": "es_MX_f_Allison", "fr": "fr_CA_f_June"},
    **{"it": "it_IT_m_Carlo", "ru": "ru_RU_f_IvrvoiceRU"},
}
NUM_PROMPTS = 485  # of each language, as of asterisk-core-sounds 1.6.1, those of the folder "silence" left out
TEST_PARTS = (
    4  # one of four names is tested, chosen by its checksum: part of the data sets' definition
)


class Recording(NamedTuple):
    """A file, the class that it belongs to, and what is said in it."""

    path: Path
    label: int
    name: str


def load_word_languages(folder: Path | None = None, *, damaged: str = "refuse") -> Dataset:
    """Loads 1,675 spoken words of 13 languages, [16000, 1] with a mask; the class is the language.

    Args:
        folder: what the package installs, or the folder that it was unpacked in; None is the system's.
        damaged: "refuse" a file that cannot be read, or "skip" it with a warning that names it.
    Raises:
        DataNotFoundError: if the files are absent.
        ValueError: if a file is damaged and not skipped, or there are not as many as were published.
    """
    place = _find(
        folder, WORDS_FOLDER, "en.soundtheme", "apt-get install ktuberling-data", "word_languages"
    )
    languages = tuple(WORDS)
    recordings = [r for i, name in enumerate(languages) for r in list_words(place, name, i)]
    _check_counts(place, recordings, WORDS)
    return _make_dataset("word_languages", recordings, languages, damaged)


def load_prompt_languages(folder: Path | None = None, *, damaged: str = "refuse") -> Dataset:
    """Loads 2,425 telephone prompts, 485 in each of five languages, [16000, 1] with a mask; the class is the language.

    Arguments and Raises as `load_word_languages`.
    """
    packages = f"asterisk-core-sounds-{{{','.join(PROMPTS)}}}-wav"
    how = f"apt-get install {packages}"
    place = _find(folder, PROMPTS_FOLDER, PROMPTS["en"], how, "prompt_languages")
    recordings = list_prompts(place, tuple(PROMPTS.values()))
    _check_counts(place, recordings, dict.fromkeys(PROMPTS, NUM_PROMPTS))
    return _make_dataset("prompt_languages", recordings, tuple(PROMPTS), damaged)


LOADERS = {"word_languages": load_word_languages, "prompt_languages": load_prompt_languages}


def list_words(place: Path, language: str, label: int) -> list[Recording]:
    """Returns the files of a language's theme, by the name of the thing; of files with the same bytes the first.

    The name that decides on training or test is its last part: "egypt_man" and "tv_man" are the same word.

    Raises:
        ValueError: if the theme or a file that it names is damaged or absent.
    """
    theme = place / f"{language}.soundtheme"
    try:
        sounds = ElementTree.parse(theme).getroot().findall("sound")
        files = {str(sound.attrib["name"]): place / sound.attrib["file"] for sound in sounds}
    except (OSError, ElementTree.ParseError, KeyError) as error:
        raise ValueError(f"{theme} is damaged: {error}; get it again.") from error
    found: dict[bytes, Recording] = {}
    for name, path in sorted(files.items()):
        if not path.is_file():
            raise ValueError(f"{theme} names {path}, which is absent: get it again.")
        word = re.split("[_-]", name)[-1]
        found.setdefault(path.read_bytes(), Recording(path, label, word))
    return list(found.values())


def list_prompts(place: Path, voices: tuple[str, ...]) -> list[Recording]:
    """Returns the WAV files that all these folders have, by their path in the folder, but for those of silence."""
    names = [
        {path.relative_to(place / voice) for path in (place / voice).rglob("*.wav")}
        for voice in voices
    ]
    common = sorted(name for name in set.intersection(*names) if name.parts[0] != "silence")
    return [
        Recording(place / voice / name, label, str(name.as_posix()))
        for label, voice in enumerate(voices)
        for name in common
    ]


def read_sound(path: Path, sample_rate: int, *, resample_others: bool = True) -> np.ndarray:
    """Reads WAV, FLAC, OGG or Opus.

    Args:
        path: of the file.
        sample_rate: in Hz, of the result.
        resample_others: resample a file of another rate; False refuses it.
    Returns:
        float32 [t], about 0 ± 1; the mean of several channels.
    Raises:
        ValueError: if the file is damaged, empty or not finite, or of another rate and those are refused.
        ModuleNotFoundError: if the package soundfile is not installed.
    """
    try:
        import soundfile
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "sound files are read by the package soundfile: pip install soundfile."
        ) from error
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged: {error}; get it again.") from error
    if not len(samples) or not np.isfinite(samples).all():
        raise ValueError(f"{path} is damaged: it holds no samples, or some that are not finite.")
    if rate != sample_rate and not resample_others:
        raise ValueError(
            f"{path} has {rate} samples a second, expected {sample_rate}: resample it, or pass resample_others=True."
        )
    return resample(samples.mean(axis=1), rate, sample_rate)


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Changes the sample rate along the last axis by a polyphase filter (scipy.signal.resample_poly); keeps the dtype.

    Raises:
        ValueError: if a rate is below 1.

    >>> resample(np.ones((2, 441), np.float32), 44100, 8000).shape
    (2, 80)
    """
    if min(from_rate, to_rate) < 1:
        raise ValueError(f"sample rates must be at least 1 Hz, got {from_rate} and {to_rate}.")
    if from_rate == to_rate:
        return samples
    from scipy.signal import resample_poly  # a third of the time to import training

    divisor = math.gcd(from_rate, to_rate)
    changed = resample_poly(samples, to_rate // divisor, from_rate // divisor, axis=-1)
    return np.asarray(changed, samples.dtype)


def is_tested(name: str) -> bool:
    """Returns whether what is said belongs to the test split: one of four, by a checksum of its name."""
    return zlib.crc32(name.encode()) % TEST_PARTS == 0


def make_split(recordings: Iterable[Recording], max_samples: int, *, damaged: str) -> Split:
    """Reads recordings, cut or padded to max_samples, with a mask; each has a mean square of 1.

    Args:
        recordings: of one split.
        max_samples: t, of 8,000 a second.
        damaged: "refuse" or "skip" a file that cannot be read or is silent.
    Raises:
        ValueError: if a file is damaged or silent and not skipped, or none is left.
    """
    if damaged not in ("refuse", "skip"):
        raise ValueError(f"damaged must be 'refuse' or 'skip', got {damaged!r}.")
    sounds, labels = [], []
    for recording in recordings:
        try:
            sound = _scaled(recording.path, max_samples)
        except ValueError as error:
            if damaged == "refuse":
                raise
            warnings.warn(f"skipped: {error}", stacklevel=2)
            continue
        sounds.append(sound)
        labels.append(recording.label)
    if not sounds:
        raise ValueError("there is no recording to read.")
    inputs = np.zeros((len(sounds), max_samples, 1), np.float32)
    mask = np.zeros((len(sounds), max_samples), bool)
    for row, sound in enumerate(sounds):
        inputs[row, : len(sound), 0], mask[row, : len(sound)] = sound, True
    return Split(inputs, np.array(labels, np.int32), mask)


def _scaled(path: Path, max_samples: int) -> np.ndarray:
    sound = read_sound(path, SAMPLE_RATE)[:max_samples]
    size = float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))
    if size < 1e-6:
        raise ValueError(f"{path} is silent.")
    return sound / np.float32(size)


def _make_dataset(
    name: str, recordings: list[Recording], classes: tuple[str, ...], damaged: str
) -> Dataset:
    parts = (
        make_split(
            [r for r in recordings if is_tested(r.name) is tested], MAX_SAMPLES, damaged=damaged
        )
        for tested in (False, True)
    )
    return Dataset(name, *standardize(*parts), classes)


def _check_counts(place: Path, recordings: list[Recording], expected: dict[str, int]) -> None:
    found = np.bincount([r.label for r in recordings], minlength=len(expected))
    for (language, count), here in zip(expected.items(), found, strict=True):
        if here != count:
            raise ValueError(
                f"{place} holds {here} recordings of {language}, expected {count}: another version of the package?"
            )


def _find(folder: Path | None, inside: str, mark: str, how: str, name: str) -> Path:
    for place in [Path("/") / inside] if folder is None else [folder, folder / inside]:
        if (place / mark).exists():
            return place
    where = f"/{inside}" if folder is None else str(folder)
    raise DataNotFoundError(
        f"{name} was not found: {where} holds no {mark}. {how}; or apt-get download the same and dpkg -x each to a "
        "folder, and name that (--data-dir)."
    )
