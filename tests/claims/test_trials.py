"""The plain training loop of the claims about models."""

import jax
import numpy as np
import pytest

from resonance_jax.claims import trials
from resonance_jax.models.resonance_net import ResonanceNetConfig


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=16).astype(np.int32)
    inputs = rng.normal(size=(16, 12, 1)) + 2 * labels[:, None, None]
    return inputs.astype(np.float32), labels


@pytest.fixture(scope="module")
def trial(data, quick_compile):
    config = ResonanceNetConfig(1, 2, hidden_dim=4, num_layers=1, num_frequencies=2, mlp_dim=0)
    return trials.Trial(config, data[0])


def test_a_step_changes_every_parameter_and_learns(trial, data):
    start, scores = trial.params, trial.scores(trial.params, data[0])
    for _ in range(20):
        trial.step(*data)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), start, trial.params)
    assert all(jax.tree.leaves(moved))
    labels = data[1]
    before, after = (
        np.mean(np.argmax(s, axis=-1) == labels)
        for s in (scores, trial.scores(trial.params, data[0]))
    )
    assert after == 1.0 > before


def test_size_and_memory(trial):
    assert trial.parameters == sum(leaf.size for leaf in jax.tree.leaves(trial.params))
    assert trial.peak_memory_bytes > 3 * 4 * trial.parameters  # parameters and two moments


def test_median_is_of_the_calls_after_two():
    calls = []
    assert trials.median_milliseconds(lambda: calls.append(1), repeats=3) >= 0
    assert len(calls) == 5
