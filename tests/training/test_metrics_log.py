import builtins
import json

import pytest

from resonance_jax.training.metrics_log import MetricsLog, read_metrics


def lines(*steps):
    return [{"kind": "train", "step": step, "loss": 1 / (step + 3)} for step in steps]


def test_writes_and_reads(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    log = MetricsLog(path, 0, lines=0)
    for record in lines(1, 2, 3):
        log.write(record)
    log.sync()
    log.write({"kind": "train", "step": 4, "loss": float("nan")})
    assert log.lines == 4
    log.close()
    assert read_metrics(path) == [*lines(1, 2, 3), {"kind": "train", "step": 4, "loss": None}]


@pytest.mark.parametrize(
    ("step", "count", "kept"), [(3, 3, (1, 2, 3)), (2, 9, (1, 2)), (9, 1, (1,))]
)
def test_resuming_drops_what_came_later(tmp_path, step, count, kept):
    path = tmp_path / "metrics.jsonl"
    text = "".join(json.dumps(record) + "\n" for record in lines(1, 2, 3, 4))
    path.write_text(text + '{"kind": "train", "step": 5, "lo')
    log = MetricsLog(path, step, lines=count)
    assert log.lines == len(kept)
    log.write(lines(7)[0])
    log.close()
    assert read_metrics(path) == lines(*kept, 7)


@pytest.mark.error_message
def test_tensorboard_without_its_package(tmp_path, monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("tensorboardX"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        MetricsLog(tmp_path / "metrics.jsonl", 0, lines=0, tensorboard=tmp_path)
