"""Language models from the command line: train, evaluate and generate."""

import json
import re

import pytest

from resonance_jax import cli
from resonance_jax.data.corpus import load_corpus, make_corpus
from resonance_jax.data.tokenizer import ByteTokenizer
from resonance_jax.training import language_run
from resonance_jax.training.experiment_files import make_configs

EXPERIMENT = """
from resonance_jax.models.language_model import LanguageModelConfig
from resonance_jax.training.language_config import LanguageTrainConfig

MODELS = ("resonance",)
SHAPE = dict(vocab_size=256, hidden_dim=16, num_layers=1, mlp_dim=16)

def get_config(model="resonance"):
    return LanguageTrainConfig(
        experiment="verses",
        num_steps=3,
        time_budget=None,
        model=LanguageModelConfig(**SHAPE, num_heads=2, num_resonators=4),
        context_length=32,
        batch_size=2,
        eval_length=64,
        eval_rows=2,
    )
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory, quick_compile):
    """The folder of the run that the command line trained."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "verses.py").write_text(EXPERIMENT)
    corpus = make_corpus("kjv", [b"In the beginning God created the heaven.\n"] * 30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_run, "load_corpus", lambda name, data_dir: corpus)
        words = ["train", str(folder / "verses.py"), "--quiet", "--out", str(folder / "runs")]
        assert cli.main([*words, "--results", str(folder / "results.json")]) == 0
        yield folder / "runs" / "verses" / "resonance-seed0"


def failure(capsys, *words):
    """Runs a command line that must fail with status 2; returns what it says on stderr."""
    capsys.readouterr()
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "Traceback" not in printed.err
    return printed.err


def test_train_writes_results_and_prints_a_table(run, capsys):
    folder = run.parents[2]
    result = json.loads((run / "result.json").read_text())
    results = json.loads((folder / "results.json").read_text())
    summary = results["summary"]["resonance"]
    assert summary["test_bits_per_byte_mean"] == result["test_bits_per_byte"]
    assert results["configs"]["resonance"]["num_steps"] == 3
    words = ["train", str(folder / "verses.py"), "--out", str(folder / "runs")]
    assert cli.main(words) == 0  # finished: returned at once
    assert f"{result['test_bits_per_byte']:.4f}" in capsys.readouterr().out
    assert cli.main(["evaluate", str(run)]) == 0
    assert f"test: {result['test_bits_per_byte']:.4f} bits/byte" in capsys.readouterr().out


def test_generate_writes_behind_the_prompt_and_repeats_with_its_seed(run, capsys):
    words = ["generate", str(run), "--prompt", "In the ", "--max-new-tokens", "20"]
    written = []
    for seed in ("1", "1", "2"):
        assert cli.main([*words, "--temperature", "0.9", "--seed", seed]) == 0
        printed = capsys.readouterr()
        assert printed.out.startswith("In the ")
        count = re.fullmatch(r"(\d+) tokens(, [\d,]+ tokens/s)?\n", printed.err)
        assert count and 1 <= int(count[1]) <= 20
        written.append(printed.out)
    assert written[0] == written[1] != written[2]


@pytest.mark.error_message
def test_errors_of_generate(run, capsys, tmp_path, monkeypatch):
    absent = failure(capsys, "generate", str(tmp_path), "--prompt", "a")
    assert "holds no checkpoint: train it first" in absent
    assert "the prompt is empty" in failure(capsys, "generate", str(run), "--prompt", "")
    hot = failure(capsys, "generate", str(run), "--prompt", "a", "--temperature", "-1")
    assert "temperature must be finite" in hot
    monkeypatch.setattr(ByteTokenizer, "fingerprint", "0" * 64)
    other = failure(capsys, "generate", str(run), "--prompt", "a")
    assert "use the tokenizer that it was made with" in other


@pytest.mark.error_message
def test_an_unknown_corpus(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(language_run, "load_corpus", load_corpus)  # `run` may have replaced it
    words = ("train", "language_model", "--quiet", "--out", str(tmp_path), "--corpus", "novel")
    assert "unknown corpus 'novel': expected one of kjv" in failure(capsys, *words)


def test_overrides_of_a_language_model():
    words = ["--corpus", "linux_doc", "--model.hidden-dim", "96", "--resets"]
    first, second = make_configs("language_model", (), (3,), words)
    assert (first.model_name, second.model_name) == ("resonance", "transformer")
    for config in (first, second):
        assert (config.corpus, config.model.hidden_dim, config.seed) == ("linux_doc", 96, 3)
        assert config.resets is True
