"""Every experiment, shrunk, takes two steps by the same `train_and_evaluate` as the whole one."""

import dataclasses
import functools
import importlib
from pathlib import Path

import jax
import numpy as np
import pytest

from resonance_jax.data.dataset import DataNotFoundError, load_dataset
from resonance_jax.models.baselines import make_model
from resonance_jax.training import loop

FOLDER = Path(__file__).parent.parent / "experiments"
NAMES = sorted(p.stem for p in FOLDER.glob("*.py") if "def get_config" in p.read_text("utf-8"))
CASES = [
    (name, model)
    for name in NAMES
    for model in importlib.import_module(f"experiments.{name}").MODELS
]
BATCH = 4


@functools.cache
def load(name):
    """Reads a data set and keeps a few examples of each class."""
    dataset = load_dataset(name)

    def few(split):
        rows = [np.flatnonzero(split.labels == c)[:6] for c in range(dataset.num_classes)]
        return split.take(np.concatenate(rows))

    return dataclasses.replace(dataset, train=few(dataset.train), test=few(dataset.test))


def config_of(name, model):
    return importlib.import_module(f"experiments.{name}").get_config(model)


@pytest.mark.end_to_end
@pytest.mark.parametrize(("name", "model"), CASES)
def test_two_steps_of_every_experiment(name, model, tmp_path, monkeypatch, quick_compile):
    config = config_of(name, model)
    assert (config.experiment, config.model_name) == (name, model)
    try:
        load(config.dataset)
    except DataNotFoundError as absent:
        pytest.skip(str(absent))
    monkeypatch.setattr(loop, "load_dataset", lambda dataset, _: load(dataset))
    small = dataclasses.replace(config.model, hidden_dim=4, num_layers=1, mlp_dim=4)
    config = dataclasses.replace(config, model=small, num_epochs=1, batch_size=BATCH)
    result = loop.train_and_evaluate(config, tmp_path, progress=False, max_steps=2)
    assert (result.steps, result.model, result.dataset) == (2, model, config.dataset)
    assert np.isfinite(result.test_loss)


@functools.cache
def parameters(name, model):
    """Counts the parameters without computing any."""
    config = config_of(name, model)
    row = load(config.dataset).train.inputs[:1]
    tree = jax.eval_shape(make_model(config.model).init, jax.random.key(0), row)
    return sum(leaf.size for leaf in jax.tree.leaves(tree["params"]))


@pytest.mark.parametrize("name", NAMES)
def test_models_of_an_experiment_are_of_one_size(name):
    models = [model for other, model in CASES if other == name]
    try:
        counts = [parameters(name, model) for model in models]
    except DataNotFoundError as absent:
        pytest.skip(str(absent))
    assert max(counts) <= 1.1 * min(counts), dict(zip(models, counts, strict=True))
