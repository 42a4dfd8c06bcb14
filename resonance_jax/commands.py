"""The commands of `resonance-jax` and their arguments: what `cli` parses."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class Train:
    """Trains the models of an experiment, prints a table and writes a report.

    Every field of the experiment's configuration can be overridden: `--num-epochs 3 --model.hidden-dim 64`; list them
    with `resonance-jax train EXPERIMENT --list`. The same command again continues an interrupted run.
    """

    experiment: tyro.conf.Positional[str]
    """Name of a file in experiments/, or a path of one."""
    models: tuple[str, ...] = ()
    """Models to train, of those that the experiment has; all of them by default."""
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
