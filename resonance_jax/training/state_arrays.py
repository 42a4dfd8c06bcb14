"""A `TrainState` as a dict of NumPy arrays, described in JSON and checksummed, and back."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.training.step import TrainState

# What a state holds by name; optimizer and counters have no names.
_TREES = ("params", "ema_params", "collections")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; what was saved before is intact."""


class CheckpointMismatchError(CheckpointError):
    """A checkpoint belongs to another configuration or to another version of the model."""


def to_arrays(state: TrainState) -> dict[str, Any]:
    """Copies a state to NumPy: "params", "ema_params", "collections" as they are, all else numbered in "rest"."""
    rest = (state.step, state.opt_state, state.rng, state.skipped, state.consecutive_skipped)
    leaves = {f"{i:05d}": _to_numpy(leaf) for i, leaf in enumerate(jax.tree.leaves(rest))}
    trees = {
        name: {} if (tree := getattr(state, name)) is None else jax.tree.map(_to_numpy, tree)
        for name in _TREES
    }
    return {**trees, "rest": leaves}


def from_arrays(template: TrainState, arrays: dict[str, Any]) -> TrainState:
    """Puts the arrays of a checkpoint into a state of the same shapes.

    Raises:
        CheckpointMismatchError: if names, shapes or dtypes are not the template's.
    """
    _check_leaves(describe(to_arrays(template)), describe(arrays))
    parts = (template.step, template.opt_state, template.rng)
    parts = (*parts, template.skipped, template.consecutive_skipped)
    old, structure = jax.tree.flatten(parts)
    new = [_like(leaf, arrays["rest"][f"{i:05d}"]) for i, leaf in enumerate(old)]
    step, opt_state, rng, skipped, consecutive = jax.tree.unflatten(structure, new)
    trees = {
        name: jax.tree.map(_like, tree, arrays[name])
        for name in _TREES
        if (tree := getattr(template, name))
    }
    return template.replace(
        **{"step": step, "opt_state": opt_state, "rng": rng},
        **{"skipped": skipped, "consecutive_skipped": consecutive},
        **trees,
    )


def describe(arrays: dict[str, Any]) -> list[dict[str, Any]]:
    """Lists path, shape and dtype of every array, as JSON values."""
    return [
        {"path": path, "shape": list(leaf.shape), "dtype": leaf.dtype.name}
        for path, leaf in _flatten(arrays)
    ]


def allocate(description: list[dict[str, Any]]) -> dict[str, Any]:
    """Makes the nested dict of arrays that `describe` described, filled with zeros."""
    return _nest([(d["path"], np.zeros(d["shape"], jnp.dtype(d["dtype"]))) for d in description])


def checksum(arrays: dict[str, Any]) -> int:
    """Computes the CRC-32 of all arrays' bytes in the order of their paths."""
    total = 0
    for path, leaf in sorted(_flatten(arrays)):
        total = zlib.crc32(
            np.ascontiguousarray(leaf).tobytes(), zlib.crc32(repr(path).encode(), total)
        )
    return total


def drop_empty(arrays: dict[str, Any]) -> dict[str, Any]:
    """Leaves out the arrays without elements, which orbax cannot save, and dicts left empty."""
    return _nest([(path, leaf) for path, leaf in _flatten(arrays) if leaf.size])


def restore_empty(arrays: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    """Puts back from `target` what `drop_empty` left out."""
    found = {tuple(path): leaf for path, leaf in _flatten(arrays)}
    return _nest([(path, found.get(tuple(path), leaf)) for path, leaf in _flatten(target)])


def _flatten(arrays: Any, path: tuple[str, ...] = ()) -> list[tuple[list[str], Any]]:
    if not isinstance(arrays, dict):
        return [(list(path), arrays)]
    return [item for key in sorted(arrays) for item in _flatten(arrays[key], (*path, key))]


def _nest(items: list[tuple[list[str], Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, leaf in items:
        inner = tree
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = leaf
    return tree


def _to_numpy(leaf: Any) -> np.ndarray:
    # A copy: NumPy's view of a CPU array would see the memory that the next step reuses.
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _like(template: Any, value: Any) -> jax.Array:
    if _is_key(template):
        return jax.random.wrap_key_data(jnp.asarray(value), impl=jax.random.key_impl(template))
    return jnp.asarray(value)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _check_leaves(expected: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    old, new = (
        {"/".join(d["path"]): (*d["shape"], d["dtype"]) for d in x} for x in (found, expected)
    )
    wrong = [
        f"{name} (saved {old.get(name, 'nothing')}, expected {new.get(name, 'nothing')})"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise CheckpointMismatchError(
            f"the saved arrays are not those of this model and optimizer: {'; '.join(wrong[:5])}{more}"
        )
