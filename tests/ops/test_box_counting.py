"""Laws and values of ops/box_counting.py."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.ops.box_counting import box_counting, box_counting_image
from resonance_jax.ops.fractal_sets import cantor_set, koch_curve, sierpinski_triangle

pytestmark = pytest.mark.usefixtures("quick_compile")

SIERPINSKI, KOCH = math.log(3, 2), math.log(4, 3)


def uniform(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def fit_twin(sides, counts, edge, used):
    """Weighted least squares for log N = −D log s + a + c·edge."""
    design = np.stack([-np.log(sides), np.ones_like(sides), edge], -1)[used]
    root = counts[used] ** 0.25
    solution = np.linalg.lstsq(design * root[:, None], np.log(counts[used]) * root, rcond=None)
    return solution[0][0]


def box_twin(points, offsets, levels):
    """Counts the boxes of every grid by a set of their corners, in float64."""
    unit = (points - points.min(0)) / np.ptp(points, axis=0).max()
    sides = [2 ** (q / 4) / 2**j for q in range(4) for j in range(levels)]
    counts = []
    for side in sides:
        # The shift is in boxes of the grid's largest side, 2^(q/4).
        shift = 2 ** (round(4 * math.log2(side)) % 4 / 4) * offsets
        boxes = [{tuple(np.floor((p + s) / side)) for p in unit} for s in shift]
        counts.append(np.mean([len(b) for b in boxes]))
    sides, counts = np.array(sides), np.array(counts)
    # On the finest grid every one of these points, none near another, has a box of its own.
    used = (counts >= 2) & (5 * counts <= len(points))
    return fit_twin(sides, counts, np.log1p(sides), used)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_counts_are_those_of_a_set_of_boxes(x64, m):
    points, offsets = 7 * uniform(0, 200, m) - 3, uniform(1, 3, m)
    estimate = box_counting(points, offsets=offsets)
    assert estimate.dimension.dtype == jnp.float64
    np.testing.assert_allclose(estimate.dimension, box_twin(points, offsets, 9), rtol=1e-9)


@pytest.mark.parametrize(
    ("generate", "levels", "dimension"),
    [
        (cantor_set, 12, math.log(2, 3)),
        (functools.partial(cantor_set, gap=0.5), 12, 0.5),
        (sierpinski_triangle, 8, SIERPINSKI),
        (koch_curve, 6, KOCH),
    ],
)
def test_dimension_of_self_similar_sets(generate, levels, dimension):
    """Within 0.05 at 4096 points, in the mean of 20 rotations and grids."""
    points, estimates = np.asarray(generate(levels)), []
    rng = np.random.default_rng(0)
    for angle in rng.uniform(0, 2 * np.pi, 20):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turned = points @ turn if points.shape[1] == 2 else points
        offsets = rng.random((8, points.shape[1])).astype(np.float32)
        estimates.append(box_counting(turned.astype(np.float32), offsets=offsets))
    dimensions, errors = np.transpose(estimates)
    assert abs(dimensions.mean() - dimension) < 0.05
    assert dimensions.std() < 0.03
    assert np.all(errors < 0.05)


def test_a_segment_has_dimension_1_in_space(x64):
    points = np.linspace(0, 1, 200)[:, None] * np.array([0.4, 0.3, 0.5])
    assert abs(box_counting(points, offsets=uniform(1, 3, 3)).dimension - 1) < 0.05


def test_place_size_order_and_repetition_of_points_do_not_count():
    points = np.array(koch_curve(4))
    estimate = box_counting(points)
    shuffled = np.random.default_rng(0).permutation(points)
    chex.assert_trees_all_equal(box_counting(shuffled), estimate)
    for moved in (1e20 * points, points + 0.5):
        np.testing.assert_allclose(box_counting(moved).dimension, estimate.dimension, atol=1e-3)
    points[129:] = points[:128]
    twice = box_counting(points)
    points[129:] = points[0]
    chex.assert_trees_all_equal(box_counting(points), twice)
    assert abs(twice.dimension - estimate.dimension) > 1e-3


def test_the_grid_counts():
    points, offsets = np.asarray(koch_curve(4)), uniform(0, 3, 8, 2).astype(np.float32)
    dimensions = [box_counting(points, offsets=o).dimension for o in offsets]
    assert np.std(dimensions) > 1e-3


def test_batch_axes_and_sets_apart():
    points = uniform(2, 2, 2, 257, 2).astype(np.float32)
    points[1, 0] = koch_curve(4)
    points[1, 1] = 0.25  # equal points: one
    estimate = box_counting(points)
    single = jax.tree.map(lambda v: v[1, 0], estimate)
    chex.assert_trees_all_close(box_counting(points[1, 0]), single)
    stacked = jax.vmap(box_counting)(jnp.asarray(points))
    chex.assert_trees_all_close(stacked, estimate)
    assert (estimate.dimension[1, 1], estimate.standard_error[1, 1]) == (0, np.inf)
    changed = box_counting(jnp.asarray(points).at[0, 1, 5, 0].set(jnp.nan))
    assert np.isnan(changed.dimension[0, 1]) and np.isnan(changed.standard_error[0, 1])
    for before, after in zip(estimate, changed, strict=True):
        np.testing.assert_array_equal(after[1], before[1])


def test_gradient_is_0_not_nan():
    gradient = jax.grad(lambda p: box_counting(p).dimension)(koch_curve(4))
    np.testing.assert_array_equal(gradient, 0)


def image_twin(image):
    """Counts boxes at every position of the grid, one position at a time."""
    rows, columns = np.nonzero(image)
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    sides, counts = [], []
    for side in sorted({round(2 ** (j / 4)) for j in range(40)}):
        if not 3 <= side <= max(image.shape):
            continue
        boxes = [
            len({((r + a) // side, (c + b) // side) for r, c in zip(rows, columns, strict=True)})
            for a in range(side)
            for b in range(side)
        ]
        sides.append(side)
        counts.append(np.mean(boxes))
    sides, counts = np.array(sides, float), np.array(counts)
    return fit_twin(sides, counts, np.log1p((sides - 1) / extent), counts >= 2)


def pascal(side: int) -> np.ndarray:
    i = np.arange(side)
    return (i[:, None] & i) == 0


def test_image_counts_are_means_over_all_grid_positions():
    image = np.zeros((4, 32, 32), bool)
    image[0, 2:18, 1:12] = uniform(3, 16, 11) < 0.2
    image[1, 1:, :9] = uniform(4, 31, 9) < 0.3
    image[2] = pascal(32)
    image[3, 20, 3:31] = True
    expected = [image_twin(row) for row in image]
    np.testing.assert_allclose(box_counting_image(image).dimension, expected, rtol=1e-4)


def test_dimension_of_images():
    """Within 0.05 at 4096 true pixels; exact where it says so."""
    side = 256
    i = np.arange(side)
    points = np.rint(np.asarray(koch_curve(7)) * (side - 1)).astype(int)
    images = np.zeros((6, side, side), bool)
    images[0] = pascal(side)
    images[1][points[:, 0], points[:, 1]] = True
    images[2, 100, 30:230] = True
    images[3, 20:120, 40:140] = True
    images[4] = True
    images[5, i, i] = True
    estimate = box_counting_image(images)
    assert images[0].sum() > 4096
    np.testing.assert_allclose(estimate.dimension[:2], [SIERPINSKI, KOCH], atol=0.05)
    np.testing.assert_allclose(estimate.dimension[2:5], [1, 2, 2], atol=1e-3)
    np.testing.assert_allclose(estimate.dimension[5], 0.93, atol=0.005)  # touch at corners only
    assert np.all(estimate.standard_error < 0.03)


def test_place_and_orientation_of_an_image_do_not_count():
    image = np.zeros((4, 32, 32), bool)
    image[0, :16, :16] = pascal(16)
    image[1] = np.roll(image[0], (9, 16), (0, 1))
    image[2] = image[0].T
    image[3] = image[0][::-1, ::-1]
    dimension, error = box_counting_image(image)
    np.testing.assert_allclose(dimension, dimension[0], rtol=1e-5)
    np.testing.assert_allclose(error, error[0], rtol=1e-3)


def test_batch_axes_of_images_and_images_of_few_pixels():
    image = jnp.asarray(uniform(5, 4, 32, 32) < 0.5).at[1:3].set(False).at[2, 7, 9].set(True)
    estimate = box_counting_image(image)
    np.testing.assert_array_equal(estimate.dimension[1:3], 0)
    np.testing.assert_array_equal(estimate.standard_error[1:3], np.inf)
    chex.assert_trees_all_close(jax.vmap(box_counting_image)(image), estimate, rtol=1e-4)
    shapes = jax.eval_shape(box_counting_image, jax.ShapeDtypeStruct((2, 3, 16, 9), bool))
    assert shapes.dimension.shape == shapes.standard_error.shape == (2, 3)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: box_counting(np.ones((63, 2))), "needs at least 64 points .* got 63; pass more"),
        (lambda: box_counting(np.ones(64)), r"points must have shape \[..., n, m\], got \(64,\)"),
        (lambda: box_counting(np.ones((64, 4))), "must have 1, 2 or 3 coordinates .* got 4"),
        (
            lambda: box_counting(np.ones((64, 2), int)),
            "points must be real floating point, got int",
        ),
        (lambda: box_counting(np.full((64, 2), np.inf)), "points must be finite, got 128 values"),
        (
            lambda: box_counting(np.ones((64, 2)), offsets=np.zeros((3, 1))),
            r"offsets must have shape \[o, 2\] with o >= 1, got \(3, 1\)",
        ),
        (
            lambda: box_counting(np.ones((64, 1)), offsets=np.array([[0.0], [1.0]])),
            r"offsets must lie in \[0, 1\), got 0.0 .. 1.0; reduce them modulo 1",
        ),
        (
            lambda: box_counting_image(np.ones((16, 16))),
            r"image must be boolean \[..., h, w\], got",
        ),
        (lambda: box_counting_image(np.ones(16, bool)), r"got bool of shape \(16,\); compare grey"),
        (lambda: box_counting_image(np.ones((15, 9), bool)), r"at least 16 pixels .* \(15, 9\)"),
        (lambda: box_counting_image(np.zeros((16, 16), bool)), "image has no true pixel: an empty"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
