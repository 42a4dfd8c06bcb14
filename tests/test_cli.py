"""The command line, from its words to exit status, messages and files."""

import json
import signal

import numpy as np
import pytest

from resonance_jax import cli
from resonance_jax.training import experiment_files
from resonance_jax.training.experiment_files import make_configs
from resonance_jax.training.signals import TrainingInterrupted

EXPERIMENT = """
from resonance_jax.models.baselines import FNetConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training.config import TrainConfig

MODELS = ("resonance", "fnet")
SEARCH = {"slow": "--learning-rate 1e-4", "wide": "--model.hidden-dim 8"}
SHAPE = dict(input_dim=1, output_dim=2, hidden_dim=4, num_layers=1, mlp_dim=0)

def get_config(model="resonance"):
    return TrainConfig(
        experiment="small",
        dataset="Small",
        model={
            "resonance": ResonanceNetConfig(**SHAPE, num_frequencies=2, gate=False),
            "fnet": FNetConfig(**SHAPE),
        }[model],
        batch_size=4,
        num_epochs=2,
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with an experiment and its data: 8 training and 6 test series of 12 samples."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.py").write_text(EXPERIMENT)
    (folder / "notes.py").write_text("raise AssertionError('this must not be executed')")
    rng = np.random.default_rng(0)
    for part, rows in (("TRAIN", 8), ("TEST", 6)):
        table = np.column_stack([np.arange(rows) % 2, rng.normal(size=(rows, 12))])
        np.savetxt(folder / f"Small_{part}.tsv", table, delimiter="\t", fmt="%.5f")
    return folder


@pytest.fixture(scope="module")
def train_words(folder):
    """The command line that trains resonance for two epochs."""
    return [
        *("train", str(folder / "small.py"), "--models", "resonance", "--quiet"),
        *("--out", str(folder / "runs"), "--data-dir", str(folder)),
        *("--results", str(folder / "results.json")),
    ]


@pytest.fixture(scope="module")
def run(folder, train_words, quick_compile):
    """The folder of the run that the command line trained."""
    assert cli.main(train_words) == 0
    return folder / "runs" / "small" / "resonance-seed0"


def failure(capsys, *words):
    """Runs a command line that must fail with status 2; returns what it says on stderr."""
    capsys.readouterr()
    try:
        status = cli.main(words)
    except SystemExit as stop:  # tyro's own
        status = stop.code
    printed = capsys.readouterr()
    assert (status, printed.out) == (2, "")
    assert "Traceback" not in printed.err
    return " ".join(printed.err.replace("│", " ").split())


def test_train_leaves_runs_report_and_results(run, folder):
    result = json.loads((run / "result.json").read_text())
    assert (result["experiment"], result["steps"], result["epochs"]) == ("small", 4, 2.0)
    results = json.loads((folder / "results.json").read_text())
    assert results["summary"]["resonance"]["test_accuracy_mean"] == result["test_accuracy"]
    assert results["command"].startswith("resonance-jax train ")
    page = (run.parent / "report.html").read_text()
    assert "resonance-jax train" in page and "resonance" in page


def test_a_finished_run_returns_at_once_with_the_table(run, train_words, capsys, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr("resonance_jax.training.loop.Run", refuse)
    before = (run / "result.json").read_bytes()
    assert cli.main(train_words) == 0
    printed = capsys.readouterr().out
    assert (run / "result.json").read_bytes() == before
    accuracy = json.loads(before)["test_accuracy"]
    assert f"{accuracy:.4f}" in printed
    assert f"report: {run.parent / 'report.html'}" in printed


def test_evaluate_prints_the_result_of_the_run(run, capsys):
    result = json.loads((run / "result.json").read_text())
    assert cli.main(["evaluate", str(run)]) == 0
    expected = f"test loss {result['test_loss']:.4f}, accuracy {result['test_accuracy']:.4f}"
    assert capsys.readouterr().out == f"step 4: {expected}\n"


def test_inspect_writes_a_page_and_a_picture_a_layer(run, folder, capsys, tmp_path):
    page = tmp_path / "page.html"
    words = ["inspect", str(run), "--out", str(page), "--data-dir", str(folder)]
    assert cli.main(words) == 0
    written = capsys.readouterr().out.split()
    assert written[0] == str(page) and page.read_text().startswith("<!")
    assert len(written) == 2
    with open(written[1], "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_in_its_status(train_words, capsys, monkeypatch, tmp_path, number):
    def interrupted(*_, **__):
        raise TrainingInterrupted(tmp_path, 7, number)

    monkeypatch.setattr("resonance_jax.training.compare.train_and_evaluate", interrupted)
    assert cli.main(train_words) == 128 + number
    assert "run the same command again to continue" in capsys.readouterr().err


def test_ctrl_c_outside_of_training_ends_in_130(train_words, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("resonance_jax.training.compare.train_and_evaluate", interrupted)
    assert cli.main(train_words) == 130
    assert capsys.readouterr().err == "resonance-jax: interrupted\n"


def test_overrides_apply_to_every_model_and_seed(folder):
    words = ["--num-epochs", "7", "--model.hidden-dim", "12", "--gradient-clip", "None"]
    configs = make_configs(str(folder / "small.py"), (), (3, 5), words)
    assert [(c.model_name, c.seed) for c in configs] == [
        *(("resonance", 3), ("resonance", 5)),
        *(("fnet", 3), ("fnet", 5)),
    ]
    for config in configs:
        assert (config.num_epochs, config.model.hidden_dim) == (7, 12)
        assert config.gradient_clip is None and config.batch_size == 4
    (alone,) = make_configs("quickstart", ("fnet",), (0,), [])
    assert (alone.model_name, alone.dataset) == ("fnet", "FordA")


def test_options_before_and_after_overrides(folder, monkeypatch, capsys):
    seen = {}

    def train_all(configs, root, **options):
        seen.update(configs=configs, root=root, options=options)
        return [], "page"

    monkeypatch.setattr("resonance_jax.training.compare.train_all", train_all)
    words = [
        *("train", str(folder / "small.py"), "--num-epochs", "3", "--seeds", "1", "2"),
        *("--fresh", "--learning-rate", "0.5", "--out", "elsewhere"),
    ]
    assert cli.main(words) == 0
    assert [config.seed for config in seen["configs"]] == [1, 2, 1, 2]
    assert {(c.num_epochs, c.learning_rate) for c in seen["configs"]} == {(3, 0.5)}
    assert str(seen["root"]) == "elsewhere"
    assert (seen["options"]["resume"], seen["options"]["progress"]) == (False, True)


def test_tune_runs_the_search_of_the_experiment_for_each_model(folder, monkeypatch, capsys):
    seen = []

    def tune(trials, root, results, **options):
        seen.extend(trials)
        trials = [
            {"model": config.model_name, "name": name, "validation_accuracy": 0.5}
            for name, config in trials
        ]
        return {"best": {"resonance": "slow", "fnet": "wide"}, "trials": trials}

    monkeypatch.setattr("resonance_jax.training.tune.tune", tune)
    words = ["tune", str(folder / "small.py"), "results.json", "--num-epochs", "1"]
    assert cli.main(words) == 0
    found = [(n, c.model_name, c.learning_rate, c.model.hidden_dim, c.num_epochs) for n, c in seen]
    assert found == [
        ("slow", "resonance", 1e-4, 4, 1),
        ("slow", "fnet", 1e-4, 4, 1),
        ("wide", "resonance", 3e-3, 8, 1),
        ("wide", "fnet", 3e-3, 8, 1),
    ]
    best = [line.split()[:2] for line in capsys.readouterr().out.splitlines() if "best" in line]
    assert best == [["resonance", "slow"], ["fnet", "wide"]]


def test_list_shows_the_fields_with_the_values_of_the_experiment(folder, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", str(folder / "small.py"), "--list"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0
    assert "--learning-rate-phase" in printed and "--model.num-frequencies" in printed
    assert "default: Small" in " ".join(printed.replace("│", " ").split())


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quikstart"], "unknown experiment 'quikstart'; did you mean 'quickstart'? known: "),
        (["nowhere/none.py"], "unknown experiment 'nowhere/none.py'"),
        (["NOTES"], "notes.py is no experiment: it has no get_config(model)."),
        (["SMALL", "--models", "fnet", "fnet"], "a model and a seed of its own; twice: "),
        (["quickstart", "--models", "lstm"], "unknown model 'lstm'; quickstart has resonance, tr"),
        (["SMALL", "--models", "transformer"], "small.py has resonance, fnet."),
        (["SMALL", "--seed", "3"], "name the seeds of the runs with --seeds, not --seed."),
        (["SMALL", "--seed=3"], "name the seeds of the runs with --seeds, not --seed."),
        (["SMALL", "--seeds", "-1"], "TrainConfig.seed must be an integer in [0, 2**31), got -1"),
        (["SMALL", "--seeds", "1", "1"], "a model and a seed of its own; twice: "),
        (["SMALL", "--seeds"], "--seeds needs at least one seed."),
        (["SMALL", "--num-epochs", "0"], "TrainConfig.num_epochs must be an integer of at least 1"),
        (["SMALL", "--num-epochs", "many"], "invalid literal for int() with base 10: 'many'"),
        (["SMALL", "--schedule", "linear"], "TrainConfig.schedule must be one of"),
        (["SMALL", "--num-epoch", "3"], "--num-epoch"),
        (["SMALL", "stray"], "stray"),
        (["SMALL", "--model.num-frequencies", "3"], "--model.num-frequencies"),  # not FNet's
        (["SMALL", "--model.hidden-dim", "0"], "hidden_dim must be at least 1, got 0"),
        (["SMALL", "--data-dir", "/nowhere"], "the data folder /nowhere does not exist"),
        (["SMALL", "--dataset", "Smal"], "unknown data set 'Smal'"),
    ],
)
def test_mistakes_in_train_are_named(folder, tmp_path, capsys, words, message):
    files = {"SMALL": str(folder / "small.py"), "NOTES": str(folder / "notes.py")}
    words = [files.get(word, word) for word in words]
    assert message in failure(capsys, "train", *words, "--quiet", "--out", str(tmp_path))


@pytest.mark.error_message
def test_mistakes_in_the_other_commands_are_named(run, folder, tmp_path, capsys):
    assert "holds no checkpoint: train it first" in failure(capsys, "evaluate", str(tmp_path))
    assert "holds no checkpoint: train it first" in failure(capsys, "inspect", str(tmp_path))
    assert "unrecognized arguments: --fast" in failure(capsys, "evaluate", str(run), "--fast")
    missing = failure(capsys, "evaluate", str(run), "--data-dir", "/nowhere")
    assert "the data folder /nowhere does not exist" in missing
    assert "quickstart has no SEARCH" in failure(capsys, "tune", "quickstart", "results.json")
    assert "train" in failure(capsys, "trian", "quickstart")


@pytest.mark.error_message
def test_a_run_of_another_configuration_is_not_continued(run, train_words, capsys):
    assert "learning_rate" in failure(capsys, *train_words, "--learning-rate", "0.5")


CLAIM = '''"""R{n}: one is {n}.

