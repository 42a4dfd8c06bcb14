"""Holographic memory as a layer: state in a collection of its own, keys made from content, reads by query."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import AnyShape, AnyVectors
from resonance_jax.layers._hologram import (
    add_all,
    capacity,
    check_key,
    check_mask,
    check_options,
    check_pattern,
    delta_all,
    effective_pairs,
    real_bin_signs,
    warn_if_full,
)
from resonance_jax.ops._vectors import norm
from resonance_jax.ops.hologram import phase_key, read

COLLECTION = "hologram"


class HolographicMemory(nn.Module):
    """Stores patterns under keys in one trace and reads them back: `ops.hologram` with its state in a collection.

        write:  m ← γ m + η k ⊛ p               (rule="add")
                m ← γ m + η k ⊛ (p − read(γ m, k))     (rule="delta")
        read:   the mean over the pages of unbind(m, k)

    A memory of a pages has a keys k for each pair, one a page. They are made from content x (`make_key`),

        k(x) = phase_key(W x/|x|),    ⟨k(x), k(y)⟩/|k|² ≈ exp(−s² (1 − cos(x, y)))  for W drawn from N(0, s²),

    so that a query reads what was stored under similar content; or they are given, and unitary. At DC and Nyquist a
    real key has no phase but a sign, that of cos θ at its first and last bin: with one sign for all content, cross-talk
    there would not average out over the pages. The signs jump, and carry no gradient.

    State: `trace` [*b, a, N] and `pairs` [*b], the writes since the memory was empty, in the collection "hologram".
    Every row b of the batch has a memory of its own, and no row reads or changes another's; with `shared` there is one
    memory [a, N] for all rows. Without the collection the memory is empty, and it reads as zeros: `init` makes none,
    the first write or `clear` does. Writing takes `apply(..., mutable=["hologram"])`.

    A memory with more pairs than its capacity warns (once a process) with the accuracy that `recall_accuracy` expects
    of random keys and patterns: in `encode` outside of transformations, and in `utilization`; under jit the count is
    not known, so ask `utilization` after the step.

    Parameters: `projection/kernel`, W; with learned_keys=False it is in the collection "constants" instead.

    Attributes:
        pattern_dim: N; at least 3 where real.
        hologram_dim: a N, a multiple of N.
        capacity: pairs; None is `max_pairs` at 99 % recall among codebook_size entries, and at least 1.
        rule: "add", or "delta", which writes what is not yet recalled and needs at least two pages.
        rate: η, in (0, 1].
        decay: γ, in [0, 1], before each write.
        kind: "real", or "phasor" for complex patterns.
        shared: one memory for all rows, which are written one after another, each in its order of time.
        key_scale: s, what W starts from; the larger, the more similar a query must be.
        learned_keys: False draws W once.
        differentiable_writes: let gradients flow through what is written; through reads they always do.
        codebook_size: entries among which a read is to be recognised; for capacity and its warning only.
        dtype: of what is read; None is the query's. The trace is at least float32.
        param_dtype: of the parameters.

    >>> memory = HolographicMemory(pattern_dim=64, hologram_dim=4096)
    >>> patterns = jax.random.normal(jax.random.key(0), (1, 5, 64))
    >>> variables = memory.init(jax.random.key(1), patterns)
    >>> _, state = memory.apply(variables, patterns, method="encode", mutable=["hologram"])
    >>> query = patterns + 0.1  # reads what it resembles
    >>> bool(memory.apply({**variables, **state}, patterns, query, method="fidelity").min() > 0.9)
    True
    """

    pattern_dim: int
    hologram_dim: int
    capacity: int | None = None
    rule: str = "add"
    rate: float = 1.0
    decay: float = 1.0
    kind: str = "real"
    shared: bool = False
    key_scale: float = 2.0
    learned_keys: bool = True
    differentiable_writes: bool = False
    codebook_size: int = 1000
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        """Checks the options and declares the projection."""
        check_options(self)
        phases = self.pattern_dim if self.kind == "phasor" else (self.pattern_dim - 1) // 2
        self.projection = PhaseProjection(
            self._pages * phases, self.key_scale, self.learned_keys, self.param_dtype
        )

    def __call__(
        self,
        pattern: AnyVectors,
        key: AnyVectors | None = None,
        mask: jax.Array | np.ndarray | None = None,
        *,
        write: bool = False,
    ) -> AnyVectors:
        """Reads by the pattern's content or by the key, then writes the pattern if asked; as the methods do."""
        found = self.reconstruct(pattern) if key is None else self.reconstruct(key=key)
        if write:
            self.encode(pattern, key, mask)
        return found

    def make_key(self, content: AnyVectors) -> AnyVectors:
        """Makes keys k(x), [..., a, N], from content [..., c] of any dimension, always the same; of zeros, phases 0."""
        content = jnp.asarray(content)
        if jnp.iscomplexobj(content):
            content = jnp.concatenate([content.real, content.imag], axis=-1)
        phases = self.projection(content)
        phases = phases.reshape(*phases.shape[:-1], self._pages, -1)
        key = phase_key(phases, self.kind, dimension=self.pattern_dim)
        return key if self.kind == "phasor" else key + real_bin_signs(phases, self.pattern_dim)

    def encode(
        self,
        pattern: AnyVectors,
        key: AnyVectors | None = None,
        mask: jax.Array | np.ndarray | None = None,
    ) -> None:
        """Writes patterns.

        Args:
            pattern: [b, N], or [b, t, N] for t writes in order.
            key: unitary, [b, a, N] or [b, t, a, N], from `make_key` or `unitary_key`. None: k(pattern).
            mask: bool [b] or [b, t]; where False nothing is written, and nothing decays.
        Raises:
            ValueError: if a shape or type does not fit, a key that is known is not unitary, the memory has other rows,
                or the collection is not mutable.
        """
        pattern = check_pattern(self, pattern)
        written = jnp.ones(pattern.shape[:-1], bool)
        if mask is not None:
            written = check_mask(mask, pattern)
            pattern = jnp.where(written[..., None], pattern, 0)
        if key is None:
            key = self.make_key(pattern)
        else:
            key = check_key(self, key, pattern.shape[:-1], None if mask is None else written)
        if self.is_initializing():
            return
        trace, pairs = self._load(pattern.shape[0])
        pattern, key = (jnp.asarray(x, trace.dtype) for x in (pattern, key))
        if not self.differentiable_writes:
            trace, pattern, key = jax.lax.stop_gradient((trace, pattern, key))
        rows, lead = trace.shape[:-2], pattern.ndim - 1
        pattern, key, written = (
            x.reshape(*rows, -1, *x.shape[lead:]) for x in (pattern, key, written)
        )
        write = add_all if self.rule == "add" else delta_all
        trace = write(trace, pattern, key, written, self.rate, self.decay)
        pairs = pairs + jnp.sum(written, axis=-1, dtype=jnp.int32)
        self._put(trace, pairs)
        warn_if_full(self, pairs)

    def reconstruct(
        self, query: AnyVectors | None = None, key: AnyVectors | None = None
    ) -> AnyVectors:
        """Reads what is stored under the content of a query, [b, c] or [b, t, c], or under a key as in `encode`.

        Returns:
            [b, N] or [b, t, N]; zeros from an empty memory.
        Raises:
            ValueError: unless there is one of query and key; as `encode`.
        """
        if query is None and key is not None:
            asked = key = check_key(self, key, np.shape(key)[:-2])
        elif query is not None and key is None:
            asked = jnp.asarray(query)
            if asked.ndim not in (2, 3):
                raise ValueError(f"query must have shape [b, c] or [b, t, c], got {asked.shape}.")
            key = self.make_key(asked)
        else:
            raise ValueError("reconstruct needs either a query (content) or a key, one of the two.")
        trace, _ = self._load(key.shape[0])
        if not self.shared and key.ndim == 4:
            trace = trace[:, None]
        found = read(trace, jnp.asarray(key, trace.dtype), pages=True)
        return jnp.asarray(found, self._result_dtype(asked))

    def fidelity(
        self, pattern: AnyVectors, query: AnyVectors | None = None, key: AnyVectors | None = None
    ) -> AnyShape:
        """Computes the cosine between patterns and what is read for them: [b] or [b, t], 0 from an empty memory.

        Args:
            pattern: [b, N] or [b, t, N].
            query, key: what to read by, as `reconstruct`; if neither is given, the pattern's content.
        """
        pattern = check_pattern(self, pattern)
        if query is None and key is None:
            query = pattern
        found = self.reconstruct(query, key).astype(self._trace_dtype)
        product = jnp.sum(jnp.real(found * jnp.conj(pattern)), axis=-1)
        sizes = norm(found) * norm(pattern)
        return jnp.where(sizes > 0, product / jnp.where(sizes > 0, sizes, 1), 0)

    def utilization(self) -> AnyShape:
        """Computes the pairs held as a share of the capacity, [b], or [] where shared or empty; above 1 it warns.

        With decay γ a pair n writes old counts γ^(2n), its power beside the newest one's.
        """
        if not self.has_variable(COLLECTION, "pairs"):
            return jnp.zeros(())
        pairs = jnp.asarray(self.get_variable(COLLECTION, "pairs"))
        warn_if_full(self, pairs)
        return effective_pairs(self, pairs) / capacity(self)

    def clear(self, rows: jax.Array | np.ndarray | None = None) -> None:
        """Empties the memory, or the memories of the rows marked by bool [b]; makes an empty one where there is none.

        An empty memory, rather than none, is what `jax.lax.scan` over pieces has to start from.

        Raises:
            ValueError: if rows are given to a shared memory, or do not fit; or there is no memory and rows are not
                given; or the collection is not mutable.
        """
        if self.shared:
            if rows is not None:
                raise ValueError(
                    "a shared memory has no rows of its own; call clear() without rows."
                )
            return self._put(*self._empty(()))
        if rows is None:
            if not self.has_variable(COLLECTION, "pairs"):
                raise ValueError(
                    "there is no memory yet; to make an empty one say for how many rows: clear(rows), bool [b]."
                )
            rows = jnp.ones(self.get_variable(COLLECTION, "pairs").shape, bool)
        if rows.ndim != 1 or rows.dtype != bool:
            raise ValueError(f"rows must be bool [b], got {rows.dtype} of shape {rows.shape}.")
        trace, pairs = self._load(len(rows))
        self._put(jnp.where(rows[:, None, None], 0, trace), jnp.where(rows, 0, pairs))

    @property
    def _pages(self) -> int:
        return self.hologram_dim // self.pattern_dim

    @property
    def _trace_dtype(self):
        narrowest = jnp.complex64 if self.kind == "phasor" else jnp.float32
        return jnp.promote_types(self.param_dtype, narrowest)

    def _result_dtype(self, x):
        fits = jnp.iscomplexobj(x) == (self.kind == "phasor")
        return self.dtype or (x.dtype if fits else self._trace_dtype)

    def _empty(self, rows):
        shape = (*rows, self._pages, self.pattern_dim)
        return jnp.zeros(shape, self._trace_dtype), jnp.zeros(rows, jnp.int32)

    def _load(self, batch: int):
        """Returns trace and pairs for a batch of this size."""
        trace, pairs = self._empty(() if self.shared else (batch,))
        if not self.has_variable(COLLECTION, "trace"):
            return trace, pairs
        found = self.get_variable(COLLECTION, "trace")
        if found.shape != trace.shape:
            raise ValueError(
                f"a memory of shape {trace.shape} ([b, pages, pattern_dim]) is needed here, got {found.shape}; leave "
                "the collection 'hologram' out to start from an empty one, or share one among all rows (shared=True)."
            )
        return jnp.asarray(found, trace.dtype), self.get_variable(COLLECTION, "pairs")

    def _put(self, trace, pairs) -> None:
        if not self.is_mutable_collection(COLLECTION):
            raise ValueError(
                "writing changes the collection 'hologram': call apply(..., mutable=['hologram']) and pass what it "
                "returns to the next call."
            )
        self.put_variable(COLLECTION, "trace", trace)
        self.put_variable(COLLECTION, "pairs", pairs)


