"""Retrieval of Bible verses by another translation's text, from a hologram of bounded size and from lists.

Question: recall@1 among the 31,099 verses of the King James Version (and among 1,024 of them), asked with the words of
the World English Bible, over the real numbers that are stored.
Found, all verses: in 2^20 numbers superposition recalls 0.15 and the delta rule 0.18, a list of 33 projected numbers a
verse 0.70, and exact search over the sparse TF-IDF, of 1.2 million numbers, 0.94. Superposition has 0.51 in 2^24. Of
1,024 verses, in 2^18 numbers: superposition 0.65, delta rule 0.86, ridge 0.91, projected numbers 0.98. A hologram does
not pay here: lists reach the same recall with a quarter to a thirtieth of the numbers, signs with far fewer.
Command: python -m experiments.verse_retrieval, and python -m experiments.verse_retrieval --plot
Time: 8 minutes of CPU on one core, 20 beside other work
Needs: the packages of the extra `data`.

All methods share an encoder: TF-IDF fitted on the stored version, a seeded Gaussian projection to 512 numbers, the mean
removed, scaled to norm 1. Its numbers are not counted for any of them.

    superposition  pages [a, N] of complex numbers: M = Σ_i k_i c_i, with a key k = e^{iWx} of one phase a page and a
                   random phasor code c_i of N components a verse; the read is cleaned up among all codes. W and the
                   codes are drawn from a seed and need no storage.
    delta rule     the same memory, written with what is not yet recalled, three times over
    ridge          the same memory, where that ends: least squares with a penalty; for 1,024 verses
    random, SVD    the exact nearest neighbour by cosine over the first numbers of the projection, or by truncated SVD:
                   so many for each verse that the list has the size of the memory
    signs          the exact nearest neighbour over signs of the projection, 32 of them counted as one number
    exact          the exact nearest neighbour over TF-IDF, a sparse matrix of 1.2 million numbers with its columns

The width of W and N are chosen on 1,000 verses whose queries are not among those of the test, by superposition at 2^20
numbers, by the delta rule at 2^18, and among 1,024 verses at 2^15. "theory" is `recall_accuracy` of random keys at the
similarity of each query to its key, of superposition, beside the other writes as well: superposition stays near it or
below, as similar verses and codes add cross-talk. Not like with like: superposition's width was chosen at the largest
size that both have, the delta rule's at a quarter of it; among 1,024 verses 256 queries choose.
"""

import argparse
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments.result_file import ResultFile, open_results, work
from resonance_jax.data.verses import load_verses
from resonance_jax.ops.capacity import recall_accuracy
from resonance_jax.training import plots

