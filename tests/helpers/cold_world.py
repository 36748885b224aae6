"""A small world of cold users, and a client that learns in memory.

The client is no stand-in for the gateway's numbers; it answers with scores
that depend on all it was told, so that a test can see what it knew, and it
writes down every call in order.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np

from components.cold_users import ColdUser, RawValue
from pipeline.cold_stream import ColdStream
from serving.client import FeedbackEvent


def make_user(
    user_id: str,
    num_events: int,
    start: int,
    *,
    step: int = 60,
    negatives: int = 0,
    seed: int = 0,
) -> ColdUser:
    """One user whose events are `step` seconds apart.

    Args:
        user_id: Its id.
        num_events: How many events.
        start: Time of the first one.
        step: Seconds between two events.
        negatives: Sampled negatives per event; 0 makes explicit labels.
        seed: Of items and labels; users of different seeds share no item.

    Returns:
        The user.
    """
    rng = np.random.default_rng(seed)
    per_event = 1 + negatives
    positions = np.repeat(np.arange(num_events), per_event)
    if negatives:
        labels = (np.arange(len(positions)) % per_event == 0).astype("f4")
    else:
        labels = rng.integers(0, 2, num_events).astype("f4")
    items = 10_000 * seed + rng.choice(10_000, len(positions), replace=False)
    return ColdUser(
        user_id=user_id,
        features={"age": 30.0, "tags": ("chess", "go")},
        item_ids=np.array([str(item) for item in items], object),
        labels=labels,
        positions=positions,
        timestamps=start + step * positions,
    )


def make_stream(num_users: int = 6, num_events: int = 40) -> ColdStream:
    """Users whose streams overlap in time, of different lengths."""
    users = [
        make_user(f"u{index}", num_events + 9 * index, 1000 * index, seed=index)
        for index in range(num_users)
    ]
    return ColdStream(tuple(users))


@dataclasses.dataclass(frozen=True)
class Call:
    """One call that the client saw."""

    kind: str
    user_id: str
    model: str | None
    item_ids: tuple[str, ...]
    labels: tuple[float, ...] = ()
    event_ids: tuple[str, ...] = ()


class RecorderClient:
    """Ranks by the mean label of what the user submitted and an item hash."""

    def __init__(self, degraded: bool = False) -> None:
        self.calls: list[Call] = []
        self.degraded = degraded
        self._seen: dict[str, dict[str, float]] = {}

    def rank(
        self,
        user_id: str,
        item_ids: Sequence[str],
        features: Mapping[str, RawValue] | None = None,
        model: str | None = None,
    ) -> SimpleNamespace:
        self.calls.append(Call("rank", user_id, model, tuple(item_ids)))
        seen = self._seen.get(user_id, {})
        spread = 1.0 + len(seen) / 10.0
        scores = [
            spread * np.sin(int(item)) + sum(seen.values()) for item in item_ids
        ]
        return SimpleNamespace(
            scores=scores,
            provenance=SimpleNamespace(
                degraded=self.degraded, model=model or "adaptower", version=3
            ),
        )

    def submit_feedback(
        self,
        user_id: str,
        events: Sequence[FeedbackEvent],
        features: Mapping[str, RawValue] | None = None,
        model: str | None = None,
    ) -> SimpleNamespace:
        self.calls.append(
            Call(
                "feedback",
                user_id,
                model,
                tuple(event.item_id for event in events),
                tuple(event.label for event in events),
                tuple(event.event_id for event in events),
            )
        )
        seen = self._seen.setdefault(user_id, {})
        seen.update({event.event_id: event.label for event in events})
        return SimpleNamespace(accepted=len(events), duplicates=0)
