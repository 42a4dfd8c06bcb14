"""Embedding and softmax in two levels as modules, and positions: laws, twins, gradients, options, errors."""

from fractions import Fraction
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from resonance_jax.layers.embedding import (
    FrequencyPosition,
    HierarchicalEmbedding,
    HierarchicalSoftmax,
)
from resonance_jax.ops import vocabulary
from resonance_jax.ops.vocabulary import CodeTables, LevelTables
from resonance_jax.training.optimizer import label_parameters

pytestmark = pytest.mark.usefixtures("quick_compile")
EMBEDDING = HierarchicalEmbedding(23, 6, num_frequent=4)
IDS = np.array([[0, 3, 22], [4, 9, 21]])


class NextId(nn.Module):
    """The log-probability of the next id from the vector of the last one, as a language model without a body."""

    tied: bool = True

    def setup(self):
        self.embedding = HierarchicalEmbedding(23, 6, 4)
        own = self.embedding if self.tied else HierarchicalEmbedding(23, 6, 4)
        self.head = HierarchicalSoftmax(own)

    def __call__(self, ids):
        return self.head(self.embedding(ids[..., :-1]), ids[..., 1:])


def hidden():
    return np.random.default_rng(1).normal(size=(2, 3, 6)).astype(np.float32)


def tables_of(params):
    names = ("embedding", "codes", "log_magnitude", "phase")
    return CodeTables(*(params[name] for name in names))


def test_all_ids_of_a_million_have_vectors_of_their_own(random_variables):
    layer = HierarchicalEmbedding(1_000_000, 8, num_frequent=1000)
    variables = random_variables(layer, np.arange(2))
    run, chunk, seen = jax.jit(layer.apply), 125_000, []
    for start in range(0, layer.vocab_size, chunk):
        # What rounds to the same multiples of 10⁻³, of numbers of standard deviation 0.3, counts as one.
        vectors = np.round(1e3 * np.asarray(run(variables, start + np.arange(chunk))))
        pairs = vectors.astype(np.int16).view(np.uint64)
        seen.append(pairs[:, 0] + np.uint64(0x9E3779B97F4A7C15) * pairs[:, 1])
    assert len(np.unique(np.concatenate(seen))) == layer.vocab_size


def test_frequent_and_tail_vectors_start_as_rows_of_embed():
    layer = HierarchicalEmbedding(4000, 64, num_frequent=2000)
    variables = jax.jit(layer.init)(jax.random.key(0), np.arange(2))
    vectors = np.asarray(jax.jit(layer.apply)(variables, np.arange(4000)))
    # Codes are shared by the groups: the mean square of the tail is that of 45 · 64 draws.
    for part, draws in ((vectors[:2000], 2000 * 64), (vectors[2000:], 45 * 64)):
        assert abs(64 * np.mean(part**2) - 1) < 4 * np.sqrt(2 / draws)
    norms = np.linalg.norm(variables["params"]["codes"], axis=1)
    tail = np.linalg.norm(vectors[2000:], axis=1)
    np.testing.assert_allclose(tail, norms[np.arange(2000) % 45], rtol=1e-5)
    similarity = vectors[2000:] @ vectors[2000::45].T / np.outer(tail, tail[::45])
    assert (
        0.9 < 8 * np.std(similarity[np.arange(2000) % 45 != 0]) < 1.1
    )  # 1/√d, as of random vectors


def test_modules_are_the_ops_on_their_parameters(random_variables):
    head = HierarchicalSoftmax(EMBEDDING)
    variables = random_variables(head, hidden(), IDS)
    h, partition = hidden(), EMBEDDING.partition
    key = jax.random.key(0)

    def modules(variables):
        run = partial(head.apply, variables, h)
        embedding = {"params": variables["params"]["embedding"]}
        yield EMBEDDING.apply(embedding, IDS)
        yield run(IDS)
        yield run(method="log_probs")
        yield run(key, 0.7, method="sample")

    def ops(variables):
        params = variables["params"]
        levels = LevelTables(params["groups"], params["bias"], params["code_bias"])
        both = tables_of(params["embedding"]), levels
        yield vocabulary.compose(both[0], IDS, partition)
        yield vocabulary.log_prob(*both, h, IDS, partition)
        yield vocabulary.log_probs(*both, h, partition)
        yield vocabulary.sample(*both, h, key, partition, 0.7)

    def program(function):
        return str(jax.make_jaxpr(lambda variables: list(function(variables)))(variables))

    assert program(modules) == program(ops)


