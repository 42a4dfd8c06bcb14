"""One training run of a language model: what is stepped, paced, watched, logged, saved and restored."""

import math
import time
from pathlib import Path
from typing import Any

import jax

from resonance_jax.data.corpus import Corpus, load_corpus
from resonance_jax.data.packing import (
    PackedBatches,
    Tokens,
    encode_corpus,
    read_tokens,
    write_tokens,
)
from resonance_jax.data.tokenizer import Tokenizer, check_fingerprint, make_tokenizer
from resonance_jax.training.checkpoint import CheckpointStore
from resonance_jax.training.devices import choose_devices
from resonance_jax.training.language_config import LanguageTrainConfig
from resonance_jax.training.language_evaluation import TextScore, score_text
from resonance_jax.training.language_program import get_language_program, step_batch
from resonance_jax.training.language_result import LanguageResult
from resonance_jax.training.metrics_log import MetricsLog
from resonance_jax.training.monitor import check_finite
from resonance_jax.training.optimizer import learning_rates, with_learning_rates
from resonance_jax.training.processes import (
    common_signal,
    is_first,
    of_first,
    on_first,
    own_part,
)
from resonance_jax.training.progress import LanguageProgress
from resonance_jax.training.result import surroundings, write_atomically
from resonance_jax.training.run import Stopwatch
from resonance_jax.training.signals import SignalFlag, TrainingInterrupted
from resonance_jax.training.state_arrays import from_arrays


