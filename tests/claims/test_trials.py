"""The plain training loop of the claims about models."""

import jax
import numpy as np
import pytest

from resonance_jax.claims import trials
from resonance_jax.data.dataset import Dataset, Split
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


def test_training_takes_whole_batches_in_another_order_each_epoch(monkeypatch):
    seen = []

    class Recorder(trials.Trial):
        def __init__(self, config, inputs, seed, compiler_options):
            assert (len(inputs), seed, compiler_options) == (trials.BATCH, 3, None)

        def step(self, inputs, labels):
            np.testing.assert_array_equal(inputs[:, 0, 0], labels)
            seen.append(labels)

    monkeypatch.setattr(trials, "Trial", Recorder)
    count = 2 * trials.BATCH + 5
    labels = np.arange(count, dtype=np.int32)
    split = Split(labels[:, None, None].astype(np.float32), labels)
    data = Dataset("counts", split, split, tuple(map(str, range(count))))
    trials.train(trials.make_config("qrh", 8, data), data, epochs=2, seed=3)
    assert [len(batch) for batch in seen] == [trials.BATCH] * 4
    first, second = np.concatenate(seen[:2]), np.concatenate(seen[2:])
    assert len(set(first)) == len(set(second)) == 2 * trials.BATCH
    assert not np.array_equal(first, second)


def test_every_kind_has_a_configuration_of_the_same_shape():
    split = Split(np.zeros((1, 64, 3), np.float32), np.zeros(1, np.int32))
    data = Dataset("zeros", split, split, tuple("abcde"))
    configs = [trials.make_config(kind, 8, data, mlp_dim=12) for kind in (*trials.KINDS, "qrh")]
    assert len({type(config) for config in configs}) == 3
    for config in configs:
        assert (config.input_dim, config.output_dim, config.hidden_dim) == (3, 5, 8)
        assert (config.mlp_dim, config.patch_size, config.patch_stride) == (12, 32, 16)


def test_size_and_memory(trial):
    assert trial.parameters == sum(leaf.size for leaf in jax.tree.leaves(trial.params))
    assert trial.peak_memory_bytes > 3 * 4 * trial.parameters  # parameters and two moments


def test_median_is_of_the_calls_after_two():
    calls = []
    assert trials.median_milliseconds(lambda: calls.append(1), repeats=3) >= 0
    assert len(calls) == 5