def test_every_parameter_has_a_gradient_and_a_group(random_variables):
    ids = np.concatenate([np.arange(23), np.arange(23)[::-1]])
    shared = jax.eval_shape(NextId().init, jax.random.key(0), ids)
    assert len(jax.tree.leaves(shared)) == 7
    model = NextId(tied=False)
    variables = random_variables(model, ids)
    assert len(jax.tree.leaves(variables)) == 11
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(jnp.asarray(model.apply(v, ids)))))(variables)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)), path
        assert np.all(leaf != 0), path
    groups = label_parameters(variables["params"])
    assert groups["embedding"] == {
        **{"embedding": "other", "codes": "other", "log_magnitude": "magnitude"},
        "phase": "phase",
    }


def test_every_option_changes_the_output(random_variables):
    head = HierarchicalSoftmax(EMBEDDING)
    variables = random_variables(head, hidden(), IDS)

    @jax.jit
    def run():
        unbiased = HierarchicalSoftmax(EMBEDDING, use_bias=False)
        rounded = HierarchicalSoftmax(EMBEDDING, dtype=jnp.bfloat16)
        return [m.apply(variables, hidden(), IDS) for m in (head, unbiased, rounded)]

    usual, unbiased, rounded = run()
    assert not np.allclose(usual, unbiased, atol=1e-2)
    assert 1e-5 < np.max(np.abs(usual - rounded)) < 0.05
    assert rounded.dtype == jnp.float32
    unbiased = HierarchicalSoftmax(EMBEDDING, use_bias=False)
    shapes = jax.eval_shape(unbiased.init, jax.random.key(0), hidden(), IDS)["params"]
    assert set(shapes) == {"embedding", "groups"}


@pytest.mark.parametrize(
    ("dtype", "param_dtype", "expected"),
    [
        (None, "float32", "float32"),
        ("bfloat16", "float32", "bfloat16"),
        (None, "bfloat16", "bfloat16"),
    ],
)
def test_dtypes(dtype, param_dtype, expected):
    for layer, argument in (
        (HierarchicalEmbedding(23, 6, 4, dtype=dtype, param_dtype=param_dtype), IDS),
        (FrequencyPosition(6, dtype=dtype, param_dtype=param_dtype), 5),
    ):
        init = jax.eval_shape(lambda a=argument, m=layer: m.init(jax.random.key(0), a))
        result = jax.eval_shape(lambda v, a=argument, m=layer: m.apply(v, a), init)
        assert result.dtype == expected
        assert {leaf.dtype for leaf in jax.tree.leaves(init)} == {jnp.dtype(param_dtype)}


def test_parameters_of_a_million_ids_are_a_twentieth_of_a_table():
    layer = HierarchicalEmbedding(1_000_000, 512, num_frequent=16_384)
    head = HierarchicalSoftmax(layer)
    shapes = jax.eval_shape(
        head.init, jax.random.key(0), jnp.zeros((1, 512)), jnp.zeros(1, jnp.int32)
    )
    own = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    embedding = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]["embedding"]))
    assert own + embedding <= 0.05 * 1_000_000 * 512  # untied


def test_ids_out_of_range_give_nan_under_jit(random_variables):
    head = HierarchicalSoftmax(EMBEDDING)
    variables = random_variables(head, hidden(), IDS)
    ids = np.array([[0, 23, 22], [-1, 9, 2**30]])
    found = jax.jit(head.apply)(variables, hidden(), ids)
    np.testing.assert_array_equal(np.isnan(found), (ids < 0) | (ids > 22))


def position_twin(layer, positions, log_magnitude, phase):
    """In exact fractions of a cycle."""
    angles = [
        [2 * np.pi * float(Fraction(int(t)) * Fraction(f) % 1) for f in layer.frequencies]
        for t in positions
    ]
    angles = np.array(angles) + phase
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    return np.sqrt(2 / layer.features) * np.tile(np.exp(log_magnitude), 2) * waves


def test_positions_equal_exact_fractions_however_far(random_variables):
    layer = FrequencyPosition(10, max_frequency=0.5, min_frequency=1e-7)
    variables = random_variables(layer, 7)
    leaves = (variables["params"][name] for name in ("log_magnitude", "phase"))
    positions = np.array([0, 1, 12_345, 10**6 + 1, 2**31 - 1, -1, -(10**9)], np.int32)
    found = jax.jit(layer.apply)(variables, positions)
    np.testing.assert_allclose(found, position_twin(layer, positions, *leaves), atol=5e-7)