class LanguageRun:
    """One run in one folder, from where its latest checkpoint says it was.

    Args:
        config: what to train.
        run_dir: folder of the run.
    Raises:
        ValueError: if corpus or tokenizer are unknown, the model does not fit them, or the checkpoint is of another
            tokenizer.
        CheckpointMismatchError: if the folder holds a checkpoint of another configuration.
        CheckpointError: if there are checkpoints and none can be read.
    """

    def __init__(self, config: LanguageTrainConfig, run_dir: Path) -> None:
        self.config, self.run_dir = config, run_dir
        self.tokenizer = make_tokenizer(config.tokenizer)
        check_vocabulary(config, self.tokenizer)
        self.corpus = load_text(config)
        self.tokens = {
            split: encode_split(self.corpus, split, self.tokenizer, run_dir.parent / "tokens")
            for split in ("train", "validation", "test")
        }
        self.batches = PackedBatches(
            *(self.tokens["train"], config.context_length, config.batch_size),
            seed=config.seed,
            part=own_part(),
        )
        self.program = get_language_program(config)
        self.devices = choose_devices(config)
        self.state = self.program.init_state(config.seed)
        self.num_parameters = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        self.step = 0
        self.interval = {"loss": 0.0, "count": 0}  # Sums since the last log line.
        self.watch = Stopwatch()
        self.evaluation_seconds = 0.0
        self.store = CheckpointStore(run_dir / "checkpoints", config)
        lines, self.messages = self._restore()
        path = run_dir / "metrics.jsonl" if is_first() else None
        self.log = MetricsLog(path, self.step, lines=lines)
        self._pending: list[dict[str, jax.Array]] = []
        self._last: dict[str, Any] = {}

    def close(self) -> None:
        """Waits for a checkpoint in progress and closes the files."""
        try:
            self.log.close()
        finally:
            self.store.close()

    @property
    def progress(self) -> float:
        """Returns the part of the run that is over, in steps or in time."""
        if self.config.num_steps is not None:
            return self.step / self.config.num_steps
        assert self.config.time_budget is not None  # the configuration has checked it
        return min(1.0, self.watch.seconds / self.config.time_budget)

    def train(self, flag: SignalFlag, *, progress: bool) -> LanguageResult:
        """Trains to the end or until a signal arrives.

        Raises:
            TrainingInterrupted: after a signal, when all is saved.
        """
        title = f"{self.config.experiment} {self.config.model_name}"
        with LanguageProgress(title, enabled=progress and is_first()) as self.shown:
            for line in self.messages:
                self.shown.note(line)
            self.state = self.devices.place(self.state)
            first = self._share(self.batches.peek())
            self.compiled = self.program.compile(self._paced_state(), first, self.devices)
            self.watch.start(self.step)
            while self.progress < 1:
                batch = self._share(next(self.batches))
                self.state, metrics = self.compiled.call(self._paced_state(), batch)
                self._pending.append(metrics)
                self.step += 1
                self._after_step(flag)
            return self._finish()

    def _share(self, batch: dict[str, Any]) -> Any:
        return self.devices.shard(step_batch(batch, resets=self.config.resets))

    def _paced_state(self) -> Any:
        """Returns the state with the rates of the next step: a linear rise, and a linear fall to 0 at the end."""
        config = self.config
        scale = min(1.0, (self.step + 1) / (config.warmup_steps + 1)) * (1 - self.progress)
        rates = {
            "magnitude": scale * config.learning_rate_magnitude,
            "phase": scale * config.learning_rate_phase,
            "other": scale * config.learning_rate,
        }
        rates = self.devices.spread(rates)
        return self.state.replace(opt_state=with_learning_rates(self.state.opt_state, rates))

    def _after_step(self, flag: SignalFlag) -> None:
        config, step = self.config, self.step
        at_log, at_save = step % config.log_every == 0, step % config.checkpoint_every == 0
        evaluates = step % config.eval_every == 0
        waits = at_log or at_save or evaluates
        stop = common_signal(flag, waits=waits)
        # One step stays in flight while the next batch is made; time is known up to the one before.
        self._collect(in_flight=0 if waits or stop else 1)
        last = self.progress >= 1
        if last:
            self._collect(in_flight=0)
        if at_log or last:
            self._log_training()
        if last:
            return
        if evaluates:
            self._log_evaluation("validation", self._evaluate("validation"))
        if at_save or stop:
            self._save(wait=bool(stop))
        if stop:
            raise TrainingInterrupted(self.run_dir, step, stop)

    def _collect(self, *, in_flight: int) -> None:
        """Fetches the metrics of the steps since the last time but the last ones, which waits for them."""
        count = len(self._pending) - in_flight
        if count <= 0:
            return
        records = jax.device_get(self._pending[:count])
        self._pending = self._pending[count:]
        self.watch.lap()
        if self.config.time_budget is not None:  # which decides the rates and the end
            self.watch.seconds = of_first(self.watch.seconds)
        check_finite(records, self.config.max_skipped_steps, self.step - in_flight)
        for record in records:
            if not record["consecutive_skipped"]:  # what was skipped is counted as that
                self.interval["loss"] += float(record["loss"])
                self.interval["count"] += 1
            self._last = record

    def _log_training(self) -> None:
        self.train_loss = self.interval["loss"] / (self.interval["count"] or math.nan)
        found = self.devices.read(learning_rates(self.state.opt_state))
        rates = {name: float(rate) for name, rate in found.items()}
        record = {
            "kind": "train",
            **self._place(),
            "loss": self.train_loss,
            **{name: float(v) for name, v in self._last.items() if name.startswith("grad_norm")},
            "learning_rate": rates["other"],
            "learning_rate_magnitude": rates["magnitude"],
            "learning_rate_phase": rates["phase"],
            "tokens_per_second": self.watch.rate(self.step) * self._tokens_per_step,
            "skipped": int(self._last["skipped"]),
        }
        self.interval = {"loss": 0.0, "count": 0}
        self.log.write(record)
        self.shown.train(record)

    @property
    def _tokens_per_step(self) -> int:
        return self.config.batch_size * self.config.context_length

    def _place(self) -> dict[str, Any]:
        epoch = self.step / self.batches.batches_per_epoch
        return {"step": self.step, "epoch": epoch, "progress": self.progress}

    def _evaluate(self, split: str) -> TextScore:
        started = time.perf_counter()
        found = score_text(
            self.program.model,
            self.devices.fetch(self.state).eval_variables,
            self.tokens[split],
            **self.config.evaluation_options,
        )
        self.evaluation_seconds += time.perf_counter() - started
        self.watch.skip()
        return found

    def _log_evaluation(self, split: str, found: TextScore) -> None:
        scores = {"bits_per_byte": found.bits_per_byte, "perplexity": found.perplexity}
        record = {"kind": "eval", "split": split, **self._place(), **scores}
        self.log.write(record)
        self.shown.evaluation(record)

    def _save(self, *, wait: bool) -> None:
        self.log.sync()
        host = {
            "batches": self.batches.get_state(),
            "seconds": self.watch.seconds,
            "evaluation_seconds": self.evaluation_seconds,
            "interval": self.interval,
            "train_loss": getattr(self, "train_loss", None),
            "lines": self.log.lines,
            "tokenizer": self.tokenizer.fingerprint,
        }
        self.store.save(self.devices.fetch(self.state), host, wait=wait)

    def _restore(self) -> tuple[int, list[str]]:
        """Returns how many lines of the metrics to keep, and what to tell the user."""
        restored = self.store.restore()
        if restored is None:
            return 0, []
        host = restored.host
        check_fingerprint(self.tokenizer, host["tokenizer"], str(self.run_dir))
        self.state = from_arrays(self.state, restored.arrays)
        self.step = restored.step
        self.batches.set_state(host["batches"])
        self.interval = dict(host["interval"])
        self.train_loss = host["train_loss"]
        self.watch.seconds = host["seconds"]
        self.evaluation_seconds = host["evaluation_seconds"]
        aside = self.run_dir / "unreadable"
        messages = [
            f"the checkpoint of step {step} could not be read; it was set aside in {aside}"
            for step in restored.unreadable
        ]
        return host["lines"], [
            *messages,
            f"continuing from step {self.step}, {self.progress:.0%} of the run",
        ]

    def _finish(self) -> LanguageResult:
        """Evaluates the last step's parameters and writes the result.

        The last checkpoint comes before the last lines of the metrics: a run that ends in between writes them when it
        is started again, once.
        """
        scores = {split: self._evaluate(split) for split in ("validation", "test")}
        self._save(wait=True)
        for split, found in scores.items():
            self._log_evaluation(split, found)
        return on_first(lambda: self._write_result(scores))

    def _write_result(self, scores: dict[str, TextScore]) -> LanguageResult:
        result = self._result(**scores)
        write_atomically(self.run_dir / "result.json", result.to_json())
        return result

    def _result(self, validation: TextScore, test: TextScore) -> LanguageResult:
        tokens_seen = self.step * self._tokens_per_step
        return LanguageResult(
            experiment=self.config.experiment,
            model=self.config.model_name,
            corpus=self.config.corpus,
            corpus_sha256=self.corpus.sha256,
            tokenizer=self.config.tokenizer,
            tokenizer_fingerprint=self.tokenizer.fingerprint,
            seed=self.config.seed,
            test_bits_per_byte=test.bits_per_byte,
            test_perplexity=test.perplexity,
            validation_bits_per_byte=validation.bits_per_byte,
            validation_perplexity=validation.perplexity,
            train_loss=self.train_loss if math.isfinite(self.train_loss) else None,
            parameters=self.num_parameters,
            steps=self.step,
            epochs=self.step / self.batches.batches_per_epoch,
            tokens_seen=tokens_seen,
            tokens_per_second=tokens_seen / self.watch.seconds,
            train_seconds=self.watch.seconds,
            compile_seconds=self.compiled.seconds,
            evaluation_seconds=self.evaluation_seconds,
            peak_memory_bytes=self.compiled.peak_memory,
            **surroundings(),
        )


