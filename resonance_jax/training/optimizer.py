"""The optimizer: magnitudes, phases and all other parameters each by their own rate and clipping."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax

from resonance_jax.models.sequence_model import STACKED

GROUPS = ("magnitude", "phase", "other")

# Which group a parameter belongs to, by the last element of its path. There is no catch-all: a
# magnitude trained by the wrong rate is a mistake that nothing else would show.
LABELS: Mapping[str, str] = {
    "log_magnitude": "magnitude",
    "phase": "phase",
    # The parts of w = exp(a + ib) ≈ 1 + a + ib: near the identity these are log-magnitude and phase.
    "real": "magnitude",
    "imag": "phase",
    # A resonator's pole: how fast it decays.
    "log_decay": "magnitude",
    # Angles: a rotation's quaternion moves on a sphere, and α scales the phase of a filter.
    "left_rotation": "phase",
    "right_rotation": "phase",
    "alpha": "phase",
    "kernel": "other",
    "bias": "other",
    "scale": "other",
    "embedding": "other",
    "codes": "other",
    "groups": "other",
    "code_bias": "other",
    "interference": "other",
    "interpolation": "other",
    "row_interference": "other",
    "column_interference": "other",
    "frequency_logit": "other",
    "gate_logit": "other",
    "rotation_matrix": "other",
    "position": "other",
    "token": "other",
    "skip": "other",
    "log_temperature": "other",
}


@runtime_checkable
class OptimizerConfig(Protocol):
    """The fields that `make_optimizer` reads; `TrainConfig` has them all."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def learning_rate_magnitude(self) -> float: ...
    @property
    def learning_rate_phase(self) -> float: ...
    @property
    def warmup_fraction(self) -> float: ...
    @property
    def schedule(self) -> str: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def gradient_clip(self) -> float | None: ...
    @property
    def gradient_clip_magnitude(self) -> float | None: ...
    @property
    def gradient_clip_phase(self) -> float | None: ...
    @property
    def accumulation_steps(self) -> int: ...


def label_parameters(params: Any, labels: Mapping[str, str] | None = None) -> Any:
    """Labels every leaf "magnitude", "phase" or "other" by the last element of its path.

    Args:
        params: tree of parameters, as `init` returns it.
        labels: groups of further leaf names, {leaf name: group}; these go before the known ones.
    Returns:
        A tree of the same structure with the labels as leaves.
    Raises:
        ValueError: if a leaf's name is not known, or a group of `labels` is none of `GROUPS`.
    """
    known = {**LABELS, **(labels or {})}
    wrong = {name: group for name, group in known.items() if group not in GROUPS}
    if wrong:
        raise ValueError(f"labels must map leaf names to one of {GROUPS}, got {wrong}")

    def label(path: Any, _: Any) -> str:
        names = [str(getattr(part, "key", getattr(part, "name", part))) for part in path]
        last = names[-1] if names else ""
        if last in known:
            return known[last]
        raise ValueError(
            f"no optimizer group for parameter '{'/'.join(names)}': the last element of its path "
            f"must be one of {', '.join(known)}; or name its group with labels={{'{last}': 'other'}}"
        )

    return jax.tree_util.tree_map_with_path(label, params)


def make_schedule(
    peak: float, num_updates: int, *, warmup_fraction: float = 0.1, schedule: str = "cosine"
) -> Callable[[Any], jax.Array]:
    """Makes a learning rate that rises linearly from 0, then falls along a cosine or stays.

    With w = round(warmup_fraction · num_updates), update u = 0, 1, … has the rate
        peak · (u + 1) / (w + 1)                                      for u < w,
        peak · ½ (1 + cos(π (u − w) / (num_updates − w)))             after it ("cosine"),
    so that no update has rate 0 and the cosine would reach 0 right after the last one.

    Args:
        peak: highest rate.
        num_updates: updates of the whole run, ≥ 1.
        warmup_fraction: part of the updates that the rise takes, in [0, 1).
        schedule: "cosine" or "constant".
    Returns:
        A function from the index of the update to the rate.
    """
    if schedule not in ("cosine", "constant"):
        raise ValueError(f"schedule must be 'cosine' or 'constant', got {schedule!r}")
    warmup = round(warmup_fraction * num_updates)

    def rate(count: Any) -> jax.Array:
        count = jnp.asarray(count, jnp.float32)
        progress = jnp.clip((count - warmup) / max(num_updates - warmup, 1), 0.0, 1.0)
        after = 0.5 * (1.0 + jnp.cos(jnp.pi * progress)) if schedule == "cosine" else 1.0
        return peak * jnp.where(count < warmup, (count + 1.0) / (warmup + 1.0), after)

    return rate


