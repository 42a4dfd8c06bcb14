"""`resonance-jax train | launch | tune | evaluate | generate | inspect | claims`: parses, calls, prints."""

import dataclasses
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any

import jax
import rich.console
import rich.live
import tyro

from resonance_jax.claims import ledger
from resonance_jax.claims.page import format_ledger, make_page, summarize_verdicts
from resonance_jax.commands import (
    Claims,
    Command,
    Evaluate,
    Generate,
    Inspect,
    Launch,
    Train,
    Tune,
)
from resonance_jax.training import (
    cluster,
    compare,
    experiment_files,
    language,
    language_compare,
    report,
)
from resonance_jax.training import tune as tuning
from resonance_jax.training.experiment_files import find_experiment, make_configs
from resonance_jax.training.language_config import LanguageTrainConfig
from resonance_jax.training.launch import launch
from resonance_jax.training.loop import evaluate_run
from resonance_jax.training.monitor import NonFiniteGradientError
from resonance_jax.training.processes import is_first
from resonance_jax.training.result import write_atomically
from resonance_jax.training.signals import TrainingInterrupted
from resonance_jax.training.state_arrays import CheckpointError

TABLE_WIDTH = 110
USER_ERRORS = (ValueError, OSError, CheckpointError, NonFiniteGradientError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns its exit status: 0, 2 after an error, 128 + n after signal n."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return cluster.leave(_run(words))
    except KeyboardInterrupt:  # while nothing trains, or a second time
        print("resonance-jax: interrupted", file=sys.stderr)
        return cluster.leave(128 + signal.SIGINT, alone=True)
    except SystemExit as end:  # of a command line that cannot be parsed, whose message is printed
        cluster.leave(end.code if isinstance(end.code, int) else 2, alone=True)
        raise
    except BaseException:
        if jax.distributed.is_initialized():  # The others must not wait for this process.
            traceback.print_exc()
            cluster.leave(1, alone=True)
        raise


def _run(words: list[str]) -> int:
    end = words.index("--") if words[:1] == ["launch"] and "--" in words else len(words)
    command, overrides = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="resonance-jax",
        description=__doc__,
        args=words[:end],
        return_unknown_args=True,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    try:
        if isinstance(command, Train):
            return _train(command, overrides, shlex.join(["resonance-jax", *words]))
        if isinstance(command, Tune):
            return _tune(command, overrides, shlex.join(["resonance-jax", *words]))
        if isinstance(command, Launch) and not overrides:
            launched = words[end + 1 :]
            return launch(launched, command.num_processes, command.devices_per_process)
        if overrides:
            raise ValueError(f"unrecognized arguments: {' '.join(overrides)}")
        run = {
            Evaluate: _evaluate,
            Generate: _generate,
            Inspect: _inspect,
            Claims: _claims,
        }[type(command)]
        return run(command)
    except TrainingInterrupted as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signal_number
    except USER_ERRORS as error:
        print(f"resonance-jax: {error}", file=sys.stderr)
        return 2
    except jax.errors.JaxRuntimeError as error:
        lost = cluster.explain_lost(error)
        if lost is None:
            raise
        print(f"resonance-jax: {lost}", file=sys.stderr)
        return cluster.OTHER_DIED


def _train(train: Train, overrides: list[str], command: str) -> int:
    if train.list:
        make_configs(train.experiment, train.models, train.seeds, ["--help"])  # prints and leaves
    members = train.coordinator, train.num_processes, train.process_id
    if train.distributed:
        cluster.join(*members, timeout=train.timeout)
    elif members != (None, None, None):
        raise ValueError(
            "--coordinator, --num-processes and --process-id need --distributed as well."
        )
    configs = make_configs(train.experiment, train.models, train.seeds, overrides)
    if jax.process_count() > 1:
        configs = [
            dataclasses.replace(config, num_devices=0) if config.num_devices == 1 else config
            for config in configs
        ]
    options: dict[str, Any] = dict(
        command=command,
        results=train.results,
        resume=not train.fresh,
        progress=not train.quiet,
    )
    if isinstance(configs[0], LanguageTrainConfig):
        found = language_compare.train_language_models(configs, train.out, **options)
        if is_first():
            _wide_console().print(language_compare.format_language_table(found))
        return 0
    results, page = compare.train_all(configs, train.out, **options)
    if is_first():
        _wide_console().print(report.format_table(results))
        print(f"report: {page}")
    return 0


def _wide_console() -> rich.console.Console:
    """A table too wide for the terminal wraps; cut to its width it would lose figures."""
    return rich.console.Console(width=max(rich.console.Console().width, TABLE_WIDTH))


def _tune(tune: Tune, overrides: list[str], command: str) -> int:
    experiment = find_experiment(tune.experiment)
    if not getattr(experiment, "SEARCH", None):
        raise ValueError(f"{tune.experiment} has no SEARCH of trials.")
    trials = [
        (name, config)
        for name, changes in experiment.SEARCH.items()
        for config in make_configs(
            tune.experiment, tune.models, (0,), [*changes.split(), *overrides]
        )
    ]
    found = tuning.tune(trials, tune.out, tune.results, command=command, progress=not tune.quiet)
    for trial in found["trials"]:
        score = next(value for key, value in trial.items() if key.startswith("validation_"))
        best = "  <- best" if found["best"][trial["model"]] == trial["name"] else ""
        print(f"{trial['model']:12} {trial['name']:16} {score:.4f}{best}")
    return 0


def _evaluate(evaluate: Evaluate) -> int:
    if language.is_language_run(evaluate.run):
        score = language.evaluate_language_model(evaluate.run, evaluate.data_dir)
        print(f"test: {score.bits_per_byte:.4f} bits/byte, perplexity {score.perplexity:.3f}")
        return 0
    found = evaluate_run(evaluate.run, evaluate.data_dir)
    scores = {name: value for name, value in found.items() if isinstance(value, float)}
    shown = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
    print(f"step {found['step']}: test {shown}")
    return 0


def _generate(generate: Generate) -> int:
    options = dataclasses.asdict(generate)
    prompt, count = options.pop("prompt"), options.pop("max_new_tokens")
    run = language.load_language_model(options.pop("run"))
    pieces = language.write_text(run, prompt, count, **options)
    print(prompt, end="", flush=True)
    written, first, started = 0, 0, 0.0
    for text, tokens in pieces:
        print(text, end="", flush=True)
        written += tokens
        if not started:  # the first piece waited for compilation
            first, started = written, time.perf_counter()
    print(flush=True)
    speed = (written - first) / (time.perf_counter() - started)
    print(f"{written} tokens" + f", {speed:,.0f} tokens/s" * (written > first), file=sys.stderr)
    return 0


def _inspect(inspect: Inspect) -> int:
    if language.is_language_run(inspect.run):
        raise ValueError(f"{inspect.run} holds a language model, which has no spectra to draw.")
    spectra = compare.read_spectra(inspect.run, inspect.data_dir)
    page = inspect.out or inspect.run / "inspection" / "index.html"
    for path in report.write_inspection(page, spectra, f"Learned spectra of {inspect.run}"):
        print(path)
    return 0


def _claims(command: Claims) -> int:
    folders = [folder / "claims" for folder in experiment_files.FOLDERS]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise ValueError(f"no claims were found in {', '.join(map(str, folders))}.")
    pending = ledger.load_pending(folder)
    claims = ledger.select_claims(command.ids, ledger.load_claims(folder), pending)
    size = "full" if command.full else "quick"
    path = command.out / "claims.json"
    console = _wide_console()
    with rich.live.Live(console=console, auto_refresh=False, transient=True) as live:

        def show(running, records):
            if console.is_terminal:  # the last few rows: a screen is shorter than the ledger
                shown = claims[max(0, len(records) - 8) : len(records) + 3]
                live.update(format_ledger(shown, records, running), refresh=True)

        measured = ledger.measure_ledger(claims, path, size, report=show)
    records = {record["id"]: record for record in measured["claims"]}
    console.print(format_ledger(claims, records))
    page = path.with_suffix(".html")
    write_atomically(page, make_page(measured, pending))
    print(f"{summarize_verdicts(measured['claims'], pending)}\n{path}\n{page}")
    missing = [claim.id for claim in claims if records[claim.id]["verdict"] is None]
    if missing:
        print(f"resonance-jax: not measured: {', '.join(missing)}", file=sys.stderr)
    return 2 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
