"""What the training of a language model ends in: `LanguageResult`, as `result.json` holds it."""

import dataclasses
import json


@dataclasses.dataclass(frozen=True)
class LanguageResult:
    """The outcome of one run; all scores are of the last step's parameters, never selected."""

    experiment: str
    """Name of the experiment."""
    model: str
    """"resonance" or "transformer"."""
    corpus: str
    """Name of the text."""
    corpus_sha256: str
    """SHA-256 of the whole text: says which version it was."""
    tokenizer: str
    """"bytes" or "bpe"."""
    tokenizer_fingerprint: str
    """SHA-256 of the tokenizer's name and vocabulary."""
    seed: int
    """Seed of the run."""
    test_bits_per_byte: float
    """Bits that a byte of the test split costs."""
    test_perplexity: float
    """Perplexity per token on the test split."""
    validation_bits_per_byte: float
    """Bits that a byte of the validation split costs."""
    validation_perplexity: float
    """Perplexity per token on the validation split."""
    train_loss: float | None
    """Mean loss, nats a token, of the steps since the line of the log before the last; None where not finite."""
    parameters: int
    """Number of trained real parameters."""
    steps: int
    """Steps taken."""
    epochs: float
    """Passes over the training split that these steps are."""
    tokens_seen: int
    """Tokens in all steps' windows."""
    tokens_per_second: float
    """Tokens seen in a second of training."""
    train_seconds: float
    """Wall time of all steps, over all resumptions, without compilation and evaluation."""
    compile_seconds: float
    """Time to trace and compile the training step."""
    evaluation_seconds: float
    """Time of all evaluations, with their compilation."""
    peak_memory_bytes: int | None
    """XLA's figure for the step: arguments + outputs + temporaries − aliased; None if not known."""
    date: str
    """When the run ended, UTC, ISO 8601."""
    commit: str | None
    """Commit of the source ("+" appended where files had changed); None outside a repository."""
    device: str
    """Platform and kind of the device."""
    versions: dict[str, str]
    """Versions of Python and of the packages that compute."""

    def to_json(self) -> str:
        """Returns the result as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "LanguageResult":
        """Builds the result from what `to_json` wrote."""
        return cls(**json.loads(text))
