"""FordA: is there a certain fault in an engine? Resonance against a Transformer and an FNet of one size.

Claim: resonance beats both; how close it comes to InceptionTime's 0.961 is what the results say.
Command: resonance-jax train forda --seeds 0 1 2 --results experiments/results/forda.json
Data: UCR, 3,601 training and 1,320 test series of 500 samples.
"""

from typing import Any

from resonance_jax.models.baselines import FNetConfig, TransformerConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training.config import TrainConfig

MODELS = ("resonance", "transformer", "fnet")
SHAPE: dict[str, Any] = dict(
    input_dim=1,
    output_dim=2,
    hidden_dim=32,
    num_layers=3,
    patch_size=32,
    patch_stride=8,
    pooling="mean_max",
)
# The same trials for each model, judged on a fifth of the training split:
# resonance-jax tune forda experiments/results/forda_tuning.json --num-epochs 15
SEARCH = {
    "default": "",
    "patch-8": "--model.patch-size 8",
    "stride-4": "--model.patch-stride 4",
    "position": "--model.position sinusoidal",
    "slow": "--learning-rate 1e-3 --learning-rate-magnitude 1e-3 --learning-rate-phase 1e-3",
    "fast": "--learning-rate 6e-3 --learning-rate-magnitude 6e-3 --learning-rate-phase 6e-3",
}


def get_config(model: str = "resonance") -> TrainConfig:
    """Returns the configuration of one model; parameter counts are within 10 %."""
    return TrainConfig(
        experiment="forda",
        dataset="FordA",
        model={
            "resonance": ResonanceNetConfig(**SHAPE, mlp_dim=64, num_frequencies=24),
            "transformer": TransformerConfig(**SHAPE, mlp_dim=64),
            "fnet": FNetConfig(**SHAPE, mlp_dim=128),
        }[model],
        num_epochs=60,
        augment=("circular_shift",),
        ema_decay=0.99,
        eval_every=5,
    )
