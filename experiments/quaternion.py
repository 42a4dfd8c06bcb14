"""The quaternion network, its ablations, ResonanceNet and a Transformer of equal size on three data sets.

Claim: the ΨQRH layer helps, and so does an α that follows the fractal dimension of the data (Q7, Q9).
Found, with two of the three seeds: no gain from any part. ResonanceNet is ahead on FordA by 1.6 points (interval 0.9 to
2.2); every other difference of the network to a model or an ablation lies within the seeds' spread.
Command: python -m experiments.quaternion
Data: FordA, Reuters R8 (the first 64 words), Fashion-MNIST (the first 10,000 training images), with the budgets of
experiments/scaling.py.

All networks have two layers and width 16 and, by the width of their MLP, the parameters of ResonanceNet within 2 %.
Each kind gets the same search for its learning rate, on a fifth of the training split; the ablations take the whole
network's. Every run is written to experiments/results/quaternion.json when it ends; one that is there is not repeated.

    qrh             quaternion weights, Hermitian log-phase filter with α = 1, a rotation of ℝ⁴ for each channel
    qrh-fractal     α = 1 + 0.8 (D − 2)/2, D the running mean of the dimension of the layer's input
    qrh-real        real matrices in the place of Hamilton products
    qrh-unfiltered  no filter: nothing mixes along time before the pooling
    qrh-unrotated   no rotation
"""

import argparse
import dataclasses
import functools
import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from flax.traverse_util import flatten_dict

from experiments import scaling
from experiments.parametrization import welch
from experiments.result_file import open_results, work
from resonance_jax.models.baselines import make_model
from resonance_jax.models.quaternion_net import QRHNetConfig
from resonance_jax.models.sequence_model import SequenceConfig
from resonance_jax.ops.fractal import alpha_from_dimension
from resonance_jax.training.config import ModelConfig, TrainConfig

RESULTS = Path(__file__).parent / "results" / "quaternion.json"
DATA = ("forda", "r8", "fashion_mnist")
WIDTH = 16
QRH: dict[str, dict[str, Any]] = {
    "qrh": {},
    "qrh-fractal": dict(alpha_mode="fractal"),
    "qrh-real": dict(use_quaternion=False),
    "qrh-unfiltered": dict(use_filter=False),
    "qrh-unrotated": dict(rotation="none"),
}
MODELS = ("resonance", "transformer", *QRH)
KINDS = ("qrh", "resonance", "transformer")
SEEDS = (0, 1, 2)


@functools.cache
def count_parameters(model: ModelConfig, name: str) -> int:
    """Counts a model's parameters for the inputs of a data set, without computing any."""
    row = scaling.load(name).train.inputs[:1]
    shapes = jax.eval_shape(make_model(model).init, jax.random.key(0), row)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@functools.cache
def make_model_config(name: str, model: str) -> Any:
    """Returns a model of the width of all and, by the width of its MLP, of ResonanceNet's number of parameters."""
    base = scaling.make_config(name, "resonance", WIDTH, 1e-3, 0).model
    if model == "resonance":
        return base
    if model == "transformer":
        config = scaling.make_config(name, model, WIDTH, 1e-3, 0).model
    else:
        shared = {f.name: getattr(base, f.name) for f in dataclasses.fields(SequenceConfig)}
        config = QRHNetConfig(**shared, **QRH[model])
    target = count_parameters(base, name)
    widths = [dataclasses.replace(config, mlp_dim=width) for width in (4, 8)]
    first, second = (count_parameters(width, name) for width in widths)
    steps = round((target - first) / (second - first))  # the number is linear in the width
    return dataclasses.replace(config, mlp_dim=4 + 4 * max(steps, 0))


def make_config(name: str, model: str, rate: float, seed: int) -> TrainConfig:
    """Returns the curve's configuration on a data set, with another model."""
    config = scaling.make_config(name, "resonance", WIDTH, rate, seed)
    return dataclasses.replace(config, model=make_model_config(name, model))


