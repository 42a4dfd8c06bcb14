"""The King James text, byte by byte: resonance against a Transformer of one size, for one time.

Claim: in equal time resonance predicts the text better, and writes from a state of constant size.
Command: resonance-jax train language_model --seeds 0 1 2
    the documentation of Linux: resonance-jax train language_model --experiment linux_doc \
        --corpus linux_doc --data-dir FOLDER --resets
Text:    resonance-jax generate runs/language_model/resonance-seed0 --prompt "In the beginning"
Data: 4.2 MB; the first 90 % to train, the next 5 % to validate, the last 5 % to test.
"""

from typing import Any

from resonance_jax.models.language_model import LanguageModelConfig
from resonance_jax.training.language_config import LanguageTrainConfig

MODELS = ("resonance", "transformer")
SHAPE: dict[str, Any] = dict(vocab_size=256, hidden_dim=192, num_layers=4, dtype="bfloat16")


def get_config(model: str = "resonance") -> LanguageTrainConfig:
    """Returns the configuration of one model; parameter counts are within 10 %."""
    rate = {"resonance": 4e-3, "transformer": 3e-3}[model]
    return LanguageTrainConfig(
        experiment="language_model",
        model={
            "resonance": LanguageModelConfig(**SHAPE, mlp_dim=384),
            "transformer": LanguageModelConfig(
                **SHAPE, mlp_dim=320, mixer="attention", num_heads=6, max_length=512
            ),
        }[model],
        learning_rate=rate,
        learning_rate_magnitude=rate,
        learning_rate_phase=rate,
        resets=False,  # 66 documents: a window in 120 holds the beginning of one
    )
