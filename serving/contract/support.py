"""What a user's adaptive weights are learned from, event by event.

A user's record keeps, beside the weights, a small reservoir of the user's own
events and the count of all events seen. When new events come, the inner loop
learns from reservoir and new events together, each counting once. This is the
guard against forgetting, and it costs a fixed number of bytes per user.

Evaluator and gateway both call `merge_support`, so that what is measured
offline is what runs.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

# Events kept per user: the most recent ones.
RESERVOIR_EVENTS = 192


class SupportEvent(NamedTuple):
    """One event of a user that weights can be learned from.

    Attributes:
        item_id: The item.
        label: From 0 (disliked) to 1 (liked).
    """

    item_id: str
    label: float


@dataclasses.dataclass(frozen=True)
class Support:
    """What goes into one call of `adapt`, and what is kept after it.

    Attributes:
        events: Support set: the reservoir's events, then the new ones.
        reservoir: The events to keep, at most `capacity`, oldest first.
        count: How many events were seen, the new ones included.
    """

    events: tuple[SupportEvent, ...]
    reservoir: tuple[SupportEvent, ...]
    count: int


def merge_support(
    reservoir: Sequence[SupportEvent],
    new_events: Sequence[SupportEvent],
    count: int,
    capacity: int = RESERVOIR_EVENTS,
) -> Support:
    """Puts a user's kept events and new events together.

    Args:
        reservoir: The events kept so far, oldest first.
        new_events: Events not learned from yet, oldest first.
        count: How many events were seen before the new ones; at least
            `len(reservoir)`.
        capacity: How many events to keep: the most recent ones.

    Returns:
        The support set, and the new reservoir and count.
    """
    events = (*reservoir, *new_events)
    return Support(
        events=events,
        reservoir=events[-capacity:] if capacity else (),
        count=count + len(new_events),
    )