class PhaseProjection(nn.Module):
    """Projects the direction of content x [..., c] to phases W x/|x| [..., features], in at least float32; 0 at x = 0.

    Attributes:
        features: phases.
        scale: standard deviation that W starts from, or has.
        learned: W is a parameter; otherwise drawn once, in the collection "constants".
        param_dtype: of W.
    """

    features: int
    scale: float
    learned: bool = True
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, content: AnyShape) -> AnyShape:
        """Computes the phases in radians."""
        start = nn.initializers.normal(self.scale)
        shape = (content.shape[-1], self.features)
        collection = "params" if self.learned else "constants"
        if self.has_variable(collection, "kernel"):
            found = self.get_variable(collection, "kernel").shape
            if found != shape:
                raise ValueError(
                    f"keys are made from content of dimension {found[0]} into {found[1]} phases, got content of "
                    f"dimension {shape[0]} for {shape[1]}."
                )
        if self.learned:
            kernel = self.param("kernel", start, shape, self.param_dtype)
        else:

            def draw():
                return start(self.make_rng("params"), shape, self.param_dtype)

            kernel = self.variable("constants", "kernel", draw).value
        content, kernel = (
            x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in (content, kernel)
        )
        size = norm(content)[..., None]
        direction = jnp.where(size > 0, content / jnp.where(size > 0, size, 1), 0)
        return jnp.matmul(direction, kernel, precision="highest")  # what is written must be found
