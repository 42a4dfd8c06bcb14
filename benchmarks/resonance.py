"""The layer's core on one tensor, beside a copy, SciPy, FNet, attention, and straightforward forms in JAX and PyTorch.

Every function sees the same float32 tensor x [b, n, 256] with b n = 16384 (65536 for n = 64K) and 64 frequencies.
"forward+backward" returns the output and the gradients in x and the weights; SciPy's round trip is an rfft and an irfft
by two workers. Ratios are medians over interleaved rounds.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

from benchmarks.harness import Record
from benchmarks.peers import attention, pytorch
from benchmarks.timing import Case, compiled_case, elsewhere, ratio
from resonance_jax.ops.fourier import select_bins
from resonance_jax.ops.resonance import resonate

LENGTHS = (1024, 4096, 16384, 65536)
FEATURES = 256
NUM_BINS = 64
HEADS = 4
PASSES = ("forward", "forward+backward")
STRAIGHTFORWARD, TORCH = "straightforward", "PyTorch"
TORCH_ATTENTION = "PyTorch attention forward"


def tensors(n: int, k: int, batch: int | None = None, features: int = FEATURES):
    """x and an output gradient [b, n, d], and weights [k, d]; by default b n = 16384, but b ≥ 1."""
    rng = np.random.default_rng(0)
    shape = (batch or max(1, 16384 // n), n, features)
    x, gradient = (jnp.asarray(rng.standard_normal(shape, np.float32)) for _ in range(2))
    weights = rng.standard_normal((2, k, features), np.float32)
    return x, jax.lax.complex(*jnp.asarray(weights)), gradient


def straightforward(x, weights, bins):
    """The form that the formula suggests: rfft → gather → multiply → scatter → irfft along time."""
    spectrum = jnp.fft.rfft(x, axis=1)
    selected = spectrum[:, bins] * weights
    full = jnp.zeros_like(spectrum).at[:, bins].set(selected)
    return jnp.fft.irfft(full, n=x.shape[1], axis=1)


def fnet_mixer(x):
    """Real part of the FFT over time and features (arXiv:2105.03824)."""
    return jnp.fft.fft2(x, axes=(1, 2)).real


def scipy_round_trip(x):
    spectrum = scipy.fft.rfft(x, axis=1, workers=2)
    return scipy.fft.irfft(spectrum, n=x.shape[1], axis=1, workers=2)


def with_gradients(function):
    """(x, weights, gradient) → the output and its gradients in x and the weights."""

    def both(x, weights, gradient):
        y, pull = jax.vjp(function, x, weights)
        return y, pull(gradient)

    return both


def timed(name, function, inputs, repeats, passes=PASSES, note="") -> list[Case]:
    """One case for each pass of function(x, weights)."""
    info = {"note": note} if note else {}
    programs = {PASSES[0]: (function, inputs[:2]), PASSES[1]: (with_gradients(function), inputs)}
    cases = []
    for which in passes:
        program, arguments = programs[which]
        cases.append(compiled_case(f"{name} {which}", program, arguments, repeats, **info))
    return cases


def filters(n: int, k: int, strategy: str) -> dict:
    """The forms of the layer's core as functions of (x, weights)."""
    bins = select_bins(n // 2 + 1, k, strategy)
    forms = {m: partial(resonate, bins=bins, method=m) for m in ("fft", "matrix", "auto")}
    if strategy == "low":
        forms[""] = partial(straightforward, bins=bins)
    return {
        f"{name}, {strategy} bins" if name else STRAIGHTFORWARD: function
        for name, function in forms.items()
    }


def torch_cases(n: int, inputs: tuple, repeats: int) -> list[Case]:
    """PyTorch's FFT, product, and inverse FFT, as the formula suggests, on the same numbers."""
    names = [f"{TORCH} {which}" for which in PASSES]
    torch, missing = pytorch(*names)
    if torch is None:
        return missing
    bins = torch.from_numpy(np.array(select_bins(n // 2 + 1, NUM_BINS, "low")))
    x, weights, gradient = (torch.from_numpy(np.array(values)) for values in inputs)

    def filtered(x, weights):
        spectrum = torch.fft.rfft(x, dim=1)
        full = torch.zeros_like(spectrum)
        full[:, bins] = spectrum[:, bins] * weights
        return torch.fft.irfft(full, n=n, dim=1)

    def forward():
        with torch.no_grad():
            return filtered(x, weights)

    held = x.requires_grad_(), weights.requires_grad_()

    def both():
        return torch.autograd.grad(filtered(*held), held, gradient)

    about = {"version": torch.__version__}
    ours = np.asarray(jax.jit(partial(straightforward, bins=np.array(bins)))(*inputs[:2]))
    if not np.linalg.norm(forward().numpy() - ours) < 1e-4 * np.linalg.norm(ours):
        raise RuntimeError("PyTorch computes something else; nothing was timed.")
    return [
        Case(f"{TORCH} {which}", call, repeats, dict(about))
        for which, call in zip(PASSES, (forward, both), strict=True)
    ]


def torch_attention(n: int, x: jax.Array) -> list[Case]:
    """The fused attention that PyTorch has for CPUs, forward, on the numbers that `peers.attention` has."""
    if n > 16384:
        return []
    torch, missing = pytorch(TORCH_ATTENTION)
    if torch is None:
        return missing
    rows = torch.from_numpy(np.array(x))

    def attend(rows):
        with torch.no_grad():
            heads = rows.reshape(*rows.shape[:2], HEADS, -1).transpose(1, 2).contiguous()
            y = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
            return y.transpose(1, 2).reshape(rows.shape)

    if not np.allclose(attend(rows[:1, :1024]).numpy(), attention(x[:1, :1024], HEADS), atol=1e-4):
        raise RuntimeError("PyTorch's attention computes something else; nothing was timed.")
    return [Case(TORCH_ATTENTION, lambda: attend(rows), 3, {"version": torch.__version__})]


def peers(n: int, inputs, repeats: int) -> list[Case]:
    x = inputs[0]
    on_host = np.asarray(x)
    cases = timed("copy", lambda x, w: x * 1.0000001, inputs, repeats, PASSES[:1])
    if jax.default_backend() == "cpu":
        cases.append(Case("SciPy round trip", lambda: scipy_round_trip(on_host), repeats))
    else:
        cases.append(elsewhere("SciPy round trip"))
    cases += timed("fnet", lambda x, w: fnet_mixer(x), inputs, min(repeats, 5))
    if n < 16384:
        cases += timed("attention", lambda x, w: attention(x, HEADS), inputs, 2 if n == 1024 else 1)
    elif n == 16384:  # 4 GiB of scores, a minute forward and several backward
        function = partial(attention, num_heads=HEADS, query_chunk=1024)
        note = "once, 1024 queries at a time; backward left out"
        cases += timed("attention", lambda x, w: function(x), inputs, 1, PASSES[:1], note)
    return cases


def check(record: Record, n: int, case: dict[str, Case]) -> None:
    """Adds the targets at one length."""

    def target(what: str, *names: str, **limit: Any) -> None:
        measured = ratio(*(case[name] for name in names))
        record.target(f"n = {n}: {what}", measured, **limit)

    for strategy in ("low", "log", "uniform"):
        for which in PASSES:
            fft, matrix, auto = (f"{m}, {strategy} bins {which}" for m in ("fft", "matrix", "auto"))
            what = f"auto / better method, {strategy} bins, {which}"
            target(what, auto, fft, matrix, at_most=1.1)
    for peer in (STRAIGHTFORWARD, TORCH):
        for which in PASSES if n >= 4096 else ():
            what = f"{peer} / auto, {which}"
            target(what, f"{peer} {which}", f"auto, low bins {which}", at_least=3)
    if n >= 4096:
        for which, limit in zip(PASSES, (0.5, 1.2), strict=True):
            what = f"auto, {which} / SciPy round trip"
            target(what, f"auto, low bins {which}", "SciPy round trip", at_most=limit)
    for name in ("attention forward", TORCH_ATTENTION):
        if name in case:
            limit = {"at_least": 100} if n == 16384 else {"better": "higher"}
            what = f"{name.removesuffix(' forward')} / auto, forward"
            target(what, name, "auto, low bins forward", **limit)
    if jax.default_backend() != "cpu":
        target("auto / copy, forward", "auto, low bins forward", "copy forward", at_most=3)


def run(record: Record) -> None:
    """Times everything at each length."""
    repeats = 3 if record.quick else 11
    for n in LENGTHS[: 2 if record.quick else None]:
        inputs = tensors(n, NUM_BINS)
        few = min(repeats, 5) if n > 16384 else repeats
        cases = peers(n, inputs, few)
        for strategy in ("low", "log", "uniform"):
            for name, function in filters(n, NUM_BINS, strategy).items():
                cases += timed(name, function, inputs, few if strategy == "low" else min(few, 5))
        cases += torch_cases(n, inputs, few) + torch_attention(n, inputs[0])
        check(record, n, record.time({"n": n, "k": NUM_BINS}, cases, "copy forward"))
