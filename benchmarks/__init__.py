"""Timings beside peers: `python -m benchmarks NAME`."""
