import pytest

from resonance_jax.training.result import surroundings, write_atomically


def test_surroundings():
    found = surroundings()
    assert found["device"].startswith("cpu")
    assert found["date"].endswith("+00:00")
    assert set(found["versions"]) == {"python", "jax", "jaxlib", "flax", "optax"}
    assert found["commit"] is None or len(found["commit"].rstrip("+")) == 40


def test_a_failed_write_leaves_the_old_text(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    write_atomically(path, "old")

    def fail(_):
        raise OSError("full")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="full"):
            write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]
    write_atomically(path, "new")
    assert path.read_text() == "new"
