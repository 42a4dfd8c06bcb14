"""A small data set on disk, a small configuration of it, and a small module."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.loop import train_and_evaluate

TOY_MODEL = ResonanceNetConfig(
    input_dim=1,
    output_dim=2,
    hidden_dim=4,
    num_layers=1,
    mlp_dim=0,
    num_frequencies=2,
    gate=False,
    dropout=0.2,
)


class TinyNet(nn.Module):
    """A dense layer, a magnitude, a phase and a classifier."""

    features: int = 3
    classes: int = 2

    @nn.compact
    def __call__(self, inputs, mask=None, *, deterministic=True):
        if mask is not None:
            inputs = jnp.where(mask[..., None], inputs, 0)
        x = nn.Dense(self.features, name="dense")(inputs.mean(axis=1))
        magnitude = self.param("log_magnitude", nn.initializers.zeros, (self.features,))
        phase = self.param("phase", nn.initializers.ones, (self.features,))
        x = x * jnp.exp(magnitude) * jnp.cos(phase)
        return nn.Dense(self.classes, name="head")(jnp.tanh(x))


@pytest.fixture
def tiny_net():
    return TinyNet()


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 8).astype(np.int32)
    inputs = rng.normal(size=(8, 5, 2)).astype(np.float32) + labels[:, None, None]
    return {"inputs": inputs, "labels": labels}


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    """Two classes of noisy sines, 40 for training and 18 for testing, as UCR files."""
    folder = tmp_path_factory.mktemp("toy")
    rng = np.random.default_rng(0)
    for part, rows in (("TRAIN", 40), ("TEST", 18)):
        labels = np.arange(rows) % 2
        series = np.sin((1 + labels[:, None]) * np.arange(12) * 2 * np.pi / 12)
        series = series + 0.3 * rng.normal(size=series.shape)
        table = np.concatenate([labels[:, None] + 1, series], axis=1)
        np.savetxt(folder / f"Toy_{part}.tsv", table, delimiter="\t", fmt="%.6f")
    return folder


@pytest.fixture(scope="session")
def toy_config(toy_folder):
    """15 steps, 5 an epoch, with everything on that a resumption has to bring back."""
    return TrainConfig(
        experiment="toy",
        dataset="Toy",
        data_dir=str(toy_folder),
        model=TOY_MODEL,
        num_epochs=3,
        batch_size=6,
        ema_decay=0.9,
        augment=("jitter",),
        validation_fraction=0.2,
        checkpoint_every=4,
        keep_checkpoints=2,
        log_every=3,
    )


@pytest.fixture(scope="module", autouse=True)
def _quick_compile(quick_compile):
    """All that is trained here is compiled in one way, so that bits can be compared."""


@pytest.fixture(scope="session")
def whole_run(toy_config, tmp_path_factory, compiling_quickly):
    """The folder and the result of an uninterrupted run of `toy_config`."""
    folder = tmp_path_factory.mktemp("whole")
    config = dataclasses.replace(toy_config, keep_checkpoints=10)
    with compiling_quickly():
        return folder, train_and_evaluate(config, folder, progress=False)


@pytest.fixture(scope="session")
def toy_key():
    return jax.random.key(0)
