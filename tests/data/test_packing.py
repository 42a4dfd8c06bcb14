"""Streams of tokens: their file, windows that use each token once, resets where documents start, weights that count."""

import hashlib

import numpy as np
import pytest

from resonance_jax.data.packing import (
    PackedBatches,
    Tokens,
    encode_corpus,
    read_tokens,
    sequential_windows,
    write_tokens,
)
from resonance_jax.data.tokenizer import ByteTokenizer, Tokenizer

BYTES = ByteTokenizer()


class WideTokenizer:
    """Bytes in a vocabulary of another size, to have wider ids."""

    name, end_of_text, fingerprint = "wide", 300, "f" * 64

    def __init__(self, vocab_size):
        self.vocab_size = vocab_size

    def encode(self, text):
        return BYTES.encode(text)

    def decode_bytes(self, ids):
        return BYTES.decode_bytes(ids)


def make_tokens(sizes=(5, 1, 17, 30), tokenizer: Tokenizer = BYTES, seed=0):
    """Random documents; bytes are ASCII, so that they are text."""
    rng = np.random.default_rng(seed)
    documents = [rng.integers(1, 128, size, np.uint8).tobytes() for size in sizes]
    return documents, encode_corpus(documents, tokenizer, "random")


def test_a_stream_holds_its_documents():
    documents, tokens = make_tokens()
    assert tokens.ids.dtype == np.uint8 and tokens.num_bytes == 53 and len(tokens) == 57
    ends = [*tokens.starts[1:], len(tokens)]
    for document, start, end in zip(documents, tokens.starts, ends, strict=True):
        assert tokens.ids[start] == BYTES.end_of_text
        assert tokens.ids[start + 1 : end].tobytes() == document
    counted = encode_corpus(["né", "a"], BYTES, "x")
    assert counted.num_bytes == 4 and counted.starts.tolist() == [0, 4]


@pytest.mark.parametrize(
    ("vocab_size", "dtype"), [(65_536, np.uint16), (65_537, np.uint32), (1 << 20, np.uint32)]
)
def test_ids_take_the_smallest_type(vocab_size, dtype):
    _, tokens = make_tokens(tokenizer=WideTokenizer(vocab_size))
    assert tokens.ids.dtype == dtype and tokens.ids[0] == 300


@pytest.mark.parametrize("tokenizer", [BYTES, WideTokenizer(65_536), WideTokenizer(100_257)])
def test_a_file_gives_the_tokens_back(tmp_path, tokenizer):
    path = tmp_path / "folder" / "tokens"
    _, tokens = make_tokens(tokenizer=tokenizer)
    write_tokens(path, tokens)
    write_tokens(path, tokens)  # over the old file
    found = read_tokens(path, tokenizer, "random")
    assert isinstance(found.ids, np.memmap) and not found.ids.flags.writeable
    assert found.ids.dtype == tokens.ids.dtype and found.ids.offset % 64 == 0
    np.testing.assert_array_equal(found.ids, tokens.ids)
    np.testing.assert_array_equal(found.starts, tokens.starts)
    assert (found.name, found.end_of_text, found.num_bytes, found.fingerprint) == (
        "random",
        tokenizer.end_of_text,
        53,
        tokenizer.fingerprint,
    )
    assert [file.name for file in path.parent.iterdir()] == ["tokens"]
    batches = [next(PackedBatches(source, 4, 2, seed=0)) for source in (tokens, found)]
    assert batches[0]["inputs"].tolist() == batches[1]["inputs"].tolist()


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "tokens"
    write_tokens(path, make_tokens()[1])
    before = path.read_bytes()

    def fail(_):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        write_tokens(path, make_tokens(seed=1)[1])
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_damaged_or_other_files_are_refused(tmp_path):
    path = tmp_path / "tokens"
    write_tokens(path, make_tokens()[1])
    content = path.read_bytes()
    with pytest.raises(ValueError, match="holds 'random', expected 'kjv test'"):
        read_tokens(path, BYTES, "kjv test")
    with pytest.raises(ValueError, match=r"tokens was made with the tokenizer of .*'wide'"):
        read_tokens(path, WideTokenizer(500), "random")
    changed = [
        content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        for place in (0, 64, 100, len(content) - 50, len(content) - 1)  # of each part of the file
    ]
    for wrong in (*changed, content[:-1], content[:50], content + b"x", b"", b"{}\n"):
        path.write_bytes(wrong)
        with pytest.raises(ValueError, match="is damaged or no file of tokens: its checksum"):
            read_tokens(path, BYTES, "random")
    later = content[64:].replace(b"tokens 1", b"tokens 2")
    path.write_bytes(hashlib.sha256(later).hexdigest().encode() + later)
    with pytest.raises(ValueError, match="is of the format 'resonance_jax tokens 2', expected"):
        read_tokens(path, BYTES, "random")
    with pytest.raises(FileNotFoundError):
        read_tokens(tmp_path / "absent", BYTES, "random")


