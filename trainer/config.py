"""The trainer's hyper-parameters, in one frozen dataclass."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from typing import Any

from trainer.errors import TrainerConfigError

OFFLINE = "offline"
JOINT = "joint"
REGIMES = (OFFLINE, JOINT)

USER_BIAS = "user_bias"
USER_OFFSET = "user_offset"
PARTITION_PRESETS = (USER_BIAS, USER_OFFSET)

_AT_LEAST_ONE = (
    "vector_size",
    "hidden_size",
    "feature_size",
    "meta_batch_size",
    "query_rows",
    "max_steps",
    "steps_per_evaluation",
    "max_validation_users",
)


@dataclasses.dataclass(frozen=True)
class TrainerConfig:
    """Hyper-parameters of model, inner loop and outer loop.

    Attributes:
        partition: Which layers adapt: `user_bias` (one number per user) or
            `user_offset` (the bias and an offset of the user vector).
        vector_size: Length of user and item vectors.
        hidden_size: Units of each tower's hidden layer.
        feature_size: Length of each feature's embedding.
        dropout: Share of hidden units dropped in training.
        item_id_dropout: Share of items that training shows without their id,
            so that the towers learn what to say of a new item.
        item_l2: Weight of the squared norm of item-id embeddings.
        num_inner_steps: Steps of the inner loop.
        first_order: Whether the outer loop ignores second derivatives.
        meta_batch_size: Tasks per outer step.
        outer_lr: Step size of the outer loop (Adam).
        ema_momentum: Momentum of the moving average of the parameters, which
            is what is evaluated and exported.
        zero_shot_weight: Weight of the query loss at the meta-initialization,
            beside the query loss after the inner loop.
        first_support_share: Share of tasks whose support set has exactly the
            size of the protocol's first one; the others have any size.
        max_support_events: Largest size of a support set in training. Large
            ones teach the item tower more, small ones the inner loop.
        user_weight_power: A user is drawn proportional to events ** power.
        support_rows: Rows of a support set that the inner loop sees at most,
            the most recent ones; weighted to count for all of them.
        query_rows: Rows after the cut that the outer loop judges on.
        max_steps: Outer steps at most.
        steps_per_evaluation: Outer steps between two looks at meta_valid.
        patience: Evaluations without a better one before training stops.
        max_validation_users: meta_valid users looked at.
        seed: Seed of initial values, sampling and dropout.
    """

    partition: str = USER_OFFSET
    vector_size: int = 16
    hidden_size: int = 64
    feature_size: int = 8
    dropout: float = 0.2
    item_id_dropout: float = 0.1
    item_l2: float = 1e-4
    num_inner_steps: int = 5
    first_order: bool = False
    meta_batch_size: int = 256
    outer_lr: float = 2e-3
    ema_momentum: float = 0.99
    zero_shot_weight: float = 0.5
    first_support_share: float = 0.3
    max_support_events: int = 80
    user_weight_power: float = 0.5
    support_rows: int = 96
    query_rows: int = 60
    max_steps: int = 2500
    steps_per_evaluation: int = 50
    patience: int = 5
    max_validation_users: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type in (int, float) and not 0 <= value < math.inf:
                raise TrainerConfigError(
                    f"Hyper-parameter {field.name} is {value}; it can't be "
                    "negative or infinite."
                )
        if self.partition not in PARTITION_PRESETS:
            raise TrainerConfigError(
                f"There is no partition preset {self.partition!r}; use one of "
                f"{', '.join(PARTITION_PRESETS)}."
            )
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise TrainerConfigError(f"{name} must be 1 or more.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainerConfig":
        """Overrides defaults by name.

        Args:
            values: Hyper-parameters by name; numbers may be text.

        Raises:
            TrainerConfigError: A name is unknown or a value of another type.
        """
        types = {field.name: field.type for field in dataclasses.fields(cls)}
        parsed = {}
        for name, value in values.items():
            if name not in types:
                close = difflib.get_close_matches(name, types, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise TrainerConfigError(
                    f"There is no hyper-parameter {name!r}.{hint}"
                )
            parsed[name] = _parse(name, types[name], value)
        return cls(**parsed)


def _parse(name: str, kind: Any, value: Any) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        parsed = kind(value)
        # int() would cut 2.5 down to 2.
        if kind is not int or parsed == float(value):
            return parsed
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    raise TrainerConfigError(
        f"Hyper-parameter {name} is {value!r}; expected {kind.__name__}."
    )
