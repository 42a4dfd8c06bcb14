"""One training step as a pure function of state and batch, and what a loop of one's own needs."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from resonance_jax.training.losses import LossFunction, make_loss
from resonance_jax.training.monitor import all_finite, gradient_norms
from resonance_jax.training.optimizer import label_parameters

Batch = Mapping[str, Any]
OPTIONAL_INPUTS = ("mask", "covariates")
"""What a batch may have besides "inputs" that a model is called with, by these names."""


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step reads and writes; the fields from `apply_fn` on are static.

    The leaves are arrays, but annotated Any: JAX puts shapes and placeholders there too.
    """

    step: Any
    """Steps taken, skipped ones included; int32."""
    params: Any
    """Parameters."""
    opt_state: Any
    """State of the optimizer."""
    ema_params: Any
    """Moving average of the parameters, or None."""
    rng: Any
    """Key that the key of every step is folded from; never changes."""
    skipped: Any
    """Steps skipped in all because something was not finite; int32."""
    consecutive_skipped: Any
    """Steps skipped up to now since the last good one; int32."""
    collections: Any
    """The model's variables that are not parameters, {collection: …}: what its modules keep between steps."""
    apply_fn: Callable[..., Any] = flax.struct.field(pytree_node=False)
    """The model's `apply`."""
    optimizer: optax.GradientTransformation = flax.struct.field(pytree_node=False)
    """As `make_optimizer` makes it."""
    loss_fn: LossFunction = flax.struct.field(pytree_node=False)
    """`loss_fn(outputs, batch) -> (loss, {"accuracy": …})`."""
    labels: tuple[str, ...] = flax.struct.field(pytree_node=False)
    """Group of each leaf of `params`, in the order of `jax.tree.leaves`."""
    ema_decay: float = flax.struct.field(pytree_node=False, default=0.0)
    """Decay of the moving average; 0 = off."""
    accumulation_steps: int = flax.struct.field(pytree_node=False, default=1)
    """Steps to one update."""
    monitor_stability: bool = flax.struct.field(pytree_node=False, default=True)
    """Whether a step that is not finite is skipped."""

    @property
    def eval_variables(self) -> dict[str, Any]:
        """Returns the variables to evaluate: with the moving average of the parameters where there is one."""
        params = self.params if self.ema_params is None else self.ema_params
        return {"params": params, **self.collections}


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    batch: Batch,
    *,
    loss: str | LossFunction = "classify",
    label_smoothing: float = 0.0,
    ema_decay: float = 0.0,
    accumulation_steps: int = 1,
    monitor_stability: bool = True,
    labels: Mapping[str, str] | None = None,
) -> TrainState:
    """Initialises the parameters and makes the state that `train_step` takes.

    Args:
        model: a linen module, called as `model.apply(variables, inputs, deterministic=…, rngs=…)`,
            with `mask=` and `covariates=` too where the batch has them. Its collections besides "params" and
            "intermediates" are mutable in training and read in evaluation.
        optimizer: as `make_optimizer` makes it, or any optax transformation.
        key: typed PRNG key (`jax.random.key(seed)`).
        batch: a batch as in training; the parameters are initialised for its first row.
        loss: "classify", "regress", "per_token", "forecast", "contrastive", or a function (outputs, batch) ->
            (loss, dict). One that is to run in pmap or shard_map takes `axis` too and gives shares (`training.losses`),
            of metrics as well.
        label_smoothing: for the cross-entropies.
        ema_decay: decay of the moving average of the parameters; 0 keeps none.
        accumulation_steps: that of the optimizer, so that the average follows its updates.
        monitor_stability: skip a step whose loss or gradients are not finite.
        labels: groups of leaf names of one's own, as for `make_optimizer`.
    Returns:
        The state before the first step.
    Raises:
        ValueError: if the loss or a leaf's name is not known.
    """
    loss_fn = make_loss(loss, label_smoothing) if isinstance(loss, str) else loss
    params_key, rng = jax.random.split(key)
    collections = init_variables(model, params_key, batch)
    params = collections.pop("params")
    groups = tuple(jax.tree.leaves(label_parameters(params, labels)))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=jax.jit(optimizer.init)(params),
        ema_params=jax.tree.map(jnp.copy, params) if ema_decay > 0 else None,
        rng=rng,
        skipped=jnp.zeros((), jnp.int32),
        consecutive_skipped=jnp.zeros((), jnp.int32),
        collections=collections,
        apply_fn=model.apply,
        optimizer=optimizer,
        loss_fn=loss_fn,
        labels=groups,
        ema_decay=ema_decay,
        accumulation_steps=accumulation_steps,
        monitor_stability=monitor_stability,
    )


def init_variables(model: nn.Module, key: jax.Array, batch: Batch) -> dict[str, Any]:
    """Initialises a model's parameters and other collections, for the first row of a batch."""
    given = {name: batch[name] for name in ("inputs", *OPTIONAL_INPUTS) if name in batch}
    row = jax.tree.map(lambda leaf: leaf[:1], given)
    return dict(_init_variables(model, key, row))


def _optional(batch: Batch) -> dict[str, Any]:
    return {name: batch[name] for name in OPTIONAL_INPUTS if name in batch}


