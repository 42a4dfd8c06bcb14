"""Times the Hamilton product, rotations of ℝ⁴ and the quaternion layer beside their peers.

    python -m benchmarks.quaternion [--quick] [--out FILE]

float32. Products and rotations of 2²⁰ quaternions are set beside a copy of their operands in the same round: what a
function that reads and writes memory once must cost. `4 × 4 matrix` forms the matrix of each left factor and
multiplies; `jaxlie` multiplies its SO3, whose components have the same order; `PyTorch` is the same formula in torch
ops. Peers that are not installed are named at the end (benchmarks/requirements-peers.txt). Backward is the pull-back of
a cotangent to every operand. Layers see x [b, n, 64] with b n = 16K, as a mixer without norm: the forward pass, and the
gradient. From n = 4096 on attention takes 512 queries at a time and is timed once, forward. Ratios are medians over
rounds.
"""

import argparse
import importlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Case, compiled_case, environment, ratio, time_interleaved
from resonance_jax.layers.quaternion import QRHLayer
from resonance_jax.layers.resonance import ResonanceLayer
from resonance_jax.ops.quaternion import hamilton_product, rotate_so4, so4_matrix

COUNT = 2**20
CHANNELS = 16
WIDTH = 64
TOKENS = 16384
LENGTHS = (256, 1024, 4096)
LIMITS = {"forward": 1.5, "backward": 2.5}
RESULTS = Path(__file__).parent / "results"
IDENTITY = np.array([1.0, 0, 0, 0], np.float32)


def matrix_product(p, q):
    """p q as the 4 × 4 matrix of p times q."""
    return jnp.einsum("...ij,...j->...i", so4_matrix(p, IDENTITY), q)


def matrix_rotation(psi, left, right):
    """q_L Ψ q_R† by the 4 × 4 matrix of the pair."""
    return jnp.einsum("...ij,...j->...i", so4_matrix(left, right), psi)


def torch_product(torch, p, q):
    """The Hamilton product in torch ops."""
    a, b, c, d = p.unbind(-1)
    w, x, y, z = q.unbind(-1)
    parts = (
        a * w - b * x - c * y - d * z,
        a * x + b * w + c * z - d * y,
        a * y - b * z + c * w + d * x,
        a * z + b * y - c * x + d * w,
    )
    return torch.stack(parts, dim=-1)


def peer(name: str) -> Any:
    """Imports a peer; None where it is not installed."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def both_passes(name: str, function: Callable, operands: tuple, repeats: int) -> list[Case]:
    """A function's forward pass, and the pull-back of a cotangent to every operand."""
    cotangent = jnp.ones_like(operands[0])

    def backward(cotangent, *operands):
        return jax.vjp(function, *operands)[1](cotangent)

    return [
        compiled_case(f"{name} forward", function, operands, repeats),
        compiled_case(f"{name} backward", backward, (cotangent, *operands), repeats),
    ]


def copy_case(operands: tuple, repeats: int) -> Case:
    # A multiple, since XLA may hand a plain copy of an argument over without making it.
    return compiled_case("copy", lambda *xs: [x * 1.0000001 for x in xs], operands, repeats)


def torch_cases(operands: tuple, repeats: int) -> list[Case]:
    """The product by PyTorch on the same numbers; [] where it is not installed."""
    torch = peer("torch")
    if torch is None:
        return []
    p, q = (torch.from_numpy(np.array(x)).requires_grad_() for x in operands)
    out = torch_product(torch, p, q)
    cotangent = torch.ones_like(out)

    def forward():
        with torch.no_grad():
            torch_product(torch, p, q)

    def backward():
        torch.autograd.grad(out, (p, q), cotangent, retain_graph=True)

    return [
        Case("PyTorch forward", forward, repeats, {"version": torch.__version__}),
        Case("PyTorch backward", backward, repeats),
    ]


def jaxlie_cases(operands: tuple, repeats: int) -> list[Case]:
    """jaxlie's product of rotations on the same quaternions; [] where it is not installed."""
    jaxlie = peer("jaxlie")
    if jaxlie is None:
        return []

    def multiply(p, q):
        return (jaxlie.SO3(p) @ jaxlie.SO3(q)).wxyz

    return both_passes("jaxlie", multiply, operands, repeats)


def product_cases(repeats: int) -> list[Case]:
    keys = jax.random.split(jax.random.key(0), 2)
    operands = tuple(jax.random.normal(key, (COUNT, 4)) for key in keys)
    check_equal(hamilton_product, matrix_product, operands)
    return [
        copy_case(operands, repeats),
        *both_passes("hamilton_product", hamilton_product, operands, repeats),
        *both_passes("4 × 4 matrix", matrix_product, operands, repeats),
        *jaxlie_cases(operands, repeats),
        *torch_cases(operands, repeats),
    ]


