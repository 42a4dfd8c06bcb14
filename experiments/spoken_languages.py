"""Beside `word_languages` and `prompt_languages`: a linear baseline, and their trained models as streams.

Measured: the accuracy of a logistic regression of the mean and deviation of each log-mel band; of trained models the
largest difference between the logits of the first 64 test sounds, all cut to the shortest of them, whole and as streams
of 20 ms parts, the time that a
stream takes over the time that it lasts (one core if the process has one: taskset -c 1), and how often English and
Spanish prompts of the same voice are told apart.
Found for words: a stream is the whole to 2e-6 (logits up to 17), and takes 4 % of its own time on one busy core, 2 %
    with the log-mel spectrum. Linear: words 0.930, prompts 0.946. Of prompts a stream is the whole to 2e-6 as well, and
    English and Spanish of one voice are told apart at 0.946 (resonators) and 0.955 (log-mel), 224 prompts.
Command: python -m experiments.spoken_languages [--runs runs]
"""

import argparse
import json
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.result_file import ResultFile, open_results, work
from resonance_jax.data.dataset import load_dataset
from resonance_jax.data.split import Dataset, Split
from resonance_jax.layers.audio import LogMel
from resonance_jax.training.loop import load_run

RESULTS = Path(__file__).parent / "results" / "spoken_languages.json"
DATASETS = ("word_languages", "prompt_languages")
SAMPLE_RATE, PART = 8000, 160
ROWS = 64
"""Sounds in a batch."""


class Results(ResultFile):
    """The JSON file of this experiment."""

    TABLES = ("linear", "streams")


@cache
def read(name: str, folder: Path | None) -> Dataset:
    """Returns a data set, read once."""
    return load_dataset(name, folder)


def summarise(split: Split) -> np.ndarray:
    """Returns the mean and deviation of 40 log-mel bands over the whole frames of each sound, [n, 80]."""
    assert split.mask is not None
    front_end: Any = LogMel(40, SAMPLE_RATE, 80)
    make = jax.jit(lambda x, mask: front_end.apply({}, x, mask))
    rows = []
    for start in range(0, len(split), ROWS):
        part = slice(start, start + ROWS)
        frames = jax.device_get(make(split.inputs[part, :, 0], split.mask[part]))
        for values, length in zip(frames.values, frames.lengths, strict=True):
            seen = values[:length]
            rows.append(np.concatenate([seen.mean(axis=0), seen.std(axis=0)]))
    return np.stack(rows)


def linear(results: Results, folder: Path | None, name: str) -> None:
    """Fits and tests a logistic regression (C = 1, features of mean 0 and deviation 1), unless the file has it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if results.find("linear", dataset=name):
        return
    data = read(name, folder)
    train, test = summarise(data.train), summarise(data.test)
    scaler = StandardScaler().fit(train)
    model = LogisticRegression(C=1.0, max_iter=2000).fit(scaler.transform(train), data.train.labels)
    right = model.predict(scaler.transform(test)) == data.test.labels
    results.add("linear", {"dataset": name}, {"test_accuracy": float(right.mean())})


def stream(results: Results, folder: Path | None, runs: Path, name: str, kind: str) -> None:
    """Reads the test sounds by a trained model whole and as streams, unless the file has it or there is no run."""
    run_dir = runs / name / f"{kind}-seed0"
    if results.find("streams", dataset=name, model=kind) or not (run_dir / "result.json").exists():
        return
    _, loaded, variables = load_run(run_dir)
    model: Any = loaded
    test = read(name, folder).test
    assert test.mask is not None
    whole = jax.jit(model.apply)
    step = jax.jit(partial(model.apply, method="stream_step"))
    sounds, masks = test.inputs[:ROWS], test.mask[:ROWS]
    mask = np.arange(sounds.shape[1]) < masks.sum(axis=1).min() // PART * PART
    state = model.initial_state(ROWS)
    for start in range(0, int(mask.sum()), PART):
        logits, state = step(variables, sounds[:, start : start + PART], state)
    expected = whole(variables, sounds, np.broadcast_to(mask, masks.shape))
    values = {
        "max_logit_difference": float(np.abs(logits - expected).max()),
        "max_logit": float(np.abs(expected).max()),
        "real_time_factor_one_stream": real_time_factor(step, variables, model, sounds[:1]),
        "trained_at_commit": json.loads((run_dir / "result.json").read_text())["commit"],
    }
    if name == "prompt_languages":
        values |= same_voice(whole, variables, test)
    results.add("streams", {"dataset": name, "model": kind}, values)


def real_time_factor(step: Any, variables: Any, model: Any, sound: np.ndarray) -> float:
    """Returns the median time of a step over the 20 ms that its part lasts, after a warm-up, one part after another."""
    seconds, state = [], model.initial_state(1)
    for repeat in range(220):
        start = PART * repeat % (sound.shape[1] - PART)
        begun = time.perf_counter()
        logits, state = step(variables, sound[:, start : start + PART], state)
        jax.block_until_ready(logits)
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds[20:])) * SAMPLE_RATE / PART


def same_voice(whole: Any, variables: Any, test: Split) -> dict[str, Any]:
    """Returns how often English and Spanish, classes 0 and 1, are told apart by the larger of their two logits."""
    assert test.mask is not None
    rows = np.flatnonzero(test.labels < 2)
    right = 0
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        logits = whole(variables, test.inputs[part], test.mask[part])
        right += int((np.argmax(logits[:, :2], axis=1) == test.labels[part]).sum())
    return {"same_voice_accuracy": right / len(rows), "same_voice_sounds": len(rows)}


def main() -> None:
    """Measures what the file does not have, and prints it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=None, help="folder with the sounds")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of trained runs")
    options, results = open_results(parser, Results, RESULTS)
    jobs: list[tuple[Any, ...]] = []
    for name in DATASETS:
        jobs.append((linear, options.data_dir, name))
        for kind in ("audio", "audio_log_mel"):
            jobs.append((stream, options.data_dir, options.runs, name, kind))
    work(results, jobs)
    for table in Results.TABLES:
        for row in results.record[table]:
            print(row)


if __name__ == "__main__":
    main()
