"""Complex numbers as magnitude and phase, and the gradient of a real loss in those coordinates."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from resonance_jax.array_typing import AnyComplex, AnyReal
from resonance_jax.ops._checks import check_complex, check_shape


class PolarGradient(NamedTuple):
    """The two real parts of a complex gradient.

    Attributes:
        magnitude: ∂L/∂r, [*shape].
        phase: ∂L/∂φ per radian, [*shape].
    """

    magnitude: AnyReal
    phase: AnyReal


def from_polar(magnitude: AnyReal, phase: AnyReal) -> AnyComplex:
    """Builds z = r e^{iφ}.

    Args:
        magnitude: r, real, [*shape]; a negative r is read as a phase shifted by π.
        phase: φ in radians, real, [*shape].
    Returns:
        Complex z [*shape]: complex64 for float32 (and narrower) inputs, complex128 for float64.
    Raises:
        ValueError: if the shapes differ.

    >>> import jax.numpy as jnp
    >>> print(jnp.round(from_polar(jnp.array([2.0]), jnp.array([0.0])), 3))
    [2.+0.j]
    """
    magnitude, phase = jnp.asarray(magnitude), jnp.asarray(phase)
    check_shape("phase", phase, magnitude.shape)
    dtype = jnp.promote_types(jnp.promote_types(magnitude.dtype, phase.dtype), jnp.float32)
    r, phi = jnp.asarray(magnitude, dtype), jnp.asarray(phase, dtype)
    return jax.lax.complex(r * jnp.cos(phi), r * jnp.sin(phi))


def to_polar(z: AnyComplex) -> tuple[AnyReal, AnyReal]:
    """Splits z into magnitude |z| and phase arg z ∈ (−π, π].

    The gradients are finite everywhere: at z = 0, where neither coordinate is differentiable, both are taken as 0. A z
    whose parts are both below the smallest normal number of its dtype counts as 0.

    Args:
        z: complex, [*shape].
    Returns:
        (magnitude, phase), real, each [*shape]; phase in radians, 0 at z = 0.
    Raises:
        ValueError: if z is not complex.

    >>> import jax.numpy as jnp
    >>> magnitude, phase = to_polar(jnp.array([2j]))
    >>> print(magnitude, phase)
    [2.] [1.5707964]
    """
    check_complex("z", z)
    z = jnp.asarray(z)
    # Any scale gives the same result, so it is held constant; with it no square in a gradient under- or overflows.
    scale = jax.lax.stop_gradient(jnp.maximum(jnp.abs(z.real), jnp.abs(z.imag)))
    zero = scale < jnp.finfo(scale.dtype).tiny
    scale = jnp.where(zero, 1.0, scale)
    # Both branches of the final `where` stay differentiable.
    x = jnp.where(zero, 1.0, z.real / scale)
    y = jnp.where(zero, 0.0, z.imag / scale)
    magnitude = scale * jnp.sqrt(x * x + y * y)
    return jnp.where(zero, 0.0, magnitude), jnp.where(zero, 0.0, jnp.arctan2(y, x))


def polar_gradient(weight: AnyComplex, grad: AnyComplex) -> PolarGradient:
    """Splits the gradient of a real loss into its magnitude and phase parts.

    With w = r e^{iφ} and g = jax.grad(loss)(w) = ∂L/∂x − i ∂L/∂y (JAX's convention; PyTorch's is the conjugate):

        ∂L/∂r = Re(g e^{iφ}),    ∂L/∂φ = −Im(g w).

    Args:
        weight: w, complex, [*shape].
        grad: g as `jax.grad` returns it, not conjugated, [*shape].
    Returns:
        PolarGradient with real `magnitude` and `phase` (per radian), each [*shape]; finite at w = 0, where e^{iφ} is
        taken as 1.
    Raises:
        ValueError: if the shapes differ or an argument is not complex.
    References:
        Kreutz-Delgado, The Complex Gradient Operator and the CR-Calculus, arXiv:0906.4835.

    >>> import jax, jax.numpy as jnp
    >>> w = jnp.array([3 + 4j])
    >>> g = jax.grad(lambda w: jnp.sum(jnp.abs(w)))(w)  # the loss is r itself
    >>> print(jnp.round(polar_gradient(w, g).magnitude, 3))
    [1.]
    """
    weight, grad = jnp.asarray(weight), jnp.asarray(grad)
    check_complex("weight", weight)
    check_complex("grad", grad)
    check_shape("grad", grad, weight.shape)
    magnitude, phase = to_polar(weight)
    direction = from_polar(jnp.ones_like(magnitude), phase)
    return PolarGradient((grad * direction).real, -(grad * weight).imag)


def complex_softmax(z: AnyComplex, axis: int = -1) -> AnyComplex:
    """Weights complex scores by the softmax of their moduli and keeps their phases.

        y_j = e^{i arg z_j} · exp(|z_j| − m) / Σ_l exp(|z_l| − m),    m = max_l |z_l|

    The moduli of y sum to 1. For real z ≥ 0 this is the ordinary softmax. The direct extension exp(z_j) / Σ exp(z_l) is
    not used: its denominator can vanish (z = 0 and z = iπ).

    Args:
        z: complex scores, [*shape].
        axis: the axis along which the moduli sum to 1.
    Returns:
        Complex, [*shape]; finite, with finite gradients, wherever |z| is finite.
    Raises:
        ValueError: if z is not complex.

    >>> import jax.numpy as jnp
    >>> print(jnp.round(jnp.abs(complex_softmax(jnp.array([1e4, 1e4j]))), 3))
    [0.5 0.5]
    """
    magnitude, phase = to_polar(z)
    return from_polar(jax.nn.softmax(magnitude, axis=axis), phase)
