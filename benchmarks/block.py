"""A whole block, gate and MLP included, beside a Transformer's and one with the straightforward filter in its place.

Float32 x [b, n, 256] with b n = 16384 (one row beyond), k = 64 frequencies, 4 heads, MLP of 512: the forward pass, and
the training step of four blocks on a mean square (value and gradients of all parameters; no optimizer).
"straightforward" has rfft → gather → weigh → scatter → irfft where ours has `resonate`; the two are compared before
they are timed. "resonance, computed again" is a loop over the blocks that keeps the input of each alone, from which
the gradient computes the rest a second time (`scan_layers` and `rematerialize_blocks` of a model). From n = 4096 on
attention takes 512 queries at a time (its scores would need 4 GiB a block and more) and is timed three times.
"PyTorch Transformer" is its encoder layer of the same sizes, with the fused attention that it has for CPUs. Forward
passes take turns among themselves, and so do training steps: what ran right after one of those took longer. Memory is
what XLA plans beside arguments and outputs. "level_at" is the length where the forward passes of resonance and
Transformer take the same time, on logarithms; null if there is none among those measured.
"""

import itertools
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from benchmarks.harness import Record
from benchmarks.peers import pytorch
from benchmarks.resonance import straightforward
from benchmarks.timing import Case, compiled_case, ratio
from resonance_jax.claims.scaling import fit_slope
from resonance_jax.layers.block import MixerBlock, ResonanceBlock
from resonance_jax.models.baselines import FourierMixing, SelfAttention
from resonance_jax.ops.polar import from_polar
from resonance_jax.training.plots import INK, PALETTE

LENGTHS = (64, 256, 1024, 4096, 8192, 16384, 32768, 65536)
ATTENTION_TO = 8192
FEATURES, FREQUENCIES, HEADS, MLP, TOKENS, DEPTH = 256, 64, 4, 512, 16384, 4
PASSES = ("forward", "training")
AGAIN, TORCH = "resonance, computed again", "PyTorch Transformer"


