"""Large vocabularies in two levels: rows for frequent ids, and for the tail two short codes bound in frequency.

Ids are ranks: 0 is the most frequent (`rank_by_frequency`). The first F own a row each. An id of the tail has rank
r = id − F = a C + b, group a and code b, with C = ⌈√(V − F)⌉ codes in each of A = ⌈(V − F)/C⌉ groups; its vector is

    e = w_a ⊛ v_b,    ê[f] = exp(μ_a[f] + iφ_a[f]) v̂_b[f],

the circular convolution of `ops.hologram.bind`, which keeps the norm where μ = 0. So V vectors come from F + A + C
rows, no two of them the same. The adjoint of binding is unbinding, ⟨h, w_a ⊛ v_b⟩ = ⟨w_a ⋆ h, v_b⟩: the scores of a
hidden vector with all ids of a group take one unbinding and one product with the C codes, and make a softmax of two
levels,

    log p(id | h) = log p(id or its group | h) + log p(b | a, h),

whose V probabilities sum to 1, at the cost of O((F + A + C) d) each.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from resonance_jax.array_typing import (
    AnyShape,
    IndexArray,
    LogProbabilities,
    Matrix,
    TokenIds,
    TokenScores,
    TokenVectors,
)
from resonance_jax.ops._checks import is_concrete
from resonance_jax.ops.polar import from_polar


@dataclasses.dataclass(frozen=True)
class Partition:
    """How V ids are split: F frequent ones, then groups of C, the last one short."""

    vocab_size: int
    """V."""
    num_frequent: int
    """F, from 1 to V − 1."""

    def __post_init__(self):
        """Checks the numbers."""
        if not 1 <= self.num_frequent < self.vocab_size:
            raise ValueError(
                f"num_frequent must be at least 1 and below vocab_size = {self.vocab_size}, got {self.num_frequent}; "
                "without a tail use flax.linen.Embed."
            )

    @property
    def group_size(self) -> int:
        """C, of all groups but the last."""
        return math.isqrt(self.vocab_size - self.num_frequent - 1) + 1

    @property
    def num_groups(self) -> int:
        """A."""
        return -(-(self.vocab_size - self.num_frequent) // self.group_size)


class CodeTables(NamedTuple):
    """What the vectors of all ids are made of; for features d, each real."""

    frequent: Matrix
    """Rows of the frequent ids, [F, d]."""
    codes: Matrix
    """v, [C, d]."""
    log_magnitude: Matrix
    """μ, of the bins 0 … ⌊d/2⌋ of a group's spectrum, [A, ⌊d/2⌋ + 1]."""
    phase: Matrix
    """φ in radians, of the bins 1 … ⌈d/2⌉ − 1; those at DC and Nyquist are 0, [A, ⌈d/2⌉ − 1]."""


class LevelTables(NamedTuple):
    """What the softmax of two levels has beside the vectors."""

    groups: Matrix
    """Rows of the groups at the first level, [A, d]."""
    bias: AnyShape
    """Of the first level: frequent ids, then groups, [F + A]."""
    code_bias: AnyShape
    """Of the second level, the same in each group, [C]."""


def rank_by_frequency(counts: IndexArray) -> IndexArray:
    """Ranks ids by how often they occur, most frequent first; ties in the order of ids.

    Args:
        counts: of each id, [V], host numbers.
    Returns:
        The rank of each id, a permutation, int32 [V]: `ranks[ids]` is what this module calls ids.
    Raises:
        ValueError: if the counts are not [V].

    >>> print(rank_by_frequency(np.array([2, 0, 7])))
    [1 2 0]
    """
    counts = np.asarray(counts)
    if counts.ndim != 1:
        raise ValueError(f"counts must have shape [V], got {counts.shape}.")
    ranks = np.empty(len(counts), np.int32)
    ranks[np.argsort(-counts.astype(np.int64), kind="stable")] = np.arange(len(counts))
    return ranks


