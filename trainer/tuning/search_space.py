"""Which hyper-parameters are searched, and over which values."""

from collections.abc import Collection, Mapping

import keras_tuner

from trainer.config import (
    GRADIENT,
    LEARNED,
    LOW_RANK,
    PARTITION_PRESETS,
    SOLVERS,
    TrainerConfig,
)

# Of each choice; the value that the search starts from is always among them.
_CHOICES: Mapping[str, tuple[str | int | float, ...]] = {
    "partition": PARTITION_PRESETS,
    "solver": SOLVERS,
    "vector_size": (8, 16, 32),
    "hidden_size": (32, 64, 128),
    "adapter_rank": (4, 8, 16),
    "num_inner_steps": (1, 2, 3, 5, 8),
    "max_support_events": (20, 80, 1000),
    "warm_start_rounds": (0, 20),
    "ema_momentum": (0.98, 0.99, 0.995),
}
# Lowest and highest value, and whether steps between them are ratios.
_RANGES = {
    "partition_penalty": (1e-5, 1e-2, "log"),
    "item_l2": (1e-5, 1e-3, "log"),
    "outer_lr": (5e-4, 8e-3, "log"),
    "dropout": (0.0, 0.5, "linear"),
    "first_support_share": (0.0, 0.6, "linear"),
    "zero_shot_weight": (0.1, 1.0, "linear"),
}
# What means nothing but for some values of another one.
_CONDITIONS = {
    "adapter_rank": ("partition", (LOW_RANK, LEARNED)),
    "partition_penalty": ("partition", (LEARNED,)),
    "num_inner_steps": ("solver", (GRADIENT,)),
}
BUDGET = "max_bytes_per_user"


def search_space(
    base: TrainerConfig, budget_bytes: int, pinned: Collection[str] = ()
) -> keras_tuner.HyperParameters:
    """Declares the space; Hyperband wants all of it beforehand.

    Args:
        base: Where the search starts.
        budget_bytes: Of adaptive weights per user; handed on to the Trainer
            together with what was found under it.
        pinned: Names that are not searched; they have the values of `base`.

    Returns:
        Hyper-parameters by the names of `TrainerConfig`, with the values of
        `base` as defaults.
    """
    space = keras_tuner.HyperParameters()
    space.Fixed(BUDGET, budget_bytes)
    for name in (*_CHOICES, *_RANGES):
        condition = _CONDITIONS.get(name)
        if name in pinned:
            continue
        if condition is None:
            _declare(space, name, base)
        elif condition[0] not in pinned:
            with space.conditional_scope(condition[0], list(condition[1])):
                _declare(space, name, base)
        elif getattr(base, condition[0]) in condition[1]:
            _declare(space, name, base)
    return space


def _declare(
    space: keras_tuner.HyperParameters, name: str, base: TrainerConfig
) -> None:
    start = getattr(base, name)
    if name in _RANGES:
        low, high, sampling = _RANGES[name]
        if not start:
            # No ratio leads to 0.
            sampling = "linear"
        space.Float(
            name,
            min(low, start),
            max(high, start),
            sampling=sampling,
            default=start,
        )
        return
    choices = [*_CHOICES[name], *({start} - set(_CHOICES[name]))]
    if not isinstance(start, str):
        choices.sort()
    space.Choice(name, choices, default=start)


def searched_values(values: Mapping[str, object]) -> dict[str, object]:
    """What was searched of a trial's values, without the oracle's own."""
    return {n: v for n, v in values.items() if not n.startswith("tuner/")}