RESULTS = Path(__file__).parent / "results" / "verse_retrieval.json"
STORED, ASKED = "kjv", "web"
EMBEDDING = 512
FEW = 1024
VERSES = (FEW, None)  # None: all
# By verses and kind of write, log₂ of the numbers; first that of the search.
SIZES = {
    (FEW, "superposition"): (15, range(12, 21, 2)),
    (FEW, "delta rule"): (15, range(12, 21, 2)),
    (FEW, "ridge"): (15, range(12, 21, 2)),
    (None, "superposition"): (20, range(14, 25, 2)),
    (None, "delta rule"): (18, range(14, 21, 2)),
}
LISTS = {"random": range(12, 24), "svd": range(12, 22), "signs": range(10, 20)}
MOST = {"random": EMBEDDING, "svd": 128, "signs": EMBEDDING // 32}  # numbers a verse
SQUARES = {"superposition": (2.0, 4.0, 8.0, 16.0), "delta rule": (1.0, 2.0, 4.0)}  # σ² tried
WIDTHS = (64, 256, 1024)  # N tried
PENALTY = 0.1  # of the ridge solution, beside keys of norm 1
VALIDATION, TEST = 1000, 3000
ROUNDS, BATCH = 3, 64


class Verses(NamedTuple):
    """TF-IDF (sparse, [n, v]) and embeddings [n, 512] of the stored and of the asked version."""

    stored: np.ndarray
    asked: np.ndarray
    stored_terms: Any
    asked_terms: Any


class Memory(NamedTuple):
    """Pages [a, N] with the matrix W [d, a] of their keys."""

    pages: np.ndarray
    directions: np.ndarray


@functools.cache
def load() -> Verses:
    """Reads and embeds both versions."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = load_verses((STORED, ASKED)).texts
    terms: Any = TfidfVectorizer(sublinear_tf=True)
    stored = terms.fit_transform(texts[STORED]).astype(np.float32)
    asked = terms.transform(texts[ASKED]).astype(np.float32)
    draw = np.random.default_rng(0).normal(size=(stored.shape[1], EMBEDDING))
    projection = draw.astype(np.float32) / np.float32(np.sqrt(EMBEDDING))
    mean = (stored @ projection).mean(axis=0)
    return Verses(
        normalize(stored @ projection - mean), normalize(asked @ projection - mean), stored, asked
    )


def normalize(x: np.ndarray) -> np.ndarray:
    """Scales the rows to norm 1; rows of zeros stay."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def subset(verses: Verses, number: int | None) -> tuple[Verses, np.ndarray, np.ndarray]:
    """Takes some verses at random, and returns with them the rows asked for in search and in test."""
    order = np.random.default_rng(1).permutation(len(verses.stored))[:number]
    chosen = Verses(*(part[order] for part in verses))
    held = min(VALIDATION, len(order) // 4)
    return chosen, np.arange(held), np.arange(held, min(held + TEST, len(order)))


def draw_codes(verses: int, width: int) -> np.ndarray:
    """Draws a phasor code [n, N] for each verse."""
    angles = np.random.default_rng(2).random((verses, width), np.float32) * np.float32(2 * np.pi)
    return _phasors(angles)


def make_keys(x: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Returns e^{iWx}, [n, a]: one phase for all components of a page."""
    return _phasors(x @ directions)


def _phasors(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1).view(np.complex64)[..., 0]


def make_memory(numbers: int, width: int, square: float, dimension: int = EMBEDDING) -> Memory:
    """Makes an empty memory of so many real numbers, whose keys have the kernel exp(−σ² |x − y|²/2).

    Args:
        numbers: 2 a N.
        width: N.
        square: σ².
        dimension: d, of the embeddings.
    """
    pages = numbers // (2 * width)
    draw = np.random.default_rng(3).normal(size=(dimension, pages)) * np.sqrt(square)
    return Memory(np.zeros((pages, width), np.complex64), draw.astype(np.float32))


def read(memory: Memory, x: np.ndarray) -> np.ndarray:
    """Reads what the keys of x find, [n, N]: the mean over pages of the memory times the conjugate key."""
    return make_keys(x, memory.directions).conj() @ memory.pages / np.float32(len(memory.pages))


def superpose(memory: Memory, x: np.ndarray, codes: np.ndarray) -> Memory:
    """Adds all pairs."""
    pages = memory.pages.copy()
    for start in range(0, len(x), 1024):
        rows = slice(start, start + 1024)
        pages += make_keys(x[rows], memory.directions).T @ codes[rows]
    return memory._replace(pages=pages)


def rehearse(memory: Memory, x: np.ndarray, codes: np.ndarray, rounds: int = ROUNDS) -> Memory:
    """Applies the delta rule to all pairs in a random order, several times, in batches.

    A batch of one is `delta_write`. In a larger one the rate is the reciprocal of the largest row sum of |⟨k_i, k_j⟩|,
    which is never smaller than its largest eigenvalue, so that no step overshoots.
    """
    pages, rng = memory.pages.copy(), np.random.default_rng(4)
    for _ in range(rounds):
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH):
            rows = order[start : start + BATCH]
            keys = make_keys(x[rows], memory.directions)
            overlap = keys.conj() @ keys.T / np.float32(len(pages))
            error = codes[rows] - keys.conj() @ pages / np.float32(len(pages))
            pages += keys.T @ error / np.abs(overlap).sum(axis=1).max()
    return memory._replace(pages=pages)


def solve(memory: Memory, x: np.ndarray, codes: np.ndarray) -> Memory:
    """Returns the memory m with the smallest Σ_i |read(m, x_i) − c_i|² + λ |m|², which is empty before."""
    keys = make_keys(x, memory.directions)
    overlap = keys.conj() @ keys.T / np.float32(len(memory.pages))
    overlap += np.float32(PENALTY) * np.eye(len(x), dtype=np.float32)
    return memory._replace(pages=keys.T @ np.linalg.solve(overlap, codes))


WRITES = {"superposition": superpose, "delta rule": rehearse, "ridge": solve}


def nearest(queries: np.ndarray, entries: np.ndarray) -> np.ndarray:
    """Returns the row of the largest real inner product with each query; sparse or dense, real or complex."""
    found = []
    if np.iscomplexobj(queries):
        queries, entries = (np.concatenate([np.real(z), np.imag(z)], 1) for z in (queries, entries))
    for start in range(0, queries.shape[0], 500):
        scores = queries[start : start + 500] @ entries.T
        scores = scores if isinstance(scores, np.ndarray) else scores.toarray()
        found.append(scores.argmax(axis=1))
    return np.concatenate(found)


def recall(queries: np.ndarray, entries: np.ndarray, rows: np.ndarray) -> float:
    """Returns the share of queries whose nearest entry is their own."""
    return float(np.mean(nearest(queries, entries) == rows))


def theory(numbers: int, verses: int, cosines: np.ndarray, square: float) -> float:
    """Expected recall of superposed pairs, for queries that find their key with similarity exp(−σ² (1 − cos)).

    The cross-talk is that of independent random keys; what similar verses add to it is left out.
    """
    similarity = np.exp(-square * (1 - np.quantile(cosines, (np.arange(100) + 0.5) / 100)))
    levels = [max(1, round(numbers * level**2)) for level in similarity.tolist()]
    return float(np.mean([recall_accuracy(level, verses, verses) for level in levels]))


class Results(ResultFile):
    """The JSON file of this experiment."""

    TABLES = ("search", "memories", "lists")

    def summary(self) -> dict[str, Any]:
        """Returns what all rows share."""
        return {"stored": STORED, "asked": ASKED, "embedding": EMBEDDING, "rounds": ROUNDS}


def search(results: Results, number: int | None, write: str, square: float, width: int) -> None:
    """Measures one width of W and one N on the validation queries, unless the file has it."""
    key = {"verses": number, "write": write, "square": square, "width": width}
    if results.find("search", **key):
        return
    verses, rows, _ = subset(load(), number)
    codes = draw_codes(len(verses.stored), width)
    size = SIZES[number, write][0]
    memory = WRITES[write](make_memory(2**size, width, square), verses.stored, codes)
    found = recall(read(memory, verses.asked[rows]), codes, rows)
    results.add("search", key, {"numbers": 2**size, "validation_recall": found})


def chosen(record: Mapping[str, Any], number: int | None, write: str) -> tuple[float, int]:
    """Returns (σ², N) of the highest validation recall."""
    rows = [r for r in record["search"] if (r["verses"], r["write"]) == (number, write)]
    best = max(rows, key=lambda row: row["validation_recall"])
    return best["square"], best["width"]


def run_memory(results: Results, number: int | None, write: str, log_numbers: int) -> None:
    """Measures a memory on the test queries, and on the keys that were stored."""
    key = {"verses": number, "write": write, "numbers": 2**log_numbers}
    if results.find("memories", **key):
        return
    square, width = chosen(results.record, number, write)
    verses, _, rows = subset(load(), number)
    count = len(verses.stored)
    codes = draw_codes(count, width)
    memory = WRITES[write](make_memory(2**log_numbers, width, square), verses.stored, codes)
    cosines = np.sum(verses.stored[rows] * verses.asked[rows], axis=1)
    values = {
        "square": square,
        "width": width,
        "recall": recall(read(memory, verses.asked[rows]), codes, rows),
        "recall_of_stored_keys": recall(read(memory, verses.stored[rows]), codes, rows),
        "theory": theory(2**log_numbers, count, cosines, square),
    }
    results.add("memories", key, values)


def run_list(results: Results, number: int | None, kind: str, log_numbers: int | None) -> None:
    """Measures exact nearest neighbour over a list of so many numbers; None: over TF-IDF.

    Nothing is added where a verse would get less than one number, or more than is tried.
    """
    numbers = None if log_numbers is None else 2**log_numbers
    key = {"verses": number, "kind": kind, "numbers": numbers}
    if results.find("lists", **key):
        return
    verses, _, rows = subset(load(), number)
    share = 0 if numbers is None else numbers // len(verses.stored)
    if kind == "exact":
        entries, queries = verses.stored_terms, verses.asked_terms[rows]
        values = {"numbers_used": 2 * int(entries.nnz)}
    elif 0 < share <= MOST[kind]:
        entries, queries = (normalize(part) for part in shorten(verses, rows, kind, share))
        values = {"numbers_used": share * len(entries)}
    else:
        return
    results.add("lists", key, values | {"recall": recall(queries, entries, rows)})


def shorten(
    verses: Verses, rows: np.ndarray, kind: str, share: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns entries and queries of so many numbers each; for "signs" 32 signs for each number."""
    if kind == "svd":
        from sklearn.decomposition import TruncatedSVD

        fitted = TruncatedSVD(share, random_state=0).fit(verses.stored_terms)
        return fitted.transform(verses.stored_terms), fitted.transform(verses.asked_terms[rows])
    if kind == "signs":
        return np.sign(verses.stored[:, : 32 * share]), np.sign(verses.asked[rows, : 32 * share])
    return verses.stored[:, :share], verses.asked[rows, :share]


def draw(record: Mapping[str, Any]) -> Figure:
    """Draws recall@1 over the numbers stored, a panel for each number of verses."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = figure.subplots(1, len(VERSES), sharey=True, squeeze=False)[0]
    for panel, number in zip(panels, VERSES, strict=True):
        curves = [("memories", "write", name) for name in WRITES]
        curves += [("lists", "kind", name) for name in LISTS]
        for index, (table, column, name) in enumerate(curves):
            if (number, name) not in SIZES and table == "memories":
                continue
            rows = [r for r in record[table] if (r["verses"], r[column]) == (number, name)]
            rows = sorted(rows, key=lambda row: row["numbers"])
            x, y = [r["numbers"] for r in rows], [r["recall"] for r in rows]
            style = "o-" if table == "memories" else "x--"
            panel.plot(x, y, style, color=plots.PALETTE[index], markersize=4, label=name)
            if name == "superposition":
                expected = [r["theory"] for r in rows]
                panel.plot(x, expected, ":", color=plots.PALETTE[index], label="its theory")
        for row in record["lists"]:
            if (row["verses"], row["kind"]) == (number, "exact"):
                panel.axhline(row["recall"], color=plots.INK, linewidth=0.8, label="exact")
        title = f"{number:,} verses" if number else "all verses"
        panel.set(xlabel="real numbers stored", title=title, ylim=(0, 1))
        panel.set_xscale("log", base=2)
    panels[0].set_ylabel("recall@1")
    panels[0].legend(fontsize=7)
    return figure


def jobs() -> list[tuple[Any, ...]]:
    """Everything to be measured, in order."""
    found: list[tuple[Any, ...]] = []
    for number in VERSES:
        found.append((run_list, number, "exact", None))
        found += [(run_list, number, kind, size) for kind in LISTS for size in LISTS[kind]]
        for (of, write), (_, sizes) in SIZES.items():
            if of == number:
                squares = SQUARES.get(write, SQUARES["delta rule"])
                points = itertools.product(squares, WIDTHS)
                found += [(search, number, write, *point) for point in points]
                found += [(run_memory, number, write, size) for size in sizes]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    _, results = open_results(parser, Results, RESULTS, draw)
    work(results, jobs())


if __name__ == "__main__":
    main()