def rotation_cases(repeats: int, per_channel: bool) -> list[Case]:
    """Rotations by a pair of quaternions for each Ψ, or for each of 16 channels."""
    keys = jax.random.split(jax.random.key(1), 3)
    psi = jax.random.normal(keys[0], (COUNT // CHANNELS, CHANNELS, 4))
    shape = (CHANNELS, 4) if per_channel else psi.shape
    left, right = (jax.random.normal(key, shape) for key in keys[1:])
    operands = (psi, left, right)
    check_equal(rotate_so4, matrix_rotation, operands)
    return [
        copy_case(operands, repeats),
        *both_passes("rotate_so4", rotate_so4, operands, repeats),
        *both_passes("4 × 4 matrix", matrix_rotation, operands, repeats),
    ]


def attention(x, chunk):
    """Softmax attention of 4 heads without projections, `chunk` queries at a time."""
    heads = x.reshape(*x.shape[:-1], 4, -1)
    if chunk is None:
        return jax.nn.dot_product_attention(heads, heads, heads).reshape(x.shape)
    queries = heads.reshape(len(x), -1, chunk, *heads.shape[2:]).swapaxes(0, 1)
    rows = jax.lax.map(lambda q: jax.nn.dot_product_attention(q, heads, heads), queries)
    return rows.swapaxes(0, 1).reshape(x.shape)


def layer_cases(n: int, repeats: int) -> list[Case]:
    x = jax.random.normal(jax.random.key(2), (TOKENS // n, n, WIDTH))
    layers: dict[str, nn.Module] = {
        "QRHLayer": QRHLayer(WIDTH // 4, post_norm=False),
        "QRHLayer, even": QRHLayer(WIDTH // 4, symmetry="even", post_norm=False),
        "ResonanceLayer": ResonanceLayer(WIDTH, 32, post_norm=False),
    }
    cases = []
    for name, layer in layers.items():
        variables = jax.jit(layer.init)(jax.random.key(0), x[:1])

        def loss(variables, x, layer=layer):
            return jnp.sum(jnp.square(jnp.asarray(layer.apply(variables, x))))

        cases += [
            compiled_case(f"{name} forward", layer.apply, (variables, x), repeats),
            compiled_case(f"{name} both", jax.grad(loss, argnums=(0, 1)), (variables, x), repeats),
        ]
    chunk = 512 if n >= 4096 else None
    once = 1 if chunk else repeats
    cases.append(compiled_case("attention forward", lambda x: attention(x, chunk), (x,), once))
    if chunk is None:
        gradient = jax.grad(lambda x: jnp.sum(jnp.square(attention(x, None))))
        cases.append(compiled_case("attention both", gradient, (x,), repeats))
    return cases


def check_equal(function: Callable, other: Callable, operands: tuple) -> None:
    a, b = (np.asarray(jax.jit(f)(*operands)) for f in (function, other))
    error = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    if not error < 1e-5:
        raise RuntimeError(f"two forms differ by {error:.1g} relative; nothing was timed.")


def measure(title: str, cases: list[Case], reference: str) -> list[dict[str, Any]]:
    """Times cases side by side and prints them as multiples of one of them."""
    time_interleaved(cases)
    base = next(case for case in cases if case.name == reference)
    print(
        f"\n{title}\n{'':28}{'median ms':>10}{'quartiles ms':>20}{'× ' + reference:>24}{'temp MB':>9}"
    )
    rows = []
    for case in cases:
        row = {
            "table": title,
            "name": case.name,
            **case.row(),
            "times_reference": round(ratio(case, base), 2),
        }
        rows.append(row)
        lower, upper = row["quartiles_ms"]
        memory = (row.get("temp_bytes") or 0) / 2**20
        print(
            f"{case.name:<28}{row['median_ms']:>10.2f}{lower:>11.2f}{upper:>9.2f}"
            f"{row['times_reference']:>24.2f}{memory:>9.1f}",
            flush=True,
        )
    return rows


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Our products and rotations against the copy of their operands."""
    found = []
    for row in rows:
        function, _, direction = row["name"].rpartition(" ")
        if function in ("hamilton_product", "rotate_so4"):
            limit, measured = LIMITS[direction], row["times_reference"]
            found.append(
                {
                    "target": f"{row['table']}: {row['name']} / copy <= {limit}",
                    "measured": measured,
                    "result": "PASS" if measured <= limit else "MISS",
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Times quaternion functions beside their peers.")
    parser.add_argument("--quick", action="store_true", help="fewer lengths and repeats")
    parser.add_argument("--out", type=Path, help="JSON file (default: benchmarks/results)")
    args = parser.parse_args()
    about = environment()
    print(json.dumps(about, indent=1))
    repeats = 3 if args.quick else 21
    rows = measure("product", product_cases(repeats), "copy")
    rows += measure("rotation, a pair for each Ψ", rotation_cases(repeats, False), "copy")
    rows += measure(
        "rotation, a pair for each of 16 channels", rotation_cases(repeats, True), "copy"
    )
    for n in LENGTHS[: 1 if args.quick else None]:
        rows += measure(f"layer, n = {n}", layer_cases(n, repeats), "QRHLayer forward")
    print("\nTargets")
    found = targets(rows)
    for entry in found:
        print(f"  {entry['result']:<6}{entry['target']:<72}{entry['measured']:>8}")
    absent = [name for name in ("jaxlie", "PyTorch") if not any(name in r["name"] for r in rows)]
    print(f"not installed, not timed: {', '.join(absent) or 'none'}")
    suffix = "-quick" if args.quick else ""
    out = args.out or RESULTS / f"quaternion-{about['platform']}{suffix}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {**about, "rows": rows, "targets": found, "not_installed": absent}
    out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