def distinct_tokens(sizes):
    """A stream in which every token of the text occurs once: its id tells its place."""
    ids = np.arange(1, sum(sizes) + len(sizes) + 1).astype(np.uint16)
    starts = np.cumsum([0, *(size + 1 for size in sizes[:-1])])
    ids[starts] = 0
    return Tokens("distinct", ids, starts, 0, sum(sizes), "")


@pytest.mark.parametrize(("length", "batch_size"), [(1, 1), (7, 2), (10, 1), (16, 3)])
def test_an_epoch_uses_no_token_twice(length, batch_size):
    tokens = distinct_tokens((40, 3, 25, 31))  # N = 102 labels
    batches = PackedBatches(tokens, length, batch_size, seed=3)
    used = batches.batches_per_epoch * batch_size * length
    assert 102 - used < batch_size * length + length
    left_out = set()
    for epoch in range(3):
        labels = []
        for _ in range(batches.batches_per_epoch):
            assert batches.get_state()["epoch"] == epoch
            batch = next(batches)
            labels += batch["labels"].ravel().tolist()
            assert batch["inputs"].shape == batch["labels"].shape == (batch_size, length)
        counts = np.bincount(labels, minlength=104)
        assert len(labels) == used and counts[1:].max() == 1
        assert counts[0] <= 3  # the mark, of three documents after the first
        left_out.add(tuple(np.flatnonzero(counts[1:] == 0)))
    assert len(left_out) == 3 or used == 102


def test_windows_are_of_the_stream_and_resets_where_documents_start():
    tokens = distinct_tokens((40, 3, 25, 31))
    batches = PackedBatches(tokens, 7, 2, seed=0)
    following = dict(zip(tokens.ids[:-1].tolist(), tokens.ids[1:].tolist(), strict=True))
    resets = 0
    for _ in range(20):
        batch = next(batches)
        assert batch["inputs"].dtype == batch["labels"].dtype == np.int32
        assert batch["resets"].dtype == bool
        np.testing.assert_array_equal(batch["resets"], batch["inputs"] == 0)
        resets += batch["resets"].sum()
        for inputs, labels in zip(batch["inputs"], batch["labels"], strict=True):
            for now, label in zip(inputs.tolist(), labels.tolist(), strict=True):
                # A mark is followed by the first token of a document.
                assert following[now] == label if now else label - 2 in tokens.starts
            # Inputs are the labels before them, but where the end meets the beginning: there the state is reset.
            apart = inputs[1:] != labels[:-1]
            assert (labels[:-1][apart] == tokens.ids[-1]).all() and (inputs[1:][apart] == 0).all()
    assert resets > 5


def test_batches_are_a_function_of_seed_and_place():
    tokens = distinct_tokens((40, 3, 25, 31))

    def take(batches, count):
        return [next(batches)["inputs"].tolist() for _ in range(count)]

    batches = PackedBatches(tokens, 5, 4, seed=1)
    assert batches.batches_per_epoch == 5
    first = take(batches, 7)
    state = batches.get_state()
    assert state == {"epoch": 1, "position": 2, "seed": 1}
    rest = take(batches, 6)
    again = PackedBatches(tokens, 5, 4, seed=1)
    assert take(again, 7) == first
    take(again, 9)
    again.set_state(state)
    assert take(again, 6) == rest
    other = PackedBatches(tokens, 5, 4, seed=2)
    assert take(other, 5) != first[:5]
    with pytest.raises(ValueError, match="state is of seed 1, the iterator of seed 2"):
        other.set_state(state)
    with pytest.raises(ValueError, match="position 0 to 4, got epoch 0 and position 5"):
        batches.set_state({"epoch": 0, "position": 5, "seed": 1})


