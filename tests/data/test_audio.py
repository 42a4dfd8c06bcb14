"""The readers of sounds on small files, and on the real recordings where their packages are installed."""

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from resonance_jax.data import audio
from resonance_jax.data.dataset import DataNotFoundError, load_dataset

soundfile = pytest.importorskip("soundfile", reason="needs soundfile: pip install soundfile")


def write(path, rate=8000, seconds=0.1, hertz=500.0, channels=1):
    """A wave of amplitude 1/2, of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)
    samples = np.round(wave * 2**15).astype(np.int16)
    wavfile.write(path, rate, samples if channels == 1 else np.stack([samples] * channels, axis=1))
    return path


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (22050, 1)])
def test_a_sound_is_read_as_one_channel_of_the_rate_that_was_asked_for(tmp_path, rate, channels):
    sound = audio.read_sound(write(tmp_path / "a.wav", rate, channels=channels), 8000)
    assert sound.dtype == np.float32 and sound.shape == (800,)
    wave = 0.5 * np.sin(2 * np.pi * 500 * np.arange(800) / 8000)
    np.testing.assert_allclose(sound[50:-50], wave[50:-50], atol=0.01)


def test_resampling_keeps_the_wave_the_axes_and_the_dtype():
    def wave(rate):
        return np.sin(2 * np.pi * np.array([[300.0], [700.0]]) * np.arange(rate // 5) / rate)

    changed = audio.resample(wave(16000), 16000, 12000)
    np.testing.assert_allclose(changed[:, 100:-100], wave(12000)[:, 100:-100], atol=2e-3)
    same = wave(8000).astype(np.float32)
    assert audio.resample(same, 8000, 8000) is same
    assert audio.resample(same, 8000, 4000).dtype == np.float32


def test_splits_are_padded_scaled_and_named(tmp_path):
    recordings = [
        audio.Recording(write(tmp_path / f"{i}.wav", seconds=seconds), i, "name")
        for i, seconds in enumerate((0.1, 0.05, 0.2))
    ]
    split = audio.make_split(recordings, 900, damaged="refuse")
    assert split.inputs.shape == (3, 900, 1) and split.mask is not None
    np.testing.assert_array_equal(split.mask.sum(axis=1), [800, 400, 900])
    np.testing.assert_array_equal(split.labels, [0, 1, 2])
    power = np.sum(np.square(split.inputs[..., 0]), axis=1) / split.mask.sum(axis=1)
    np.testing.assert_allclose(power, 1, rtol=1e-5)
    assert not split.inputs[~split.mask].any()


def test_damaged_files_are_named_and_refused_or_skipped(tmp_path):
    good = audio.Recording(write(tmp_path / "good.wav"), 1, "a")
    bad = audio.Recording(tmp_path / "bad.wav", 0, "b")
    bad.path.write_bytes(good.path.read_bytes()[:30])
    silent = audio.Recording(write(tmp_path / "silent.wav", hertz=0.0), 0, "c")
    with pytest.warns(UserWarning, match=r"skipped: .*(bad\.wav is damaged|silent\.wav is silent)"):
        split = audio.make_split([bad, good, silent], 800, damaged="skip")
    np.testing.assert_array_equal(split.labels, [1])
    for recording, message in ((bad, r"bad\.wav is damaged"), (silent, r"silent\.wav is silent")):
        with pytest.raises(ValueError, match=message):
            audio.make_split([good, recording], 800, damaged="refuse")
    with pytest.raises(ValueError, match="damaged must be 'refuse' or 'skip'"):
        audio.make_split([good], 800, damaged="ignore")
    with pytest.raises(ValueError, match="no recording"):
        audio.make_split([], 800, damaged="skip")


def test_sounds_that_cannot_be_used_are_refused(tmp_path):
    path = write(tmp_path / "a.wav", 16000)
    with pytest.raises(ValueError, match=r"a\.wav has 16000 samples a second, expected 8000"):
        audio.read_sound(path, 8000, resample_others=False)
    with pytest.raises(ValueError, match="holds no samples"):
        audio.read_sound(write(tmp_path / "b.wav", seconds=0), 8000)
    with pytest.raises(ValueError, match="sample rates must be at least 1 Hz"):
        audio.resample(np.zeros(4), 0, 8000)


def write_theme(folder: Path, language: str, hertz: dict[str, float]):
    lines = [f'<sound name="{name}" file="{language}/{name}.wav"/>' for name in hertz]
    theme = folder / f"{language}.soundtheme"
    for name, value in hertz.items():
        write(folder / language / f"{name}.wav", hertz=value)
    theme.write_text(f'<language code="{language}">{"".join(lines)}</language>')
    return theme


NAMES = {
    name: 100.0 + 40 * i
    for i, name in enumerate(("eye", "hat", "egypt_man", "tux-bow", "tie", "ear", "coat", "nose"))
}


def test_words_are_split_by_what_is_said(tmp_path, monkeypatch):
    place = tmp_path / audio.WORDS_FOLDER
    for language in ("en", "de"):
        write_theme(place, language, NAMES | {"zz_again": NAMES["eye"]})
    monkeypatch.setattr(audio, "WORDS", {"de": 8, "en": 8})  # the same bytes count once
    monkeypatch.setattr(audio, "MAX_SAMPLES", 900)
    data = load_dataset("word_languages", tmp_path)
    assert data.class_names == ("de", "en") and data.input_shape == (900, 1)
    words = {r.name for r in audio.list_words(place, "en", 0)}
    assert words == {"eye", "hat", "man", "bow", "tie", "ear", "coat", "nose"}
    tested = sum(audio.is_tested(word) for word in words)
    assert 0 < tested < 8 and np.bincount(data.test.labels).tolist() == [tested, tested]
    monkeypatch.setattr(audio, "WORDS", {"en": 9})
    with pytest.raises(ValueError, match="8 recordings of en, expected 9: another version"):
        load_dataset("word_languages", place)


def test_a_damaged_theme_is_named(tmp_path):
    theme = write_theme(tmp_path, "en", NAMES)
    (tmp_path / "en" / "hat.wav").unlink()
    with pytest.raises(ValueError, match=r"en\.soundtheme names .*hat\.wav, which is absent"):
        audio.list_words(tmp_path, "en", 0)
    theme.write_text(theme.read_text()[:-9])
    with pytest.raises(ValueError, match=r"en\.soundtheme is damaged"):
        audio.list_words(tmp_path, "en", 0)


def test_prompts_are_those_that_every_voice_has(tmp_path, monkeypatch):
    for i, voice in enumerate(audio.PROMPTS.values()):
        for j, name in enumerate(("digits/1", "digits/2", "hello", "pound", "auth", "silence/1")):
            write(tmp_path / voice / f"{name}.wav", hertz=100.0 + 10 * i + 60 * j)
    write(tmp_path / "en_US_f_Allison" / "monkeys.wav")
    monkeypatch.setattr(audio, "NUM_PROMPTS", 5)
    monkeypatch.setattr(audio, "MAX_SAMPLES", 900)
    recordings = audio.list_prompts(tmp_path, tuple(audio.PROMPTS.values()))
    assert [r.name for r in recordings[:5]] == [
        *("auth.wav", "digits/1.wav", "digits/2.wav", "hello.wav", "pound.wav")
    ]
    data = load_dataset("prompt_languages", tmp_path)
    assert len(data.train) + len(data.test) == 25
    tested = {r.name for r in recordings if audio.is_tested(r.name)}
    np.testing.assert_array_equal(np.bincount(data.test.labels), np.full(5, len(tested)))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("word_languages", "holds no en.soundtheme. apt-get install ktuberling-data"),
        ("prompt_languages", "apt-get install asterisk-core-sounds-{en,es,fr,it,ru}-wav"),
    ],
)
def test_absent_sounds_say_how_to_get_them(tmp_path, name, how):
    with pytest.raises(DataNotFoundError) as raised:
        load_dataset(name, tmp_path)
    assert how in str(raised.value)


@pytest.mark.skipif(
    not (Path("/") / audio.WORDS_FOLDER).is_dir(), reason="needs apt-get install ktuberling-data"
)
def test_the_published_words_are_there():
    data = load_dataset("word_languages")
    assert (len(data.train), len(data.test), data.num_classes) == (1334, 341, 13)
