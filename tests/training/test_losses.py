from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from resonance_jax.training.losses import (
    classification_loss,
    contrastive_loss,
    forecast_loss,
    is_better,
    make_loss,
    regression_loss,
    token_loss,
)
from resonance_jax.training.step import init_state, train_step


def log_softmax(x):
    x = np.asarray(x, np.float64)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def cross_entropy(logits, labels, smoothing):
    classes = logits.shape[-1]
    target = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    return -(target * log_softmax(logits)).sum(axis=-1)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_classification(rng, smoothing, weighted):
    logits = rng.normal(size=(6, 4)).astype(np.float32)
    labels = rng.integers(0, 4, 6)
    weight = np.array([1, 0, 2, 0.5, 1, 0], np.float32) if weighted else np.ones(6, np.float32)
    batch = {"labels": labels} | ({"weight": weight} if weighted else {})
    loss, metrics = classification_loss(jnp.asarray(logits), batch, label_smoothing=smoothing)
    losses = cross_entropy(logits, labels, smoothing)
    np.testing.assert_allclose(loss, np.average(losses, weights=weight), rtol=1e-5)
    right = logits.argmax(-1) == labels
    np.testing.assert_allclose(metrics["accuracy"], np.average(right, weights=weight), rtol=1e-6)


def test_rows_of_weight_0_may_hold_anything(rng):
    logits = rng.normal(size=(3, 4)).astype(np.float32)
    logits[2] = np.nan
    batch = {"labels": np.array([0, 1, 2]), "weight": np.array([1, 1, 0], np.float32)}
    loss, _ = classification_loss(jnp.asarray(logits), batch)
    np.testing.assert_allclose(loss, cross_entropy(logits[:2], [0, 1], 0).mean(), rtol=1e-5)
    nothing = classification_loss(jnp.asarray(logits), batch | {"weight": np.zeros(3, np.float32)})
    assert float(nothing[0]) == 0.0


def test_tokens(rng):
    logits = rng.normal(size=(2, 3, 4)).astype(np.float32)
    labels = rng.integers(0, 4, (2, 3))
    mask = np.array([[True, True, False], [True, False, False]])
    loss, metrics = token_loss(jnp.asarray(logits), {"labels": labels, "mask": mask})
    np.testing.assert_allclose(loss, cross_entropy(logits, labels, 0)[mask].mean(), rtol=1e-5)
    right = (logits.argmax(-1) == labels)[mask].mean()
    np.testing.assert_allclose(metrics["accuracy"], right, rtol=1e-6)
    rows = {"labels": labels, "mask": mask, "weight": np.array([0, 1], np.float32)}
    np.testing.assert_allclose(
        token_loss(jnp.asarray(logits), rows)[0], cross_entropy(logits, labels, 0)[1, 0], rtol=1e-5
    )


def test_regression(rng):
    outputs, labels = rng.normal(size=(2, 5, 3)).astype(np.float32)
    weight = np.array([1, 0, 1, 3, 0], np.float32)
    loss, metrics = regression_loss(jnp.asarray(outputs), {"labels": labels, "weight": weight})
    expected = np.average(((outputs - labels) ** 2).mean(-1), weights=weight)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert metrics == {}
    flat, _ = regression_loss(jnp.asarray(outputs[:, :1]), {"labels": labels[:, 0]})
    np.testing.assert_allclose(flat, ((outputs - labels)[:, 0] ** 2).mean(), rtol=1e-6)