@partial(jax.jit, static_argnames="model")
def _init_variables(model: nn.Module, key: jax.Array, row: dict[str, Any]) -> Any:
    params_key, dropout_key = jax.random.split(key)
    keys = {"params": params_key, "dropout": dropout_key}
    variables = model.init(keys, row["inputs"], deterministic=True, **_optional(row))
    return {name: tree for name, tree in variables.items() if name != "intermediates"}


def take_step(
    state: TrainState, batch: Batch, *, axis: str | None = None
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step of gradient descent: pure, to be compiled. `train_step` is it under jit.

    The key of dropout is fold_in(state.rng, state.step), so a step depends on nothing but its
    arguments. A step whose loss or gradients are not finite leaves parameters, optimizer and
    moving average and collections as they were and is counted, if the state's `monitor_stability` says so.

    Args:
        state: from `init_state` or the step before.
        batch: dict with "inputs" [b, t, c], [b, h, w, c], ids [b, t] or a dict of arrays [b, …], "labels" [b], and
            optionally "mask" [b, t] (True = observed), "covariates" [b, t + h, m] and "weight" [b].
        axis: inside pmap or shard_map, the name of the axis over which the rows of a batch are split; the state is the
            same on all, but its collections, which belong to rows. Each device gives its share of loss and gradient,
            and their sums are those of the whole batch; a loss of one's own then takes `axis` too
            (`training.losses`). Every device draws dropout of its own. None outside, and where a global batch is
            sharded under jit.
    Returns:
        The state after the step, and the metrics, scalars: "loss", what the loss adds ("accuracy"),
        "grad_norm" (of the whole gradient, before clipping), "grad_norm_magnitude",
        "grad_norm_phase", "grad_norm_other", "skipped" and "consecutive_skipped".
    """
    key, params = jax.random.fold_in(state.rng, state.step), state.params
    options = {}
    if axis is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))
        # Else shard_map would sum the gradients a first time, pmap not.
        params = jax.lax.pcast(params, axis, to="varying")
        options = {"axis": axis}

    def loss_of(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        outputs, collections = state.apply_fn(
            {"params": params, **state.collections},
            batch["inputs"],
            deterministic=False,
            rngs={"dropout": key},
            mutable=list(state.collections),
            **_optional(batch),
        )
        loss, metrics = state.loss_fn(outputs, batch, **options)
        return loss, (metrics, dict(collections))

    (loss, (metrics, collections)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
    if axis is not None:
        loss, metrics, gradients = jax.lax.psum((loss, metrics, gradients), axis)
    norms = gradient_norms(gradients, state.labels)
    after = _update(state, gradients).replace(collections=collections)
    if state.monitor_stability:
        after = _unless_finite(state, after, all_finite(loss, norms))
    after = after.replace(step=state.step + 1)
    counts = {"skipped": after.skipped, "consecutive_skipped": after.consecutive_skipped}
    return after, {"loss": loss, **metrics, **norms, **counts}


@partial(jax.jit, donate_argnums=0)
def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step, compiled, and uses up the given state (donated): see `take_step`."""
    return take_step(state, batch)


def _update(state: TrainState, gradients: Any) -> TrainState:
    """Applies the gradients to parameters, optimizer and moving average."""
    updates, opt_state = state.optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema_params = state.ema_params
    if ema_params is not None:
        good = state.step - state.skipped + 1
        count = good // state.accumulation_steps
        decay = jnp.minimum(state.ema_decay, (1.0 + count) / (10.0 + count))
        decay = jnp.where(good % state.accumulation_steps == 0, decay, 1.0)
        ema_params = jax.tree.map(lambda e, p: _lerp(e, p, decay), ema_params, params)
    return state.replace(params=params, opt_state=opt_state, ema_params=ema_params)


def _lerp(average: jax.Array, value: jax.Array, decay: jax.Array) -> jax.Array:
    return (decay * average + (1.0 - decay) * value).astype(average.dtype)


def _unless_finite(before: TrainState, after: TrainState, finite: jax.Array) -> TrainState:
    """Returns `after` if the step was finite, otherwise `before` with the step counted as skipped."""
    bad = 1 - finite.astype(jnp.int32)
    kept = jax.tree.map(partial(jnp.where, finite), after, before.replace(rng=after.rng))
    return kept.replace(
        skipped=before.skipped + bad, consecutive_skipped=(before.consecutive_skipped + bad) * bad
    )


@partial(jax.jit, static_argnames=("apply_fn", "loss_fn"))
def eval_step(
    variables: Any, batch: Batch, *, apply_fn: Callable[..., Any], loss_fn: LossFunction
) -> dict[str, jax.Array]:
    """Evaluates one batch without dropout: "loss", "accuracy", … and the raw "outputs".

    `variables` are the model's, as `TrainState.eval_variables` has them.
    Rows of weight 0 count for nothing; the caller weighs batches by their sum of weights.
    """
    outputs = apply_fn(variables, batch["inputs"], deterministic=True, **_optional(batch))
    loss, metrics = loss_fn(outputs, batch)
    return {"loss": loss, **metrics, "outputs": outputs}
