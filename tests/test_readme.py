"""The README's examples run, and its commands exist."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

from resonance_jax.training.experiment_files import list_experiments

pytestmark = pytest.mark.usefixtures("quick_compile")

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def test_own_loop_learns_and_is_short() -> None:
    block = next(block for block in BLOCKS if "train_step(" in block)
    assert len([line for line in block.splitlines() if line.strip()]) <= 20
    names: dict = {}
    exec(block, names)
    assert float(names["metrics"]["accuracy"]) > 0.9


def test_functions_and_layers_work_alone() -> None:
    block = next(block for block in BLOCKS if "ResonanceLayer(" in block)
    names: dict = {}
    exec(block, names)
    assert names["y"].shape == (4, 700, 16)
    assert np.all(np.isfinite(names["gradient"]))


def test_quaternions_turn_and_their_layer_keeps_the_shape() -> None:
    block = next(block for block in BLOCKS if "QRHLayer(" in block)
    names: dict = {}
    exec(block, names)
    np.testing.assert_allclose(np.linalg.norm(names["turned"], axis=-1), 1, rtol=1e-5)
    assert names["y"].shape == names["x"].shape
    assert names["model"].config is names["config"]


def test_a_memory_is_read_together_and_by_content() -> None:
    block = next(block for block in BLOCKS if "HolographicMemory(" in block)
    names: dict = {}
    exec(block, names)
    shares = [np.mean(names[name] == names["labels"]) for name in ("one_by_one", "together")]
    assert f"{shares[0]:.0%}, {shares[1]:.0%}" in block
    assert names["y"].shape == (4, 1, 64)


def test_language_model_reads_in_parts_and_writes() -> None:
    block = next(block for block in BLOCKS if "LanguageModel(" in block)
    names: dict = {}
    exec(block, names)
    np.testing.assert_allclose(names["rest"], names["logits"][:, 20:], rtol=1e-4, atol=1e-5)
    assert names["written"].ids.shape == (1, 10)


def test_images_sound_and_series() -> None:
    block = next(block for block in BLOCKS if "ResonanceAudioNet(" in block)
    names: dict = {}
    exec(block, names)
    assert names["larger"].shape == (2, 10) and names["forecast"].shape == (2, 24, 3)
    assert np.all(np.isfinite(names["forecast"]))
    whole = jax.jit(names["audio"].apply)(names["variables"], names["sound"])
    np.testing.assert_allclose(names["logits"], whole, atol=1e-4)


def test_senses_together_and_alone() -> None:
    block = next(block for block in BLOCKS if "MultimodalResonanceNet(" in block)
    names: dict = {}
    exec(block, names)
    np.testing.assert_allclose(np.linalg.norm(names["both"].fused, axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(names["alone"].fused, names["both"].embeddings["text"], atol=1e-5)
    assert names["found"].ids.shape == (4, 2)


def test_every_example_is_run() -> None:
    assert len(BLOCKS) == 7


@pytest.mark.parametrize("target", ["train", "test"])
def test_make_targets_exist(target: str) -> None:
    assert f"make {target}" in README
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), flags=re.M)


def test_named_files_and_experiments_exist() -> None:
    for path in re.findall(r"\]\(([^)]+)\)", README) + re.findall(r"^\| `([^`]+/)`", README, re.M):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"resonance-jax (?:launch .* -- )?train (\w+)", README):
        assert name in list_experiments()
