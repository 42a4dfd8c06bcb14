import dataclasses
import errno
import logging
import shutil

import jax
import numpy as np
import pytest

from resonance_jax.training.checkpoint import CheckpointStore, Restored
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.optimizer import make_optimizer
from resonance_jax.training.state_arrays import (
    CheckpointError,
    CheckpointMismatchError,
    checksum,
    from_arrays,
    to_arrays,
)
from resonance_jax.training.step import init_state, train_step

CONFIG = TrainConfig(keep_checkpoints=2)


@pytest.fixture
def state(tiny_net, batch, toy_key):
    return init_state(tiny_net, make_optimizer(CONFIG, 9), toy_key, batch, ema_decay=0.9)


@pytest.fixture
def store(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", CONFIG)
    yield store
    store.close()


def restore(store) -> Restored:
    restored = store.restore()
    assert restored is not None
    return restored


def save_steps(store, state, steps, **kwargs):
    for step in steps:
        params = jax.tree.map(lambda x, s=step: x + s, state.params)
        moved = state.replace(step=np.int32(step), params=params)
        store.save(moved, {"note": step}, wait=True, **kwargs)


def test_arrays_round_trip(state, batch):
    state, _ = train_step(state, batch)
    again = from_arrays(state, to_arrays(state))
    assert jax.tree.structure(again) == jax.tree.structure(state)
    assert jax.random.key_impl(again.rng) == jax.random.key_impl(state.rng)
    jax.tree.map(np.testing.assert_array_equal, to_arrays(again), to_arrays(state))


def test_restores_the_latest(store, state):
    assert store.restore() is None  # Nothing yet.
    save_steps(store, state, (3, 5))
    restored = restore(store)
    assert (restored.step, restored.host, restored.config) == (5, {"note": 5}, CONFIG)
    assert restored.unreadable == ()
    expected = to_arrays(state.replace(step=np.int32(5)))
    kernel = restored.arrays["params"]["dense"]["kernel"]
    np.testing.assert_array_equal(kernel, expected["params"]["dense"]["kernel"] + 5)
    jax.tree.map(
        np.testing.assert_array_equal, restored.arrays["ema_params"], expected["ema_params"]
    )


def test_a_save_copies_before_it_returns(store, state, batch):
    expected = checksum(to_arrays(state))
    host = {"sums": {"loss": 0.5}}
    store.save(state, host)
    host["sums"]["loss"] = 2.0
    for _ in range(3):
        state, _ = train_step(state, batch)  # Reuses the memory of the state being saved.
    store.wait()
    assert checksum(restore(store).arrays) == expected
    assert restore(store).host == {"sums": {"loss": 0.5}}


def test_keeps_the_latest_and_the_best(store, state):
    save_steps(store, state, (1,))
    save_steps(store, state, (2, 3, 4, 5), best=2)
    store.close()
    again = CheckpointStore(store.directory, CONFIG)
    assert again.steps() == [2, 4, 5]
    assert restore(again).best == 2
    again.close()
    assert again.steps() == [2, 4, 5]


def damage(folder, how):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if how == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif how == "no arrays":
        shutil.rmtree(folder / "arrays")
    elif how == "no host":
        shutil.rmtree(folder / "host")
    elif how == "truncated":
        for path in files:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "no metadata":
        for path in files:
            if "METADATA" in path.name.upper():
                path.unlink()
    elif how == "flipped":
        for path in folder.glob("arrays/**/d/*"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "how", ["empty", "no arrays", "no host", "truncated", "no metadata", "flipped"]
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(store, state, how, caplog):
    save_steps(store, state, (3, 5))
    store.close()
    damage(store.directory / "5", how)
    again = CheckpointStore(store.directory, CONFIG)
    with caplog.at_level(logging.WARNING, "resonance_jax"):
        restored = restore(again)
    assert (restored.step, restored.host["note"]) == (3, 3)
    assert restored.unreadable == (5,)
    assert "checkpoint of step 5 cannot be read" in caplog.text
    assert (store.directory.parent / "unreadable" / "5").exists()
    # A new checkpoint of that step can be written.
    save_steps(again, state, (5,))
    assert restore(again).step == 5
    again.close()


def test_any_missing_file_is_noticed(store, state):
    """Whatever file goes, the checkpoint before is taken; without the seal, nothing is lost."""
    save_steps(store, state, (3, 5))
    store.close()
    whole = {p: p.read_bytes() for p in (store.directory / "5").rglob("*") if p.is_file()}
    expected = restore(CheckpointStore(store.directory, read_only=True))
    for path, data in whole.items():
        path.unlink()
        found = restore(CheckpointStore(store.directory, read_only=True))
        assert found.step == (5 if path.name == "files.json" else 3), path
        if found.step == 5:
            assert checksum(found.arrays) == checksum(expected.arrays)
        path.write_bytes(data)


@pytest.mark.error_message
def test_no_checkpoint_can_be_read(store, state):
    save_steps(store, state, (3, 5))
    store.close()
    for step in ("3", "5"):
        damage(store.directory / step, "truncated")
    with pytest.raises(
        CheckpointError, match=r"none of the checkpoints in .*\(step 5: .*; step 3: "
    ):
        restore(CheckpointStore(store.directory, CONFIG))
    assert (store.directory / "5").exists()


@pytest.mark.error_message
def test_another_configuration_is_named(store, state):
    save_steps(store, state, (3,))
    store.close()
    other = dataclasses.replace(
        CONFIG,
        batch_size=7,
        log_every=9,
        model=dataclasses.replace(CONFIG.model, hidden_dim=24),
    )
    again = CheckpointStore(store.directory, other)
    with pytest.raises(CheckpointMismatchError) as caught:
        restore(again)
    message = str(caught.value)
    assert "checkpoint of another configuration" in message
    assert "model.hidden_dim (saved 64, now 24), batch_size (saved 64, now 7). Set" in message
    assert "log_every" not in message


@pytest.mark.error_message
def test_another_model_is_named(state, batch, toy_key, tiny_net):
    wider = init_state(
        tiny_net.clone(features=4), make_optimizer(CONFIG, 9), toy_key, batch, ema_decay=0.9
    )
    with pytest.raises(
        CheckpointMismatchError, match=r"params/dense/bias \(saved \(3, 'float32'\)"
    ):
        from_arrays(wider, to_arrays(state))
    without = init_state(tiny_net, make_optimizer(CONFIG, 9), toy_key, batch)
    with pytest.raises(CheckpointMismatchError, match=r"ema_params/.*expected nothing"):
        from_arrays(without, to_arrays(state))


@pytest.mark.error_message
@pytest.mark.parametrize("text_only", [False, True])
def test_a_full_disk(store, state, monkeypatch, text_only):
    save_steps(store, state, (3,))
    full = OSError(errno.ENOSPC, "No space left on device")
    error = RuntimeError(f"write failed: {full.strerror} [errno 28]") if text_only else full

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(type(store._manager), "save", fail)
        with pytest.raises(CheckpointError) as caught:
            save_steps(store, state, (5,))
    message = str(caught.value)
    assert "could not save the checkpoint of step 5" in message
    assert "the disk is full" in message
    assert "the latest good one is of step 3" in message
    assert restore(store).step == 3
    save_steps(store, state, (5,))
    assert restore(store).step == 5


@pytest.mark.error_message
def test_a_disk_that_fills_while_saving_in_the_background(store, state, monkeypatch):
    save_steps(store, state, (3,))

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        # The rename that makes a finished folder a checkpoint, in orbax's own thread.
        patched.setattr("os.rename", fail)
        patched.setattr("os.replace", fail)
        store.save(state.replace(step=np.int32(5)), {"note": 5})
        with pytest.raises(CheckpointError, match=r"disk is full.*latest good one is of step 3"):
            store.wait()
    assert store.steps() == [3]
    assert sorted(path.name for path in store.directory.iterdir()) == ["3"]
    save_steps(store, state, (5,))
    assert restore(store).step == 5
