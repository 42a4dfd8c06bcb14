"""`LanguageTrainConfig`: everything that decides the training of a language model, to and from JSON."""

import dataclasses
import json
from typing import Any

from resonance_jax.models.language_model import LanguageModelConfig
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
    is_real,
    positive_int,
    rate,
    to_plain,
)

MODEL_NAMES = {"resonance": "resonance", "attention": "transformer"}
_MODEL = LanguageModelConfig()


@dataclasses.dataclass(frozen=True)
class LanguageTrainConfig:
    """One training run of a language model; the run folder is `runs/<experiment>/<model>-seed<seed>/`.

    It ends after `num_steps`, and then is the same bit for bit each time, or after `time_budget`; the other is None.
    """

    experiment: str = "language_model"
    """Name of the experiment: a folder under `runs/`."""
    corpus: str = "kjv"
    """Name of a text, as `resonance_jax.data.corpus.load_corpus` knows it: "kjv" or "linux_doc"."""
    data_dir: str | None = None
    """Folder with the text in its published format; None looks in the installed packages."""
    tokenizer: str = "bytes"
    """"bytes" (a model.vocab_size of 256) or "bpe" (100,257)."""
    model: LanguageModelConfig = _MODEL
    """Configuration of the model."""
    seed: int = 0
    """Seed of the parameters, of dropout and of the data order."""
    num_steps: int | None = None
    """Steps of the run."""
    time_budget: float | None = 1200.0
    """Seconds of training (wall time, without compilation and evaluation) that the run takes."""
    context_length: int = 512
    """Tokens in a window, which begins with no state."""
    batch_size: int = 8
    """Windows in one step."""
    learning_rate: float = 4e-3
    """Peak rate of every parameter that is neither a magnitude nor a phase."""
    learning_rate_magnitude: float = 4e-3
    """Peak rate of the `log_magnitude` and `log_decay` parameters."""
    learning_rate_phase: float = 4e-3
    """Peak rate of the `phase` parameters, in radians per update."""
    adam_b2: float = 0.98
    """Decay of Adam's mean of squares."""
    warmup_steps: int = 100
    """Steps over which the rates rise; they fall linearly to 0 over the whole run."""
    weight_decay: float = 0.1
    """AdamW's decay, on kernels and tables (rank >= 2) outside the magnitudes and phases only."""
    gradient_clip: float | None = 1.0
    """Largest global norm of a group's gradient, each group by itself; None does not clip."""
    ema_decay: float = 0.0
    """Decay of the moving average of the parameters, which is then evaluated; 0 turns it off."""
    resets: bool = True
    """Forget the state where a document starts, in training and evaluation."""
    max_skipped_steps: int = 10
    """Stop with an error after this many steps in a row that were skipped as not finite."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    keep_checkpoints: int = 1
    """Latest checkpoints kept."""
    log_every: int = 20
    """Steps between lines in `metrics.jsonl`."""
    eval_every: int = 1000
    """Steps between evaluations on the validation split."""
    eval_length: int = 1024
    """Tokens that are evaluated at once where the state is carried on; attention takes windows of `context_length`."""
    eval_rows: int = 4
    """Parts of a split that are read side by side where the state is carried on; windows side by side for attention."""
    strategy: str = "jit"
    """How several devices share a batch: "jit", "pmap" or "shard_map", see `resonance_jax.training.sharding`."""
    num_devices: int = 1
    """Devices that share a batch, the first ones; 0 takes all."""
    parameters: str = "replicated"
    """"replicated", or "sharded": each device keeps a part of every parameter (strategy "jit" only)."""

    def __post_init__(self) -> None:
        """Checks each field."""
        check_fields(self, _RULES)
        check_sharded(self)
        if not isinstance(self.model, LanguageModelConfig):
            raise ValueError(
                f"LanguageTrainConfig.model must be a LanguageModelConfig, got {self.model!r}"
            )
        if (self.num_steps is None) == (self.time_budget is None):
            raise ValueError(
                f"a run ends after num_steps or after time_budget: set one of them and the other to None, got "
                f"{self.num_steps} and {self.time_budget}"
            )
        if self.model.num_frequent:
            raise ValueError(
                "model.num_frequent needs ids that are ranks by frequency, and tokenizers give others: set it to 0, "
                "or write a loop of your own on `ops.vocabulary.rank_by_frequency`"
            )
        if self.context_length < 2 and self.model.mixer == "attention":
            raise ValueError(
                "attention is evaluated in windows of 2 tokens or more: set context_length"
            )
        if self.resets and self.model.memory_layers:
            raise ValueError("model.memory_layers have no resets: set resets to False")

    @property
    def model_name(self) -> str:
        """Returns the short name of the model: "resonance" or "transformer"."""
        return MODEL_NAMES[self.model.mixer]

    @property
    def evaluation_options(self) -> dict[str, Any]:
        """Returns how `score_text` reads a text with this model."""
        length = self.eval_length if self.model.mixer == "resonance" else self.context_length
        return {"length": length, "batch_size": self.eval_rows, "resets": self.resets}

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values; the model carries its short name as `kind`."""
        return to_plain(dataclasses.asdict(self)) | {
            "model": {"kind": self.model_name, **to_plain(dataclasses.asdict(self.model))}
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LanguageTrainConfig":
        """Builds the configuration that `to_dict` wrote; unknown fields are an error."""
        model = {name: value for name, value in values["model"].items() if name != "kind"}
        return build(cls, values | {"model": build(LanguageModelConfig, model)})

    def to_json(self) -> str:
        """Returns the configuration as indented JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "LanguageTrainConfig":
        """Builds the configuration from the JSON that `to_json` wrote."""
        return cls.from_dict(json.loads(text))


_RULES = (
    Rule("experiment", is_folder_name, "a name that can be a folder"),
    Rule("seed", lambda v: is_int(v) and 0 <= v < 2**31, "an integer in [0, 2**31)"),
    Rule(
        "num_steps",
        lambda v: v is None or (is_int(v) and v >= 1),
        "an integer of at least 1 or None",
    ),
    Rule(
        "time_budget",
        lambda v: v is None or (is_real(v) and v > 0),
        "a positive number of seconds or None",
    ),
    Rule("warmup_steps", lambda v: is_int(v) and v >= 0, "an integer of at least 0"),
    *map(positive_int, ("context_length", "batch_size", "eval_length", "eval_rows")),
    *map(positive_int, ("checkpoint_every", "keep_checkpoints", "log_every", "eval_every")),
    positive_int("max_skipped_steps"),
    *map(rate, ("learning_rate", "learning_rate_magnitude", "learning_rate_phase", "weight_decay")),
    clip("gradient_clip"),
    *map(fraction, ("adam_b2", "ema_decay")),
    *DEVICE_RULES,
)
