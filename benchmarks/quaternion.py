"""The Hamilton product, rotations of ℝ⁴ and the quaternion layer beside their peers.

float32. Products and rotations of 2²⁰ quaternions are set beside a copy of their operands in the same round: what a
function that reads and writes memory once must cost. `4 × 4 matrix` forms the matrix of each left factor and
multiplies; `jaxlie` multiplies its SO3, whose components have the same order; `PyTorch` is the same formula in torch
ops. Backward is the pull-back of a cotangent to every operand. Layers see x [b, n, 64] with b n = 16K, as a mixer
without norm: the forward pass, and the gradient. From n = 4096 on attention takes 512 queries at a time and is timed
once, forward. Ratios are medians over rounds.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Record
from benchmarks.peers import attention, pytorch
from benchmarks.timing import Case, absent, compiled_case, installed, ratio
from resonance_jax.layers.quaternion import QRHLayer
from resonance_jax.layers.resonance import ResonanceLayer
from resonance_jax.ops.quaternion import hamilton_product, rotate_so4, so4_matrix

COUNT = 2**20
CHANNELS = 16
WIDTH = 64
TOKENS = 16384
LENGTHS = (256, 1024, 4096)
LIMITS = {"forward": 1.5, "backward": 2.5}
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
    """The product by PyTorch on the same numbers."""
    torch, missing = pytorch("PyTorch")
    if torch is None:
        return missing
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
    """jaxlie's product of rotations on the same quaternions."""
    jaxlie = installed("jaxlie")
    if jaxlie is None:
        return [absent("jaxlie", "jaxlie")]

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
    cases.append(compiled_case("attention forward", lambda x: attention(x, 4, chunk), (x,), once))
    if chunk is None:
        gradient = jax.grad(lambda x: jnp.sum(jnp.square(attention(x, 4))))
        cases.append(compiled_case("attention both", gradient, (x,), repeats))
    return cases


def check_equal(function: Callable, other: Callable, operands: tuple) -> None:
    a, b = (np.asarray(jax.jit(f)(*operands)) for f in (function, other))
    error = float(np.linalg.norm(a - b) / np.linalg.norm(b))
    if not error < 1e-5:
        raise RuntimeError(f"two forms differ by {error:.1g} relative; nothing was timed.")


def beside_copy(record: Record, title: str, cases: list[Case]) -> None:
    """Times products or rotations, and adds their targets."""
    case = record.time({"table": title}, cases, "copy")
    for name in case:
        function, _, direction = name.rpartition(" ")
        if function in ("hamilton_product", "rotate_so4"):
            measured = ratio(case[name], case["copy"])
            record.target(f"{title}: {name} / copy", measured, at_most=LIMITS[direction])


def run(record: Record) -> None:
    """Times products, rotations and layers."""
    repeats = 3 if record.quick else 21
    beside_copy(record, "product", product_cases(repeats))
    beside_copy(record, "rotation, a pair for each Ψ", rotation_cases(repeats, False))
    beside_copy(record, "rotation, a pair for each of 16 channels", rotation_cases(repeats, True))
    for n in LENGTHS[: 1 if record.quick else None]:
        case = record.time({"layer": n}, layer_cases(n, repeats), "QRHLayer forward")
        gain = ratio(case["attention forward"], case["QRHLayer forward"])
        record.target(f"layer, n = {n}: attention / QRHLayer, forward", gain, at_least=1)
