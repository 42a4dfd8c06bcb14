"""Banks of damped resonators: causal filters with a state, evaluated by FFT, by scan, in chunks, or step by step.

A head has k resonators with poles λ = exp(−exp(ν) + iθ), shared by its channels, each of which has states of its own:

    s_k[t] = λ_k s_k[t−1] + γ_k x[t],    y[t] = Re Σ_k c_k s_k[t],    γ_k = √(1 − |λ_k|²)
    so that y = h * x + what is left of the state before, h[τ] = Re Σ_k c_k γ_k λ_k^τ, τ ≥ 0.

`convolve`, `scan`, `chunked` and repeated `step` compute the same. They take the state before the first step and return
the state after the last, so that a sequence in parts gives what the whole gives.

References:
    Orvieto et al., Resurrecting Recurrent Neural Networks for Long Sequences (LRU), arXiv:2303.06349.
    Gu, Gupta, Goel, Ré, On the Parameterization and Initialization of Diagonal State Space Models, arXiv:2206.11893.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import (
    Array,
    HeadWeights,
    Kernels,
    PoleLogDecay,
    PolePhase,
    Poles,
    ResonatorState,
    Segments,
    SequenceLengths,
    SequenceMask,
    StepMask,
    TimeSequence,
    Values,
)
from resonance_jax.ops import _chunked_recurrence
from resonance_jax.ops import _recurrence as core
from resonance_jax.ops._checks import check_shape
from resonance_jax.ops._segments import count_segments

DEFAULT_CHUNK = 128


class ResonatorBank(NamedTuple):
    """h heads of k damped resonators; the d = h e channels of an input are cut into h heads of e."""

    log_decay: PoleLogDecay
    """ν, real [h, k]: |λ| = exp(−exp ν), the amplitude falls by 1/e in exp(−ν) steps."""
    phase: PolePhase
    """θ, real [h, k], radians a step: the resonator's frequency is θ / 2π cycles a sample."""
    readout: HeadWeights
    """c, complex [h, k]."""


def ring_bank(
    key: Array,
    num_heads: int,
    num_resonators: int,
    *,
    min_radius: float = 0.5,
    max_radius: float = 0.99,
    max_phase: float = np.pi / 10,
) -> ResonatorBank:
    """Draws poles uniform in area on a sector of a ring, with readouts that keep the variance of white noise.

    Args:
        key: typed PRNG key.
        num_heads: h.
        num_resonators: k of each head.
        min_radius: smallest |λ|.
        max_radius: largest |λ|, below 1; 1 / (1 − |λ|) steps is what a resonator remembers.
        max_phase: θ is uniform in [0, max_phase].
    Returns:
        The bank; the readouts of a head are real, positive and equal, such that Σ_τ h[τ]² = 1.
    Raises:
        ValueError: if a size is below 1 or the radii are not 0 < min_radius <= max_radius < 1.

    >>> import jax
    >>> ring_bank(jax.random.key(0), 2, 4).phase.shape
    (2, 4)
    """
    if num_heads < 1 or num_resonators < 1:
        raise ValueError(f"expected h, k >= 1, got {num_heads} heads of {num_resonators}.")
    if not 0 < min_radius <= max_radius < 1:
        raise ValueError(
            f"expected 0 < min_radius <= max_radius < 1, got {min_radius} and {max_radius}."
        )
    return _draw_bank(key, (num_heads, num_resonators), (min_radius**2, max_radius**2), max_phase)


@partial(jax.jit, static_argnums=1)
def _draw_bank(key, shape, areas, max_phase) -> ResonatorBank:
    # One program: each operation would be compiled on its own outside of jit, in seconds.
    radius_key, phase_key = jax.random.split(key)
    area = jax.random.uniform(radius_key, shape, minval=areas[0], maxval=areas[1])
    phase = jax.random.uniform(phase_key, shape, maxval=max_phase)
    ones = jax.lax.complex(jnp.ones_like(phase), jnp.zeros_like(phase))
    return normalize(ResonatorBank(jnp.log(-0.5 * jnp.log(area)), phase, ones))


def normalize(bank: ResonatorBank) -> ResonatorBank:
    """Scales each head's readouts so that Σ_τ h[τ]² = 1: white noise keeps its variance.

    >>> import jax
    >>> bank = normalize(ring_bank(jax.random.key(0), 1, 4, max_radius=0.9))
    >>> round(float((kernel(bank, 500) ** 2).sum()), 3)
    1.0
    """
    variance = core.output_variance(core.widened(bank))
    return bank._replace(readout=bank.readout / jnp.sqrt(variance)[:, None])


