"""Timings beside peers: `python -m benchmarks.<name>`."""
