"""The trainer's hyper-parameters, in one frozen dataclass."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from typing import Any

from serving.contract.regimes import JOINT, OFFLINE
from trainer.errors import TrainerConfigError

# What a model is trained for.
REGIMES = (OFFLINE, JOINT)

USER_BIAS = "user_bias"
USER_OFFSET = "user_offset"
USER_SCALE = "user_scale"
INTERACTION_HEAD = "interaction_head"
LOW_RANK = "low_rank"
USER_OUTPUT = "user_output"
USER_TOWER = "user_tower"
LEARNED = "learned"
# What they are made of says `trainer.user_head`.
PARTITION_PRESETS = (
    USER_BIAS,
    LOW_RANK,
    INTERACTION_HEAD,
    USER_OFFSET,
    USER_SCALE,
    USER_OUTPUT,
    USER_TOWER,
    LEARNED,
)

GRADIENT = "gradient"
NEWTON = "newton"
SOLVERS = (GRADIENT, NEWTON)

_AT_LEAST_ONE = (
    "vector_size",
    "hidden_size",
    "feature_size",
    "adapter_rank",
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
        partition: Which parameters adapt: `user_bias` (one number per user),
            `low_rank` (bias and coefficients of a low-rank adapter on the
            user tower's output layer), `interaction_head` (a linear layer on
            user vector * item vector), `user_offset` (bias and offset of the
            user vector), `user_scale` (these and a scale), `user_output`
            (the user tower's output layer), `user_tower` (all of it) or
            `learned` (the entries of scale, adapter and output layer that
            are worth their bytes).
        adapter_rank: Rank of the low-rank adapter.
        partition_penalty: `learned`: weight in the outer loss of the sum of
            the gates on step sizes; the larger, the fewer entries adapt.
        max_bytes_per_user: Budget of adaptive weights; 0 is no limit.
        vector_size: Length of user and item vectors.
        hidden_size: Units of each tower's hidden layer.
        feature_size: Length of each feature's embedding.
        dropout: Share of hidden units dropped in training.
        item_id_dropout: Share of items that training shows without their id,
            so that the towers learn what to say of a new item.
        item_l2: Weight of the squared norm of item-id embeddings; after a warm
            start, of their distance from it.
        warm_start_rounds: Rounds of expectation-maximization that item-id
            embeddings start from in meta-learning (`trainer.item_factors`); 0
            starts them at random. Plain training always does.
        solver: How the inner loop minimizes: `gradient` (steps of learned
            sizes) or `newton` (to the minimum, with a learned prior).
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
        liked_from: Where on the scale of ratings, 0 to 1, liking starts; the
            pipeline takes it from the dataset's spec.
        degree_weight: How far degrees of labels (five stars or four) count
            in the inner loop, for the user's vector; 0 looks at liked or not.
        predict_degree: Whether scores are trained to predict degrees of labels
            (ratings), instead of liked or not.
        user_weight_power: A user is drawn proportional to events ** power.
        support_rows: Rows of a support set that the inner loop sees at most,
            the most recent ones.
        query_rows: Rows after the cut that the outer loop judges on.
        max_steps: Outer steps at most.
        steps_per_evaluation: Outer steps between two looks at meta_valid; the
            last look is at max_steps, whatever is left for it.
        patience: Evaluations without a better one before training stops.
        max_validation_users: meta_valid users looked at.
        seed: Seed of initial values, sampling and dropout.
    """

    partition: str = USER_OFFSET
    adapter_rank: int = 8
    partition_penalty: float = 1e-4
    max_bytes_per_user: int = 0
    vector_size: int = 16
    hidden_size: int = 64
    feature_size: int = 8
    dropout: float = 0.2
    item_id_dropout: float = 0.1
    item_l2: float = 1e-4
    warm_start_rounds: int = 20
    solver: str = GRADIENT
    num_inner_steps: int = 5
    first_order: bool = False
    meta_batch_size: int = 256
    outer_lr: float = 2e-3
    ema_momentum: float = 0.99
    zero_shot_weight: float = 0.5
    first_support_share: float = 0.3
    max_support_events: int = 80
    liked_from: float = 0.5
    degree_weight: float = 0.5
    predict_degree: bool = False
    user_weight_power: float = 0.5
    support_rows: int = 96
    query_rows: int = 60
    max_steps: int = 2500
    steps_per_evaluation: int = 50
    patience: int = 8
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
        for name, kind, choices in (
            ("partition", "partition preset", PARTITION_PRESETS),
            ("solver", "solver", SOLVERS),
        ):
            if getattr(self, name) not in choices:
                raise TrainerConfigError(
                    f"There is no {kind} {getattr(self, name)!r}; use one of "
                    f"{', '.join(choices)}."
                )
        if self.solver == NEWTON:
            self._check_newton()
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise TrainerConfigError(f"{name} must be 1 or more.")

    def _check_newton(self) -> None:
        if self.partition == USER_TOWER:
            raise TrainerConfigError(
                f"Solver {NEWTON!r} needs scores that are affine in the "
                f"adaptive weights; those of partition {USER_TOWER!r} are not, "
                "as its hidden layer adapts. Use another partition or solver "
                f"{GRADIENT!r}."
            )
        if self.first_order:
            raise TrainerConfigError(
                f"Solver {NEWTON!r} is differentiated at the minimum, where "
                f"first_order means nothing. Use solver {GRADIENT!r} for it."
            )
        if self.num_inner_steps < 1:
            raise TrainerConfigError(
                f"Solver {NEWTON!r} needs num_inner_steps of 1 or more."
            )

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
