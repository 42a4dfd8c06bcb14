"""ECG5000: five kinds of heartbeat from 500 examples.

Claim: resonance is on a par with published results (HC2 0.947, InceptionTime 0.942).
Command: resonance-jax train ecg5000 --seeds 0 1 2 --results experiments/results/ecg5000.json
Data: UCR, 500 training and 4,500 test series of 140 samples.
"""

from typing import Any

from resonance_jax.models.baselines import FNetConfig, TransformerConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training.config import TrainConfig

MODELS = ("resonance", "transformer", "fnet")
SHAPE: dict[str, Any] = dict(
    input_dim=1,
    output_dim=5,
    hidden_dim=32,
    num_layers=3,
    patch_size=16,
    patch_stride=4,
    pooling="mean_max",
    position="sinusoidal",
    dropout=0.2,
)


def get_config(model: str = "resonance") -> TrainConfig:
    """Returns the configuration of one model; parameter counts are within 10 %."""
    return TrainConfig(
        experiment="ecg5000",
        dataset="ECG5000",
        model={
            "resonance": ResonanceNetConfig(**SHAPE, mlp_dim=72, num_frequencies=16),
            "transformer": TransformerConfig(**SHAPE, mlp_dim=64),
            "fnet": FNetConfig(**SHAPE, mlp_dim=128),
        }[model],
        num_epochs=100,
        batch_size=32,
        augment=("jitter", "scale"),
        ema_decay=0.99,
        eval_every=10,
    )
