"""The comparison on the UCR archive: its rule fits every set, its statistics are those of their definitions."""

from typing import Any

import jax
import numpy as np
import pytest

from experiments import ucr
from resonance_jax.data.ucr import SETS
from resonance_jax.models.baselines import make_model


def test_the_rule_fits_every_set():
    for name, facts in SETS.items():
        config: Any = ucr.make_config(name)
        tokens = facts.length / config.model.patch_stride
        updates = config.num_epochs * (facts.train // config.batch_size)
        assert config.batch_size <= facts.train and config.model.output_dim == facts.classes
        assert facts.length < 64 or 32 < tokens <= 64, name
        assert ucr.UPDATES <= updates < 8 * ucr.UPDATES, name


@pytest.mark.parametrize("name", ["Chinatown", "Crop", "CricketX", "EthanolLevel"])
def test_series_of_any_length_fit(name):
    model = make_model(ucr.make_config(name).model)
    row = np.zeros((1, SETS[name].length, 1), np.float32)
    outputs, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), row)
    assert outputs.shape == (1, SETS[name].classes)


def test_ranks_share_ties_and_cliques_hold_what_does_not_differ():
    rng = np.random.default_rng(0)
    good = rng.uniform(0.8, 0.9, size=60)
    noise = 0.01 * rng.normal(size=60)
    accuracies = np.stack([good - 0.2, good, good + noise, good], axis=1)
    ranks = ucr.mean_ranks(accuracies)
    assert ranks[0] == 4 and ranks[1] == ranks[3] and ranks.sum() == 10
    assert [sorted(group) for group in ucr.cliques(accuracies)] == [[1, 2, 3]]


def test_many_comparisons_need_more_evidence_and_groups_overlap():
    """Six sets of seven, p = 0.03: enough for one comparison, not for one of three."""
    base = np.linspace(0.5, 0.9, 7)
    better = base + np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, -0.005])
    assert ucr.cliques(np.stack([base, better], axis=1)) == []
    three = np.stack([base, better, base + np.array([-1, 1, -1, 1, -1, 1, 0]) * 1e-3], axis=1)
    assert len(ucr.cliques(three)[0]) == 3
    # Up by 3 and down by 2.5 in turn, then the other way: neighbours do not differ, those two apart do.
    turns = np.where(np.arange(20) % 2, 3, -2.5)
    steps = np.cumsum(np.stack([np.zeros(20), turns, turns[::-1]], axis=1), axis=1)
    assert [sorted(group) for group in ucr.cliques(steps)] == [[1, 2], [0, 1]]


@pytest.fixture
def folder(tmp_path):
    """A folder with published figures and one tiny set."""
    for shift, stem in enumerate(ucr.PUBLISHED.values()):
        lines = [f"{name},{0.9 - 0.1 * shift},0.1" for name in ("Coffee", "Beef", "Unknown")]
        (tmp_path / f"{stem}_accuracy.csv").write_text("\n".join(["Resamples:,0,1", *lines]))
    series = np.sin(np.arange(40)[:, None] % 2 + np.arange(8)) + 0.01
    for part in ("TRAIN", "TEST"):
        rows = ["\t".join(map(str, [row % 2, *values])) for row, values in enumerate(series)]
        (tmp_path / f"Tiny_{part}.tsv").write_text("\n".join(rows))
    return tmp_path


def test_methods_are_compared_on_the_sets_that_all_have(folder, capsys):
    record = {
        "runs": [
            {"set": name, "seed": seed, "accuracy": accuracy + 0.02 * seed}
            for name, accuracy in (("Coffee", 0.94), ("Beef", 0.9), ("Crop", 0.7))
            for seed in (0, 1)
        ],
        "neighbours": [{"set": name, "accuracy": 0.5} for name in ("Coffee", "Beef", "Crop")],
    }
    table = ucr.collect(record, folder)
    names, accuracies = ucr.shared(table)
    assert names == ["Beef", "Coffee"] and list(table)[:2] == [ucr.OURS, ucr.NEIGHBOUR]
    np.testing.assert_allclose(accuracies[:, 0], [0.91, 0.95])
    assert "Unknown" not in table["InceptionTime"]
    ucr.print_table(table)
    shown = capsys.readouterr().out
    assert "all 3 sets: resonance 0.8567" in shown and "2 sets that all have" in shown
    texts = [text.get_text() for text in ucr.draw(record, folder).axes[0].texts]
    assert any("resonance  1.00  (0.930)" in text for text in texts)


def test_the_nearest_neighbour_and_what_is_absent(folder, tmp_path):
    assert ucr.nearest_neighbour("Tiny", folder) == 1.0
    with pytest.raises(FileNotFoundError, match="HC2_accuracy"):
        ucr.read_published(tmp_path / "nothing")
