"""bfloat16 against float32 on FordA: activations and matrix products in 16 bits, all else in 32.

Claim: the loss in bfloat16 is that in float32, to within what two seeds differ by.
Command: resonance-jax train mixed_precision --seeds 0 1 2 --results experiments/results/mixed_precision.json
    resonance-jax train mixed_precision --seeds 0 1 2 --dtype bfloat16 --out runs/bfloat16
    --results experiments/results/mixed_precision_bfloat16.json
Hardware: one core of a CPU, a training on the other
Time: 3 and 4 minutes
Score: test loss 0.163 ± 0.005 in float32 and 0.158 ± 0.003 in bfloat16 (ResonanceNet), 0.157 ± 0.004 and 0.158 ± 0.004
    (LongContextResonanceNet); accuracy 0.943 ± 0.002 and 0.946 ± 0.002, 0.943 ± 0.002 and 0.944 ± 0.002. On this CPU
    bfloat16 takes 1.2 times as long, and 8 to 13 % less memory. Paths in the files' commands were shortened by hand.
Data: UCR, 3,601 training and 1,320 test series of 500 samples.
"""

from typing import Any

from resonance_jax.models.long_context import LongContextConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training.config import TrainConfig

MODELS = ("resonance", "long_context")
SHAPE: dict[str, Any] = dict(
    input_dim=1,
    output_dim=2,
    hidden_dim=32,
    num_layers=2,
    patch_size=32,
    patch_stride=8,
    pooling="mean_max",
)


def get_config(model: str = "resonance") -> TrainConfig:
    """Returns the configuration of one model; parameter counts are within 10 %."""
    config = {
        "resonance": ResonanceNetConfig(**SHAPE, mlp_dim=64, num_frequencies=24),
        "long_context": LongContextConfig(
            **SHAPE,
            mlp_dim=64,
            max_context_length=64,
            chunk_size=16,
            overlap=4,
            num_frequencies=16,
            local_frequencies=10,
            bridge_frequencies=3,
            chunks_at_once=0,
            rematerialize="none",
        ),
    }[model]
    return TrainConfig(
        experiment="mixed_precision",
        dataset="FordA",
        model=config,
        num_epochs=8,
        augment=("circular_shift",),
        ema_decay=0.99,
        eval_every=4,
    )
