"""Embedding and softmax of large vocabularies in two levels, and positions as phases of fixed frequencies."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import (
    AnyShape,
    IndexArray,
    LogProbabilities,
    TokenIds,
    TokenScores,
    TokenVectors,
)
from resonance_jax.ops import vocabulary
from resonance_jax.ops.vocabulary import CodeTables, LevelTables, Partition

# Of variance 1/d, as flax.linen.Embed's.
_ROWS = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)


class HierarchicalEmbedding(nn.Module):
    """Embeds ids that are ranks by frequency: the first F by rows of their own, the tail by two bound codes.

    `ops.vocabulary` states the composition: V vectors, no two of them the same, from F + A + C rows, A ≈ C ≈ √(V − F).
    Ids of a tokenizer are ranked once, when the data are encoded: `ranks[ids]`, `ops.vocabulary.rank_by_frequency`.

    Parameters: `embedding` [F, d] and `codes` [C, d], N(0, 1/d) at the start; of each group's spectrum `log_magnitude`
    [A, ⌊d/2⌋ + 1], 0 at the start, and `phase` [A, ⌈d/2⌉ − 1], uniform on the circle: binding is a rotation, so that
    frequent and tail vectors start with the same distribution.

    Attributes:
        vocab_size: V.
        features: d, at least 3.
        num_frequent: F, from 1 to V − 1.
        dtype: of the result; None is that of the parameters.
        param_dtype: of the parameters.
    """

    vocab_size: int
    features: int
    num_frequent: int
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        """Declares the tables."""
        if self.features < 1:
            raise ValueError(f"features must be at least 1, got {self.features}.")
        partition, d = self.partition, self.features
        shapes = {
            "embedding": (_ROWS, (partition.num_frequent, d)),
            "codes": (_ROWS, (partition.group_size, d)),
            "log_magnitude": (nn.initializers.zeros, (partition.num_groups, d // 2 + 1)),
            "phase": (_on_circle, (partition.num_groups, (d - 1) // 2)),
        }
        leaves = [
            self.param(name, start, shape, self.param_dtype)
            for name, (start, shape) in shapes.items()
        ]
        self.tables = CodeTables(*leaves)

    @property
    def partition(self) -> Partition:
        """How the ids are split."""
        return Partition(self.vocab_size, self.num_frequent)

    def __call__(self, ids: TokenIds) -> TokenVectors:
        """Maps ids [*b] to vectors [*b, d].

        An id out of range raises where it can be looked at; under jit its vector is NaN, so that the loss shows it.

        Raises:
            ValueError: if the ids are not integers or out of range, or an option is not as stated.
        """
        vectors = vocabulary.compose(self.tables, ids, self.partition)
        return vectors.astype(self.dtype or vectors.dtype)

    def code_tables(self) -> CodeTables:
        """Returns the parameters, for a head that shares them."""
        return self.tables


class HierarchicalSoftmax(nn.Module):
    """The output head over the ids of a `HierarchicalEmbedding`: exact log-probabilities, which sum to 1.

        p(id | h) = softmax over F ids and A groups,  times  softmax over the codes of the id's group

    The score of an id inside its level is ⟨h, e⟩ + bias, e its vector; that of a group ⟨h, g⟩ + bias, g a row of its
    own. The C biases of codes are shared by all groups.

    Parameters: `groups` [A, d], N(0, 1/d) at the start; with `use_bias` `bias` [F + A] and `code_bias` [C], 0; and the
    tables of `HierarchicalEmbedding`, shared with it or its own ones, in `embedding`.

    Attributes:
        embedding: the module whose tables are the vectors e. That of the input: tied. Another one, with as many
            features as h: untied.
        use_bias: False leaves the biases out.
        dtype: of the factors of each product; None is h's. Log-probabilities are at least float32.
        param_dtype: of the parameters.
    """

    embedding: HierarchicalEmbedding
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32

    def setup(self):
        """Declares what the levels have beside the vectors."""
        partition = self.embedding.partition
        bias = (partition.num_frequent + partition.num_groups,)
        shapes = {"bias": bias, "code_bias": (partition.group_size,)}
        rows = (partition.num_groups, self.embedding.features)
        groups = self.param("groups", _ROWS, rows, self.param_dtype)
        biases = (
            self.param(name, nn.initializers.zeros, shape, self.param_dtype)
            if self.use_bias
            else jnp.zeros(shape, self.param_dtype)
            for name, shape in shapes.items()
        )
        self.levels = LevelTables(groups, *biases)

    def log_prob(self, hidden: TokenVectors, ids: TokenIds) -> TokenScores:
        """Returns log p(id | h) of one id each: hidden [*b, d], ids [*b] → [*b], at O((F + 2√V) d).

        An id out of range raises where it can be looked at; under jit its result is NaN.

        Raises:
            ValueError: if shapes or dtypes do not fit, or an id is out of range.
        """
        return vocabulary.log_prob(*self._tables(), self._cast(hidden), ids, self._partition())

    def log_probs(self, hidden: TokenVectors) -> LogProbabilities:
        """Returns log p of all ids: hidden [*b, d] → [*b, V], at O(V d).

        Raises:
            ValueError: if hidden is not real [*b, d].
        """
        return vocabulary.log_probs(*self._tables(), self._cast(hidden), self._partition())

    def sample(
        self, hidden: TokenVectors, key: jax.Array, temperature: AnyShape | float | int = 1.0
    ) -> TokenIds:
        """Draws ids [*b] for hidden [*b, d], each level at this temperature: see `ops.vocabulary.sample`.

        Raises:
            ValueError: if hidden is not real [*b, d], or a temperature that is known is negative.
        """
        hidden = self._cast(hidden)
        return vocabulary.sample(*self._tables(), hidden, key, self._partition(), temperature)

    __call__ = log_prob

    def _tables(self):
        return self.embedding.code_tables(), self.levels

    def _partition(self):
        return self.embedding.partition

    def _cast(self, hidden):
        return hidden if self.dtype is None else jnp.asarray(hidden, self.dtype)


class FrequencyPosition(nn.Module):
    """Encodes positions by fixed physical frequencies, each with a learned magnitude and phase.

        p_t = s [m_k cos(2π f_k t + φ_k), …, m_k sin(2π f_k t + φ_k), …],    m = exp(log_magnitude),  s = √(2/d)

    The k = d/2 frequencies, in cycles per sample, are spaced geometrically and do not depend on any length: a position
    has one code, whatever the sequence around it, and goes on beyond what was trained. They are multiples of 2⁻³²,
    so that t f mod 1 is exact in 32-bit integers for every int32 position.

    Parameters: `log_magnitude` and `phase` [k], 0 at the start: then the mean square of a code is 1/d, that of a row of
    flax.linen.Embed.

    Attributes:
        features: d, even.
        max_frequency, min_frequency: the first and the last frequency, ½ ≥ max ≥ min ≥ 2⁻³².
        dtype: of the result; None is that of the parameters.
        param_dtype: of the parameters.
    """

    features: int
    max_frequency: float = 0.25
    min_frequency: float = 2.0**-16
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, positions: IndexArray | int, offset: IndexArray | int = 0) -> TokenVectors:
        """Maps positions t [*b], or a number n of them for 0 … n − 1, to codes [*b, d].

        Args:
            positions: integers [*b], also negative; or n.
            offset: added to them, as a stream that goes on needs it; [] or broadcastable from the left, as [b, 1] is.
        Raises:
            ValueError: if positions or offset are not integers, features are not even or a frequency out of range.
        """
        _check_frequencies(self)
        steps = _integers("positions", positions)
        if isinstance(positions, int):
            if positions < 0:
                raise ValueError(f"the number of positions must be at least 0, got {positions}.")
            steps = jnp.arange(positions)
        steps = steps + _integers("offset", offset)
        k = self.features // 2
        log_magnitude = self.param("log_magnitude", nn.initializers.zeros, (k,), self.param_dtype)
        phase = self.param("phase", nn.initializers.zeros, (k,), self.param_dtype)
        wide = jnp.promote_types(self.param_dtype, jnp.float32)
        angle = _turns(steps, self.frequencies, wide) + jnp.asarray(phase, wide)
        magnitude = math.sqrt(2 / self.features) * jnp.exp(jnp.asarray(log_magnitude, wide))
        code = jnp.concatenate([magnitude * jnp.cos(angle), magnitude * jnp.sin(angle)], axis=-1)
        return code.astype(self.dtype or self.param_dtype)

    @property
    def frequencies(self) -> np.ndarray:
        """The k frequencies in cycles per sample, float64."""
        spaced = np.geomspace(self.max_frequency, self.min_frequency, self.features // 2)
        return np.round(spaced * 2.0**32) / 2.0**32


def _turns(steps, frequencies, dtype):
    """2π (t f mod 1) in [−π, π) for f = F / 2³²: products of integers wrap at whole cycles."""
    units = jnp.asarray(frequencies * 2.0**32, jnp.uint32)
    turned = jax.lax.bitcast_convert_type(steps.astype(jnp.uint32)[..., None] * units, jnp.int32)
    return turned.astype(dtype) * (2 * math.pi / 2.0**32)


def _on_circle(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -math.pi, math.pi)


def _integers(name, values):
    array = jnp.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"{name} must be integers, got {array.dtype}.")
    return array


def _check_frequencies(layer: FrequencyPosition) -> None:
    if layer.features < 2 or layer.features % 2:
        raise ValueError(
            f"features must be even and at least 2, a cosine and a sine a frequency, got {layer.features}."
        )
    if not 2.0**-32 <= layer.min_frequency <= layer.max_frequency <= 0.5:
        raise ValueError(
            "expected 2^-32 <= min_frequency <= max_frequency <= 0.5 cycles per sample, got "
            f"{layer.min_frequency} and {layer.max_frequency}."
        )