@pytest.mark.error_message
def test_rows_may_weigh_all_their_tokens(rng):
    logits = rng.normal(size=(3, 5, 4)).astype(np.float32)
    labels, weight = rng.integers(0, 4, (3, 5)), np.array([1, 0, 2], np.float32)
    loss, _ = token_loss(logits, {"labels": labels, "weight": weight})
    expected = cross_entropy(logits, labels, 0).mean(axis=1) @ weight / 3
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("weights", ["none", "rows", "mask"])
@pytest.mark.parametrize("loss", [classification_loss, token_loss, regression_loss])
def test_shares_of_devices_add_up_to_the_whole(rng, loss, weights):
    shape = (6, 5) if loss is token_loss else (6,)
    outputs = jnp.asarray(rng.normal(size=(*shape, 1 if loss is regression_loss else 4)))
    labels = (
        rng.normal(size=6).astype(np.float32)
        if loss is regression_loss
        else rng.integers(0, 4, shape)
    )
    batch = {"labels": labels}
    if weights == "rows":
        batch["weight"] = np.array([1, 0, 2, 0.5, 0, 0], np.float32)  # nothing on the last device
    if weights == "mask":
        batch["mask"] = rng.random((6, 5)) < np.linspace(0.1, 0.9, 6)[:, None]

    @jax.jit
    def shares_and_whole(*whole):
        parts = jax.tree.map(lambda leaf: leaf.reshape(3, 2, *leaf.shape[1:]), whole)
        mapped = jax.vmap(lambda part: loss(*part, axis="rows"), axis_name="rows")
        return mapped(parts), loss(*whole)

    shares, whole = shares_and_whole(outputs, batch)
    for found, wanted in zip(jax.tree.leaves(shares), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(np.sum(found), wanted, rtol=1e-6)


@pytest.mark.parametrize("quantiles", [(), (0.1, 0.6, 0.9)])
def test_forecast(rng, quantiles):
    """Over what was observed; shares of devices add up to the whole, though they see differently much."""
    labels = rng.normal(size=(4, 5, 2)).astype(np.float32)
    labels[rng.random(labels.shape) < 0.3] = np.nan
    labels[1] = np.nan
    outputs = rng.normal(size=(*labels.shape, 3)).astype(np.float32)
    outputs = outputs if quantiles else outputs[..., 1]
    batch = {"labels": labels, "weight": np.array([1, 1, 0, 1], np.float32)}
    loss_fn = make_loss("forecast", 0.0, quantiles)
    assert make_loss("forecast", 0.0, quantiles) is loss_fn

    @jax.jit
    def shares_and_whole(*whole):
        parts = jax.tree.map(lambda leaf: leaf.reshape(2, 2, *leaf.shape[1:]), whole)
        mapped = jax.vmap(lambda part: loss_fn(*part, axis="rows"), axis_name="rows")
        gradient = jax.grad(lambda outputs: loss_fn(outputs, whole[1])[0])(whole[0])
        return mapped(parts), loss_fn(*whole), gradient

    shares, (loss, metrics), gradient = shares_and_whole(outputs, batch)
    seen = np.isfinite(labels) & (batch["weight"] > 0)[:, None, None]
    middle = outputs[..., 1] if quantiles else outputs
    error = (labels - middle)[seen]
    np.testing.assert_allclose(metrics["mse"], np.square(error).mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["mae"], np.abs(error).mean(), rtol=1e-5)
    expected = metrics["mse"]
    if quantiles:
        errors = labels[..., None][seen] - outputs[seen]
        below = np.where(errors > 0, quantiles, np.array(quantiles) - 1)
        expected = (below * errors).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for found, wanted in zip(jax.tree.leaves(shares), (loss, *metrics.values()), strict=True):
        np.testing.assert_allclose(np.sum(found), wanted, rtol=1e-5)
    assert np.isfinite(gradient).all() and not np.any(np.asarray(gradient)[~seen])


def test_the_quantile_of_a_sample_has_the_lowest_pinball_loss(rng):
    sample = rng.normal(size=(999, 1, 1)).astype(np.float32)
    candidates = np.sort(sample.ravel())
    for p in (0.1, 0.5, 0.9):
        losses = [
            forecast_loss(jnp.full((999, 1, 1, 1), z), {"labels": sample}, quantiles=(p,))[0]
            for z in candidates[[int(999 * p) + d for d in (-60, 0, 60)]]
        ]
        assert np.argmin(losses) == 1


def test_a_higher_accuracy_and_a_lower_error_are_better():
    assert is_better("accuracy", 0.9, 0.8) and not is_better("accuracy", 0.8, 0.8)
    assert is_better("mse", 0.8, 0.9) and not is_better("mae", 0.9, 0.9)


def test_shapes_that_do_not_fit(rng):
    with pytest.raises(ValueError, match=r"outputs are for \(4,\) labels, the batch has \(3,\)"):
        classification_loss(jnp.zeros((4, 2)), {"labels": np.zeros(3, int)})
    with pytest.raises(ValueError, match="head and output_dim"):
        regression_loss(jnp.zeros((3, 2)), {"labels": np.zeros(3)})
    with pytest.raises(ValueError, match="label_smoothing is for classes"):
        regression_loss(jnp.zeros((3, 1)), {"labels": np.zeros(3)}, label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"outputs are for \(3, 4, 2\) labels, the batch has"):
        forecast_loss(jnp.zeros((3, 4, 2)), {"labels": np.zeros((3, 5, 2))})
    with pytest.raises(ValueError, match=r"the batch has \(3, 5, 2, 1\)"):
        forecast_loss(jnp.zeros((3, 5, 2)), {"labels": np.zeros((3, 5, 2))}, quantiles=(0.5,))


def senses(rng, rows=5):
    """Vectors of two senses and of one of them with a third, some rows absent."""
    names = ("audio", "vision", "audio+text")
    vectors = {name: rng.normal(size=(rows, 3)).astype(np.float32) for name in names}
    present = {name: np.ones(rows, bool) for name in names}
    present["audio"][1] = present["vision"][4] = False
    return SimpleNamespace(
        embeddings=vectors, present=present, log_temperature=jnp.asarray(np.log(0.5), jnp.float32)
    )


def contrastive_twin(outputs, weight, group):
    """Row by row."""
    total = right = whole = 0.0
    for pair in (("audio", "vision"), ("audio+text", "vision")):
        for p, q in (pair, pair[::-1]):
            for i, w in enumerate(weight):
                if not (outputs.present[p][i] and outputs.present[q][i] and w):
                    continue
                others = [
                    j
                    for j in range(len(weight))
                    if outputs.present[q][j] and weight[j] and (j == i or group[j] != group[i])
                ]
                scores = outputs.embeddings[q][others] @ outputs.embeddings[p][i] / 0.5
                own = others.index(i)
                total += w * (np.log(np.exp(scores).sum()) - scores[own])
                right += w * (scores.argmax() == own)
                whole += w
    return float(total / whole), float(right / whole)


@pytest.mark.parametrize("weighted", [False, True])
def test_contrastive(rng, weighted):
    outputs, batch = senses(rng), {}
    weight, group = np.ones(5, np.float32), np.arange(5)
    if weighted:
        weight, group = np.array([1, 2, 0.5, 0, 1], np.float32), np.array([0, 1, 0, 3, 4])
        batch = {"weight": weight, "group": group}
    wanted = contrastive_twin(outputs, weight, group)
    outputs.embeddings["audio"][1] = outputs.embeddings["vision"][4] = np.nan  # absent
    if weighted:
        outputs.embeddings["vision"][3] = np.nan  # of weight 0
    loss, metrics = contrastive_loss(outputs, batch)
    np.testing.assert_allclose(loss, wanted[0], rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], wanted[1], rtol=1e-5)