def check_ids(ids: IndexArray, vocab_size: int) -> jax.Array:
    """Returns ids as int32; requires integers, and in 0 … V − 1 where they can be looked at.

    Raises:
        ValueError: as stated. Inside a transformation values are unknown: there the functions of this module answer an
            id out of range with NaN.

    >>> print(check_ids(np.array([0, 4]), 5))
    [0 4]
    """
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"ids must be integers, got {ids.dtype}.")
    if is_concrete(ids) and ids.size:
        low, high = int(np.min(ids)), int(np.max(ids))
        if low < 0 or high >= vocab_size:
            raise ValueError(
                f"ids must lie in 0 .. {vocab_size - 1} (vocab_size = {vocab_size}), got {low} .. {high}; was the text "
                "encoded by another tokenizer?"
            )
    return jnp.asarray(ids).astype(jnp.int32)


def compose(tables: CodeTables, ids: TokenIds, partition: Partition) -> TokenVectors:
    """Gives ids their vectors: a row of `frequent`, or w_a ⊛ v_b, computed in float32 or wider.

    Only rows that are needed are read: O(d log d) an id.

    Args:
        tables: of this partition.
        ids: [*b]; one out of range raises, and inside a transformation its vector is NaN.
        partition: V and F.
    Returns:
        [*b, d], of the tables' dtype.
    Raises:
        ValueError: if a table's shape is another, or the ids are none.

    >>> import jax
    >>> partition = Partition(11, 2)  # groups of 3
    >>> draws = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(2, 4), (3, 4), (3, 3), (3, 1)]))
    >>> compose(CodeTables(*draws), np.arange(11), partition).shape
    (11, 4)
    """
    tables = _check_tables(tables, partition)
    ids = check_ids(ids, partition.vocab_size)
    frequent, group, code = _split(ids, partition)
    filtered = _filter(tables.codes[code], _spectrum(tables, group))
    tail = (ids >= partition.num_frequent)[..., None]
    vectors = jnp.where(tail, filtered.astype(tables.frequent.dtype), tables.frequent[frequent])
    return jnp.where(_known(ids, partition)[..., None], vectors, jnp.nan)


def log_prob(
    tables: CodeTables,
    levels: LevelTables,
    hidden: TokenVectors,
    ids: TokenIds,
    partition: Partition,
) -> TokenScores:
    """Returns log p(id | h) for one id a hidden vector.

    Args:
        tables, levels: of this partition.
        hidden: h, [*b, d]; its dtype is that of the factors of all products, which are summed in float32 or wider.
        ids: [*b]; one out of range raises, and inside a transformation its result is NaN.
        partition: V and F.
    Returns:
        [*b], at least float32.
    Raises:
        ValueError: if shapes differ or the ids are none of the vocabulary.
    References:
        Morin and Bengio, Hierarchical probabilistic neural network language model, AISTATS 2005; Grave et al.,
        Efficient softmax approximation for GPUs, arXiv:1609.04309.

    >>> shapes = [(2, 4), (3, 4), (3, 3), (3, 1), (3, 4), (5,), (3,)]
    >>> zeros = [jnp.zeros(shape) for shape in shapes]
    >>> tables, levels = CodeTables(*zeros[:4]), LevelTables(*zeros[4:])
    >>> p = jnp.exp(log_prob(tables, levels, jnp.ones((2, 4)), np.array([1, 2]), Partition(11, 2)))
    >>> print(jnp.round(1 / p))  # one of two rows and three groups; one of three codes
    [ 5. 15.]
    """
    tables, levels, hidden = _check_head(tables, levels, hidden, partition)
    if ids.shape != hidden.shape[:-1]:
        raise ValueError(
            f"ids must have the shape of hidden without its features, {hidden.shape[:-1]}, got {ids.shape}."
        )
    ids = check_ids(ids, partition.vocab_size)
    frequent, group, code = _split(ids, partition)
    tail = ids >= partition.num_frequent
    first = _first_level(tables, levels, hidden)
    result = _log_softmax_at(first, jnp.where(tail, partition.num_frequent + group, frequent))
    second = _second_level(tables, levels, hidden, group, partition)
    result += jnp.where(tail, _log_softmax_at(second, code), 0)
    return jnp.where(_known(ids, partition), result, jnp.nan)


