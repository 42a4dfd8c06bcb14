"""Topics of texts: the arms are of one size; a run is written once, beside the linear classifier."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments import topics
from resonance_jax.data import text
from resonance_jax.models.baselines import make_model


@pytest.mark.parametrize("name", topics.SETS)
def test_arms_are_of_one_size(name):
    row, sizes = np.zeros((1, 128), np.int32), []
    for arm in topics.ARMS:
        config = topics.make_config(name, arm, seed=3)
        assert config.seed == 3 and config.model.output_dim == len(text.COLLECTIONS[name].classes)
        shapes = jax.eval_shape(make_model(config.model).init, jax.random.key(0), row)
        sizes.append(sum(leaf.size for leaf in jax.tree.leaves(shapes)))
    assert max(sizes) <= 1.1 * min(sizes)


def test_a_run_is_written_once(tmp_path, monkeypatch, quick_compile, one_layer):
    """Two topics, told apart by a word."""
    toy = dataclasses.replace(
        text.COLLECTIONS["reuters_r8"],
        rows={"train": 16, "test": 8},
        classes=("oil", "corn"),
        vocab_size=20,
        length=6,
    )
    monkeypatch.setitem(text.COLLECTIONS, "reuters_r8", toy)
    monkeypatch.setitem(topics.SETS, "reuters_r8", dict(num_epochs=1, batch_size=8))
    one_layer(topics)
    for part, rows in toy.rows.items():
        lines = [f"{toy.classes[i % 2]}\tnews of {toy.classes[i % 2]} today" for i in range(rows)]
        (tmp_path / f"r8-{part}-all-terms.txt").write_text("\n".join(lines))
    results = topics.Results(tmp_path / "results.json")
    for _ in range(2):
        topics.run(results, tmp_path, "reuters_r8", "transformer", 0)
    (row,), (linear,) = results.record["runs"], results.record["linear"]
    assert linear["accuracy"] == 1.0
    assert 0 <= row["accuracy"] <= 1 and row["parameters"] > 0
