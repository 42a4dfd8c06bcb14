"""Prompt languages: which of five languages a telephone prompt is in, from the first 2 s of raw sound.

Question: do learned resonators do as well as the log-mel spectrum before the same blocks, and as convolutions of it?
    Found, one seed: 0.957 (24 of 560 prompts wrong); log-mel 0.963, convolutional 0.970, linear 0.946; English and
    Spanish of the same voice apart at 0.946 and 0.955 (resonators, log-mel).
Command: resonance-jax train prompt_languages --seeds 0 1 2 --results experiments/results/prompt_languages.json
Data: 1,865 training and 560 test prompts (Debian packages asterisk-core-sounds-{en,es,fr,it,ru}-wav); a tested prompt
    is heard in training in no language. One voice a language, which is learned as well; English and Spanish have the
    same, so that they can be told apart by what is said alone (`experiments/spoken_languages.py`).
"""

from typing import Any

from resonance_jax.models.audio import AudioConfig, LogMelAudioConfig
from resonance_jax.models.convolutional import ConvolutionalAudioConfig
from resonance_jax.training.config import TrainConfig

MODELS = ("audio", "audio_log_mel", "audio_conv")
SHAPE: dict[str, Any] = dict(num_classes=5, stride=128, num_bands=40)


def get_config(model: str = "audio") -> TrainConfig:
    """Returns the configuration of one model; parameter counts are within 10 %."""
    return TrainConfig(
        experiment="prompt_languages",
        dataset="prompt_languages",
        model={
            "audio": AudioConfig(**SHAPE),
            "audio_log_mel": LogMelAudioConfig(**SHAPE),
            "audio_conv": ConvolutionalAudioConfig(**SHAPE, widths=(16, 32, 64, 56)),
        }[model],
        num_epochs=12,
        batch_size=32,
        learning_rate=4e-3,
        learning_rate_magnitude=2e-3,
        learning_rate_phase=1e-3,
        weight_decay=0.05,
        augment=("speed",),
        eval_every=4,
        checkpoint_every=500,
    )
