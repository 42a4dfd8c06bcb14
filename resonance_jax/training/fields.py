"""The fields of configurations: rules that check them, and their way to JSON and back."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

STRATEGIES = ("jit", "pmap", "shard_map")
PARAMETERS = ("replicated", "sharded")


def build(cls: type, values: dict[str, Any]) -> Any:
    """Calls a dataclass with JSON values: lists become tuples, unknown names are an error."""
    names = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - names)
    if unknown:
        raise ValueError(
            f"{cls.__name__} has no field {', '.join(unknown)}; was it written by another version?"
        )
    return cls(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def to_plain(value: Any) -> Any:
    """Turns tuples into lists and dtypes into their names."""
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return np.dtype(value).name


@dataclasses.dataclass(frozen=True)
class Rule:
    """What one field must be."""

    field: str
    """Name of the field."""
    holds: Callable[[Any], bool]
    """Says whether a value is allowed."""
    expected: str
    """What is allowed, in words: "field must be …"."""


def check_fields(config: Any, rules: Sequence[Rule]) -> None:
    """Raises ValueError if a field of a configuration breaks its rule."""
    for rule in rules:
        value = getattr(config, rule.field)
        if not rule.holds(value):
            name = f"{type(config).__name__}.{rule.field}"
            raise ValueError(f"{name} must be {rule.expected}, got {value!r}")


def is_int(value: Any) -> bool:
    """Says whether a value is an integer, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_real(value: Any) -> bool:
    """Says whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def positive_int(field: str) -> Rule:
    """Allows integers from 1 on."""
    return Rule(field, lambda v: is_int(v) and v >= 1, "an integer of at least 1")


def rate(field: str) -> Rule:
    """Allows finite numbers from 0 on."""
    return Rule(field, lambda v: is_real(v) and v >= 0, "a finite number of at least 0")


def clip(field: str) -> Rule:
    """Allows positive numbers, and None."""
    return Rule(field, lambda v: v is None or (is_real(v) and v > 0), "a positive number or None")


def fraction(field: str) -> Rule:
    """Allows numbers in [0, 1)."""
    return Rule(field, lambda v: is_real(v) and 0 <= v < 1, "in [0, 1)")


def is_folder_name(value: Any) -> bool:
    """Says whether a value can name a folder inside another."""
    return isinstance(value, str) and value not in ("", ".", "..") and not set(value) & set("/\\\0")


def check_sharded(config: Any) -> None:
    """Raises ValueError if parameters are to be sharded by a strategy that cannot."""
    if config.parameters == "sharded" and config.strategy != "jit":
        raise ValueError(f"parameters='sharded' needs strategy='jit', got {config.strategy!r}.")


DEVICE_RULES = (
    Rule("strategy", lambda v: v in STRATEGIES, f"one of {STRATEGIES}"),
    Rule("num_devices", lambda v: is_int(v) and v >= 0, "an integer of at least 0"),
    Rule("parameters", lambda v: v in PARAMETERS, f"one of {PARAMETERS}"),
)
