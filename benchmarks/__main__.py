"""Runs benchmarks: each in a process of its own, peers in the same process as what they are compared with.

    python -m benchmarks [NAME …] [--device cpu|gpu] [--quick] [--check] [--out FOLDER]

Without names all run, one after the other. Leave the machine otherwise idle.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import NAMES, UNCHECKED


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks; --list names them")
    parser.add_argument("--list", action="store_true", help="say what there is, and stop")
    parser.add_argument("--device", choices=("cpu", "gpu"), help="default: what JAX finds first")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repeats")
    parser.add_argument(
        "--check", action="store_true", help="compare quick runs with the committed ratios"
    )
    parser.add_argument("--tolerance", type=float, help="of --check: how many times worse")
    parser.add_argument("--out", type=Path, help="folder of the JSON files and pictures")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}.")
    if options.tolerance is not None and options.tolerance <= 1:
        parser.error(f"--tolerance must be above 1, got {options.tolerance:g}.")
    if options.list:
        print("\n".join(NAMES))
        return 0
    names = options.names or NAMES
    if options.check and not options.names:
        names = [name for name in names if name not in UNCHECKED]
    if len(names) > 1:
        return _each_in_its_process(names, options)
    if options.device:
        os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[options.device]

    import jax  # after the platform is set

    from benchmarks import harness

    try:
        jax.devices()
    except RuntimeError as error:
        parser.error(f"JAX finds no {options.device or 'device'}: {str(error).splitlines()[0]}")
    if options.check:
        with tempfile.TemporaryDirectory() as folder:
            tolerance = options.tolerance or harness.TOLERANCE
            return harness.check(names[0], options.out or Path(folder), tolerance)
    harness.run(names[0], options.out or harness.RESULTS, options.quick)
    return 0


def _each_in_its_process(names: Sequence[str], options: argparse.Namespace) -> int:
    """Runs this command once for each name; returns the worst exit status."""
    given = [f"--{name}" for name in ("quick", "check") if getattr(options, name)]
    for name in ("device", "tolerance", "out"):
        if getattr(options, name) is not None:
            given += [f"--{name}", str(getattr(options, name))]
    worst = 0
    for name in names:
        done = subprocess.run([sys.executable, "-m", "benchmarks", name, *given])
        if done.returncode:
            print(f"{name} ended with {done.returncode}", file=sys.stderr)
        worst = max(worst, abs(done.returncode))
    return worst


if __name__ == "__main__":
    sys.exit(main())