def load_text(config: LanguageTrainConfig, data_dir: str | Path | None = None) -> Corpus:
    """Loads a configuration's corpus, from a folder of one's own where one is given."""
    return load_corpus(config.corpus, data_dir or config.data_dir)


def check_vocabulary(config: LanguageTrainConfig, tokenizer: Tokenizer) -> None:
    """Raises ValueError if the model's vocabulary is not the tokenizer's."""
    if config.model.vocab_size != tokenizer.vocab_size:
        raise ValueError(
            f"the tokenizer {tokenizer.name!r} has {tokenizer.vocab_size} ids: expected model.vocab_size "
            f"{tokenizer.vocab_size}, got {config.model.vocab_size}"
        )


def encode_split(corpus: Corpus, split: str, tokenizer: Tokenizer, cache: Path) -> Tokens:
    """Encodes a split of a corpus; what takes long, all but bytes, is kept in a folder.

    Args:
        corpus: the text.
        split: "train", "validation" or "test".
        tokenizer: encodes it.
        cache: folder of the files, made if absent; one that can't be used is written anew.
    """
    name = f"{corpus.name} {split} {corpus.sha256[:16]}"
    if tokenizer.name == "bytes":
        return encode_corpus(getattr(corpus, split), tokenizer, name)
    path = cache / f"{name} {tokenizer.name}.tokens".replace(" ", "-")
    try:
        return read_tokens(path, tokenizer, name)
    except (FileNotFoundError, ValueError):  # absent; damaged, or of another tokenizer
        tokens = encode_corpus(getattr(corpus, split), tokenizer, name)
        if not is_first():
            return tokens
        write_tokens(path, tokens)
        return read_tokens(path, tokenizer, name)
