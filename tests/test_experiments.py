"""Every model of every experiment fits its data and takes an abstract step; each experiment and each kind a real one.

What an experiment sets and what a kind of model computes meet in shapes and dtypes alone: these are checked for every
pair, by tracing. Real steps are those of the same `train_and_evaluate` as of the whole training.
"""

import dataclasses
import functools
import importlib
from pathlib import Path

import jax
import numpy as np
import pytest

from resonance_jax.data.dataset import DataNotFoundError, load_dataset
from resonance_jax.data.iterator import BatchIterator
from resonance_jax.models.baselines import MODELS as KINDS
from resonance_jax.models.baselines import make_model
from resonance_jax.training import loop
from resonance_jax.training.program import Program
from resonance_jax.training.step import train_step

FOLDER = Path(__file__).parent.parent / "experiments"
# Language models have a configuration and a training of their own: tests/training/test_language.py.
SOURCES = {p.stem: p.read_text("utf-8") for p in FOLDER.glob("*.py")}
NAMES = sorted(
    name
    for name, text in SOURCES.items()
    if "def get_config" in text and "-> LanguageTrainConfig" not in text
)
MODELS = {name: importlib.import_module(f"experiments.{name}").MODELS for name in NAMES}
CASES = [(name, model) for name in NAMES for model in MODELS[name]]
# One kind an experiment, the last (which compiles fastest) but where another one would be left out.
OTHERS = {"r8": "transformer", "prompt_languages": "audio", "fashion_mnist_pixels": "causal"}
TRAINED = [(name, OTHERS.get(name, MODELS[name][-1])) for name in NAMES]
BATCH = 4


@functools.cache
def load(name):
    """Reads a data set and keeps a few examples of each class."""
    dataset = load_dataset(name)

    def few(split):
        rows = [np.flatnonzero(split.labels == c)[:6] for c in range(dataset.num_classes)]
        return split.take(np.concatenate(rows))

    return dataclasses.replace(dataset, train=few(dataset.train), test=few(dataset.test))


def load_or_skip(config):
    try:
        return load(config.dataset)
    except DataNotFoundError as absent:
        pytest.skip(str(absent))


def config_of(name, model):
    return importlib.import_module(f"experiments.{name}").get_config(model)


def shrink(config):
    known = {field.name for field in dataclasses.fields(config.model)}
    sizes = {"hidden_dim": 4, "num_layers": 1, "mlp_dim": 4, "num_heads": 4}
    sizes |= {"widths": (4, 4), "stages": (1, 1)}
    few = {name: size for name, size in sizes.items() if name in known}
    small = dataclasses.replace(config.model, **few)
    return dataclasses.replace(config, model=small, num_epochs=1, batch_size=BATCH)


def test_every_kind_is_trained():
    trained, known = ({KINDS[str(model)][1] for _, model in cases} for cases in (TRAINED, CASES))
    assert trained == known


@pytest.mark.parametrize(("name", "model"), CASES)
def test_every_pair_takes_an_abstract_step(name, model):
    config = config_of(name, model)
    assert (config.experiment, config.model_name) == (name, model)
    dataset = load_or_skip(config)
    loop.check_fit(config, dataset)
    config = shrink(config)
    batch = next(BatchIterator(dataset.train, BATCH, seed=0, augment=config.augment))
    program = Program(config, 2)
    state = jax.eval_shape(lambda: program.init_state(0, batch))
    after, metrics = jax.eval_shape(train_step, state, batch)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert metrics["loss"].shape == metrics["accuracy"].shape == ()


@pytest.mark.parametrize(("name", "model"), TRAINED)
def test_two_steps_of_every_experiment(name, model, tmp_path, monkeypatch, quick_compile):
    config = config_of(name, model)
    load_or_skip(config)
    monkeypatch.setattr(loop, "load_dataset", lambda dataset, _: load(dataset))
    result = loop.train_and_evaluate(shrink(config), tmp_path, progress=False, max_steps=2)
    assert (result.steps, result.model, result.dataset) == (2, model, config.dataset)
    assert np.isfinite(result.test_loss)


@functools.cache
def traced(name, model):
    """Returns the number of parameters and the shape of the outputs for one example, computing neither."""
    config = config_of(name, model)
    row = load(config.dataset).train.inputs[:1]
    init = make_model(config.model).init_with_output
    outputs, tree = jax.eval_shape(init, jax.random.key(0), row)
    return sum(leaf.size for leaf in jax.tree.leaves(tree["params"])), outputs.shape


@pytest.mark.parametrize("name", NAMES)
def test_models_of_an_experiment_are_of_one_size(name):
    classes = load_or_skip(config_of(name, MODELS[name][0])).num_classes
    found = {model: traced(name, model) for model in MODELS[name]}
    assert {shape for _, shape in found.values()} == {(1, classes)}
    counts = [count for count, _ in found.values()]
    assert max(counts) <= 1.1 * min(counts), found
