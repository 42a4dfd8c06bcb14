"""Experiments as files, found by name, and configurations made from them and from words of a command line."""

import dataclasses
import difflib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import tyro

from resonance_jax.models.baselines import MODELS

PACKAGE = Path(__file__).parents[1]
FOLDERS = (Path("experiments"), PACKAGE.parent / "experiments", PACKAGE / "experiments")


def find_experiment(name: str) -> ModuleType:
    """Loads an experiment by name or path: a module with `MODELS` and `get_config(model)`.

    Raises:
        ValueError: if there is none of that name, or the file has no get_config.
    """
    path = Path(name)
    if path.suffix != ".py":
        found = [folder / f"{name}.py" for folder in FOLDERS]
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
    files = [file for folder in FOLDERS for file in folder.glob("*.py")]
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
