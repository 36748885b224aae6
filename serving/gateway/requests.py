"""Checks what requests hold, beside a user's features.

Every check says what is wrong, where, and what would be right.
"""

import time
from collections.abc import Sequence

from serving.errors import InvalidRequestError
from serving.limits import Limits
from serving.protos import recommender_pb2 as pb

# A character has at most so many bytes.
_UTF8_BYTES = 4
# Seconds since 1970 that lie beyond this are milliseconds by mistake.
_LAST_TIMESTAMP = 10**11

# Times the posterior's standard deviation; beyond, the draw is mere noise.
MAX_EXPLORATION = 10.0


def check_id(kind: str, value: str, limits: Limits) -> None:
    """Checks a user, item or event id."""
    if not value:
        raise InvalidRequestError(f"A {kind} is empty; each needs one.")
    size = len(value.encode())
    if size > limits.id_bytes:
        raise InvalidRequestError(
            f"The {kind} {value[:20]!r}... has {size} bytes; at most "
            f"{limits.id_bytes} are allowed."
        )


def _check_ids(kind: str, values: Sequence[str], limits: Limits) -> None:
    """Checks many ids, one by one only if their lengths leave doubts."""
    lengths = set(map(len, values))
    if 0 in lengths or max(lengths, default=0) * _UTF8_BYTES > limits.id_bytes:
        for value in values:
            check_id(kind, value, limits)


def check_candidates(item_ids: Sequence[str], limits: Limits) -> list[str]:
    """Returns the candidates of a Rank, checked.

    Counted before they become Python's own: a million of them would cost a
    second and a hundred megabytes.
    """
    if not item_ids:
        raise InvalidRequestError(
            "item_ids is empty; send the candidates to score, at least one."
        )
    if len(item_ids) > limits.candidates:
        raise InvalidRequestError(
            f"{len(item_ids)} candidates are more than the "
            f"{limits.candidates} allowed in one Rank; send them in parts."
        )
    candidates = list(item_ids)
    _check_ids("item_id", candidates, limits)
    return candidates


def check_num_results(k: int, limits: Limits) -> None:
    """Checks how many items a Recommend asks for."""
    if not 1 <= k <= limits.candidates:
        raise InvalidRequestError(
            f"k is {k}; ask for at least 1 item and at most "
            f"{limits.candidates}."
        )


def check_excluded(item_ids: Sequence[str], limits: Limits) -> None:
    """Checks the items that a Recommend leaves out."""
    if len(item_ids) > limits.candidates:
        raise InvalidRequestError(
            f"{len(item_ids)} excluded items are more than the "
            f"{limits.candidates} allowed."
        )
    _check_ids("exclude_item_ids entry", item_ids, limits)


def check_exploration(scale: float) -> None:
    """Checks how much a Recommend explores."""
    # Written so that NaN is refused as well.
    if not 0.0 <= scale <= MAX_EXPLORATION:
        raise InvalidRequestError(
            f"exploration is {scale}; it must be a number from 0 (none) to "
            f"{MAX_EXPLORATION:g}, 1 being the posterior's own spread."
        )


def check_events(events: Sequence[pb.FeedbackEvent], limits: Limits) -> None:
    """Checks the events of a SubmitFeedback."""
    if not events:
        raise InvalidRequestError(
            "events is empty; send what the user did, at least one event."
        )
    if len(events) > limits.events:
        raise InvalidRequestError(
            f"{len(events)} events are more than the {limits.events} allowed "
            "in one SubmitFeedback; send them in parts."
        )
    now = time.time()
    for event in events:
        check_id("event_id", event.event_id, limits)
        check_id("item_id", event.item_id, limits)
        if not 0.0 <= event.label <= 1.0:
            raise InvalidRequestError(
                f"Event {event.event_id!r} has the label {event.label}; it "
                "must be a number from 0 (disliked) to 1 (liked)."
            )
        _check_timestamp(event, now, limits)


def _check_timestamp(
    event: pb.FeedbackEvent, now: float, limits: Limits
) -> None:
    where = f"Event {event.event_id!r} has the timestamp {event.timestamp}; "
    if not 0 <= event.timestamp < _LAST_TIMESTAMP:
        raise InvalidRequestError(
            f"{where}it must be in seconds (not milliseconds) since 1970."
        )
    ahead = event.timestamp - now
    if ahead > limits.clock_skew_seconds:
        raise InvalidRequestError(
            f"{where}that is {ahead:.0f} s in the future, more than the "
            f"{limits.clock_skew_seconds:g} s by which clocks may differ. "
            "Look at the sender's clock, and that timestamps are in UTC."
        )
