"""What a text is about: R8, R52 and 20 Newsgroups, beside a Transformer of the same size and a linear classifier.

Question: how far are networks that learn words from so few documents behind what counts them?
Found, one seed, R8: 0.958, the Transformer 0.956, the linear classifier 0.974. R52: 0.905, 0.892 and 0.948: the more
    topics and the fewer documents of each, the further behind. 20 Newsgroups: 0.780 and 0.852; the Transformer was not
    run there, for time. `experiments.newsgroups` reads its whole documents.
Time: 10 minutes of one core for R8's two networks, 80 for R52's, 31 for resonance on 20 Newsgroups (its "train_seconds"
    count a pause), some hours for the Transformer there, beside other work
Published beside: TextGCN .971, .936 and .863 (Yao et al., arXiv:1809.05679).
Command: python -m experiments.topics [--seeds 0 1 2] [--sets reuters_r8 ...] [--arms resonance transformer]
Data: `resonance_jax.data.text`: the first 128, 256 and 512 words of a document. The linear classifier, a support vector
    machine on TF-IDF, reads all words of the whole documents.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from experiments.result_file import ResultFile, open_results, work
from resonance_jax.data.text import COLLECTIONS, load_documents
from resonance_jax.models.baselines import TransformerConfig
from resonance_jax.models.resonance_net import ResonanceNetConfig
from resonance_jax.training.config import TrainConfig
from resonance_jax.training.loop import train_and_evaluate

RESULTS = Path(__file__).parent / "results" / "topics.json"
ARMS = ("resonance", "transformer")
LINEAR = "TF-IDF + SVM"
SETS: dict[str, dict[str, Any]] = {
    "reuters_r8": dict(num_epochs=12, batch_size=128),
    "reuters_r52": dict(num_epochs=16, batch_size=128),
    "newsgroups": dict(num_epochs=12, batch_size=64),
}


def make_config(name: str, arm: str, seed: int = 0, folder: Path | None = None) -> TrainConfig:
    """Returns the configuration of one arm; parameter counts are within 10 %."""
    collection = COLLECTIONS[name]
    shape: dict[str, Any] = dict(
        input_dim=1,
        output_dim=len(collection.classes),
        vocab_size=collection.vocab_size,
        hidden_dim=64,
        num_layers=2,
        pooling="mean_max",
        dropout=0.2,
    )
    return TrainConfig(
        experiment="topics",
        dataset=name,
        data_dir=None if folder is None else str(folder),
        model={
            "resonance": ResonanceNetConfig(**shape, mlp_dim=128, num_frequencies=24),
            "transformer": TransformerConfig(**shape, mlp_dim=128, position="sinusoidal"),
        }[arm],
        seed=seed,
        learning_rate=2e-3,
        learning_rate_magnitude=2e-3,
        learning_rate_phase=2e-3,
        weight_decay=0.1,
        label_smoothing=0.1,
        augment=("hide_words",),
        ema_decay=0.99,
        eval_every=4,
        **SETS[name],
    )


def linear_accuracy(name: str, folder: Path | None = None) -> float:
    """Returns the test accuracy of a linear support vector machine on TF-IDF, both as scikit-learn has them."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    documents = load_documents(name, folder)
    (train_labels, train), (test_labels, test) = (
        zip(*documents[part], strict=True) for part in ("train", "test")
    )
    classifier = make_pipeline(TfidfVectorizer(sublinear_tf=True), LinearSVC(random_state=0))
    return float(classifier.fit(train, train_labels).score(test, test_labels))


class Results(ResultFile):
    """The JSON file of this experiment: "runs", and "linear" classifiers."""

    TABLES = ("runs", "linear")


def run(results: Results, folder: Path | None, name: str, arm: str, seed: int) -> None:
    """Trains one arm on a collection, unless the file has it."""
    if results.find("linear", set=name) is None:
        results.add("linear", {"set": name}, {"accuracy": linear_accuracy(name, folder)})
    if results.find("runs", set=name, arm=arm, seed=seed):
        return
    with tempfile.TemporaryDirectory() as run_dir:
        found = train_and_evaluate(make_config(name, arm, seed, folder), run_dir)
    values = {
        "accuracy": found.test_accuracy,
        "parameters": found.parameters,
        "train_seconds": round(found.train_seconds, 1),
        "commit": found.commit,
    }
    results.add("runs", {"set": name, "arm": arm, "seed": seed}, values)


def main() -> None:
    """Runs what the file does not have, and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data-dir", type=Path, default=None, help="folder with the documents")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=list(ARMS))
    options, results = open_results(parser, Results, RESULTS)
    cells = [(name, arm) for name in options.sets for arm in options.arms]
    work(
        results, [(run, options.data_dir, *cell, seed) for seed in options.seeds for cell in cells]
    )
    for row in results.record["linear"]:
        print(f"{row['set']:12} {LINEAR:12} {row['accuracy']:.4f}")
    for name, arm in cells:
        rows = [r for r in results.record["runs"] if (r["set"], r["arm"]) == (name, arm)]
        print(f"{name:12} {arm:12}", *(f"{row['accuracy']:.4f}" for row in rows))


if __name__ == "__main__":
    main()
