"""Sizes and checksums of a folder's files, written once it is complete, so that damage is noticed."""

import json
import zlib
from pathlib import Path

from resonance_jax.training.result import write_atomically

SEAL = "files.json"


def seal(folder: Path) -> None:
    """Writes size and CRC-32 of every file in a folder into its `files.json`."""
    write_atomically(folder / SEAL, json.dumps(_files(folder)) + "\n")


def check_seal(folder: Path) -> None:
    """Raises ValueError if a file of a sealed folder is missing or has changed.

    A folder without a seal, as a crash between a checkpoint and its seal leaves it, passes.
    """
    path = folder / SEAL
    if not path.exists():
        return
    expected, found = json.loads(path.read_text(encoding="utf-8")), _files(folder)
    for name, mark in expected.items():
        if name not in found:
            raise ValueError(f"the file {name} is missing")
        if found[name] != mark:
            raise ValueError(f"the file {name} is not as it was written")


def _files(folder: Path) -> dict[str, list[int]]:
    marks = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != SEAL:
            data = path.read_bytes()
            marks[path.relative_to(folder).as_posix()] = [len(data), zlib.crc32(data)]
    return marks
