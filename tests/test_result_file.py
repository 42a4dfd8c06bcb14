"""What experiments that take long share: compiled programs are not kept until there is no room for more."""

import jax
import jax.numpy as jnp

from experiments import result_file
from experiments.result_file import ResultFile, work


def test_compiled_programs_are_dropped_before_they_fill_the_process(tmp_path, monkeypatch, capsys):
    traced = []

    @jax.jit
    def double(x):
        traced.append(x.shape)
        return 2 * x

    def job(results, key):
        results.add("runs", {"key": key}, {"value": float(double(jnp.float32(key)))})

    results = ResultFile(tmp_path / "results.json")
    work(results, [(job, 1), (job, 2)])
    assert len(traced) == 1
    monkeypatch.setattr(result_file, "MOST_MAPS", -1)
    work(results, [(job, 3), (job, 4)])
    assert len(traced) == 2
    assert [row["value"] for row in results.record["runs"]] == [2, 4, 6, 8]
    assert "1 of 2 done" in capsys.readouterr().out
