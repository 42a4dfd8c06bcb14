"""How time, memory and operations of a mixer grow with the length, 256 to 1M: slopes, and which law fits best.

The output of a mixer and its gradients in x and its weights, float32 x [1, n, 64]: resonance by each method (64
frequencies, the lowest, and spread over the spectrum), causal resonance by each evaluation
(4 heads of 8 resonators), FNet's mixing, and attention (4 heads, with its projections; from 4,096 on 512 queries at a
time). A form is not timed where the length before says that it would take more than 40 s, or it would not fit into
memory. The slope a of quantity ∝ n^a is a least-squares fit on logarithms from n = 4,096 on, where constants no longer
weigh (of a form that is timed at fewer than three such lengths, from 256 on), with its 95 % interval; the law of the
lowest AIC fits best, and a difference below 2 decides nothing. Operations are XLA's count, which takes a loop's body
once: none is given for what loops.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness import Record
from benchmarks.timing import Case, compiled_case
from resonance_jax.claims.filters import stacked_attention
from resonance_jax.claims.scaling import LAWS, aic, fit_slope
from resonance_jax.ops import recurrence
from resonance_jax.ops.fourier import select_bins
from resonance_jax.ops.resonance import resonate
from resonance_jax.training.plots import PALETTE

LENGTHS = tuple(2**power for power in range(8, 21))
FEATURES, BINS, HEADS, RESONATORS, QUERIES = 64, 64, 4, 8, 512
FITTED_FROM = 4096
LIMIT = 40.0
LARGEST = {"resonance": 1.15, "causal": 1.15}
"""Of slopes of time and memory, asked of the whole range: n log n has 1.09 from 4,096 to 1M."""
LOOPS = ("attention", "causal, chunks")
QUANTITIES = {"seconds": "seconds", "planned_bytes": "bytes that XLA plans", "flops": "operations"}


def forms(n: int) -> dict[str, tuple[Any, Any]]:
    """Functions of (x, weights), and the weights."""
    rng = np.random.default_rng(0)
    size = min(BINS, n // 2 + 1)
    weights = jax.lax.complex(*jnp.asarray(rng.standard_normal((2, size, FEATURES), np.float32)))
    bank = recurrence.ring_bank(jax.random.key(0), HEADS, RESONATORS)
    projections = jnp.asarray(rng.standard_normal((1, 4, FEATURES, FEATURES), np.float32)) / 8
    chunk = QUERIES if n >= 4096 else None
    low, spread = (select_bins(n // 2 + 1, size, strategy) for strategy in ("low", "uniform"))
    return {
        "resonance, FFT": (partial(resonate, bins=low, method="fft"), weights),
        "resonance, matrix": (partial(resonate, bins=low, method="matrix"), weights),
        "resonance, matrix, spread bins": (
            partial(resonate, bins=spread, method="matrix"),
            weights,
        ),
        "causal, scan": (lambda x, bank: recurrence.scan(x, bank)[0], bank),
        "causal, FFT": (lambda x, bank: recurrence.convolve(x, bank)[0], bank),
        "causal, chunks": (lambda x, bank: recurrence.chunked(x, bank)[0], bank),
        "FNet": (lambda x, _: jnp.fft.fft2(x, axes=(1, 2)).real, ()),
        "attention": (
            lambda x, w: stacked_attention(x, w, HEADS, query_chunk=chunk),
            projections,
        ),
    }


def with_gradients(function: Any, x: Any, weights: Any) -> Any:
    """The output, and the gradients of half its squared norm."""
    y, pull = jax.vjp(function, x, weights)
    return y, pull(y)


def run(record: Record) -> None:
    """Times the forms at each length, and fits."""
    lengths = LENGTHS[:7:2] if record.quick else LENGTHS
    found: dict[str, list[dict[str, Any]]] = {}
    for n in lengths:
        x = jnp.asarray(np.random.default_rng(n).standard_normal((1, n, FEATURES)), jnp.float32)
        cases = [
            make_case(name, function, (x, weights), found.setdefault(name, []))
            for name, (function, weights) in forms(n).items()
        ]
        timed = record.time({"n": n}, cases, "resonance, matrix")
        for name, case in timed.items():
            if not case.left_out:
                row = {"n": n, "seconds": float(np.median(case.seconds)), **case.info}
                found[name].append(row)
    record.values["fits"] = {name: fits(rows) for name, rows in found.items() if rows}
    for name, fit in record.values["fits"].items():
        for quantity, values in fit.items():
            kind = name.split(",")[0]
            whole = quantity != "flops" and values["to"] == LENGTHS[-1]
            limit = LARGEST.get(kind) if whole else None
            low, high = values["slope"][1:]
            print(
                f"{name}: {quantity} as {values['law']}, a from {low} to {high}, AIC {values['aic']}"
            )
            what = f"{name}: a of {quantity} ∝ n^a from {values['from']} to {values['to']}"
            record.target(what, values["slope"][0], at_most=limit)


def make_case(name: str, function: Any, arguments: Any, before: list[dict[str, Any]]) -> Case:
    """Compiles a form, unless it failed at the length before or would take too long."""
    x = arguments[0]
    if before:
        last = before[-1]
        growth = (x.shape[1] / last["n"]) ** (2 if name == "attention" else 1)
        seconds = growth * last["seconds"]
        if seconds > LIMIT:
            text = f"it would take about {seconds:.0f} s"
            return Case(name, lambda: None, 0, left_out=text)
    repeats = 5 if not before or before[-1]["seconds"] < 1 else 1
    program = partial(with_gradients, function)
    try:
        case = compiled_case(name, program, arguments, repeats)
    except jax.errors.JaxRuntimeError as error:  # a GPU plans its memory when it compiles
        return Case(name, lambda: None, 0, left_out=str(error).splitlines()[0])
    if name in LOOPS:
        case.info["flops"] = None
    return case


def fits(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Slope with its interval, and AIC of each law, of each quantity that was measured at three lengths or more."""
    long = [row for row in rows if row["n"] >= FITTED_FROM]
    rows = long if len(long) > 2 else rows
    found: dict[str, dict[str, Any]] = {}
    for quantity in QUANTITIES:
        pairs = [(row["n"], row[quantity]) for row in rows if row.get(quantity)]
        if len(pairs) < 3:
            continue
        n, values = zip(*pairs, strict=True)
        scores = {law: round(aic(n, values, law), 1) for law in LAWS}
        best = min(scores, key=lambda law: scores[law])
        slope = [round(value, 3) for value in fit_slope(n, values)]
        found[quantity] = {"slope": slope, "aic": scores, "law": best, "from": n[0], "to": n[-1]}
    return found


def draw(values: dict[str, Any]) -> Figure:
    """Draws each quantity over the length on logarithms, a line a form."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    rows = [row for row in values["rows"] if "median_ms" in row]
    names = list(dict.fromkeys(row["name"] for row in rows))
    for axes, (quantity, label) in zip(figure.subplots(1, 3), QUANTITIES.items(), strict=True):
        for index, name in enumerate(names):
            points = [
                (row["n"], row["median_ms"] / 1e3 if quantity == "seconds" else row.get(quantity))
                for row in rows
                if row["name"] == name
            ]
            points = [(n, value) for n, value in points if value]
            if points:
                color = PALETTE[index % len(PALETTE)]
                style = "-" if index < len(PALETTE) else "--"
                axes.loglog(*zip(*points, strict=True), style, color=color, label=name, marker=".")
        axes.set(xlabel="length n", title=label)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