def test_a_position_has_one_code_whatever_the_length_and_the_stream(random_variables):
    layer = FrequencyPosition(6)
    variables = random_variables(layer, 7)
    run = jax.jit(layer.apply)
    long = jax.jit(lambda v: layer.apply(v, 40))(variables)
    short = jax.jit(lambda v: layer.apply(v, 7))(variables)
    np.testing.assert_array_equal(long[:7], short)
    at = 10**6 + np.arange(7)
    far = run(variables, at)
    np.testing.assert_array_equal(run(variables, np.arange(7), np.array(10**6)), far)
    rows = run(variables, np.arange(7), np.array([[0], [10**6]]))
    np.testing.assert_array_equal(rows, np.stack([short, far]))
    assert len(np.unique(np.round(np.concatenate([long, far]), 3), axis=0)) == 47


def test_positions_start_with_the_mean_square_of_embed_and_spaced_frequencies():
    layer = FrequencyPosition(8, max_frequency=0.125, min_frequency=2.0**-12)
    np.testing.assert_allclose(layer.frequencies, 2.0 ** -np.arange(3, 13, 3))
    variables = layer.init(jax.random.key(0), 3)
    codes = np.asarray(layer.apply(variables, 4096))  # whole cycles of all
    np.testing.assert_allclose(np.mean(codes**2, axis=0), 1 / 8, rtol=1e-4)
    assert label_parameters(variables["params"]) == {"log_magnitude": "magnitude", "phase": "phase"}


def test_gradients_of_positions(x64):
    layer, positions = FrequencyPosition(6, param_dtype=jnp.float64), np.array([0, 5, 70_001])
    rng = np.random.default_rng(0)
    variables = {"params": {name: rng.normal(size=3) for name in ("log_magnitude", "phase")}}
    run = jax.jit(partial(layer.apply, positions=positions))
    check_grads(run, (variables,), order=1, modes=["rev"], rtol=1e-5)
    found = np.asarray(run(variables))
    twin = position_twin(layer, positions, **variables["params"])
    np.testing.assert_allclose(found, twin, atol=1e-14)


@pytest.mark.error_message
@pytest.mark.parametrize(
    ("layer", "argument", "message"),
    [
        (
            HierarchicalEmbedding(23, 6, 23),
            IDS,
            "num_frequent must be .* 23, got 23; without a tail",
        ),
        (HierarchicalEmbedding(23, 0, 4), IDS, "features must be at least 1, got 0"),
        (HierarchicalEmbedding(23, 2, 4), IDS, "binding needs at least 3 features, got 2"),
        (EMBEDDING, np.array([23]), r"ids must lie in 0 .. 22 \(vocab_size = 23\), got 23"),
        (EMBEDDING, hidden(), "ids must be integers, got float32"),
        (FrequencyPosition(7), 3, "features must be even and at least 2, .* got 7"),
        (FrequencyPosition(0), 3, "features must be even and at least 2, .* got 0"),
        (FrequencyPosition(6, 0.6), 3, "<= 0.5 cycles per sample, got 1.5.* and 0.6"),
        (FrequencyPosition(6, 0.1, 0.2), 3, "<= 0.5 cycles per sample, got 0.2 and 0.1"),
        (FrequencyPosition(6, 0.1, 0.0), 3, "<= 0.5 cycles per sample, got 0.0 and 0.1"),
        (FrequencyPosition(6), -1, "number of positions must be at least 0, got -1"),
        (FrequencyPosition(6), hidden(), "positions must be integers, got float32"),
    ],
)
def test_bad_options_and_inputs(layer, argument, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda: layer.init(jax.random.key(0), argument))


@pytest.mark.error_message
def test_bad_offset_and_hidden():
    init = partial(jax.eval_shape, HierarchicalSoftmax(EMBEDDING).init, jax.random.key(0))
    with pytest.raises(ValueError, match="offset must be integers, got float32"):
        offset = np.array(1.0, np.float32)
        jax.eval_shape(lambda: FrequencyPosition(6).init(jax.random.key(0), 3, offset))
    with pytest.raises(ValueError, match=r"6 features last, got float32 of shape \(2, 3, 5\)"):
        init(hidden()[..., 1:], IDS)
    with pytest.raises(ValueError, match=r"shape of hidden .* \(2, 3\), got \(3,\)"):
        init(hidden(), IDS[0])