def read_alpha(config: ModelConfig, variables: Mapping[str, Any]) -> list[float]:
    """Returns the α of each filter after training; [] where it is fixed."""
    params = flatten_dict(variables["params"])
    found = [float(leaf) for path, leaf in sorted(params.items()) if path[-1] == "alpha"]
    for path, leaf in sorted(flatten_dict(variables.get("fractal", {})).items()):
        if path[-1] == "dimension":
            base = config.alpha if isinstance(config, QRHNetConfig) else 1.0
            alpha = alpha_from_dimension(float(leaf), euclidean_dimension=2, base=base)
            found.append(float(alpha))
    return found


class Results(scaling.Results):
    """The JSON file of this experiment."""

    TABLES = ("search", "runs")

    def summary(self) -> dict[str, Any]:
        """Returns the budgets and what the tables say."""
        budgets = {name: dataclasses.asdict(scaling.TASKS[name]) for name in DATA}
        return {"width": WIDTH, "tasks": budgets, **analyse(self.record)}


def analyse(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns mean and deviation of each model with a run, and the contrasts of "qrh" with those of two seeds."""
    scores, contrasts = {}, {}
    for name in DATA:
        accuracies = {
            model: [
                r["accuracy"] for r in record["runs"] if (r["data"], r["model"]) == (name, model)
            ]
            for model in MODELS
        }
        scores[name] = {
            model: {
                "accuracy": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else None,
                "seeds": len(values),
            }
            for model, values in accuracies.items()
            if values
        }
        whole = accuracies["qrh"]
        contrasts[name] = {
            f"qrh − {model}": welch(whole, values)
            for model, values in accuracies.items()
            if model != "qrh" and min(len(values), len(whole)) > 1
        }
    return {"scores": scores, "contrasts": contrasts}


def search(results: Results, name: str, model: str, rate: float) -> None:
    """Tries a learning rate, unless the file has it, judged on a fifth of the training split."""
    key = {"data": name, "model": model, "rate": rate}
    if results.find("search", **key):
        return
    config = dataclasses.replace(make_config(name, model, rate, 0), validation_fraction=0.2)
    result = scaling.train(config, scaling.load(name))
    results.add("search", key, {"validation_accuracy": result.validation_accuracy})


def run(results: Results, name: str, model: str, seed: int) -> None:
    """Trains one model, unless the file has it."""
    key = {"data": name, "model": model, "seed": seed}
    if results.find("runs", **key):
        return
    config = make_config(name, model, results.rate(name, model), seed)
    finished, result = scaling.train_run(config, scaling.load(name))
    values = {
        "parameters": result.parameters,
        "mlp_dim": make_model_config(name, model).mlp_dim,
        "rate": config.learning_rate,
        "accuracy": result.test_accuracy,
        "wall_seconds": result.train_seconds,
        "alpha": read_alpha(config.model, finished.state.eval_variables),
    }
    results.add("runs", key, values)


def print_table(record: Mapping[str, Any]) -> None:
    """Prints accuracies in percent, a row a model."""
    print(f"{'model':16}" + "".join(f"{name:>18}" for name in DATA))
    for model in MODELS:
        cells = []
        for name in DATA:
            found = record["scores"][name].get(model)
            spread = f" ± {100 * found['std']:.1f}" if found and found["std"] is not None else ""
            cells.append(f"{100 * found['accuracy']:.1f}{spread}" if found else "")
        print(f"{model:16}" + "".join(f"{cell:>18}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=DATA, default=DATA)
    options, results = open_results(parser, Results, RESULTS)
    jobs: list[tuple[Any, ...]] = []
    for name in options.only:
        jobs += [(search, name, kind, rate) for kind in KINDS for rate in scaling.RATES]
        jobs += [(run, name, model, seed) for seed in SEEDS for model in MODELS]
    work(results, jobs)
    print_table(results.record)
    print(json.dumps(results.record["contrasts"], indent=1))


if __name__ == "__main__":
    main()
