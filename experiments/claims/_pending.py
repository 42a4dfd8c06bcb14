"""Claims that cannot be measured yet, each with the part of the library that it waits for: id -> (claim, what)."""

PENDING: dict[str, tuple[str, str]] = {}
