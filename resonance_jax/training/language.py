"""Trains a language model to its end, from wherever its run folder says it was; loads it, and writes text with it.

    result = train_language_model(LanguageTrainConfig(...), "runs/language_model/resonance-seed0")
    model, variables, tokenizer = load_language_model("runs/language_model/resonance-seed0")

The same call again continues an interrupted run (bit for bit where it is counted in steps), and returns a finished one
at once.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from resonance_jax.data.tokenizer import (
    StreamDecoder,
    Tokenizer,
    check_fingerprint,
    make_tokenizer,
)
from resonance_jax.models.generation import stream
from resonance_jax.models.language_model import LanguageModel
from resonance_jax.training.checkpoint import CheckpointStore, check_same_run, is_disk_full
from resonance_jax.training.language_config import LanguageTrainConfig
from resonance_jax.training.language_evaluation import TextScore, score_text
from resonance_jax.training.language_result import LanguageResult
from resonance_jax.training.language_run import LanguageRun, encode_split, load_text
from resonance_jax.training.processes import on_first
from resonance_jax.training.result import write_atomically
from resonance_jax.training.signals import noticed_signals
from resonance_jax.training.state_arrays import CheckpointError


def train_language_model(
    config: LanguageTrainConfig,
    run_dir: str | Path,
    *,
    resume: bool = True,
    progress: bool = True,
) -> LanguageResult:
    """Trains, evaluates on the validation and test splits after the last step, and writes `result.json`.

    The folder then holds config.json, metrics.jsonl, checkpoints/ and result.json; beside it, tokens/ keeps the text
    as token ids where the tokenizer is slow.

    Args:
        config: what to train.
        run_dir: folder of the run.
        resume: continue what the folder holds, and return its result if it is finished; False deletes these files of
            an earlier run and starts afresh.
        progress: show progress on standard output.
    Returns:
        The result.
    Raises:
        ValueError: if corpus or tokenizer are unknown, the model does not fit them, or a checkpoint is of another
            tokenizer.
        DataNotFoundError: if the text or the vocabulary is absent; the message says how to get it.
        CheckpointMismatchError: if the folder holds a run of another configuration.
        CheckpointError: if a checkpoint cannot be written, or none can be read.
        NonFiniteGradientError: after `max_skipped_steps` steps in a row that were not finite.
        TrainingInterrupted: after Ctrl-C or SIGTERM, when all is saved.
    """
    run_dir = Path(run_dir)
    try:
        if not resume:
            on_first(lambda: _delete_run(run_dir))
        if (finished := on_first(lambda: _prepare_folder(config, run_dir))) is not None:
            return finished
        with noticed_signals() as flag, contextlib.closing(LanguageRun(config, run_dir)) as run:
            return run.train(flag, progress=progress)
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise CheckpointError(
            f"the disk is full: nothing more can be written in {run_dir}. Its checkpoints are intact; "
            "make room and run the same command again: it continues from there."
        ) from error


def load_language_model(run_dir: str | Path) -> tuple[LanguageModel, Any, Tokenizer]:
    """Loads (model, variables, tokenizer) of a run's latest checkpoint.

    Raises:
        CheckpointError: if the folder holds no checkpoint that can be read.
        ValueError: if it is no run of a language model, or the tokenizer is not the one it was trained with.
    """
    _, model, variables, tokenizer = _load(run_dir)
    return model, variables, tokenizer


def evaluate_language_model(
    run_dir: str | Path, data_dir: str | Path | None = None, *, split: str = "test"
) -> TextScore:
    """Scores the latest checkpoint of a run on a split of its corpus anew.

    Args:
        run_dir: folder of the run.
        data_dir: folder of the text; None takes the configuration's.
        split: "train", "validation" or "test".
    Raises:
        CheckpointError, ValueError: as `load_language_model`.
    """
    config, model, variables, tokenizer = _load(run_dir)
    corpus = load_text(config, data_dir)
    tokens = encode_split(corpus, split, tokenizer, Path(run_dir).parent / "tokens")
    return score_text(model, variables, tokens, **config.evaluation_options)


def write_text(
    run: tuple[LanguageModel, Any, Tokenizer], prompt: str, max_new_tokens: int, **options: Any
) -> Iterator[tuple[str, int]]:
    """Yields what a model writes behind a prompt, up to the end of the document: (characters, tokens they took).

    Args:
        run: as `load_language_model` returns it.
        prompt: a text, not empty.
        max_new_tokens: 1 or more.
        **options: `temperature`, `top_k`, `top_p`, `min_p` and `seed` of `resonance_jax.models.generation.stream`.
    Raises:
        ValueError: if the prompt is empty or too long, or an option is out of range; at once, not at the first piece.
    """
    model, variables, tokenizer = run
    if not prompt:
        raise ValueError("the prompt is empty: give a text to go on from, a space for instance.")
    end = tokenizer.end_of_text
    ids = tokenizer.encode(prompt)
    pieces = stream(model, variables, ids, max_new_tokens, stop=(end,), **options)

    def decoded() -> Iterator[tuple[str, int]]:
        decoder = StreamDecoder(tokenizer)
        for piece in pieces:
            yield decoder.push(piece), len(piece)
        yield decoder.finish(), 0

    return decoded()


def is_language_run(run_dir: str | Path) -> bool:
    """Says whether a folder holds the configuration of a language model's training."""
    path = Path(run_dir) / "config.json"
    return path.is_file() and "corpus" in json.loads(path.read_text("utf-8"))


def _load(run_dir: str | Path) -> tuple[LanguageTrainConfig, LanguageModel, Any, Tokenizer]:
    folder = Path(run_dir) / "checkpoints"
    if not folder.is_dir():
        raise CheckpointError(f"{run_dir} holds no checkpoint: train it first")
    if not is_language_run(run_dir):
        raise ValueError(f"{run_dir} is no run of a language model: name the folder of one.")
    store = CheckpointStore(folder, read_only=True, config_type=LanguageTrainConfig)
    with contextlib.closing(store):
        restored = store.restore()
    if restored is None:
        raise CheckpointError(f"{run_dir} holds no checkpoint: train it first")
    config = restored.config
    tokenizer = make_tokenizer(config.tokenizer)
    check_fingerprint(tokenizer, restored.host["tokenizer"], str(run_dir))
    params = restored.arrays.get("ema_params") or restored.arrays["params"]
    variables = jax.tree.map(jnp.asarray, {"params": params})
    return config, LanguageModel(config.model), variables, tokenizer


def _delete_run(run_dir: Path) -> None:
    for name in ("config.json", "metrics.jsonl", "result.json"):
        (run_dir / name).unlink(missing_ok=True)
    for name in ("checkpoints", "unreadable"):
        shutil.rmtree(run_dir / name, ignore_errors=True)


def _prepare_folder(config: LanguageTrainConfig, run_dir: Path) -> LanguageResult | None:
    """Checks what the folder holds, writes config.json, and returns the result of a finished run."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path, result = run_dir / "config.json", run_dir / "result.json"
    started = result.exists() or any((run_dir / "checkpoints").glob("[0-9]*"))
    if started and path.exists():
        check_same_run(config, LanguageTrainConfig.from_json(path.read_text()), run_dir)
    write_atomically(path, config.to_json())
    return LanguageResult.from_json(result.read_text()) if result.exists() else None
