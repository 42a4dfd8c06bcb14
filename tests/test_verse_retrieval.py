"""experiments/verse_retrieval.py on random embeddings: its memory is the library's, and what its table says."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from experiments import verse_retrieval as v
from resonance_jax.ops import hologram

RNG = np.random.default_rng(0)
X = v.normalize(RNG.normal(size=(40, 16)).astype(np.float32))
WIDTH = 8
CODES = v.draw_codes(len(X), WIDTH)
MAKE = v.make_memory


def fill(write, log_numbers=8, square=4.0):
    empty = v.make_memory(2**log_numbers, WIDTH, square, X.shape[1])
    return v.WRITES[write](empty, X, CODES)


def library_keys(memory, x):
    """The library's unitary keys [n, a, N] of the same phases, one phase a page."""
    phases = jnp.repeat(jnp.asarray(x @ memory.directions)[..., None], WIDTH, axis=-1)
    return hologram.phase_key(phases, "phasor")


def test_superposition_is_the_librarys_write_and_read():
    memory = fill("superposition")
    keys = library_keys(memory, X)
    pages = jnp.zeros(memory.pages.shape, jnp.complex64)
    for key, code in zip(keys, CODES, strict=True):
        pages = hologram.write(pages, jnp.asarray(code), key, pages=True)
    np.testing.assert_allclose(memory.pages, pages, atol=1e-4)
    found = hologram.read(pages, keys[:3], pages=True)
    np.testing.assert_allclose(v.read(memory, X[:3]), found, atol=1e-4)


def test_a_batch_of_one_is_the_librarys_delta_write(monkeypatch):
    monkeypatch.setattr(v, "BATCH", 1)
    empty = v.make_memory(256, WIDTH, 4.0, X.shape[1])
    memory = v.rehearse(empty, X[:4], CODES[:4], rounds=2)
    keys, pages = library_keys(memory, X[:4]), jnp.zeros(memory.pages.shape, jnp.complex64)
    rng = np.random.default_rng(4)
    for index in np.concatenate([rng.permutation(4), rng.permutation(4)]):
        pages = hologram.delta_write(pages, jnp.asarray(CODES[index]), keys[index], pages=True)
    np.testing.assert_allclose(memory.pages, pages, atol=1e-4)


def test_batches_do_not_overshoot():
    few = v.rehearse(v.make_memory(1024, WIDTH, 8.0, X.shape[1]), X, CODES, rounds=1)
    many = v.rehearse(few, X, CODES, rounds=20)
    first, last = (np.abs(v.read(memory, X) - CODES).mean() for memory in (few, many))
    assert last < 0.5 * first < 1


def test_ridge_is_the_least_squares_solution():
    memory = fill("ridge")
    keys = v.make_keys(X, memory.directions).conj().astype(np.complex128) / np.sqrt(
        len(memory.pages)
    )
    normal = keys.conj().T @ keys + v.PENALTY * np.eye(keys.shape[1])
    expected = np.linalg.solve(normal, keys.conj().T @ CODES) * np.sqrt(keys.shape[1])
    np.testing.assert_allclose(memory.pages, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("write", list(v.WRITES))
def test_stored_keys_are_recalled_from_enough_numbers(write):
    rows = np.arange(len(X))
    assert v.recall(v.read(fill(write, 16), X), CODES, rows) == 1
    assert v.recall(v.read(fill(write, 5), X), CODES, rows) < 0.7


def test_keys_have_the_gaussian_kernel():
    memory = v.make_memory(2**17, 1, 2.0, X.shape[1])
    keys = v.make_keys(X[:6], memory.directions)
    found = np.real(keys @ keys.conj().T) / keys.shape[1]
    np.testing.assert_allclose(found, np.exp(-2.0 * (1 - X[:6] @ X[:6].T)), atol=0.02)


def test_theory_of_exact_queries_is_that_of_random_keys():
    exact = v.theory(1024, 32, np.ones(5), 4.0)
    np.testing.assert_allclose(exact, v.recall_accuracy(1024, 32, 32), rtol=1e-9)
    assert 1 / 32 < v.theory(1024, 32, np.full(5, 0.5), 4.0) < exact


def test_jobs_are_written_once(tmp_path, monkeypatch):
    asked = v.normalize(X + 0.05 * RNG.normal(size=X.shape).astype(np.float32))
    monkeypatch.setattr(v, "load", lambda: v.Verses(X, asked, X, asked))
    monkeypatch.setattr(v, "SIZES", {(None, "ridge"): (10, range(8, 12, 3))})
    monkeypatch.setattr(v, "VERSES", (None,))
    monkeypatch.setattr(v, "LISTS", {"random": range(5, 9), "signs": range(5, 6)})
    monkeypatch.setattr(v, "WIDTHS", (WIDTH,))
    results = v.Results(tmp_path / "results.json")
    todo = [job for job in v.jobs() if job[0] is not v.run_list or job[2] != "exact"]
    monkeypatch.setattr(v, "EMBEDDING", X.shape[1])
    monkeypatch.setattr(v, "make_memory", lambda n, w, s: MAKE(n, w, s, X.shape[1]))
    for function, *arguments in todo:
        function(results, *arguments)
    record = results.record
    assert len(record["search"]) == 3 and [r["numbers"] for r in record["memories"]] == [256, 2048]
    assert record["memories"][0]["recall"] < record["memories"][1]["recall"]
    assert [r["numbers_used"] for r in record["lists"]] == [40, 120, 240]
    square = max(record["search"], key=lambda row: row["validation_recall"])["square"]
    assert v.chosen(record, None, "ridge") == (square, WIDTH)
    monkeypatch.setattr(v, "subset", None)  # nothing is measured again
    again = v.Results(results.path)
    for function, *arguments in todo:
        if function is not v.run_list:
            function(again, *arguments)
    assert len(v.draw(record).axes) == 1


def test_search_and_test_share_no_query():
    verses = v.Verses(*[RNG.normal(size=(8000, 2))] * 4)
    _, held, rows = v.subset(verses, None)
    assert (len(held), len(rows)) == (v.VALIDATION, v.TEST)
    assert not set(held) & set(rows)
    few, held, rows = v.subset(verses, v.FEW)
    assert len(few.stored) == v.FEW == len(held) + len(rows)


def test_lists_are_as_long_as_they_say():
    pytest.importorskip("sklearn")
    terms = scipy.sparse.csr_array(np.abs(RNG.normal(size=(40, 30))))
    verses = v.Verses(X, X[::-1], terms, terms)
    for kind, width in (("random", 2), ("svd", 2), ("signs", 16)):  # of 64 signs only 16 are there
        entries, queries = v.shorten(verses, np.arange(5), kind, 2)
        assert entries.shape == (40, width) and queries.shape == (5, width)
    entries, queries = v.shorten(verses, np.arange(5), "svd", 2)
    np.testing.assert_allclose(entries[:5], queries, atol=1e-9)
    np.testing.assert_allclose(
        np.linalg.norm(entries, axis=0), np.linalg.svd(terms.toarray())[1][:2], rtol=1e-3
    )