def make_optimizer(
    config: OptimizerConfig, num_steps: int, *, labels: Mapping[str, str] | None = None
) -> optax.GradientTransformation:
    """Makes the optimizer: Adam per group, with each group's own rate, schedule and clipping.

    Each group's gradient is clipped to its own global norm, then goes through Adam at the group's rate. Group "other"
    is AdamW, its decay on leaves of rank ≥ 2 only (an axis of stacked layers not counted); magnitudes and phases are
    never decayed. With `accumulation_steps` = a > 1, a steps' gradients are averaged into one update, and schedules
    count updates, not steps.

    Args:
        config: a `TrainConfig`, or any object with its optimizer fields.
        num_steps: steps of the whole run (not updates).
        labels: groups of leaf names that `LABELS` does not know, {leaf name: group}.
    Returns:
        An optax gradient transformation; `learning_rates` reads the rates from its state.
    Raises:
        ValueError: if num_steps < 1; and, at `init`, if a leaf's name is not known.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    num_updates = max(num_steps // config.accumulation_steps, 1)
    groups = {
        "magnitude": (config.learning_rate_magnitude, config.gradient_clip_magnitude),
        "phase": (config.learning_rate_phase, config.gradient_clip_phase),
        "other": (config.learning_rate, config.gradient_clip),
    }
    chains = {}
    for group, (peak, clip) in groups.items():
        rate = make_schedule(
            peak,
            num_updates,
            warmup_fraction=config.warmup_fraction,
            schedule=config.schedule,
        )
        clip = config.gradient_clip if clip is None else clip
        decay = config.weight_decay if group == "other" else 0.0
        chains[group] = _chain(rate, clip, decay)
    optimizer = optax.partition(chains, lambda params: label_parameters(params, labels))
    if config.accumulation_steps > 1:
        optimizer = optax.MultiSteps(optimizer, config.accumulation_steps).gradient_transformation()
    return optimizer


def make_paced_optimizer(
    *, weight_decay: float, gradient_clip: float | None, adam_b2: float
) -> optax.GradientTransformation:
    """Makes `make_optimizer`'s optimizer without a schedule: rates are 0 until `with_learning_rates` sets them.

    For a training whose progress is not a count of updates, such as one that ends after a certain time.

    Args:
        weight_decay: of group "other", on leaves of rank ≥ 2.
        gradient_clip: largest norm of each group's gradient; None does not clip.
        adam_b2: decay of Adam's mean of squares.
    """
    decays: dict[Hashable, float] = {"magnitude": 0.0, "phase": 0.0, "other": weight_decay}
    chains = {group: _chain(0.0, gradient_clip, decay, adam_b2) for group, decay in decays.items()}
    return optax.partition(chains, label_parameters)


def with_learning_rates(opt_state: Any, rates: Mapping[str, Any]) -> Any:
    """Returns the state of a `make_paced_optimizer` with other rates, {"magnitude": …, "phase": …, "other": …}."""
    states = {}
    for group, masked in opt_state.inner_states.items():
        clipping, adam = masked.inner_state
        rate = {"learning_rate": jnp.asarray(rates[group], jnp.float32)}
        adam = adam._replace(hyperparams=adam.hyperparams | rate)
        states[group] = masked._replace(inner_state=(clipping, adam))
    return opt_state._replace(inner_states=states)


def learning_rates(opt_state: Any) -> dict[str, jax.Array]:
    """Reads each group's rate, as the latest update used it, from the optimizer's state.

    Returns:
        {"magnitude": …, "phase": …, "other": …}, scalars; before any update, those of the first.
    """
    if isinstance(opt_state, optax.MultiStepsState):
        opt_state = opt_state.inner_opt_state
    return {
        group: state.inner_state[1].hyperparams["learning_rate"]
        for group, state in opt_state.inner_states.items()
    }


def _chain(
    rate: optax.Schedule | float, clip: float | None, decay: float, b2: float = 0.999
) -> optax.GradientTransformation:
    def adam(learning_rate: Any) -> optax.GradientTransformation:
        return optax.adamw(learning_rate, b2=b2, weight_decay=decay, mask=_is_decayed)

    clipping = optax.identity() if clip is None else optax.clip_by_global_norm(clip)
    return optax.chain(clipping, optax.inject_hyperparams(adam)(learning_rate=rate))


def _is_decayed(params: Any) -> Any:
    def decayed(path: Any, leaf: Any) -> bool:
        stacked = any(getattr(part, "key", None) == STACKED for part in path)
        return jnp.ndim(leaf) - stacked >= 2  # an axis of layers makes no matrix of a bias

    return jax.tree_util.tree_map_with_path(decayed, params)
