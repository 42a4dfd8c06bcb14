"""experiments/image_completion.py on small synthetic images."""

import numpy as np
import pytest

from experiments import image_completion as c

RNG = np.random.default_rng(0)


def make_images(count):
    """Images [n, 16] whose lower half follows from the upper one, but not linearly."""
    upper = RNG.normal(size=(count, 8)).astype(np.float32)
    return np.concatenate([upper, np.sin(2 * upper) + upper], axis=1)


IMAGES = c.split(make_images(400), make_images(20), make_images(100))
VARIANCE = float(np.mean(IMAGES.stored.lower**2))


def test_halves_and_means_make_the_image_again():
    images = make_images(30)
    parts = c.split(images, images[:2], images[:5])
    top = parts.test.upper * parts.scale + parts.means.upper
    again = np.concatenate([top, parts.test.lower + parts.means.lower], axis=1)
    np.testing.assert_allclose(again, images[:5], atol=1e-5)
    np.testing.assert_allclose(np.mean(np.sum(parts.stored.upper**2, axis=1)), 1, rtol=1e-5)
    np.testing.assert_allclose(parts.stored.lower.mean(axis=0), 0, atol=1e-6)


def test_pixels_survive_as_complex_numbers():
    lower = IMAGES.test.lower
    assert c.to_complex(lower).shape == (100, 4)
    np.testing.assert_array_equal(c.to_pixels(c.to_complex(lower)), lower)


def test_ridge_is_the_least_squares_solution():
    memory = c.make_memory(2**8, 4, 1.0, 8)
    x, patterns = IMAGES.stored.upper, c.to_complex(IMAGES.stored.lower)
    solved = c.solve(memory, x, patterns, 0.5)
    keys = c.make_keys(x, memory.directions).astype(np.complex128)
    pages = keys.shape[1]
    overlap = keys.conj() @ keys.T / pages + 0.5 * len(x) / pages * np.eye(len(x))
    expected = keys.T @ np.linalg.solve(overlap, patterns)  # the same by the dual problem
    np.testing.assert_allclose(solved.pages, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("write", c.WRITES)
def test_stored_images_come_back(write):
    few = c.Halves(IMAGES.stored.upper[:10], IMAGES.stored.lower[:10])
    completion = c.store(write, 2**12, few, 30.0, 1e-3)
    found = c.complete(completion, few.upper)
    assert c.relative_error(found, few.lower, VARIANCE) < 0.1
    assert (c.nearest(found, few.lower) == np.arange(10)).all()
    small = c.complete(c.store(write, 2**4, few, 30.0, 1e-3), few.upper)
    assert c.relative_error(small, few.lower, VARIANCE) > 0.2


def test_a_nonlinear_memory_beats_linear_regression_on_unseen_images():
    found = c.complete(c.store("ridge", 2**11, IMAGES.stored, 0.5, 1e-3), IMAGES.test.upper)
    matrix, numbers = c.regress(IMAGES.stored, None)
    linear = c.relative_error(IMAGES.test.upper @ matrix, IMAGES.test.lower, VARIANCE)
    assert numbers == 64
    assert c.relative_error(found, IMAGES.test.lower, VARIANCE) < 0.8 * linear < 0.8


def test_regression_of_low_rank_keeps_the_main_directions():
    whole, _ = c.regress(IMAGES.stored, None)
    errors = []
    for rank in (1, 2, 3):
        matrix, numbers = c.regress(IMAGES.stored, rank * 16)
        assert numbers == rank * 16 and np.linalg.matrix_rank(matrix) == rank
        errors.append(c.relative_error(IMAGES.stored.upper @ matrix, IMAGES.stored.lower, VARIANCE))
    best = c.relative_error(IMAGES.stored.upper @ whole, IMAGES.stored.lower, VARIANCE)
    assert best < errors[2] < errors[1] < errors[0] < 1


def test_nearest_is_by_distance():
    entries = RNG.normal(size=(7, 3))
    queries = RNG.normal(size=(11, 3))
    distances = np.linalg.norm(queries[:, None] - entries, axis=-1)
    np.testing.assert_array_equal(c.nearest(queries, entries), distances.argmin(axis=1))


def test_results_are_written_once(tmp_path, monkeypatch):
    monkeypatch.setattr(c, "load", lambda: IMAGES)
    monkeypatch.setattr(c, "COUNTS", (10, 50))
    monkeypatch.setattr(c, "SIZES", (6, 10))
    monkeypatch.setattr(c, "SEARCH_SIZE", 10)
    monkeypatch.setattr(c, "PIXELS", 8)
    monkeypatch.setattr(c, "STORED", len(IMAGES.stored.upper))
    results = c.Results(tmp_path / "results.json")
    for function, *arguments in c.jobs():
        function(results, *arguments)
    record = results.record
    assert [len(record[table]) for table in c.Results.TABLES] == [12, 20, 6, 3]
    assert c.best(record, "ridge") in c.points("ridge")
    for write in c.WRITES:
        small, large = (
            row for row in record["recall"] if row["write"] == write and row["images"] == 10
        )
        assert large["accuracy"] >= small["accuracy"] and large["error"] < small["error"]
    assert 0.8 < record["rivals"][0]["errors"]["mean image"] < 1.2
    monkeypatch.setattr(c, "load", None)  # nothing is measured again
    again = c.Results(results.path)
    for function, *arguments in c.jobs():
        function(again, *arguments)
