"""`resonance-jax train | launch | tune | evaluate | generate | inspect | claims`: parses, calls, prints."""

import dataclasses
import difflib
import importlib.util
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import jax
import rich.console
import rich.live
import tyro

from resonance_jax.claims import ledger
from resonance_jax.claims.page import format_ledger, make_page, summarize_verdicts
from resonance_jax.models.baselines import MODELS
from resonance_jax.training import cluster, compare, language, language_compare, report
from resonance_jax.training import tune as tuning
from resonance_jax.training.language_config import LanguageTrainConfig
from resonance_jax.training.launch import launch
from resonance_jax.training.loop import evaluate_run
from resonance_jax.training.monitor import NonFiniteGradientError
from resonance_jax.training.processes import is_first
from resonance_jax.training.result import write_atomically
from resonance_jax.training.signals import TrainingInterrupted
from resonance_jax.training.state_arrays import CheckpointError

PACKAGE = Path(__file__).parent
EXPERIMENT_FOLDERS = (Path("experiments"), PACKAGE.parent / "experiments", PACKAGE / "experiments")
TABLE_WIDTH = 110
USER_ERRORS = (ValueError, OSError, CheckpointError, NonFiniteGradientError)


@dataclasses.dataclass(frozen=True)
class Train:
    """Trains the models of an experiment, prints a table and writes a report.

    Every field of the experiment's configuration can be overridden: `--num-epochs 3 --model.hidden-dim 64`; list them
    with `resonance-jax train EXPERIMENT --list`. The same command again continues an interrupted run.
    """

    experiment: tyro.conf.Positional[str]
    """Name of a file in experiments/, or a path of one."""
    models: tuple[str, ...] = ()
    """Models to train, of resonance, transformer and fnet; the experiment's own choice by default."""
    seeds: tuple[int, ...] = (0,)
    """Seeds; one run each."""
    out: Path = Path("runs")
    """Parent of the run folders."""
    results: Path | None = None
    """JSON file for means, spreads and runs."""
    fresh: bool = False
    """Delete what the run folders hold and start again."""
    quiet: bool = False
    """Show no progress."""
    distributed: bool = False
    """Train together with other processes, on all devices of all; with the next three, or in a job of SLURM, Kubernetes
    or Open MPI. The first process writes the run folders."""
    coordinator: str | None = None
    """HOST:PORT of the first process, the same for all."""
    num_processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Number of this process, from 0."""
    timeout: int = 60
    """Seconds to wait for the other processes at the start."""
    list: bool = False
    """List the fields that can be overridden, with this experiment's values, and stop."""


@dataclasses.dataclass(frozen=True)
class Launch:
    """Runs a training in several processes on this host: launch -n 2 -- train EXPERIMENT ...

    If one dies the others are ended. The same command again continues an interrupted run.
    """

    num_processes: Annotated[int, tyro.conf.arg(aliases=["-n"])]
    """How many processes."""
    devices_per_process: int = 1
    """Devices of each process: so many parts that a CPU is made into, or so many GPUs."""


@dataclasses.dataclass(frozen=True)
class Tune:
    """Runs an experiment's search (its SEARCH: name -> overrides) for each model, judged on a validation split.

    Further overrides apply to every trial. The same command again goes on where it stopped.
    """

    experiment: tyro.conf.Positional[str]
    """Name of a file in experiments/, or a path of one."""
    results: tyro.conf.Positional[Path]
    """JSON file of the trials and the best of each model."""
    models: tuple[str, ...] = ()
    """Models to tune; the experiment's own choice by default."""
    out: Path = Path("runs")
    """Parent of the run folders."""
    quiet: bool = False
    """Show no progress."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Evaluates the latest checkpoint of a run on its test split."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    data_dir: Path | None = None
    """Folder of the data; the run's own by default."""


@dataclasses.dataclass(frozen=True)
class Generate:
    """Writes text with a trained language model, as it comes, up to the end of the document it invents."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    prompt: str
    """The text to go on from."""
    max_new_tokens: int = 500
    """Most tokens to write."""
    temperature: float = 1.0
    """Below 1 the probable becomes more probable; 0 always takes the most probable token."""
    top_k: int | None = None
    """Draw from this many most probable tokens only."""
    top_p: float | None = None
    """Draw from the most probable tokens that make up this probability."""
    min_p: float | None = None
    """Draw from the tokens at least this many times as probable as the most probable one."""
    seed: int = 0
    """Seed of the draws."""


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Draws the learned frequencies, magnitudes and phases of a run: a page, and a PNG a layer."""

    run: tyro.conf.Positional[Path]
    """Folder of the run."""
    out: Path | None = None
    """The page to write; inspection/index.html in the run's folder by default."""
    data_dir: Path | None = None
    """Folder of the data; the run's own by default."""


