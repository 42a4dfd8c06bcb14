"""Documents as one stream of tokens, in memory or mapped from a file, and the batches cut from it."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resonance_jax.data.augment import Batch
from resonance_jax.data.iterator import CountedBatches, rows_of_part
from resonance_jax.data.tokenizer import Tokenizer, check_fingerprint

_FORMAT = "resonance_jax tokens 1"
_DIGEST = 64  # bytes of the checksum that a file begins with
_ALIGNMENT = 64  # bytes: the ids begin at a multiple


@dataclass(frozen=True)
class Tokens:
    """Documents one after another, each with `end_of_text` before it, checked when made.

    Attributes:
        name: says what the text is, such as "kjv test".
        ids: uint8, uint16 or uint32 [n], n ≥ 2; may be mapped from a file.
        starts: int64 [documents], ascending from 0: where `end_of_text` stands.
        end_of_text: the id that is at `starts` and nowhere else.
        num_bytes: of the text, in UTF-8: what bits per byte are counted by.
        fingerprint: the tokenizer's.
    """

    name: str
    ids: np.ndarray
    starts: np.ndarray
    end_of_text: int
    num_bytes: int
    fingerprint: str

    def __post_init__(self):
        ids, starts = self.ids, self.starts
        if ids.dtype not in (np.uint8, np.uint16, np.uint32) or ids.ndim != 1 or len(ids) < 2:
            raise ValueError(
                f"expected ids uint8, uint16 or uint32 [n], n ≥ 2, got {ids.dtype} {list(ids.shape)}: "
                "is the text empty?"
            )
        if starts.dtype != np.int64 or not np.array_equal(
            np.flatnonzero(ids == self.end_of_text), starts
        ):
            raise ValueError(
                f"expected starts int64 where the ids are end_of_text = {self.end_of_text}, got {starts.dtype} "
                f"{starts[:3]}…: use encode_corpus."
            )
        if len(starts) == 0 or starts[0] != 0:
            raise ValueError("expected end_of_text before the first document: use encode_corpus.")

    def __len__(self) -> int:
        return len(self.ids)


def encode_corpus(documents: Sequence[str | bytes], tokenizer: Tokenizer, name: str) -> Tokens:
    """Encodes documents into one stream; the ids take the smallest of the three types that holds the vocabulary.

    Args:
        documents: such as the train split of a corpus.
        tokenizer: encodes each of them by itself.
        name: says what the text is.
    Raises:
        ValueError: if a document can't be encoded, or there is no text at all.

    >>> from resonance_jax.data.tokenizer import ByteTokenizer
    >>> tokens = encode_corpus(["be", "light"], ByteTokenizer(), "two words")
    >>> tokens.ids.tolist(), tokens.starts.tolist()
    ([0, 98, 101, 0, 108, 105, 103, 104, 116], [0, 3])
    """
    largest = tokenizer.vocab_size - 1
    dtype = next(t for t in (np.uint8, np.uint16, np.uint32) if largest <= np.iinfo(t).max)
    mark = np.array([tokenizer.end_of_text], dtype)
    pieces, starts, place, num_bytes = [], [], 0, 0
    for document in documents:
        content = document.encode("utf-8") if isinstance(document, str) else document
        piece = tokenizer.encode(content).astype(dtype)
        pieces += [mark, piece]
        starts.append(place)
        place += 1 + len(piece)
        num_bytes += len(content)
    if not num_bytes:
        raise ValueError(f"expected a text to encode, {name!r} has none.")
    ids = np.concatenate(pieces)
    where = np.array(starts, np.int64)
    return Tokens(name, ids, where, tokenizer.end_of_text, num_bytes, tokenizer.fingerprint)


def write_tokens(path: str | os.PathLike, tokens: Tokens) -> None:
    """Writes tokens so that a reader, or a crash, sees the old file or the new one and nothing between.

    The file is the SHA-256 of all that follows it, in hexadecimal; a JSON header, filled with spaces so that the first
    line has a multiple of 64 bytes; the ids; and the starts. Numbers are little-endian.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.ascontiguousarray(tokens.ids, tokens.ids.dtype.newbyteorder("<"))
    starts = np.ascontiguousarray(tokens.starts, "<i8")
    header = {
        "format": _FORMAT,
        "name": tokens.name,
        "fingerprint": tokens.fingerprint,
        "end_of_text": tokens.end_of_text,
        "num_bytes": tokens.num_bytes,
        "dtype": tokens.ids.dtype.name,
        "length": len(ids),
    }
    line = b" " + json.dumps(header).encode("ascii")
    line += b" " * (-(_DIGEST + len(line) + 1) % _ALIGNMENT) + b"\n"
    digest = hashlib.sha256()
    for part in (line, ids.data, starts.data):
        digest.update(part)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            for part in (digest.hexdigest().encode("ascii"), line, ids.data, starts.data):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tokens(path: str | os.PathLike, tokenizer: Tokenizer, name: str) -> Tokens:
    """Maps a file of tokens into memory, after one pass over it that verifies its checksum.

    Args:
        path: written by `write_tokens`.
        tokenizer: the one that it must have been made with.
        name: that it must have.
    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged or cut short, or of another name or tokenizer.
    """
    path = Path(path)
    header, offset = _read_header(path)
    check_fingerprint(tokenizer, header["fingerprint"], str(path))
    if header["name"] != name:
        raise ValueError(f"{path} holds {header['name']!r}, expected {name!r}: name another file.")
    dtype = np.dtype(header["dtype"]).newbyteorder("<")
    ids = np.memmap(path, dtype, mode="r", offset=offset, shape=(header["length"],))
    starts = np.fromfile(path, "<i8", offset=offset + ids.nbytes)
    end_of_text, num_bytes = header["end_of_text"], header["num_bytes"]
    return Tokens(name, ids, starts, end_of_text, num_bytes, header["fingerprint"])


