"""Matched accuracy on records whose answers are known."""

import itertools

import pytest

from resonance_jax.claims.matched import COSTS, curve, matched_accuracy, ratios, smallest_at


def record(model, parameters, accuracy, seconds=None, **costs):
    known = {} if seconds is None else {"train_seconds": seconds}
    return {"model": model, "parameters": parameters, "accuracy": accuracy, **known, **costs}


RECORDS = [
    record("a", 400, 0.90, 8.0),
    record("a", 100, 0.70, 1.0),
    record("a", 100, 0.80, 3.0),
    record("a", 100, 0.60, 2.0),
    record("b", 1000, 0.85, 30.0, inference_ms=2.0),
    record("b", 3000, 0.80, 90.0, inference_ms=6.0),
    record("c", 50, 0.99),
]


def test_curve_summarises_seeds_by_size():
    small, large = curve(RECORDS, "a")
    assert (small["parameters"], small["seeds"], small["train_seconds"]) == (100, 3, 2.0)
    assert small["accuracy"] == pytest.approx(0.7)
    assert small["accuracy_std"] == pytest.approx(0.1)
    assert (large["parameters"], large["accuracy"], large["accuracy_std"]) == (400, 0.9, None)
    assert "inference_ms" not in small and "train_seconds" not in curve(RECORDS, "c")[0]
    some = [*RECORDS, record("c", 50, 0.99, 5.0)]
    assert "train_seconds" not in curve(some, "c")[0]  # one seed's cost is not known


def test_matched_accuracy_is_what_the_weakest_attains_at_its_best_size():
    assert matched_accuracy(RECORDS, ("a", "b")) == 0.85
    assert matched_accuracy(RECORDS, ("a", "c")) == 0.9
    assert matched_accuracy(RECORDS, ("c",)) == 0.99


def test_smallest_at():
    assert smallest_at(RECORDS, "a", 0.5) == curve(RECORDS, "a")[0]
    assert smallest_at(RECORDS, "a", 0.71) == curve(RECORDS, "a")[1]
    assert smallest_at(RECORDS, "a", 0.9) == curve(RECORDS, "a")[1]  # reached exactly
    assert smallest_at(RECORDS, "a", 0.91) is None


def test_ratios_are_the_others_cost_over_the_models():
    found = ratios(RECORDS, "a", "b")
    assert found == {"accuracy": 0.85, "parameters": 2.5, "train_seconds": 30 / 8}
    assert list(found)[1:] == [cost for cost in COSTS if cost in found]
    back = ratios(RECORDS, "b", "a", 0.85)
    assert all(back[cost] == pytest.approx(1 / found[cost]) for cost in list(found)[1:])
    assert ratios(RECORDS, "a", "b", 0.6)["parameters"] == 10
    assert ratios(RECORDS, "b", "c") == {"accuracy": 0.85, "parameters": 0.05}


def test_the_order_of_records_does_not_matter():
    expected = ratios(RECORDS, "a", "b")
    for order in itertools.islice(itertools.permutations(RECORDS), 0, None, 977):
        assert ratios(order, "a", "b") == expected


@pytest.mark.error_message
def test_errors():
    with pytest.raises(ValueError, match="no record of model 'd'; there are records of: a, b, c"):
        curve(RECORDS, "d")
    with pytest.raises(ValueError, match="there are records of: none"):
        matched_accuracy([], ["a"])
    with pytest.raises(ValueError, match=r"b reaches 0\.8500 at most, not 0\.8600"):
        ratios(RECORDS, "a", "b", 0.86)