@pytest.mark.parametrize(("length", "batch_size"), [(1, 1), (4, 3), (60, 1), (7, 5), (16, 40)])
def test_sequential_windows_count_every_token_once(length, batch_size):
    tokens = distinct_tokens((40, 3, 25, 31))
    windows = list(sequential_windows(tokens, length, batch_size))
    assert len(windows) == -(-102 // (length * batch_size))
    whole = {key: np.concatenate([w[key] for w in windows], axis=1) for key in windows[0]}
    assert whole["weight"].dtype == np.float32 and whole["weight"].sum() == 99
    counted = whole["labels"][whole["weight"] == 1]
    assert sorted(counted.tolist()) == sorted(tokens.ids[tokens.ids > 0].tolist())
    # The rows, one after another, are the stream in its order, and then padding.
    np.testing.assert_array_equal(whole["inputs"].ravel()[:102], tokens.ids[:-1])
    np.testing.assert_array_equal(whole["labels"].ravel()[:102], tokens.ids[1:])
    for key in ("inputs", "labels", "weight"):
        assert not whole[key].ravel()[102:].any()
    np.testing.assert_array_equal(whole["resets"], whole["inputs"] == 0)
    assert whole["inputs"].shape == (batch_size, length * len(windows))


def test_bits_per_byte_of_a_known_model():
    """−log₂ of the right token under the frequencies of the text is its entropy, summed over weighted windows."""
    _, tokens = make_tokens((200, 300))
    text = tokens.ids[tokens.ids > 0]
    frequencies = np.bincount(text, minlength=128) / len(text)
    with np.errstate(divide="ignore"):
        cost = -np.log2(frequencies)
    cost[0] = 1e9  # the mark must not count
    total = sum(
        (cost[window["labels"]] * window["weight"]).sum()
        for window in sequential_windows(tokens, 16, 3)
    )
    entropy = -sum(p * np.log2(p) for p in frequencies if p > 0)
    assert total / tokens.num_bytes == pytest.approx(entropy, rel=1e-12)


def test_parts_make_up_the_batches():
    _, tokens = make_tokens((60,))
    batch, first, second = (
        next(PackedBatches(tokens, 4, 3, seed=0, part=part)) for part in ((0, 1), (0, 2), (1, 2))
    )
    assert first["weight"].tolist() == [1, 1] and second["weight"].tolist() == [1, 0]
    for key, rows in batch.items():
        np.testing.assert_array_equal(np.concatenate([first[key], second[key][:1]]), rows)


def test_wrong_requests_are_refused():
    _, tokens = make_tokens()
    for length, batch_size, message in (
        (0, 1, "expected a length of 1 or more, got 0"),
        (4, 0, "expected a batch size of 1 or more, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            PackedBatches(tokens, length, batch_size, seed=0)
        with pytest.raises(ValueError, match=message):
            sequential_windows(tokens, length, batch_size)
    with pytest.raises(ValueError, match="a batch of 6 windows of 10, got 57 in 'random'"):
        PackedBatches(tokens, 10, 6, seed=0)
    with pytest.raises(ValueError, match="a seed of 0 or more, got -1"):
        PackedBatches(tokens, 4, 2, seed=-1)
    for empty in ([], [b""]):
        with pytest.raises(ValueError, match="expected a text to encode, 'x' has none"):
            encode_corpus(empty, BYTES, "x")


def test_wrong_tokens_are_refused():
    ids, starts = np.array([0, 5, 0, 6], np.uint8), np.array([0, 2])
    Tokens("x", ids, starts, 0, 2, "")
    for wrong in (ids.astype(np.int32), ids[:1], ids[None]):
        with pytest.raises(ValueError, match=r"expected ids uint8, uint16 or uint32 \[n\], n ≥ 2"):
            Tokens("x", wrong, starts, 0, 2, "")
    for wrong in (starts[:1], starts.astype(np.int32), np.array([0, 1])):
        with pytest.raises(ValueError, match="expected starts int64 where the ids are end_of_text"):
            Tokens("x", ids, wrong, 0, 2, "")
    with pytest.raises(ValueError, match="expected end_of_text before the first document"):
        Tokens("x", ids[1:], starts[1:] - 1, 0, 2, "")