def log_probs(
    tables: CodeTables, levels: LevelTables, hidden: TokenVectors, partition: Partition
) -> LogProbabilities:
    """Returns log p(id | h) of every id: for a small vocabulary, or few hidden vectors; O(V d) each.

    Args:
        tables, levels, hidden, partition: as `log_prob`.
    Returns:
        [*b, V].
    Raises:
        ValueError: as `log_prob`.

    >>> shapes = [(2, 4), (3, 4), (3, 3), (3, 1), (3, 4), (5,), (3,)]
    >>> zeros = [jnp.zeros(shape) for shape in shapes]
    >>> tables, levels = CodeTables(*zeros[:4]), LevelTables(*zeros[4:])
    >>> print(jnp.round(1 / jnp.exp(log_probs(tables, levels, jnp.ones(4), Partition(10, 2)))))  # the last group has 2
    [ 5.  5. 15. 15. 15. 15. 15. 15. 10. 10.]
    """
    tables, levels, hidden = _check_head(tables, levels, hidden, partition)
    first = jax.nn.log_softmax(_first_level(tables, levels, hidden))
    groups = jnp.arange(partition.num_groups)
    second = _second_level(tables, levels, hidden[..., None, :], groups, partition)
    second = jax.nn.log_softmax(second) + first[..., partition.num_frequent :, None]
    tail = second.reshape(*second.shape[:-2], -1)
    both = jnp.concatenate([first[..., : partition.num_frequent], tail], axis=-1)
    return both[..., : partition.vocab_size]


def sample(
    tables: CodeTables,
    levels: LevelTables,
    hidden: TokenVectors,
    key: jax.Array,
    partition: Partition,
    temperature: AnyShape | float | int = 1.0,
) -> TokenIds:
    """Draws an id for each hidden vector, first a frequent id or a group, then a code in it: O((F + A + C) d).

    With temperature T each level is drawn from p^{1/T}, normalised in that level. At T = 1 that is p itself; at others
    it is not p^{1/T} over all ids, which takes `log_probs`: at T = 0 the most probable code of the most probable group
    may be less probable than another id.

    Args:
        tables, levels, hidden, partition: as `log_prob`.
        key: PRNG key.
        temperature: T ≥ 0, a number or [*b].
    Returns:
        int32 [*b].
    Raises:
        ValueError: as `log_prob`; if a temperature that is known is negative.

    >>> import jax
    >>> shapes = [(2, 4), (3, 4), (3, 3), (3, 1), (3, 4), (5,), (3,)]
    >>> zeros = [jnp.zeros(shape) for shape in shapes]
    >>> tables, levels = CodeTables(*zeros[:4]), LevelTables(*zeros[4:])
    >>> sample(tables, levels, jnp.ones((7, 4)), jax.random.key(0), Partition(10, 2)).shape
    (7,)
    """
    tables, levels, hidden = _check_head(tables, levels, hidden, partition)
    if is_concrete(temperature) and not np.all(np.asarray(temperature) >= 0):
        raise ValueError(f"temperature must be at least 0, got {temperature}.")
    keys = jax.random.split(key)
    first = _first_level(tables, levels, hidden)
    choice = _draw(keys[0], first, temperature)
    group = jnp.maximum(choice - partition.num_frequent, 0)
    second = _second_level(tables, levels, hidden, group, partition)
    code = _draw(keys[1], second, temperature)
    tail = partition.num_frequent + group * partition.group_size + code
    return jnp.where(choice < partition.num_frequent, choice, tail).astype(jnp.int32)


def _draw(key, scores, temperature):
    """A draw from softmax(s / T) by the largest s + T g, g of Gumbel's distribution: no division by T."""
    noise = jax.random.gumbel(key, scores.shape, scores.dtype)
    return jnp.argmax(scores + jnp.asarray(temperature, scores.dtype)[..., None] * noise, axis=-1)


