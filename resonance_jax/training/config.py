"""`TrainConfig`: everything that decides a training run, checked when built, to and from JSON."""

import dataclasses
import json
from typing import Any

from resonance_jax.models.audio import AudioConfig, LogMelAudioConfig
from resonance_jax.models.baselines import (
    MODELS,
    FNetConfig,
    PatchTransformerConfig,
    TransformerConfig,
    model_name,
)
from resonance_jax.models.causal_net import CausalNetConfig, LRUNetConfig
from resonance_jax.models.convolutional import ConvolutionalAudioConfig
from resonance_jax.models.dlinear import DLinearConfig
from resonance_jax.models.long_context import LongContextConfig
from resonance_jax.models.quaternion_net import QRHNetConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.models.time_series import TimeSeriesConfig
from resonance_jax.models.vision import VisionConfig
from resonance_jax.training.fields import (
    DEVICE_RULES,
    Rule,
    build,
    check_fields,
    check_sharded,
    clip,
    fraction,
    is_folder_name,
    is_int,
    positive_int,
    rate,
    to_plain,
)

ModelConfig = (
    ResonanceNetConfig
    | TransformerConfig
    | FNetConfig
    | QRHNetConfig
    | LongContextConfig
    | CausalNetConfig
    | LRUNetConfig
    | VisionConfig
    | TimeSeriesConfig
    | PatchTransformerConfig
    | DLinearConfig
    | AudioConfig
    | LogMelAudioConfig
    | ConvolutionalAudioConfig
)

SCHEDULES = ("cosine", "constant")
DTYPES = ("float32", "bfloat16")

# Fields that change neither a parameter, but for the rounding of sums over devices, nor the order of the data, so that
# a run may be resumed with other values. (The number of epochs is not one: the schedule depends on it.)
RESUMABLE_FIELDS = frozenset(
    {"data_dir", "checkpoint_every", "keep_checkpoints", "log_every", "eval_every", "tensorboard"}
    | {"strategy", "num_devices", "parameters"}
)


