"""Every claim's verdict at quick size, and that other numbers would have given another one."""

from pathlib import Path

import pytest

from resonance_jax.claims import ledger

CLAIMS = ledger.load_claims(Path(__file__).parents[2] / "experiments" / "claims")

VERDICTS = {
    **dict.fromkeys(("R12", "R17", "N3", "Q1", "Q2", "Q3", "Q6", "Q9"), "holds"),
    # Operations decide that it does not fail; how far the times follow depends on what else the machine does.
    **dict.fromkeys(("R10", "Q8"), ("holds", "holds when")),
    **dict.fromkeys(("R1", "R3", "R5", "R6", "R7", "R8", "R9"), "holds when"),
    **dict.fromkeys(("R14", "R15", "R16", "R18"), "holds when"),
    **dict.fromkeys(
        ("N1", "N5", "N6", "N7", "N8", "N11", "N12", "N13", "N14", "N15", "Q4", "Q7"), "holds when"
    ),
    **dict.fromkeys(("R2", "R4", "R11", "R13", "N2", "N4", "N9", "N10", "Q5"), "fails"),
}

SPEEDS = ("speed_over_attention", "speed_over_chunked_attention")

# Claim -> (what to change in its numbers, the verdict that must follow).
ALTERED = {
    "R1": [
        (lambda n: {"error_plain": [1e-12]}, "holds"),
        (lambda n: {"error_scaled_conjugate": [0.5]}, "fails"),
    ],
    "R2": [(lambda n: {"error_whole": [1e-12]}, "holds")],
    "R3": [
        (lambda n: {"error_softmax_mixing_features": 1e-9}, "holds"),
        (lambda n: {"error_circulant": 0.1}, "fails"),
    ],
    "R4": [(lambda n: {"error_moduli": [1e-12]}, "holds")],
    "R5": [
        (lambda n: {"error_softmax": [1e-12]}, "holds"),
        (lambda n: {"error_heads_apart": 0.1}, "fails"),
    ],
    "R6": [
        (lambda n: {"error_scores_from_input": 1e-12}, "holds"),
        (lambda n: {"error_scores_from_parameters": 0.1}, "fails"),
    ],
    "R7": [
        (lambda n: {"distance_mixture": 0.0, "distance_any": 0.0}, "holds"),
        (lambda n: {"distance_mixture": 0.0}, "holds when"),
        (lambda n: {"distance_constant": 0.1}, "fails"),
    ],
    "R8": [
        (lambda n: dict.fromkeys(n, 0.0), "holds"),
        (lambda n: {"largest_on_the_circle": 0.1}, "fails"),
    ],
    "R9": [
        (lambda n: {"spread_any": 0.0}, "holds"),
        (lambda n: {"new_energy": 0.1}, "fails"),
    ],
    "R10": [
        (lambda n: {"gain_of_one_transform": 0.9}, "fails"),
        (lambda n: {"ratio_low": 0.3, "ratio_high": 0.4}, "fails"),
        (lambda n: {"ratio_low": -1.2, "ratio_high": 0.4}, "holds when"),
        (lambda n: {"gain_of_one_transform": 1.5}, "holds when"),
        (lambda n: {"ratio_high": 0.8}, "holds when"),
        (lambda n: {"operations_resonator": 2.0}, "fails"),
    ],
    "R11": [
        (lambda n: {"error_each_bin": [1e-12]}, "holds"),
        (lambda n: {"error_best_factors": [1e-12]}, "holds when"),
    ],
    "R12": [(lambda n: {"new_energy": [0.0]}, "fails")],
    "R13": [
        (
            lambda n: {
                **{f"{kind}_information_share": 0.11 for kind in ("images", "text")},
                **{f"{kind}_accuracy_magnitude": 0.9 for kind in ("images", "text")},
                **{f"{kind}_accuracy_both": 0.92 for kind in ("images", "text")},
            },
            "holds",
        ),
        (
            lambda n: {
                "text_information_share": 0.11,
                "text_accuracy_magnitude": n["text_accuracy_both"],
            },
            "holds when",
        ),
    ],
    "R14": [
        (
            lambda n: {
                "accuracy_loud": 0.5,
                "accuracy_quiet": 0.5,
                "accuracy_small": n["accuracy_large"],
            },
            "fails",
        )
    ],
    "R15": [
        (lambda n: {"share_broken_shifted_exponential": 0.0}, "holds"),
        (lambda n: {"largest_gain": 2.0}, "fails"),
    ],
    "R16": [
        (lambda n: {"error_padded": [0.1]}, "fails"),
        (lambda n: {"error_discarded": [0.0]}, "holds when"),
        (
            lambda n: {
                "error_too_short": [0.0],
                "error_too_wide": [0.0],
                "error_discarded": [0.0],
            },
            "holds",
        ),
    ],
    "R17": [
        (lambda n: {"error_every_lag": [0.5]}, "holds when"),
        (lambda n: {"error_zero_lag": [0.5]}, "fails"),
    ],
    "R18": [
        (lambda n: {"error_softmax": 1e-7}, "holds"),
        (lambda n: {"exponent_vector": 2.0}, "fails"),
    ],
    "N1": [
        (lambda n: {"error_conjugate": 1e-12}, "holds"),
        (lambda n: {"error_jax": 0.5}, "fails"),
    ],
    "N2": [
        (lambda n: {"error_jax": 1e-12}, "holds when"),
        (lambda n: {"error_jax": 1e-12, "error_conjugate": 1e-12}, "holds"),
    ],
    "N3": [
        (lambda n: {"resonance_norm_start": list(n["lengths"])}, "fails"),
        (lambda n: {"bound_ratio": 1.1}, "fails"),
    ],
    "N4": [
        (lambda n: {"sgd_cartesian_one": 0.5, "adam_cartesian_one": 0.5}, "holds"),
        (lambda n: {"sgd_cartesian_one": 0.5}, "holds when"),
    ],
    "N5": [
        (lambda n: {"r2_n_log_n_of_squares": 0.5, "r2_flops_n_squared": 0.5}, "holds"),
        (lambda n: {"exponent_in_k": 3.0}, "fails"),
        (lambda n: {"slope": 2.0}, "fails"),
    ],
    "N6": [
        (lambda n: {"matrix_flops_ratio": n["fft_flops_ratio"]}, "holds"),
        (lambda n: {"fft_flops_ratio": n["matrix_flops_ratio"]}, "fails"),
    ],
    "N7": [
        (lambda n: {"lost_none_dropped": 0.1}, "fails"),
        (lambda n: {"lost_imaginary_at_dc": 0.0}, "holds when"),
        (
            lambda n: {
                "lost_weight_zero": 0.0,
                "lost_imaginary_at_dc": 0.0,
                "lost_cancelled": 0.0,
                "lost_dropped": [0.0, 0.0],
            },
            "holds",
        ),
    ],
    "N8": [
        (lambda n: {"error_read": 1e-12}, "holds"),
        (lambda n: {"error_four_steps": 0.5}, "fails"),
        (lambda n: {"error_off_axis": 0.5}, "fails"),
    ],
    "N9": [
        (lambda n: {"error": n["published_error"]}, "holds"),
        (lambda n: {"error": n["published_error"], "joint": [99.0] * len(n["bound"])}, "fails"),
    ],
    "N10": [
        (
            lambda n: {
                "digits_transformer_parameters": [10**6, 10**7],
                "digits_transformer_accuracy": n["digits_resonance_accuracy"],
            },
            "holds",
        )
    ],
    "N11": [
        (
            lambda n: {
                name: [10.0] * len(n["lengths"]) if isinstance(value, list) else 10.0
                for name, value in n.items()
                if name.endswith("ratio")
            },
            "holds",
        ),
        (lambda n: {"memory_ratio": [1.0] * len(n["lengths"])}, "fails"),
    ],
    "N12": [
        (
            lambda n: (
                {"exponent": 0.5, "growth_of_bytes_per_token": 0.5}
                | {key: [1.8, 3.7] for key in SPEEDS}
            ),
            "holds",
        ),
        (lambda n: {"exponent": 1.0} | {key: [0.5, 1.5] for key in SPEEDS}, "holds when"),
        (lambda n: {"exponent": 1.0} | {key: [0.5, 0.9] for key in SPEEDS}, "fails"),
        (lambda n: {"exponent": 1.5}, "fails"),
    ],
    "N13": [
        (lambda n: {"times_chunked_attention": [20.0, 30.0]}, "holds"),
        (lambda n: {"times_attention": [10.0, 20.0]}, "fails"),
    ],
    "N14": [
        (lambda n: {"loss_two_levels": n["loss_full"]}, "holds"),
        (lambda n: {"loss_two_levels": n["loss_unigram"] + 0.1}, "fails"),
        (lambda n: {"distinct": n["ids"] - 1}, "fails"),
        (lambda n: {"share_of_parameters": [0.2, 0.1]}, "fails"),
    ],
    "N15": [
        (lambda n: {"lookup_resonance": 1.0}, "holds"),
        (lambda n: {"signs_resonance": n["signs_none"]}, "fails"),
        (lambda n: {"signs_resonance": n["signs_attention"] - 0.1}, "fails"),
    ],
    "Q1": [
        (lambda n: {"error_associative": 0.1}, "fails"),
        (lambda n: {"error_norm": 0.1}, "fails"),
        (lambda n: {"error_matrices": 0.1}, "fails"),
        (lambda n: {"commutator_mean": 0.0}, "fails"),
        (lambda n: {"share_commuting": 0.1}, "fails"),
    ],
    "Q2": [
        (lambda n: {"error_float64": 1e-3}, "fails"),
        (lambda n: {"error_float32": 1e-3}, "fails"),
    ],
    "Q3": [
        (lambda n: {"error_orthogonal": 0.1}, "fails"),
        (lambda n: {"error_determinant": 2.0}, "fails"),
    ],
    "Q4": [
        (lambda n: {"real_part_kept": [1.0] * len(n["real_part_kept"])}, "holds"),
        (lambda n: {"error_hermitian": [0.1], "error_even": [0.1]}, "fails"),
    ],
    "Q5": [
        (
            lambda n: {
                key: [3.0] * len(value) for key, value in n.items() if key.startswith("unit_")
            },
            "holds",
        ),
        (
            lambda n: {"unit_even_white_aligned": [3.0] * len(n["unit_even_white_aligned"])},
            "holds when",
        ),
    ],
    "Q6": [
        (lambda n: {"largest_share_of_bound": [1.1]}, "fails"),
        (lambda n: {"near_bound_from": n["near_bound_from_without_log"]}, "holds when"),
    ],
    "Q7": [
        (
            lambda n: {"error_by_length": [0.0] * len(n["error_by_length"]), "error_mixture": 0.0},
            "holds",
        ),
        (lambda n: {"alpha_layer": [0.8] * len(n["alpha_layer"])}, "fails"),
        (lambda n: {"error_switched": 0.1}, "fails"),
    ],
    "Q8": [
        (lambda n: {"operations_exponents": [2.0] * len(n["operations_exponents"])}, "fails"),
        (lambda n: {"slope": 2.0}, "holds when"),
        (lambda n: {"aic_n_log_n": n["aic_n_squared"] + 1}, "holds when"),
        (lambda n: {"prime_slope": 2.0}, "holds when"),
    ],
    "Q9": [
        (lambda n: {"share_of_kernel": [0.5]}, "fails"),
        (lambda n: {"accuracy_real": n["accuracy_quaternion"] + 0.1}, "holds when"),
    ],
}


def test_every_claim_has_its_verdict_and_a_counter_example():
    assert set(VERDICTS) == set(CLAIMS) == set(ALTERED)


@pytest.mark.parametrize("name", CLAIMS)
def test_verdict(name, quick_compile):
    claim = CLAIMS[name]
    entry = ledger.run_claim(claim, "quick")
    if entry.error:
        pytest.skip(entry.error)
    assert entry.decision is not None
    expected = VERDICTS[name]
    allowed = (expected,) if isinstance(expected, str) else expected
    assert entry.decision.verdict in allowed, entry.decision
    assert ledger.entry_record(entry)["number"] == entry.decision.number
    for change, verdict in ALTERED[name]:
        altered = [{**run, **change(run)} for run in entry.runs]
        assert altered != entry.runs
        assert claim.decide(altered).verdict == verdict, claim.decide(altered)