def poles(bank: ResonatorBank) -> Poles:
    """Returns λ = exp(−exp(ν) + iθ), complex [h, k], |λ| < 1: exp(ν) is kept in [1.2e-7, 100].

    >>> import jax
    >>> bool((abs(poles(ring_bank(jax.random.key(0), 2, 4))) < 1).all())
    True
    """
    return core.powers(core.widened(bank), np.array([1]))[..., 0]


def kernel(bank: ResonatorBank, length: int) -> Kernels:
    """Returns each head's impulse response h[τ] = Re Σ_k c_k γ_k λ_k^τ, τ = 0 … length − 1, real [h, length].

    >>> import jax.numpy as jnp
    >>> half = jnp.log(jnp.log(jnp.full((1, 1), 2.0)))  # |λ| = 1/2
    >>> bank = ResonatorBank(half, jnp.zeros((1, 1)), jnp.ones((1, 1), jnp.complex64))
    >>> (kernel(bank, 4) / kernel(bank, 1)).round(5).tolist()
    [[1.0, 0.5, 0.25, 0.125]]
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, got {length}.")
    return core.kernel(core.widened(bank), length)


def initial_state(bank: ResonatorBank, batch: tuple[int, ...], features: int) -> ResonatorState:
    """Returns the state of a bank that has read nothing: zeros, complex [*batch, k, d].

    >>> import jax
    >>> initial_state(ring_bank(jax.random.key(0), 2, 4), (3,), 6).shape
    (3, 4, 6)
    """
    shape = (*batch, bank.phase.shape[1], features)
    return jnp.zeros(shape, jnp.result_type(bank.phase.dtype, jnp.complex64))


def convolve(
    x: TimeSequence,
    bank: ResonatorBank,
    state: ResonatorState | None = None,
    *,
    segments: Segments | None = None,
    mask: SequenceMask | None = None,
    lengths: SequenceLengths | None = None,
    num_segments: int | None = None,
    channels_first: bool = False,
) -> tuple[TimeSequence, ResonatorState]:
    """Filters by FFT, zero-padded to 2n and more: O(n log n) a channel, and O(n k) where a state is given or used.

    Rounding leaks backwards in time, by some 1e-7 of the largest input. Each segment takes a transform of its own.

    Args:
        x: real [*b, t, d], or with channels_first [d, *b, t], t and d >= 1.
        bank: of h heads, h a divisor of d.
        state: before the first step, complex [*b, k, d]; None is zero.
        segments: int [*b, t], non-decreasing from 0: what belongs to another segment is not read. Segment 0 goes on
            from `state`; a row that begins with 1 forgets it.
        mask: bool [*b, t]; hidden steps (False) are read as 0, in their place in time, and give 0.
        lengths: int [*b], 0 … t: the steps from there on are padding. They give 0 and the state is that before them.
        num_segments: segments at most; needed where `segments` is traced. What lies beyond gives NaN.
        channels_first: the layout of x and y; the one without a transpose.
    Returns:
        y in the shape and dtype of x, and the state after the last step, complex [*b, k, d].
    Raises:
        ValueError: if a shape or dtype does not fit, segments decrease or are negative, lengths are out of range, or
            the segments are traced and num_segments is not given.

    >>> import jax, jax.numpy as jnp
    >>> bank, x = ring_bank(jax.random.key(0), 2, 4), jnp.ones((10, 6))
    >>> read = jax.jit(convolve)
    >>> first, state = read(x[:5], bank)
    >>> last, state = read(x[5:], bank, state)
    >>> bool(jnp.allclose(last, read(x, bank)[0][5:], atol=1e-5))
    True
    """
    given = core.prepare(x, bank, state, segments, mask, lengths, channels_first)
    if segments is not None:
        num_segments = count_segments(segments, num_segments)
    return core.finish(given, *core.convolve(given, num_segments))


def scan(
    x: TimeSequence,
    bank: ResonatorBank,
    state: ResonatorState | None = None,
    *,
    segments: Segments | None = None,
    mask: SequenceMask | None = None,
    lengths: SequenceLengths | None = None,
    channels_first: bool = False,
) -> tuple[TimeSequence, ResonatorState]:
    """Runs the recurrence by an associative scan: O(t k d log t) and all states in memory; the reference.

    Args and Returns as `convolve`.

    >>> import jax, jax.numpy as jnp
    >>> bank, x = ring_bank(jax.random.key(0), 2, 4), jnp.ones((10, 6))
    >>> read = jax.jit(scan)
    >>> first, state = read(x[:5], bank)
    >>> last, state = read(x[5:], bank, state)
    >>> bool(jnp.allclose(last, read(x, bank)[0][5:], atol=1e-5))
    True
    """
    given = core.prepare(x, bank, state, segments, mask, lengths, channels_first)
    return core.finish(given, *core.scan(given))


def chunked(
    x: TimeSequence,
    bank: ResonatorBank,
    state: ResonatorState | None = None,
    *,
    segments: Segments | None = None,
    mask: SequenceMask | None = None,
    lengths: SequenceLengths | None = None,
    chunk_size: int | None = None,
    channels_first: bool = False,
    axis_name: str | None = None,
) -> tuple[TimeSequence, ResonatorState]:
    """Filters chunks of T steps by a Toeplitz matrix a head, and hands the states from chunk to chunk.

    With S the state before a chunk and τ, σ the places in it, y = Σ_{σ≤τ} h[τ−σ] x[σ] + Re Σ_k c_k λ_k^{τ+1} S_k and
    S ← λ^T S + Σ_σ λ^{T−1−σ} γ x[σ]: matrix products, O(t d (T + 4k)). A bfloat16 x is multiplied in bfloat16 and
    summed in float32; states are float32 or wider.

    Args:
        chunk_size: T; None is 128, and 32 with segments, where each row of each chunk has a matrix of its own.
        axis_name: in shard_map or pmap, the axis along which x is one of equal parts of a sequence, in their order.
            `state` is then that before the whole sequence, and what is returned that after this part: the state of the
            last part is the sequence's. One all-gather of the states of the parts. Neither segments nor lengths.
    Others, and Returns, as `convolve`. Raises also if axis_name is given together with segments or lengths.

    >>> import jax, jax.numpy as jnp
    >>> bank, x = ring_bank(jax.random.key(0), 2, 4), jnp.ones((10, 6))
    >>> read = jax.jit(chunked)
    >>> first, state = read(x[:5], bank)
    >>> last, state = read(x[5:], bank, state)
    >>> bool(jnp.allclose(last, read(x, bank)[0][5:], atol=1e-5))
    True
    """
    given = core.prepare(x, bank, state, segments, mask, lengths, channels_first)
    if chunk_size is None:
        chunk_size = DEFAULT_CHUNK if segments is None else 32
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}.")
    if axis_name is not None and not (segments is None and lengths is None):
        raise ValueError(
            "a sequence in parts along an axis of devices takes neither segments nor lengths; hide padding by mask."
        )
    return core.finish(given, *_chunked_recurrence.chunked(given, chunk_size, axis_name))


def step(
    x: Values, bank: ResonatorBank, state: ResonatorState, *, reset: StepMask | None = None
) -> tuple[Values, ResonatorState]:
    """Takes one step: s ← λ s + γ x, y = Re Σ_k c_k s.

    Args:
        x: real [*b, d].
        bank: of h heads, h a divisor of d.
        state: complex [*b, k, d].
        reset: bool [*b]; True forgets the state before the step.
    Returns:
        y [*b, d] in x's dtype, and the new state.
    Raises:
        ValueError: if a shape or dtype does not fit.

    >>> import jax, jax.numpy as jnp
    >>> bank = ring_bank(jax.random.key(0), 2, 4)
    >>> y, state = step(jnp.ones(6), bank, initial_state(bank, (), 6))
    >>> y.shape, state.shape
    ((6,), (4, 6))
    """
    x = jnp.asarray(x)
    if x.ndim < 1 or 0 in x.shape or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"x must be real floating point [..., d], not empty, got {x.dtype} {x.shape}."
        )
    core.check_bank(bank, x.shape[-1])
    bank = core.widened(bank, x.dtype)
    state = core.check_state(state, x.shape[:-1], bank, x.shape[-1])
    if reset is not None:
        check_shape("reset", reset, x.shape[:-1])
        state = jnp.where(reset[..., None, None], 0, state)
    repeats = x.shape[-1] // bank.phase.shape[0]
    pole, gain, readout = (
        jnp.repeat(jnp.swapaxes(values, 0, 1), repeats, axis=1)
        for values in (poles(bank), core.input_gain(bank), bank.readout)
    )
    state = pole * state + gain * x.astype(gain.dtype)[..., None, :]
    return jnp.sum(jnp.real(readout * state), axis=-2).astype(x.dtype), state