_FORDA_MODEL = ResonanceNetConfig(input_dim=1, output_dim=2)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """One training run; the run folder is `runs/<experiment>/<model>-seed<seed>/`."""

    experiment: str = "forda"
    """Name of the experiment: a folder under `runs/`."""
    dataset: str = "FordA"
    """Name of a data set, as `resonance_jax.data.dataset.load_dataset` knows it."""
    data_dir: str | None = None
    """Folder with the data in its published format; None looks in the installed packages."""
    model: ModelConfig = _FORDA_MODEL
    """Configuration of the model; its type says which model it is."""
    seed: int = 0
    """Seed of the parameters, of dropout, of the data order and of the validation split."""
    num_epochs: int = 20
    """Passes over the training split (its last, short batch is left out of each)."""
    batch_size: int = 64
    """Examples in one step."""
    learning_rate: float = 3e-3
    """Peak rate of every parameter that is neither a magnitude nor a phase."""
    learning_rate_magnitude: float = 3e-3
    """Peak rate of the `log_magnitude` parameters."""
    learning_rate_phase: float = 3e-3
    """Peak rate of the `phase` parameters, in radians per update."""
    warmup_fraction: float = 0.1
    """Part of all updates over which the rates rise linearly from 0 to their peaks."""
    schedule: str = "cosine"
    """After the warm-up: "cosine" falls to 0 at the last update, "constant" stays."""
    weight_decay: float = 1e-2
    """AdamW's decay, on kernels and tables (rank >= 2) outside the magnitudes and phases only."""
    gradient_clip: float | None = 1.0
    """Largest global norm of a group's gradient, each group by itself; None does not clip."""
    gradient_clip_magnitude: float | None = None
    """The same for the magnitudes; None takes `gradient_clip`."""
    gradient_clip_phase: float | None = None
    """The same for the phases; None takes `gradient_clip`."""
    accumulation_steps: int = 1
    """Steps whose gradients are averaged into one update."""
    ema_decay: float = 0.0
    """Decay of the moving average of the parameters, which is then evaluated; 0 turns it off."""
    label_smoothing: float = 0.0
    """Probability spread evenly over all classes in the target, in [0, 1)."""
    augment: tuple[str, ...] = ()
    """Augmentations of a training batch, in order: `resonance_jax.data.augment.AUGMENTATIONS`."""
    validation_fraction: float = 0.0
    """Part of the training split held out, by class, to validate on; 0 holds out none."""
    monitor_stability: bool = True
    """Skip a step whose loss or gradients are not finite, and count it."""
    max_skipped_steps: int = 10
    """Stop with an error after this many skipped steps in a row."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    keep_checkpoints: int = 3
    """Latest checkpoints kept, besides the best on the validation split (by accuracy, or by squared error)."""
    log_every: int = 20
    """Steps between lines in `metrics.jsonl`; the host waits for the device no more often."""
    eval_every: int = 1
    """Epochs between evaluations (on the validation split if there is one, else on the test split)."""
    tensorboard: bool = False
    """Write TensorBoard events too; needs the package tensorboardX."""
    strategy: str = "jit"
    """How several devices share a batch: "jit", "pmap" or "shard_map", see `resonance_jax.training.sharding`."""
    num_devices: int = 1
    """Devices that share a batch, the first ones; 0 takes all."""
    parameters: str = "replicated"
    """"replicated", or "sharded": each device keeps a part of every parameter (strategy "jit" only)."""
    dtype: str = "float32"
    """"float32" or "bfloat16", of activations and matrix products; parameters, FFTs, sums and the rest are float32."""

    def __post_init__(self) -> None:
        check_fields(self, _RULES)
        check_sharded(self)
        if not isinstance(self.model, ModelConfig):
            kinds = ", ".join(kind.__name__ for kind, _ in MODELS.values())
            raise ValueError(f"TrainConfig.model must be one of {kinds}, got {self.model!r}")
        object.__setattr__(self, "augment", tuple(self.augment))

    @property
    def model_name(self) -> str:
        """Returns the short name of the model, a key of `MODELS`."""
        return model_name(self.model)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; the model carries its short name as `kind`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        model = {"kind": self.model_name} | dataclasses.asdict(self.model)
        return to_plain(fields | {"model": model})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """Builds the configuration that `to_dict` wrote; unknown fields are an error."""
        values = dict(values)
        model = dict(values.pop("model"))
        kind = model.pop("kind", None)
        if kind not in MODELS:
            raise ValueError(f"unknown model {kind!r}; known: {', '.join(MODELS)}")
        return build(cls, values | {"model": build(MODELS[kind][0], model)})

    def to_json(self) -> str:
        """Returns the configuration as indented JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "TrainConfig":
        """Builds the configuration from the JSON that `to_json` wrote."""
        return cls.from_dict(json.loads(text))


def config_differences(a: Any, b: Any) -> list[str]:
    """Names the fields in which two configurations of one type differ, dotted, in the order of the fields.

    Models of different kinds differ in `model` as a whole.
    """
    names = []
    for field in dataclasses.fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if field.name != "model" or type(left) is not type(right):
            names += [field.name] * (left != right)
            continue
        inner = [f.name for f in dataclasses.fields(left)]
        names += [f"model.{name}" for name in inner if getattr(left, name) != getattr(right, name)]
    return names


_RULES = (
    Rule("experiment", is_folder_name, "a name that can be a folder"),
    Rule("dataset", lambda v: isinstance(v, str) and v != "", "the name of a data set"),
    Rule("seed", lambda v: is_int(v) and 0 <= v < 2**31, "an integer in [0, 2**31)"),
    *map(positive_int, ("num_epochs", "batch_size", "accumulation_steps", "max_skipped_steps")),
    *map(positive_int, ("checkpoint_every", "keep_checkpoints", "log_every", "eval_every")),
    *map(rate, ("learning_rate", "learning_rate_magnitude", "learning_rate_phase", "weight_decay")),
    *map(clip, ("gradient_clip", "gradient_clip_magnitude", "gradient_clip_phase")),
    *map(fraction, ("warmup_fraction", "ema_decay", "label_smoothing", "validation_fraction")),
    Rule("schedule", lambda v: v in SCHEDULES, f"one of {SCHEDULES}"),
    Rule("dtype", lambda v: v in DTYPES, f"one of {DTYPES}"),
    *DEVICE_RULES,
)
