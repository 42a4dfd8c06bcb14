"""Timings beside peers: `python -m benchmarks NAME`."""

NAMES = (
    "resonance",
    "block",
    "methods",
    "resonance_2d",
    "recurrence",
    "complexity",
    "depth",
    "training",
    "decoding",
    "resonator",
    "hologram",
    "quaternion",
    "vocabulary",
    "long_context",
    "flash",
)
UNCHECKED = ("methods", "complexity", "long_context", "flash")
"""Left out of --check without names: they compare nothing with a rival, or not at quick sizes, or are for a GPU."""