def test_contrastive_without_a_pair_is_0_and_its_temperature_is_bounded(rng):
    outputs = senses(rng)
    outputs.present["vision"][:] = False
    assert float(contrastive_loss(outputs, {})[0]) == 0.0
    outputs = senses(rng)
    outputs.log_temperature = jnp.asarray(-50.0)
    assert np.isfinite(contrastive_loss(outputs, {})[0])


@pytest.mark.error_message
def test_contrastive_refuses_what_it_cannot_tell_apart(rng):
    outputs = senses(rng)
    with pytest.raises(ValueError, match=r"no axis.*DataParallel\(strategy='jit'\)"):
        contrastive_loss(outputs, {}, axis="rows")
    del outputs.embeddings["vision"]
    with pytest.raises(ValueError, match="two senses that differ"):
        contrastive_loss(outputs, {})


class TwoTowers(nn.Module):
    """The least that a contrastive loss takes, called with a dict of arrays."""

    @nn.compact
    def __call__(self, inputs, *, deterministic: bool = True):
        vectors = {name: nn.Dense(4, name=name)(x) for name, x in inputs.items()}
        present = {name: jnp.ones(len(x), bool) for name, x in inputs.items()}
        temperature = self.param("log_temperature", nn.initializers.zeros, ())
        return SimpleNamespace(embeddings=vectors, present=present, log_temperature=temperature)


def test_a_dict_of_senses_is_trained(rng):
    batch = {"inputs": {name: rng.normal(size=(6, 3)).astype(np.float32) for name in ("a", "b")}}
    state = init_state(TwoTowers(), optax.adam(0.1), jax.random.key(0), batch, loss="contrastive")
    losses = []
    for _ in range(12):
        state, metrics = train_step(state, batch)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.5 * losses[0]
    assert float(state.params["log_temperature"]) != 0.0
