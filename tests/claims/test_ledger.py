"""Loading, selecting, measuring and recording claims."""

import json
from pathlib import Path

import pytest

from resonance_jax.claims import ledger
from resonance_jax.claims.ledger import Decision, Pending

CLAIM = '''"""N7: two and two
are {sum}.

Source: N (a text).
Decided by: adding.
"""
from resonance_jax.claims.ledger import Decision, Plot, Series

SEEDS = {{"quick": 2}}

def measure(seed, size):
    return {{"sum": 2.0 + 2.0, "seed": seed, "curve": [1.0, 2.0, float(len(size))]}}

def decide(runs):
    right = all(run["sum"] == {sum} for run in runs)
    return Decision("holds" if right else "fails", f"{{runs[0]['sum']}} in {{len(runs)}} runs", "It is four.")

def draw(runs):
    return Plot("x", "y", (Series("curve", [1, 2, 3], runs[0]["curve"]),), log_y=True)
'''
ABSENT = '''"""R2: there is data.

Source: R.
Decided by: looking.
"""
from resonance_jax.data.dataset import DataNotFoundError

def measure(seed, size):
    raise DataNotFoundError("install the data")

def decide(runs):
    raise AssertionError("there is nothing to decide")
'''


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "n7.py").write_text(CLAIM.format(sum=4))
    (tmp_path / "n10.py").write_text(CLAIM.format(sum=5).replace("N7", "N10"))
    (tmp_path / "r2.py").write_text(ABSENT)
    (tmp_path / "_pending.py").write_text('PENDING = {"Q1": ("it spins.", "quaternions")}')
    return tmp_path


@pytest.fixture
def claims(folder):
    return ledger.load_claims(folder)


def test_claims_are_loaded_in_the_order_of_their_ids(claims):
    assert list(claims) == ["R2", "N7", "N10"]
    claim = claims["N7"]
    assert (claim.text, claim.source, claim.decided_by) == (
        "two and two are 4.",
        "N (a text).",
        "adding.",
    )
    assert claim.seeds == {"quick": 2, "full": 3}
    assert claims["R2"].draw is None


def test_the_verdict_follows_from_the_numbers(claims):
    true, false = (ledger.run_claim(claims[name], "quick") for name in ("N7", "N10"))
    assert true.decision == Decision("holds", "4.0 in 2 runs", "It is four.")
    assert [run["seed"] for run in true.runs] == [0, 1]
    assert false.decision is not None and false.decision.verdict == "fails"


def test_full_size_has_its_own_seeds(claims):
    entry = ledger.run_claim(claims["N7"], "full")
    assert [run["seed"] for run in entry.runs] == [0, 1, 2]
    assert ledger.entry_record(entry)["command"] == "resonance-jax claims N7 --full"


def test_absent_data_leaves_a_claim_unmeasured_and_the_rest_goes_on(claims, tmp_path):
    seen = []
    path = tmp_path / "out" / "claims.json"
    found = ledger.measure_ledger(
        list(claims.values()),
        path,
        report=lambda running, records: seen.append((running, list(records))),
    )
    assert [record["verdict"] for record in found["claims"]] == [None, "holds", "fails"]
    assert found["claims"][0]["error"] == "install the data"
    assert seen == [("R2", []), ("N7", ["R2"]), ("N10", ["R2", "N7"]), (None, ["R2", "N7", "N10"])]
    assert json.loads(path.read_text()) == found
    assert found["claims"][1]["plot"]["series"][0]["y"] == [1.0, 2.0, 5.0]


def test_measuring_one_claim_keeps_the_others(claims, tmp_path):
    path = tmp_path / "claims.json"
    ledger.measure_ledger([claims["N10"], claims["R2"]], path)
    found = ledger.measure_ledger([claims["N7"]], path)
    assert [record["id"] for record in found["claims"]] == ["R2", "N7", "N10"]


def test_a_file_that_is_no_ledger_is_not_overwritten(claims, tmp_path):
    path = tmp_path / "claims.json"
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match="is no ledger"):
        ledger.measure_ledger([claims["N7"]], path)
    assert path.read_text() == "[1, 2]"


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["N77"], "unknown claim 'N77'. Did you mean N7"),
        (["xyz"], "unknown claim 'XYZ'. Known: R2, N7, N10, Q1"),
        (["q1"], "Q1 cannot be measured yet: it waits for quaternions"),
    ],
)
def test_unknown_and_pending_claims_are_refused(claims, folder, ids, message):
    pending = ledger.load_pending(folder)
    assert pending == [Pending("Q1", "it spins.", "quaternions")]
    with pytest.raises(ValueError, match=message):
        ledger.select_claims(ids, claims, pending)


def test_selection_is_in_the_order_of_the_ledger(claims):
    assert [claim.id for claim in ledger.select_claims(["n10", "R2"], claims)] == ["R2", "N10"]
    assert [claim.id for claim in ledger.select_claims([], claims)] == ["R2", "N7", "N10"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("measure = decide = print", "must begin with a docstring 'R5: the claim'"),
        (ABSENT, "must begin with a docstring 'R5: the claim'"),  # another id
        (ABSENT.replace("R2", "R5").replace("def decide", "def judge"), "must define decide"),
    ],
)
def test_a_module_of_another_form_is_refused(tmp_path, source, message):
    (tmp_path / "r5.py").write_text(source)
    with pytest.raises(ValueError, match=message):
        ledger.load_claims(tmp_path)


def test_numbers_must_be_finite(folder):
    (folder / "n7.py").write_text(CLAIM.format(sum=4).replace("2.0 + 2.0", "float('nan')"))
    with pytest.raises(ValueError, match="N7 measured sum = nan"):
        ledger.run_claim(ledger.load_claims(folder)["N7"], "quick")


def test_a_ledger_needs_a_claim(tmp_path):
    with pytest.raises(ValueError, match="no claim to measure"):
        ledger.measure_ledger([], tmp_path / "claims.json")


def test_unknown_sizes_are_refused(claims):
    with pytest.raises(ValueError, match="unknown size 'large'; choose one of quick, full"):
        ledger.run_claim(claims["N7"], "large")


@pytest.mark.parametrize(
    "arguments", [("true", "1", "x"), ("fails", "1"), ("holds when", "1"), ("holds", "")]
)
def test_a_decision_says_its_number_and_what_is_true(arguments):
    with pytest.raises(ValueError, match="verdict"):
        Decision(*arguments)


def test_pending_claims_of_the_repository_are_not_measured_ones():
    folder = Path(__file__).parents[2] / "experiments" / "claims"
    pending = {claim.id for claim in ledger.load_pending(folder)}
    assert not pending & set(ledger.load_claims(folder))
