"""Settings of the online outer loop."""

import dataclasses

from serving.contract.errors import MetaStateError


@dataclasses.dataclass(frozen=True)
class OnlineMetaConfig:
    """When and how far the online stage moves the meta state.

    Attributes:
        enabled: Whether it moves at all; if not, new users start at the
            exported meta-initialization for ever.
        query_events: Events that make a query set.
        max_query_events: Those that come with the last of them belong to it,
            up to so many.
        min_support_events: Events that a user must have had before a query
            set begins.
        tasks_per_update: Tasks whose gradients make one step.
        outer_lr: Step size of the outer loop (Adam): about how far one step
            moves a value.
        beta1: Decay of Adam's mean of gradients.
        beta2: Decay of Adam's mean of squared gradients.
        max_shift: How far any value may get from the exported meta state.
        held_back_share: Share of users whose tasks only judge.
        held_back_tasks: Newest tasks of theirs that judge a step.
        min_held_back_tasks: Without so many there is no step.
        history: Versions kept to roll back to, beside the exported one.
        max_open_users: Users with an unfinished query set who are remembered;
            at 192 events each, packed, some 2 kB a user.
    """

    enabled: bool = True
    query_events: int = 10
    max_query_events: int = 100
    min_support_events: int = 1
    tasks_per_update: int = 64
    outer_lr: float = 3e-3
    beta1: float = 0.9
    beta2: float = 0.99
    max_shift: float = 0.5
    held_back_share: float = 0.1
    held_back_tasks: int = 128
    min_held_back_tasks: int = 32
    history: int = 20
    max_open_users: int = 2_000

    def __post_init__(self) -> None:
        for name in (
            "query_events",
            "tasks_per_update",
            "held_back_tasks",
            "min_held_back_tasks",
            "history",
            "max_open_users",
        ):
            if getattr(self, name) < 1:
                raise MetaStateError(f"{name} must be 1 or more.")
        for name in ("beta1", "beta2", "held_back_share"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise MetaStateError(f"{name} must be in [0, 1).")
        for name in ("outer_lr", "max_shift"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise MetaStateError(f"{name} must be above 0 and finite.")
        if self.query_events > self.max_query_events:
            raise MetaStateError(
                f"query_events ({self.query_events}) can't be more than "
                f"max_query_events ({self.max_query_events})."
            )
        if self.min_held_back_tasks > self.held_back_tasks:
            raise MetaStateError(
                f"min_held_back_tasks ({self.min_held_back_tasks}) can't be "
                f"more than held_back_tasks ({self.held_back_tasks})."
            )
