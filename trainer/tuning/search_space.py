"""Which hyper-parameters are searched, and over which values."""

from collections.abc import Collection

import keras_tuner

from trainer.config import PARTITION_PRESETS, TrainerConfig

# Of each choice; the value that the search starts from is always among them.
_CHOICES = {
    "partition": PARTITION_PRESETS,
    "vector_size": (8, 16, 32),
    "hidden_size": (32, 64, 128),
    "max_support_events": (20, 80, 1000),
    "ema_momentum": (0.98, 0.99, 0.995),
}
# Lowest and highest value, and whether steps are ratios.
_RANGES = {
    "item_l2": (1e-5, 1e-3, True),
    "outer_lr": (5e-4, 8e-3, True),
    "dropout": (0.0, 0.5, False),
    "first_support_share": (0.0, 0.6, False),
    "zero_shot_weight": (0.1, 1.0, False),
}
_MAX_INNER_STEPS = 8


def search_space(
    base: TrainerConfig, pinned: Collection[str] = ()
) -> keras_tuner.HyperParameters:
    """Declares the space; Hyperband wants all of it beforehand.

    Args:
        base: Where the search starts.
        pinned: Names that are not searched.

    Returns:
        Hyper-parameters by the names of `TrainerConfig`, with the values of
        `base` as defaults.
    """
    space = keras_tuner.HyperParameters()
    for name, values in _CHOICES.items():
        if name not in pinned:
            start = getattr(base, name)
            # One type per choice, and in order where there is one.
            choices = [*values, *({start} - set(values))]
            if not isinstance(start, str):
                choices.sort()
            space.Choice(name, choices, default=start)
    for name, (low, high, ratios) in _RANGES.items():
        if name not in pinned:
            start = getattr(base, name)
            space.Float(
                name,
                min(low, start),
                max(high, start),
                sampling="log" if ratios else "linear",
                default=start,
            )
    if "num_inner_steps" not in pinned:
        steps = base.num_inner_steps
        space.Int(
            "num_inner_steps",
            min(1, steps),
            max(_MAX_INNER_STEPS, steps),
            default=steps,
        )
    return space


def searched_values(values: dict[str, object]) -> dict[str, object]:
    """What was searched of a trial's values, without the oracle's own."""
    return {n: v for n, v in values.items() if not n.startswith("tuner/")}
