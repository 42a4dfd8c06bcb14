"""EthanolLevel: how much ethanol is in a bottle, of four levels, from a long spectrum of its whisky.

Claim: on 1,751 samples resonance is on a par with a Transformer of its size. Not yet measured.
Command: resonance-jax train ethanol_level --seeds 0 1 2 --results experiments/results/ethanol_level.json
Data: UCR, 504 training and 500 test series of 1,751 samples.
"""

from typing import Any

from resonance_jax.models.baselines import FNetConfig, TransformerConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training.config import TrainConfig

MODELS = ("resonance", "transformer", "fnet")
SHAPE: dict[str, Any] = dict(
    input_dim=1,
    output_dim=4,
    hidden_dim=32,
    num_layers=3,
    patch_size=64,
    patch_stride=32,
    pooling="mean_max",
    position="sinusoidal",
    dropout=0.0,
)


def get_config(model: str = "resonance") -> TrainConfig:
    """Returns the configuration of one model; parameter counts are within 10 %."""
    return TrainConfig(
        experiment="ethanol_level",
        dataset="EthanolLevel",
        model={
            "resonance": ResonanceNetConfig(**SHAPE, mlp_dim=64, num_frequencies=24),
            "transformer": TransformerConfig(**SHAPE, mlp_dim=64),
            "fnet": FNetConfig(**SHAPE, mlp_dim=128),
        }[model],
        num_epochs=100,
        batch_size=32,
        learning_rate=1e-2,
        learning_rate_magnitude=1e-2,
        learning_rate_phase=1e-2,
        ema_decay=0.99,
        eval_every=20,
    )
