"""What the optimizer of an experiment's own training loop is made from."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class OptimizerBudget:
    """The fields that `make_optimizer` reads; an experiment's budget adds its own to them."""

    learning_rate: float = 1e-3
    learning_rate_magnitude: float = 1e-3
    learning_rate_phase: float = 1e-3
    warmup_fraction: float = 0.05
    schedule: str = "cosine"
    weight_decay: float = 0.0
    gradient_clip: float | None = 1.0
    gradient_clip_magnitude: float | None = None
    gradient_clip_phase: float | None = None
    accumulation_steps: int = 1
