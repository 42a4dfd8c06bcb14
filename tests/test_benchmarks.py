"""The command of the benchmarks: what it lists, refuses and compares. (Nothing is timed in a test.)"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks"
PARTS = {"__init__", "__main__", "harness", "peers", "timing"}

pytestmark = pytest.mark.slow_process


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_every_benchmark_is_listed_and_says_what_it_answers():
    listed = command("-m", "benchmarks", "--list").stdout.split()
    files = {path.stem for path in FOLDER.glob("*.py")} - PARTS
    assert set(listed) == files and len(listed) == len(files)
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name in files:
        tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), name
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert "run" in functions, name
        assert f"`{name}`" in readme, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resonanse",), "unknown benchmark resonanse; there are resonance, "),
        (("resonance", "--device", "tpu"), "invalid choice: 'tpu'"),
        (("resonance", "--check", "--tolerance", "0.5"), "--tolerance must be above 1, got 0.5"),
    ],
)
def test_what_is_not_there_is_refused(arguments, message):
    done = command("-m", "benchmarks", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


COMPARISON = """
from benchmarks.harness import compare

def file(device="a", **ratios):
    targets = [
        {"target": name, "measured": value, "better": "higher" if name == "gain" else "lower"}
        for name, value in ratios.items()
    ]
    return {"platform": "cpu", "device": device, "cores": 2, "targets": targets}

committed = file(gain=4.0, cost=1.0, other=None)
assert compare(committed, file(gain=3.0, cost=1.4, other=9.0), 1.5) == []
assert len(compare(committed, file(gain=2.0, cost=1.4), 1.5)) == 1
assert len(compare(committed, file(gain=9.0, cost=1.6), 1.5)) == 1
for found, message in ((file("b", gain=4.0), "different machines"), (file(new=1.0), "share no")):
    try:
        compare(committed, found, 1.5)
    except ValueError as error:
        assert message in str(error), error
    else:
        raise AssertionError(message)
print("done")
"""


def test_only_what_is_worse_on_the_same_device_fails():
    done = command("-c", COMPARISON)
    assert done.stdout.strip() == "done", done.stderr


INTERRUPTED = """
import tempfile
from pathlib import Path
from benchmarks import harness
from benchmarks.timing import Case

harness.environment = lambda: dict.fromkeys(
    ("commit", "date", "versions", "xla_flags", "platform", "device", "cores"), "same"
)
harness.limits = dict
calls = []

def timed(path, key, *names, record=None, version=1):
    calls.clear()
    record = record or harness.Record(path, quick=False)
    cases = [
        Case(name, lambda name=name: calls.append(name), 2, {"version": version}) for name in names
    ]
    seconds = {n: c.seconds for n, c in record.time(key, cases, names[0]).items()}
    return record, seconds, set(calls)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "file.json"
    record, first, ran = timed(path, {"n": 1}, "a", "b")
    assert ran == {"a", "b"} and not path.exists()
    _, second, ran = timed(path, {"n": 2}, "a", "b", record=record)  # of another size
    assert ran == {"a", "b"}
    for _ in range(2):  # interrupted again before it comes to the second
        record, again, ran = timed(path, {"n": 1}, "a", "b")
        assert not ran and again == first
    _, again, ran = timed(path, {"n": 2}, "a", "b", record=record)
    assert not ran and again == second
    record, _, ran = timed(path, {"n": 2}, "a", "b", version=2)
    assert ran == {"a", "b"}
    record, _, ran = timed(path, {"n": 2}, "a", "c", version=2)  # one is new: they take turns
    assert ran == {"a", "c"}
    record.finish(None)
    assert "calls_s" not in path.read_text() and "median_ms" in path.read_text()
    assert timed(path, {"n": 2}, "a", "c")[2] == {"a", "c"}  # what is finished is not taken over
print("done")
"""


def test_what_an_interrupted_run_timed_is_not_timed_again():
    done = command("-c", INTERRUPTED)
    assert done.stdout.strip().endswith("done"), done.stderr