def _known(ids, partition):
    return (ids >= 0) & (ids < partition.vocab_size)


def _split(ids, partition):
    """Row, group and code of each id; one that it does not have, or of an id out of range, is any in range."""
    rank = jnp.clip(ids - partition.num_frequent, 0, None)
    group = jnp.minimum(rank // partition.group_size, partition.num_groups - 1)
    return jnp.clip(ids, 0, partition.num_frequent - 1), group, rank % partition.group_size


def _spectrum(tables, group):
    """The half spectra of the groups' w, [*b, ⌊d/2⌋ + 1]."""
    log_magnitude, phase = tables.log_magnitude[group], tables.phase[group]
    nyquist = log_magnitude.shape[-1] - phase.shape[-1] - 1
    phase = jnp.pad(phase, [(0, 0)] * (phase.ndim - 1) + [(1, nyquist)])
    return from_polar(jnp.exp(_wide(log_magnitude)), _wide(phase))


def _filter(vectors, spectrum):
    """Binds by half spectra."""
    product = jnp.fft.rfft(_wide(vectors)) * spectrum
    return jnp.fft.irfft(product, n=vectors.shape[-1])


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _products(hidden, rows):
    """⟨h, row⟩ of all rows: factors of h's dtype, summed in float32 or wider."""
    wide = jnp.promote_types(hidden.dtype, jnp.float32)
    rows = rows.astype(hidden.dtype)
    return jnp.einsum("...d,vd->...v", hidden, rows, preferred_element_type=wide)


def _first_level(tables, levels, hidden):
    """Scores of the frequent ids and of the groups, [*b, F + A]."""
    scores = [_products(hidden, rows) for rows in (tables.frequent, levels.groups)]
    return jnp.concatenate(scores, axis=-1) + levels.bias


def _second_level(tables, levels, hidden, group, partition):
    """Scores of the codes in a group for each hidden vector, [*b, C]; −∞ beyond the vocabulary."""
    unbound = _filter(hidden, jnp.conj(_spectrum(tables, group)))
    scores = _products(unbound.astype(hidden.dtype), tables.codes) + levels.code_bias
    size = partition.group_size
    beyond = group[..., None] * size + jnp.arange(size) >= (
        partition.vocab_size - partition.num_frequent
    )
    return jnp.where(beyond, -jnp.inf, scores)


def _log_softmax_at(scores, index):
    chosen = jnp.take_along_axis(scores, index[..., None], axis=-1)[..., 0]
    return chosen - jax.nn.logsumexp(scores, axis=-1)


def _check_tables(tables, partition) -> CodeTables:
    features = tables.frequent.shape[-1]
    if features < 3:
        raise ValueError(
            f"binding needs at least 3 features, got {features}: fewer have no phase to tell groups apart."
        )
    groups = partition.num_groups
    expected = (
        (partition.num_frequent, features),
        (partition.group_size, features),
        (groups, features // 2 + 1),
        (groups, (features - 1) // 2),
    )
    return CodeTables(*_check_shapes(tables, expected))


def _check_head(tables, levels, hidden, partition):
    tables = _check_tables(tables, partition)
    features, groups = tables.frequent.shape[-1], partition.num_groups
    first = partition.num_frequent + groups
    expected = (groups, features), (first,), (partition.group_size,)
    levels = LevelTables(*_check_shapes(levels, expected))
    if not jnp.issubdtype(hidden.dtype, jnp.floating) or hidden.shape[-1:] != (features,):
        raise ValueError(
            f"hidden must be real floating point with {features} features last, got {hidden.dtype} of shape "
            f"{hidden.shape}."
        )
    return tables, levels, jnp.asarray(hidden)


def _check_shapes(tables, expected) -> list[jax.Array]:
    """Returns the tables as arrays that a traced index can go into, which NumPy's do not take."""
    for name, table, shape in zip(tables._fields, tables, expected, strict=True):
        if tuple(table.shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape} for this partition, got {tuple(table.shape)}."
            )
    return [jnp.asarray(table) for table in tables]
