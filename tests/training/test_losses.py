import jax
import jax.numpy as jnp
import numpy as np
import pytest

from resonance_jax.training.losses import classification_loss, regression_loss, token_loss


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


def test_shapes_that_do_not_fit(rng):
    with pytest.raises(ValueError, match=r"outputs are for \(4,\) labels, the batch has \(3,\)"):
        classification_loss(jnp.zeros((4, 2)), {"labels": np.zeros(3, int)})
    with pytest.raises(ValueError, match="head and output_dim"):
        regression_loss(jnp.zeros((3, 2)), {"labels": np.zeros(3)})
    with pytest.raises(ValueError, match="label_smoothing is for classes"):
        regression_loss(jnp.zeros((3, 1)), {"labels": np.zeros(3)}, label_smoothing=0.1)
