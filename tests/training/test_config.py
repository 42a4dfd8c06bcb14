import dataclasses
import json
from typing import Any

import pytest

from resonance_jax.models.baselines import FNetConfig, TransformerConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training.config import TrainConfig, config_differences

SHAPE: dict[str, Any] = {"input_dim": 3, "output_dim": 5, "hidden_dim": 8}


@pytest.mark.parametrize("kind", [ResonanceNetConfig, TransformerConfig, FNetConfig])
def test_json_round_trip(kind):
    config = TrainConfig(model=kind(**SHAPE), augment=("jitter", "scale"), gradient_clip=None)
    again = TrainConfig.from_json(config.to_json())
    assert again == config
    assert type(again.model) is kind
    assert hash(again) == hash(config)
    assert json.loads(config.to_json())["model"]["kind"] == config.model_name


def test_differences_name_dotted_fields():
    config = TrainConfig()
    model: Any = config.model
    model = dataclasses.replace(model, hidden_dim=model.hidden_dim * 2)
    changed = dataclasses.replace(config, seed=4, model=model)
    assert config_differences(config, config) == []
    assert config_differences(config, changed) == ["model.hidden_dim", "seed"]
    other = dataclasses.replace(config, model=FNetConfig(**SHAPE))
    assert config_differences(config, other) == ["model"]


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("experiment", "a/b"),
        ("dataset", ""),
        ("seed", -1),
        ("num_epochs", 0),
        ("batch_size", 2.5),
        ("batch_size", True),
        ("learning_rate", -1.0),
        ("learning_rate_phase", float("nan")),
        ("warmup_fraction", 1.0),
        ("schedule", "linear"),
        ("gradient_clip", 0.0),
        ("gradient_clip_phase", -1.0),
        ("accumulation_steps", 0),
        ("ema_decay", 1.0),
        ("label_smoothing", 1.5),
        ("validation_fraction", -0.1),
        ("max_skipped_steps", 0),
        ("keep_checkpoints", 0),
        ("strategy", "xmap"),
        ("num_devices", -1),
        ("parameters", "split"),
        ("dtype", "float16"),
        ("model", "resonance"),
    ],
)
def test_bad_values_name_the_field(field, value):
    with pytest.raises(ValueError, match=rf"TrainConfig\.{field} must be .*got"):
        TrainConfig(**{field: value})


@pytest.mark.error_message
def test_unknown_fields_of_a_file_are_an_error():
    values = TrainConfig().to_dict()
    with pytest.raises(ValueError, match="TrainConfig has no field momentum"):
        TrainConfig.from_dict(values | {"momentum": 0.9})
    with pytest.raises(ValueError, match="unknown model 'rnn'; known: resonance"):
        TrainConfig.from_dict(values | {"model": {"kind": "rnn"}})
