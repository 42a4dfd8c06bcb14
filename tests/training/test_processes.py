"""Training in two processes of two devices each: as on one device, from and to runs of one process."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

from resonance_jax.data.iterator import BatchIterator
from resonance_jax.data.split import Dataset, Split
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training import cluster
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.loop import load_run
from resonance_jax.training.metrics_log import read_metrics
from resonance_jax.training.processes import of_first, on_first, own_part
from resonance_jax.training.run import Run
from resonance_jax.training.sharding import DataParallel
from resonance_jax.training.signals import SignalFlag, TrainingInterrupted, noticed_signals
from resonance_jax.training.step import init_state, train_step

SHAPE: Any = {"hidden_dim": 4, "num_layers": 1, "mlp_dim": 0, "num_frequencies": 2}
CASES: Any = ({"strategy": "pmap"}, {"strategy": "shard_map"}, {"parameters": "sharded"})
CONFIG = TrainConfig(
    model=ResonanceNetConfig(1, 2, gate=False, dropout=0.0, **SHAPE),
    num_epochs=3,
    batch_size=5,
    augment=("jitter",),
    log_every=1,
    checkpoint_every=2,
)


def make_dataset() -> Dataset:
    rng = np.random.default_rng(0)
    labels = np.arange(12, dtype=np.int32) % 2
    inputs = rng.normal(size=(12, 8, 1)) + labels[:, None, None]
    split = Split(inputs.astype(np.float32), labels)
    return Dataset("toy", split, split, ("low", "high"))


def train(folder, flag=None, **options: Any):
    config = TrainConfig.from_dict(CONFIG.to_dict() | options.pop("config", {}))
    with contextlib.closing(Run(config, folder, make_dataset())) as run:
        return run.train(flag or SignalFlag(), progress=False, **({"max_steps": None} | options))


def assert_close(found, wanted):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def start_processes(command, count, **environment):
    """Starts processes of two devices; each finds its index behind the given words."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    environment = {"JAX_PLATFORMS": "cpu", "PJRT_NPROC": "8", **environment}
    environment = os.environ | environment | {"XLA_FLAGS": flags}
    pipes: Any = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return [
        subprocess.Popen([sys.executable, *command, str(index)], env=environment, **pipes)
        for index in range(count)
    ]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.slow_process
def test_two_processes(quick_compile, tmp_path):
    train(tmp_path / "whole")
    train(tmp_path / "shared", max_steps=2)
    words = [__file__, str(tmp_path), str(free_port())]
    started = start_processes(words, 2)
    outputs = [process.communicate(timeout=300)[0] for process in started]
    ends = [process.returncode for process in started]
    assert ends == [0, -signal.SIGKILL], "\n".join(outputs)
    assert not (tmp_path / "unshared").exists()  # The second process has no disk of the first's.
    assert [r["step"] for r in read_metrics(tmp_path / "shared" / "metrics.jsonl")][-1] == 4
    train(tmp_path / "shared")
    whole, shared = (load_run(tmp_path / name)[2] for name in ("whole", "shared"))
    assert_close(shared, whole)
    first, second = (
        [r for r in read_metrics(tmp_path / name / "metrics.jsonl") if r["kind"] == "train"]
        for name in ("whole", "shared")
    )
    for key in ("step", "epoch", "loss", "accuracy", "grad_norm", "learning_rate"):
        assert_close([r[key] for r in second], [r[key] for r in first])


class Net(nn.Module):
    """A small network."""

    @nn.compact
    def __call__(self, inputs, *, deterministic=True):
        x = nn.tanh(nn.Dense(4, name="stem")(inputs.mean(axis=1)))
        return nn.Dense(2, name="head")(x)


def strategies_agree() -> None:
    """Five rows, of which the second process has two, and the devices do not divide either's."""
    split = make_dataset().train
    model: Any = Net()
    batches, own = (BatchIterator(split, 5, seed=0, part=part) for part in ((0, 1), own_part()))

    def make_state() -> Any:
        return init_state(model, optax.adam(0.01), jax.random.key(0), batches.peek())

    wanted, given = make_state(), [(next(batches), next(own)) for _ in range(3)]
    expected: Any = None
    for batch, _ in given:
        wanted, expected = train_step(wanted, batch)
    for options in CASES:
        parallel = DataParallel(**options)
        state, metrics = parallel.place(make_state()), None
        for _, batch in given:
            state, metrics = parallel.step(state, parallel.shard(batch))
        assert_close(parallel.fetch(state).params, wanted.params)
        assert_close(parallel.read(state.step), 3)
        assert_close(jax.device_get(metrics), jax.device_get(expected))


def a_run_goes_on_and_is_interrupted_together(folder: Path) -> None:
    """The second process has a signal after the first of these steps; both stop after the same, the fourth."""
    index, _ = own_part()
    original = BatchIterator.__next__

    def take(self):
        if index == 1 and self.get_state()["position"] == 1:
            signal.raise_signal(signal.SIGTERM)
        return original(self)

    BatchIterator.__next__ = take
    options: Any = {"num_devices": 0, "strategy": "shard_map"}
    with noticed_signals() as flag:
        try:
            train(folder / ("unshared" if index else "shared"), flag, config=options)
        except TrainingInterrupted as stop:
            assert (stop.step, stop.signal_number) == (4, signal.SIGTERM)
            return
    raise AssertionError("the run was not interrupted")


def what_the_first_does_reaches_all() -> None:
    def fail():
        raise ValueError("no")

    assert np.signbit(of_first(-0.0 if own_part()[0] == 0 else 1.0))
    assert on_first(lambda: {"index": own_part()[0]}) == {"index": 0}
    with pytest.raises(ValueError, match="no"):
        on_first(fail)
    with pytest.raises(ValueError, match="2 processes train on all of their 4 devices"):
        DataParallel(num_devices=2)


def a_lost_process_is_noticed() -> None:
    """Last of all the second process is killed: the first one neither waits for it nor ends as JAX would end it."""
    if own_part()[0] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        on_first(lambda: None)
    assert "another process of this training" in str(cluster.explain_lost(caught.value))
    for text in ("RESOURCE_EXHAUSTED: memory", "INTERNAL: a bug", ""):
        assert cluster.explain_lost(jax.errors.JaxRuntimeError(text)) is None
    cluster.leave(0, alone=True)


if __name__ == "__main__":
    folder, port, index = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    cluster.join(f"127.0.0.1:{port}", 2, index)
    strategies_agree()
    what_the_first_does_reaches_all()
    a_run_goes_on_and_is_interrupted_together(folder)
    a_lost_process_is_noticed()