@dataclasses.dataclass(frozen=True)
class Claims:
    """Measures the claims of the literature and decides each: holds, holds when ..., fails.

    Prints a live table, and writes claims.json and claims.html.
    """

    ids: tyro.conf.Positional[tuple[str, ...]] = ()
    """Claims to measure, such as R3 N10; all by default."""
    full: bool = False
    """Full size: longer sequences, more seeds; hours for the claims that train models. Otherwise about 3 minutes."""
    out: Path = Path("runs/claims")
    """Folder of claims.json and claims.html."""


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Launch, tyro.conf.subcommand("launch")]
    | Annotated[Tune, tyro.conf.subcommand("tune")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Claims, tyro.conf.subcommand("claims")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns its exit status: 0, 2 after an error, 128 + n after signal n."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return cluster.leave(_run(words))
    except KeyboardInterrupt:  # while nothing trains, or a second time
        print("resonance-jax: interrupted", file=sys.stderr)
        return cluster.leave(128 + signal.SIGINT, alone=True)
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


def find_experiment(name: str) -> ModuleType:
    """Loads an experiment by name or path: a module with `MODELS` and `get_config(model)`.

    Raises:
        ValueError: if there is none of that name, or the file has no get_config.
    """
    path = Path(name)
    if path.suffix != ".py":
        found = [folder / f"{name}.py" for folder in EXPERIMENT_FOLDERS]
        path = next((file for file in found if file.is_file()), path)
    if not path.is_file() or path.stem.startswith("_"):
        known = list_experiments()
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ValueError(f"unknown experiment {name!r}; {hint}known: {', '.join(known)}.")
    if not _is_experiment(path):
        raise ValueError(f"{path} is no experiment: it has no get_config(model).")
    spec = importlib.util.spec_from_file_location(f"experiments.{path.stem}", path)
    assert spec is not None and spec.loader is not None  # a .py file always has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def list_experiments() -> list[str]:
    """Returns the names that `find_experiment` knows."""
    files = [file for folder in EXPERIMENT_FOLDERS for file in folder.glob("*.py")]
    return sorted({file.stem for file in files if _is_experiment(file)})


def _is_experiment(path: Path) -> bool:
    return "def get_config" in path.read_text("utf-8")


def make_configs(
    name: str, models: Sequence[str], seeds: Sequence[int], overrides: Sequence[str]
) -> list[Any]:
    """Returns one configuration a model and seed, with the overrides applied to each.

    Args:
        name: of the experiment, or its path.
        models: short names; none takes the experiment's own choice.
        seeds: at least one.
        overrides: command-line words such as "--num-epochs 3".
    Raises:
        ValueError: if the experiment or a model is unknown, or there is no seed.
    """
    experiment = find_experiment(name)
    known = tuple(getattr(experiment, "MODELS", MODELS))
    models = models or known
    unknown = [model for model in models if model not in known]
    if unknown:
        raise ValueError(f"unknown model {unknown[0]!r}; {name} has {', '.join(known)}.")
    if not seeds:
        raise ValueError("--seeds needs at least one seed.")
    if any(word == "--seed" or word.startswith("--seed=") for word in overrides):
        raise ValueError("name the seeds of the runs with --seeds, not --seed.")
    configs = [_override(experiment.get_config(model), overrides) for model in models]
    return [dataclasses.replace(config, seed=seed) for config in configs for seed in seeds]


def _override(config: Any, overrides: Sequence[str]) -> Any:
    """Returns a TrainConfig or LanguageTrainConfig with the overrides applied."""
    return tyro.cli(
        tyro.conf.AvoidSubcommands[type(config)],
        prog=f"resonance-jax train {config.experiment}",
        description=f"Fields of the {config.model_name} run that can be overridden.",
        default=config,
        args=list(overrides),
    )


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
        best = "  <- best" if found["best"][trial["model"]] == trial["name"] else ""
        print(f"{trial['model']:12} {trial['name']:16} {trial['validation_accuracy']:.4f}{best}")
    return 0


def _evaluate(evaluate: Evaluate) -> int:
    if language.is_language_run(evaluate.run):
        score = language.evaluate_language_model(evaluate.run, evaluate.data_dir)
        print(f"test: {score.bits_per_byte:.4f} bits/byte, perplexity {score.perplexity:.3f}")
        return 0
    found = evaluate_run(evaluate.run, evaluate.data_dir)
    print(f"step {found['step']}: test loss {found['loss']:.4f}, accuracy {found['accuracy']:.4f}")
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
    folders = [folder / "claims" for folder in EXPERIMENT_FOLDERS]
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