Source: R.
Decided by: comparing.
"""
from resonance_jax.claims.ledger import Decision

def measure(seed, size):
    return {{"one": 1, "length": len(size)}}

def decide(runs):
    return Decision("holds" if runs[0]["one"] == {n} else "fails", "one is 1", "One is one.")
'''


@pytest.fixture
def ledger_folder(tmp_path, monkeypatch):
    claims = tmp_path / "experiments" / "claims"
    claims.mkdir(parents=True)
    for n in (1, 2):
        (claims / f"r{n}.py").write_text(CLAIM.format(n=n))
    (claims / "_pending.py").write_text('PENDING = {"Q1": ("it spins.", "quaternions")}')
    monkeypatch.setattr(experiment_files, "FOLDERS", (tmp_path / "none", tmp_path / "experiments"))
    return tmp_path


def test_claims_prints_a_table_and_writes_ledger_and_page(ledger_folder, capsys):
    out = ledger_folder / "ledger"
    assert cli.main(["claims", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert (
        "R1" in shown and "fails" in shown and "1 hold, 0 hold when …, 1 fail, 1 pending" in shown
    )
    ledger = json.loads((out / "claims.json").read_text())
    assert [record["verdict"] for record in ledger["claims"]] == ["holds", "fails"]
    assert "quaternions" in (out / "claims.html").read_text("utf-8")


def test_claims_takes_ids_and_the_full_size(ledger_folder):
    assert cli.main(["claims", "r2", "--full", "--out", str(ledger_folder)]) == 0
    (record,) = json.loads((ledger_folder / "claims.json").read_text())["claims"]
    assert (record["id"], len(record["runs"]), record["runs"][0]["length"]) == ("R2", 3, 4)


@pytest.mark.parametrize(
    ("words", "message"), [(["R3"], "unknown claim 'R3'. Did you mean R"), (["Q1"], "waits for")]
)
def test_claims_refuses_what_it_does_not_have(ledger_folder, capsys, words, message):
    assert cli.main(["claims", *words, "--out", str(ledger_folder)]) == 2
    assert message in capsys.readouterr().err


def test_claims_says_what_was_not_measured(ledger_folder, capsys):
    path = ledger_folder / "experiments" / "claims" / "r1.py"
    path.write_text(
        path.read_text().replace("return {", "raise FileNotFoundError('no data')  # {", 1)
    )
    assert cli.main(["claims", "--out", str(ledger_folder)]) == 2
    assert "not measured: R1" in capsys.readouterr().err


def test_claims_says_where_it_looked(ledger_folder, capsys, monkeypatch):
    monkeypatch.setattr(experiment_files, "FOLDERS", (ledger_folder / "none",))
    assert cli.main(["claims"]) == 2
    assert "no claims were found in" in capsys.readouterr().err
