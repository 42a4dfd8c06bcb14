"""The trace-time checks that several ops share; each raises ValueError: expected, received, what to do."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def is_static(values) -> bool:
    """True when `values` are host numbers (NumPy, lists, scalars), known at trace time."""
    return not isinstance(values, jax.Array)


def is_concrete(values) -> bool:
    """True when `values` can be looked at: host numbers, or an array outside every transformation."""
    return not isinstance(values, Tracer)


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Requires one of the choices."""
    if value not in choices:
        raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(choices)}.")


def check_rate(name: str, rate: float) -> None:
    """Requires a probability below 1."""
    if not 0 <= rate < 1:
        raise ValueError(f"{name} must be in [0, 1), got {rate}.")


def check_quaternions(name: str, q) -> jax.Array:
    """Returns q as an array; requires real floating point with a last axis of 4."""
    q = jnp.asarray(q)
    if q.shape[-1:] != (4,) or not jnp.issubdtype(q.dtype, jnp.floating):
        raise ValueError(
            f"{name} must be real floating point with a last axis of 4 (w, x, y, z), got {q.dtype} of shape {q.shape}; "
            "reshape features to [..., d, 4]."
        )
    return q


def check_nonzero(name: str, q, reason: str) -> None:
    """Requires of values that are known that none is zero along the last axis."""
    if not is_concrete(q):
        return
    # What is below the smallest normal number counts as zero in every function of q/|q|.
    zero = ~np.any(np.abs(np.asarray(q)) >= np.asarray(jnp.finfo(q.dtype).tiny, q.dtype), axis=-1)
    if np.any(zero):
        where = np.argwhere(zero)[0]
        at = f" at index {tuple(int(i) for i in where)}" if len(where) else ""
        raise ValueError(f"{name} is zero{at}: {reason}.")


def check_real_sequence(name: str, x) -> None:
    """Requires a real floating array [..., t, d] with t >= 1 and d >= 1."""
    if x.ndim < 2:
        raise ValueError(
            f"{name} must have shape [..., t, d] (time, then features), got shape {x.shape}; "
            f"add a feature axis with {name}[:, None]."
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} must be real floating point, got {x.dtype}; cast it first.")
    if 0 in x.shape[-2:]:
        raise ValueError(f"{name} is empty along time or features: shape {x.shape}.")


def check_real(name: str, x, axes: tuple[str, ...]) -> None:
    """Requires a real floating array [..., *axes], finite where it is static (host numbers)."""
    if x.ndim < len(axes):
        raise ValueError(f"{name} must have shape [..., {', '.join(axes)}], got {tuple(x.shape)}.")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} must be real floating point, got {x.dtype}; cast it first.")
    if is_static(x) and not np.all(np.isfinite(x)):
        raise ValueError(
            f"{name} must be finite, got {np.sum(~np.isfinite(x))} values that are not; remove them."
        )


def check_points(points) -> None:
    """Requires a real [..., n, m] with n >= 64 points of 1, 2 or 3 coordinates."""
    check_real("points", points, ("n", "m"))
    if points.shape[-1] not in (1, 2, 3):
        raise ValueError(
            f"points must have 1, 2 or 3 coordinates (the last axis), got {points.shape[-1]}; "
            "project them first."
        )
    if points.shape[-2] < 64:
        raise ValueError(
            f"a point set needs at least 64 points for its dimension, got {points.shape[-2]}; "
            "pass more."
        )


def check_complex(name: str, z) -> None:
    """Requires a complex array."""
    if not jnp.issubdtype(z.dtype, jnp.complexfloating):
        raise ValueError(
            f"{name} must be complex, got {z.dtype}; build it with "
            "resonance_jax.ops.polar.from_polar or jax.lax.complex."
        )


def check_shape(name: str, array, expected: tuple[int, ...]) -> None:
    """Requires an exact shape."""
    if tuple(array.shape) != tuple(expected):
        raise ValueError(f"{name} must have shape {tuple(expected)}, got {tuple(array.shape)}.")


def check_mask(mask, x) -> None:
    """Requires a boolean mask [..., t] for x [..., t, d]; a static mask may not have an empty row."""
    if mask.dtype != bool:
        raise ValueError(f"mask must be boolean (True = observed), got {mask.dtype}.")
    if tuple(mask.shape) != tuple(x.shape[:-1]):
        raise ValueError(f"mask must have shape {x.shape[:-1]} for x {x.shape}, got {mask.shape}.")
    if is_static(mask) and not np.all(np.any(mask, axis=-1)):
        row = tuple(int(i) for i in np.argwhere(~np.any(mask, axis=-1))[0])
        where = f" of row {row}" if row else ""
        raise ValueError(f"mask hides every step{where}; drop such rows from the batch.")


def check_bins(bins, num_bins: int) -> None:
    """Requires integer bins [k], 1 <= k <= num_bins; static ones must be distinct and in range."""
    if bins.ndim != 1 or not jnp.issubdtype(bins.dtype, jnp.integer):
        raise ValueError(f"bins must be integers [k], got {bins.dtype} of shape {bins.shape}.")
    if not 1 <= bins.shape[0] <= num_bins:
        raise ValueError(
            f"k = {bins.shape[0]} bins were asked for but a real sequence of this length has "
            f"{num_bins} (0 .. n//2); ask for at least one and at most {num_bins}, or pad further."
        )
    if is_static(bins):
        if bins.min() < 0 or bins.max() >= num_bins:
            raise ValueError(
                f"bins must lie in 0 .. {num_bins - 1}, got {bins.min()} .. {bins.max()}."
            )
        if len(np.unique(bins)) != len(bins):
            raise ValueError(f"bins must be distinct, got {np.asarray(bins).tolist()}.")


def check_frequencies(frequencies):
    """Returns static frequencies as float64 NumPy, traced ones in at least float32; requires real [k], k >= 1."""
    static = is_static(frequencies)
    if static:
        frequencies = np.asarray(frequencies)
    if not jnp.issubdtype(frequencies.dtype, jnp.floating):
        raise ValueError(
            f"frequencies must be real floating point, in cycles per sample, got {frequencies.dtype}; "
            "divide bins by the FFT length."
        )
    if frequencies.ndim != 1 or frequencies.shape[0] == 0:
        raise ValueError(f"frequencies must have shape [k] with k >= 1, got {frequencies.shape}.")
    if not static:
        # Integer times up to 4095 are exact in float32 and not in the 16-bit formats.
        return frequencies.astype(jnp.promote_types(frequencies.dtype, jnp.float32))
    if not np.all(np.isfinite(frequencies)):
        raise ValueError(f"frequencies must be finite, got {frequencies.tolist()}.")
    return frequencies.astype(np.float64)


def check_frequency_range(frequencies) -> None:
    """Requires static frequencies strictly between 0 and 1/2 cycles per sample."""
    if np.min(frequencies) <= 0 or np.max(frequencies) >= 0.5:
        raise ValueError(
            "frequencies must lie strictly between 0 and 0.5 cycles per sample, got "
            f"{np.min(frequencies)} .. {np.max(frequencies)}."
        )
