"""One training run: what is compiled, stepped, watched, logged, saved and restored."""

import json
import math
import time
from pathlib import Path
from typing import Any

import jax

from resonance_jax.data.iterator import BatchIterator
from resonance_jax.data.split import Dataset, Split, hold_out
from resonance_jax.training.checkpoint import CheckpointStore
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.devices import choose_devices
from resonance_jax.training.evaluation import Evaluation, evaluate
from resonance_jax.training.losses import SCORES, is_better
from resonance_jax.training.metrics_log import MetricsLog
from resonance_jax.training.monitor import check_finite
from resonance_jax.training.optimizer import learning_rates
from resonance_jax.training.processes import common_signal, is_first, on_first, own_part
from resonance_jax.training.program import get_program, model_loss
from resonance_jax.training.progress import ProgressReporter
from resonance_jax.training.result import RunResult, surroundings, write_atomically
from resonance_jax.training.signals import SignalFlag, TrainingInterrupted
from resonance_jax.training.state_arrays import from_arrays

# Steps in flight before the host waits: without a bound, a loop of steps with a collective can
# deadlock on forced host devices, and the host runs far ahead of what it reports.
MAX_STEPS_IN_FLIGHT = 32


class Run:
    """One run in one folder, from where its latest checkpoint says it was.

    Args:
        config: what to train.
        run_dir: folder of the run.
        dataset: the data that `config` names.
    Raises:
        CheckpointMismatchError: if the folder holds a checkpoint of another configuration.
        CheckpointError: if there are checkpoints and none can be read.
    """

    def __init__(self, config: TrainConfig, run_dir: Path, dataset: Dataset) -> None:
        self.config, self.run_dir, self.dataset = config, run_dir, dataset
        self.train_split, self.validation = _splits(config, dataset)
        self.batches = BatchIterator(
            *(self.train_split, config.batch_size),
            seed=config.seed,
            augment=config.augment,
            part=own_part(),
        )
        self.steps_per_epoch = self.batches.batches_per_epoch
        self.total = config.num_epochs * self.steps_per_epoch
        self.program = get_program(config, self.total)
        self.devices = choose_devices(config)
        self.state = self.program.init_state(config.seed, self.batches.peek())
        self.num_parameters = sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
        self.step = 0
        self.scores = SCORES[config.model.head]
        self.interval = self._no_steps()  # Sums since the last log line.
        self.best: dict[str, Any] | None = None
        self.watch = Stopwatch()
        self.store = CheckpointStore(run_dir / "checkpoints", config)
        lines, self.messages = self._restore()
        events = run_dir / "tensorboard" if config.tensorboard else None
        path = run_dir / "metrics.jsonl" if is_first() else None
        self.log = MetricsLog(path, self.step, lines=lines, tensorboard=events)
        self._pending: list[dict[str, jax.Array]] = []
        self._last: dict[str, Any] = {}

    def close(self) -> None:
        """Waits for a checkpoint in progress and closes the files."""
        try:
            self.log.close()
        finally:
            self.store.close()

    def train(self, flag: SignalFlag, *, progress: bool, max_steps: int | None) -> RunResult:
        """Trains to the end, or to `max_steps`, or until a signal arrives.

        Raises:
            TrainingInterrupted: after a signal, when all is saved.
        """
        total = self.total if max_steps is None else min(self.total, max_steps)
        title = f"{self.config.experiment} {self.config.model_name}"
        epochs, shows = self.config.num_epochs, progress and is_first()
        with ProgressReporter(total, epochs, title, enabled=shows) as self.shown:
            for line in self.messages:
                self.shown.note(line)
            self.state = self.devices.place(self.state)
            first = self.devices.shard(self.batches.peek())
            self.compiled = self.program.compile(self.state, first, self.devices)
            self.watch.start(self.step)
            while self.step < total:
                batch = self.devices.shard(next(self.batches))
                self.state, metrics = self.compiled.call(self.state, batch)
                self._pending.append(metrics)
                self.step += 1
                self._after_step(flag, last=self.step == total)
            return self._finish()

    def _after_step(self, flag: SignalFlag, *, last: bool) -> None:
        config, step = self.config, self.step
        at_log, at_save = step % config.log_every == 0, step % config.checkpoint_every == 0
        epochs, rest = divmod(step, self.steps_per_epoch)
        evaluates = rest == 0 and epochs % config.eval_every == 0 and not last
        full = len(self._pending) >= MAX_STEPS_IN_FLIGHT
        waits = at_log or at_save or evaluates or last or full
        stop = common_signal(flag, waits=waits)
        if waits or stop:
            self._collect()
        if at_log or last:
            self._log_training()
        if evaluates:
            self._evaluate_between()
        if last:
            return
        if at_save or stop or (evaluates and self.validation is not None):
            self._save(wait=bool(stop))
        if stop:
            raise TrainingInterrupted(self.run_dir, step, stop)

    def _collect(self) -> None:
        """Fetches the metrics of the steps since the last time, which waits for them."""
        records = jax.device_get(self._pending)
        self._pending = []
        self.watch.lap()
        check_finite(records, self.config.max_skipped_steps, self.step)
        for record in records:
            if not record["consecutive_skipped"]:  # what was skipped is counted as that
                for name in ("loss", *self.scores):
                    self.interval[name] += float(record[name])
                self.interval["count"] += 1
            self._last = record

    def _log_training(self) -> None:
        count = self.interval["count"] or math.nan
        found = self.devices.read(learning_rates(self.state.opt_state))
        rates = {name: float(rate) for name, rate in found.items()}
        record = {
            "kind": "train",
            **self._place(),
            **{name: self.interval[name] / count for name in ("loss", *self.scores)},
            **{name: float(v) for name, v in self._last.items() if name.startswith("grad_norm")},
            "learning_rate": rates["other"],
            "learning_rate_magnitude": rates["magnitude"],
            "learning_rate_phase": rates["phase"],
            "examples_per_second": self.watch.rate(self.step) * self.config.batch_size,
            "skipped": int(self._last["skipped"]),
        }
        self.interval = self._no_steps()
        self.log.write(record)
        self.shown.train(record)

    def _no_steps(self) -> dict[str, float]:
        return {**dict.fromkeys(("loss", *self.scores), 0.0), "count": 0}

    def _place(self) -> dict[str, Any]:
        return {"step": self.step, "epoch": self.step / self.steps_per_epoch}

    def _evaluate_between(self) -> None:
        if self.validation is None:
            self._log_evaluation("test", self._evaluate(self.dataset.test))
        else:
            found = self._evaluate(self.validation)
            self._log_evaluation("validation", found)
            self._note_best(found)
        self.watch.skip()

    def _evaluate(self, split: Split) -> Evaluation:
        size, classes = self.config.batch_size, self.dataset.num_classes
        state = self.devices.fetch(self.state)
        loss = model_loss(self.config.model)
        return evaluate(state.apply_fn, state.eval_variables, split, size, classes, loss)

    def _log_evaluation(self, name: str, found: Evaluation) -> None:
        scores = {name: found.scores[name] for name in self.scores}
        record = {"kind": "eval", "split": name, **self._place(), "loss": found.loss, **scores}
        self.log.write(record)
        self.shown.evaluation(record)

    def _note_best(self, found: Evaluation) -> None:
        name = self.scores[0]
        if self.best is None or is_better(name, found.scores[name], self.best[name]):
            self.best = {"step": self.step, name: found.scores[name]}

    def _save(self, *, wait: bool) -> None:
        self.log.sync()
        host = {
            "batches": self.batches.get_state(),
            "seconds": self.watch.seconds,
            "interval": self.interval,
            "best": self.best,
            "lines": self.log.lines,
        }
        best = None if self.best is None else self.best["step"]
        self.store.save(self.devices.fetch(self.state), host, best=best, wait=wait)

    def _restore(self) -> tuple[int, list[str]]:
        """Returns how many lines of the metrics to keep, and what to tell the user."""
        restored = self.store.restore()
        if restored is None:
            return 0, []
        self.state = from_arrays(self.state, restored.arrays)
        self.step, host = restored.step, restored.host
        self.batches.set_state(host["batches"])
        self.interval, self.best = dict(host["interval"]), host["best"]
        self.watch.seconds = host["seconds"]
        aside = self.run_dir / "unreadable"
        messages = [
            f"the checkpoint of step {step} could not be read; it was set aside in {aside}"
            for step in restored.unreadable
        ]
        return host["lines"], [*messages, f"continuing from step {self.step} of {self.total}"]

    def _finish(self) -> RunResult:
        """Evaluates the last step's parameters and writes the result.

        The last checkpoint comes before the last lines of the metrics: a run that ends in between
        writes them when it is started again, once.
        """
        validation = None if self.validation is None else self._evaluate(self.validation)
        test = self._evaluate(self.dataset.test)
        if validation is not None:
            self._note_best(validation)
        self._save(wait=True)
        if validation is not None:
            self._log_evaluation("validation", validation)
        self._log_evaluation("test", test)
        return on_first(lambda: self._write_result(test, validation))

    def _write_result(self, test: Evaluation, validation: Evaluation | None) -> RunResult:
        examples = self.run_dir / "examples.json"
        if test.examples:
            write_atomically(examples, json.dumps(test.examples, allow_nan=False) + "\n")
        else:  # those of a run that was stopped earlier
            examples.unlink(missing_ok=True)
        result = self._result(test, {} if validation is None else validation.scores)
        write_atomically(self.run_dir / "result.json", result.to_json())
        return result

    def _result(self, test: Evaluation, validation: dict[str, float]) -> RunResult:
        epochs = self.step / self.steps_per_epoch
        forecasts = self.config.model.head == "forecast"
        return RunResult(
            experiment=self.config.experiment,
            model=self.config.model_name,
            dataset=self.config.dataset,
            seed=self.config.seed,
            test_accuracy=test.scores.get("accuracy"),
            test_loss=test.loss,
            validation_accuracy=validation.get("accuracy"),
            parameters=self.num_parameters,
            seconds_per_epoch=self.watch.seconds / epochs,
            compile_seconds=self.compiled.seconds,
            peak_memory_bytes=self.compiled.peak_memory,
            train_seconds=self.watch.seconds,
            steps=self.step,
            epochs=epochs,
            confusion=test.confusion,
            class_names=list(self.dataset.class_names),
            scores=test.scores if forecasts else {},
            validation_scores=validation if forecasts else {},
            **surroundings(),
        )


class Stopwatch:
    """Seconds spent training, over all resumptions, and the speed since it was last asked."""

    def __init__(self) -> None:
        """Starts with no seconds spent."""
        self.seconds = 0.0

    def start(self, step: int) -> None:
        """Starts the time, at a step."""
        self._then = time.perf_counter()
        self._mark = (step, self.seconds)

    def lap(self) -> None:
        """Adds the time since the last lap or skip."""
        now = time.perf_counter()
        self.seconds += now - self._then
        self._then = now

    def skip(self) -> None:
        """Leaves out the time since the last lap."""
        self._then = time.perf_counter()

    def rate(self, step: int) -> float:
        """Returns steps per second since the last call."""
        old_step, old_seconds = self._mark
        self._mark = (step, self.seconds)
        return (step - old_step) / max(self.seconds - old_seconds, 1e-9)


def _splits(config: TrainConfig, dataset: Dataset) -> tuple[Split, Split | None]:
    if config.validation_fraction == 0:
        return dataset.train, None
    return hold_out(dataset.train, config.validation_fraction, config.seed)