def _read_header(path: Path) -> tuple[dict, int]:
    with path.open("rb") as file:
        expected = file.read(_DIGEST)
        if hashlib.file_digest(file, "sha256").hexdigest().encode("ascii") != expected:
            raise ValueError(
                f"{path} is damaged or no file of tokens: its checksum differs: write it again."
            )
        file.seek(_DIGEST)
        line = file.readline()
    header = json.loads(line)
    if header["format"] != _FORMAT:
        raise ValueError(
            f"{path} is of the format {header['format']!r}, expected {_FORMAT!r}: write it again."
        )
    return header, _DIGEST + len(line)


class PackedBatches(CountedBatches):
    """Yields training batches of windows of the stream without end, and can be set to any place.

    Nothing but (seed, epoch, position) decides a batch. With N = len(tokens) − 1 labels, an epoch joins the end of the
    stream to its beginning, cuts this ring from a random place on into ⌊N/n⌋ windows and shuffles them: no token is a
    label twice. Left out, others in each epoch, are the N mod n labels that remain, and the windows that don't fill a
    batch.

    A batch is a dict of
        inputs: int32 [b, n], a window of the stream.
        labels: int32 [b, n], the token that follows each input.
        resets: bool [b, n], True where a document starts (the input is `end_of_text`): the state must be forgotten
            before that token is read. A window that begins inside a document begins with no state either.

    Attributes:
        batches_per_epoch: ⌊⌊N/n⌋/b⌋.

    >>> from resonance_jax.data.tokenizer import ByteTokenizer
    >>> batches = PackedBatches(encode_corpus(["abcd"], ByteTokenizer(), "a"), 4, 1, seed=0)
    >>> batch = next(batches)
    >>> batch["inputs"].tolist(), batch["labels"].tolist(), batches.get_state()["epoch"]
    ([[99, 0, 97, 98]], [[100, 97, 98, 99]], 1)
    """

    def __init__(
        self,
        tokens: Tokens,
        length: int,
        batch_size: int,
        *,
        seed: int,
        part: tuple[int, int] = (0, 1),
    ):
        """Starts at the first batch of epoch 0.

        Args:
            tokens: the stream.
            length: n, tokens in a window, ≥ 1.
            batch_size: b, windows in a batch, ≥ 1.
            seed: ≥ 0.
            part: (index, number) of the processes that take their windows of each batch, as for `BatchIterator`.
        Raises:
            ValueError: if an argument is out of range, or the stream is too short for a batch.
        """
        _check_shape(length, batch_size)
        windows = (len(tokens) - 1) // length
        if windows < batch_size:
            raise ValueError(
                f"expected tokens for a batch of {batch_size} windows of {length}, got {len(tokens)} in "
                f"{tokens.name!r}: make the batch or the windows smaller."
            )
        self._tokens, self._length, self._batch_size = tokens, length, batch_size
        self._own, self._weight = rows_of_part(batch_size, part)
        super().__init__(windows // batch_size, seed)

    def _start_epoch(self, epoch: int) -> None:
        rng = np.random.default_rng([self._seed, epoch])
        labels = len(self._tokens) - 1
        starts = rng.integers(labels) + self._length * np.arange(labels // self._length)
        self._starts = rng.permutation(starts) % labels

    def _batch(self, epoch: int, position: int) -> Batch:
        first = position * self._batch_size
        starts = self._starts[first : first + self._batch_size][self._own]
        places = (starts[:, None] + np.arange(self._length)) % (len(self._tokens) - 1)
        batch = _windows(self._tokens, places)
        return batch if self._weight is None else {**batch, "weight": self._weight}


def sequential_windows(tokens: Tokens, length: int, batch_size: int) -> Iterator[Batch]:
    """Yields the whole stream in order, for an evaluation that carries its state from window to window.

    Row i of the batches reads its own contiguous part, ⌈N/(b n)⌉ windows long, of the N = len(tokens) − 1 labels. Parts
    after the first begin inside a document, with no state: one row is exact, many short ones count against the model.

    Args:
        tokens: the stream.
        length: n, tokens in a window, ≥ 1.
        batch_size: b, parts that are read side by side, ≥ 1.
    Returns:
        An iterator over ⌈N/(b n)⌉ batches as those of `PackedBatches`, that also have weight, float32 [b, n]: 1 for a
        token of the text, 0 where the label is `end_of_text` or padding. It sums to the number of the text's tokens.
        Padding, at the end of the last parts, is `end_of_text`.
    Raises:
        ValueError: if an argument is out of range.
    """
    _check_shape(length, batch_size)
    labels = len(tokens) - 1
    windows = -(-labels // (batch_size * length))
    rows = windows * length * np.arange(batch_size)[:, None] + np.arange(length)

    def window(number: int) -> Batch:
        places = rows + number * length
        padding = places >= labels
        batch = _windows(tokens, np.where(padding, 0, places))
        for key in ("inputs", "labels"):
            batch[key][padding] = tokens.end_of_text
        batch["resets"][padding] = True
        weight = (batch["labels"] != tokens.end_of_text).astype(np.float32)
        return {**batch, "weight": weight}

    return (window(number) for number in range(windows))


def _windows(tokens: Tokens, places: np.ndarray) -> Batch:
    inputs = tokens.ids[places].astype(np.int32)
    labels = tokens.ids[places + 1].astype(np.int32)
    return {"inputs": inputs, "labels": labels, "resets": inputs == tokens.end_of_text}


def _check_shape(length: int, batch_size: int) -> None:
    for what, value in (("length", length), ("batch size", batch_size)):
        if value < 1:
            raise ValueError(f"expected a {what} of 1 or more, got {value}.")
