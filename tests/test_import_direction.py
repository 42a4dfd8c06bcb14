"""Imports point one way: array_typing → ops → layers → models → training → claims → commands → cli → experiments."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = (
    "array_typing",
    "ops",
    "layers",
    "models",
    "training",
    "claims",
    "commands",
    "cli",
    "experiments",
)
# data joins at training: it stands beside the lower layers and imports none of them.
MAY_IMPORT = {name: {"resonance_jax", *ORDER[: i + 1]} for i, name in enumerate(ORDER)}
MAY_IMPORT["data"] = {"data"}
for _name in ("training", "claims", "cli", "experiments"):
    MAY_IMPORT[_name] = MAY_IMPORT[_name] | {"data"}
NOT_FOR_DATA = {"jax", "jaxlib", "flax", "optax", "orbax", "chex", "jaxtyping"}


def imported_names(source: str) -> Iterator[str]:
    """Yields the dotted name of everything that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: a relative import")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(name: str) -> str | None:
    """Returns where in ORDER a dotted name lies; None for other people's packages."""
    parts = name.split(".")
    if parts[0] == "resonance_jax":
        return parts[1] if len(parts) > 1 and parts[1] in MAY_IMPORT else "resonance_jax"
    return "experiments" if parts[0] == "experiments" else None


def violations(source: str, own_place: str) -> list[str]:
    """Returns the imports of a file at `own_place` that point the wrong way."""
    names = list(imported_names(source))
    wrong = [name for name in names if (at := place(name)) and at not in MAY_IMPORT[own_place]]
    # Inside the package, modules are imported by path and not through the facade.
    if own_place != "experiments":
        wrong += [name for name in names if place(name) == "resonance_jax" and name not in wrong]
    wrong += [name for name in names if name.split(".")[0] in ("benchmarks", "tests")]
    if own_place == "data":
        wrong += [name for name in names if name.split(".")[0] in NOT_FOR_DATA]
    return wrong


def source_files() -> list[tuple[Path, str]]:
    package = ROOT / "resonance_jax"
    files = [
        (path, path.relative_to(package).with_suffix("").parts[0])
        for path in sorted(package.rglob("*.py"))
        if path.parent != package or path.stem in MAY_IMPORT
    ]
    return files + [(path, "experiments") for path in sorted((ROOT / "experiments").rglob("*.py"))]


@pytest.mark.parametrize(
    ("path", "own_place"),
    [pytest.param(p, o, id=str(p.relative_to(ROOT))) for p, o in source_files()],
)
def test_imports_point_one_way(path, own_place):
    assert own_place in MAY_IMPORT, f"{own_place} has no place in the architecture"
    assert violations(path.read_text(encoding="utf-8"), own_place) == []


def test_tests_import_no_benchmark():
    for path in sorted((ROOT / "tests").rglob("*.py")):
        names = imported_names(path.read_text(encoding="utf-8"))
        assert [name for name in names if name.split(".")[0] == "benchmarks"] == [], path


@pytest.mark.parametrize(
    ("source", "own_place"),
    [
        ("from resonance_jax.layers import block", "ops"),
        ("from resonance_jax.layers.block import ResonanceBlock", "ops"),
        ("import resonance_jax.training.loop", "models"),
        ("def f():\n    from resonance_jax.models import baselines", "layers"),
        ("from resonance_jax.data.dataset import Split", "models"),
        ("from resonance_jax.ops import fourier", "data"),
        ("import jax.numpy as jnp", "data"),
        ("from flax import linen", "data"),
        ("from experiments import quickstart", "cli"),
        ("from resonance_jax import ResonanceNet", "training"),
        ("import benchmarks.resonance", "cli"),
    ],
)
def test_wrong_imports_are_found(source, own_place):
    assert len(violations(source, own_place)) == 1


@pytest.mark.parametrize(
    ("source", "own_place"),
    [
        ("from resonance_jax.ops import _checks, fourier", "ops"),
        ("from resonance_jax.array_typing import Array", "ops"),
        ("from resonance_jax.ops.polar import from_polar", "layers"),
        ("from resonance_jax.data.dataset import Split\nimport optax", "training"),
        ("from resonance_jax.training.config import TrainConfig", "experiments"),
        ("import numpy as np", "data"),
    ],
)
def test_right_imports_pass(source, own_place):
    assert violations(source, own_place) == []