class StraightforwardMixer(nn.Module):
    """A filter of the lowest frequencies with the parameters of `ResonanceLayer`, as the formula suggests it."""

    @nn.compact
    def __call__(self, x, mask=None, *, deterministic: bool = True):
        """Maps x [b, t, d] to y [b, t, d]."""
        k = min(FREQUENCIES, x.shape[1] // 2 + 1)
        shape = (k, x.shape[-1])
        log_magnitude = self.param("log_magnitude", nn.initializers.normal(0.02), shape)
        phase = self.param("phase", nn.initializers.normal(0.02), shape)
        return straightforward(x, from_polar(jnp.exp(log_magnitude), phase), np.arange(k))


def resonance(n: int) -> nn.Module:
    return ResonanceBlock(
        FEATURES, min(FREQUENCIES, n // 2 + 1), mlp_dim=MLP, use_interference=False
    )


def blocks(n: int) -> dict[str, nn.Module]:
    """The contenders at one length."""
    found: dict[str, nn.Module] = {
        "resonance": resonance(n),
        "resonance, frequencies mix": ResonanceBlock(
            FEATURES, min(FREQUENCIES, n // 2 + 1), mlp_dim=MLP
        ),
        "straightforward": MixerBlock(StraightforwardMixer(), MLP, gate=True),
        "FNet": MixerBlock(FourierMixing(), MLP),
    }
    if n <= ATTENTION_TO:
        chunk = 512 if n >= 4096 else 0
        found["Transformer"] = MixerBlock(SelfAttention(HEADS, chunk), MLP)
    return found


class Stack(nn.Module):
    """The same kind of block, DEPTH times."""

    kind: str
    length: int

    @nn.compact
    def __call__(self, x):
        """Maps x [b, t, d] to y [b, t, d]."""
        if self.kind == AGAIN:
            again = nn.remat(lambda block, x, _: (block(x), None), prevent_cse=False)
            loop = nn.scan(again, {"params": 0}, split_rngs={"params": True}, length=DEPTH)
            return loop(resonance(self.length).copy(), x, None)[0]
        for _ in range(DEPTH):
            x = blocks(self.length)[self.kind].copy()(x)
        return x


def cases_at(n: int, repeats: int) -> dict[str, list[Case]]:
    """All contenders at one length by pass, of which two have been compared."""
    rng = np.random.default_rng(0)
    shape = (max(1, TOKENS // n), n, FEATURES)
    x = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    check_equal(n, x[:1])
    forward, training = [], []
    for name, block in blocks(n).items():
        few = repeats if name != "Transformer" or n < 4096 else min(repeats, 3)
        variables = jax.jit(block.init)(jax.random.key(0), x[:1])
        forward.append(compiled_case(f"{name} | {PASSES[0]}", block.apply, (variables, x), few))
        training.append(training_case(name, x, few))
    training.append(training_case(AGAIN, x, repeats))
    if n <= ATTENTION_TO:
        first, second = torch_cases(x, repeats)
        forward.append(first)
        training.append(second)
    return dict(zip(PASSES, (forward, training), strict=True))


def torch_cases(x: jax.Array, repeats: int) -> list[Case]:
    """The forward pass of PyTorch's encoder layer, and the loss and gradients of a stack of them."""
    names = [f"{TORCH} | {which}" for which in PASSES]
    torch, missing = pytorch(*names)
    if torch is None:
        return missing
    repeats = repeats if x.shape[1] < 4096 else min(repeats, 3)
    about = {"version": torch.__version__}
    torch.backends.mha.set_fastpath_enabled(False)  # it keeps all scores, the fused attention none
    gelu = partial(torch.nn.functional.gelu, approximate="tanh")
    options = dict(dropout=0.0, activation=gelu, batch_first=True, norm_first=True)
    layers = [
        torch.nn.TransformerEncoderLayer(FEATURES, HEADS, MLP, **options) for _ in range(DEPTH)
    ]
    stack = torch.nn.Sequential(*layers)
    parameters = list(stack.parameters())
    held = torch.from_numpy(np.array(x))

    def forward() -> None:
        with torch.inference_mode():
            layers[0].eval()(held)

    def training() -> None:
        torch.autograd.grad(stack.train()(held).square().mean(), parameters)

    return [
        Case(n, f, repeats, dict(about)) for n, f in zip(names, (forward, training), strict=True)
    ]


def training_case(name: str, x: jax.Array, repeats: int) -> Case:
    """The loss and gradients of a stack of blocks of this kind."""
    stack = Stack(name, x.shape[1])
    variables = jax.jit(stack.init)(jax.random.key(0), x[:1])
    step = jax.value_and_grad(partial(loss, stack))
    return compiled_case(f"{name} | {PASSES[1]}", step, (variables, x), repeats)


def loss(stack: nn.Module, variables: Any, x: Any) -> Any:
    return jnp.mean(jnp.square(jnp.asarray(stack.apply(variables, x))))


def check_equal(n: int, x: jax.Array) -> None:
    """Requires that the straightforward block computes what ours does, with our parameters."""
    ours = resonance(n)
    variables = jax.jit(ours.init)(jax.random.key(0), x)
    params = {**variables["params"]["block"], "mixer": variables["params"]["resonance"]}
    theirs = MixerBlock(StraightforwardMixer(), MLP, gate=True)
    a = jnp.asarray(ours.apply(variables, x))
    b = jnp.asarray(theirs.apply({"params": params}, x))
    error = float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
    if not error < 1e-5:
        raise RuntimeError(f"the two blocks differ by {error:.1g} relative; nothing was timed.")


def run(record: Record) -> None:
    """Times all contenders at each length, and adds the targets."""
    lengths, repeats = ((256, 1024), 3) if record.quick else (LENGTHS, 5)
    gains, memory = {}, {}
    for n in lengths:
        cases = cases_at(n, repeats if n <= TOKENS else 3)
        case: dict[str, Case] = {}
        for which in PASSES:
            case |= record.time({"n": n}, cases[which], f"resonance | {which}")
        ours = {which: case[f"resonance | {which}"] for which in PASSES}
        for which in PASSES:
            if f"{TORCH} | {which}" in case:
                what = f"n = {n}: {TORCH} / resonance, {which}"
                record.target(what, ratio(case[f"{TORCH} | {which}"], ours[which]), better="higher")
            if f"Transformer | {which}" in case:
                gain = ratio(case[f"Transformer | {which}"], ours[which])
                limit = {256: 1.0, 8192: 20.0}.get(n)
                what = f"n = {n}: Transformer / resonance, {which}"
                record.target(what, gain, at_least=limit, better="higher")
                if which == "forward" and gain is not None:
                    gains[n] = gain
        plain = case["straightforward | training"]
        for name, step in (("resonance", ours["training"]), (AGAIN, case[f"{AGAIN} | training"])):
            what = f"n = {n}: memory of a training step, {name} / straightforward"
            record.target(what, planned(step) / planned(plain), at_most=0.5)
        what = f"n = {n}: {AGAIN} / straightforward, training"
        record.target(what, ratio(case[f"{AGAIN} | training"], plain))
        memory[n] = planned(ours["training"])
    long = [n for n in lengths if n >= TOKENS]
    if len(long) > 2:
        slope = fit_slope(long, [memory[n] for n in long])
        record.values["memory_slope"] = [round(value, 3) for value in slope]
        record.target("memory of a training step: a of bytes ∝ n^a", slope.slope, at_most=1.02)
    record.values["level_at"] = level_at(gains)
    print(f"Transformer and resonance are level at n = {record.values['level_at']}")


def planned(case: Case) -> int:
    return case.info["temp_bytes"]


def level_at(gains: dict[int, float]) -> int | None:
    """The last length at which the ratio passes 1, between two that were measured, on logarithms."""
    lengths = sorted(gains)
    crossings = [
        int(before * (after / before) ** (a / (a - b)))
        for before, after in itertools.pairwise(lengths)
        if (a := np.log(gains[before])) < 0 <= (b := np.log(gains[after]))
    ]
    return crossings[-1] if crossings else None


def draw(values: dict[str, Any]) -> Figure:
    """Draws time and memory of a token over the length, a line a block."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    rows = [row for row in values["rows"] if "median_ms" in row]
    names = list(dict.fromkeys(row["name"].split(" | ")[0] for row in rows))
    panels = (
        ("forward", "median_ms", 1e3, "forward pass of a block, µs a token"),
        ("training", "median_ms", 1e3, "training step of four blocks, µs a token"),
        ("training", "temp_bytes", 1 / 1024, "its memory, KiB a token"),
    )
    for axes, (which, figure_name, scale, title) in zip(figure.subplots(1, 3), panels, strict=True):
        for color, name in zip((INK, *PALETTE), names, strict=False):
            points = [
                (row["n"], row[figure_name] * scale / max(TOKENS, row["n"]))
                for row in rows
                if row["name"] == f"{name} | {which}" and figure_name in row
            ]
            if points:
                axes.loglog(*zip(*points, strict=True), color=color, label=name, marker=".")
        axes.set(xlabel="length n", title=title)
    figure.legend(*figure.axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure
