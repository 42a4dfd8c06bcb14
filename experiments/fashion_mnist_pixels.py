"""Fashion-MNIST pixel by pixel: images as sequences of 784 numbers, row by row, read both ways or forwards alone.

Question: beside attention, both ways, and beside a linear recurrent unit, forwards: which of them learns a sequence in
    which neighbours lie 28 steps apart?
Command: resonance-jax train fashion_mnist_pixels --seeds 0 1 2 --results experiments/results/fashion_mnist_pixels.json
    Not yet run: a step of the Transformer, 784 × 784 scores in each of 4 heads, takes minutes on a CPU's core. Meant
    for a GPU.
Data: 60,000 training and 10,000 test images of 28 × 28 pixels.
"""

from typing import Any

from resonance_jax.models.baselines import TransformerConfig
from resonance_jax.models.causal_net import CausalNetConfig, LRUNetConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training.config import TrainConfig

MODELS = ("resonance", "transformer", "causal", "lru")
SHAPE: dict[str, Any] = dict(
    input_dim=1,
    output_dim=10,
    hidden_dim=64,
    num_layers=4,
    pooling="mean_max",
    dropout=0.1,
)


def get_config(model: str = "resonance") -> TrainConfig:
    """Returns the configuration of one model; parameter counts are within 10 %."""
    return TrainConfig(
        experiment="fashion_mnist_pixels",
        dataset="fashion_mnist",
        model={
            "resonance": ResonanceNetConfig(
                **SHAPE, mlp_dim=96, num_frequencies=64, position="learned"
            ),
            "transformer": TransformerConfig(**SHAPE, mlp_dim=128, position="learned"),
            "causal": CausalNetConfig(**SHAPE, mlp_dim=256, max_radius=0.999),
            "lru": LRUNetConfig(**SHAPE, mlp_dim=256, max_radius=0.999),
        }[model],
        num_epochs=20,
        batch_size=64,
        learning_rate=2e-3,
        learning_rate_magnitude=1e-3,
        learning_rate_phase=1e-3,
        weight_decay=0.05,
        augment=("shift", "flip_horizontal"),
        ema_decay=0.999,
        eval_every=4,
        checkpoint_every=2000,
    )
