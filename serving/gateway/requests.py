"""Checks requests and returns what they tell as plain values.

Every check says what is wrong, where, and what would be right.
"""

import math
import time
from collections.abc import Mapping, Sequence

from serving.contract.features import CATEGORICAL, NUMERIC, Feature
from serving.errors import InvalidRequestError
from serving.gateway.config import Limits
from serving.gateway.templates import FeatureValue
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


def sent_features(
    values: Mapping[str, pb.FeatureValues],
    declared: Mapping[str, Feature],
    limits: Limits,
) -> dict[str, FeatureValue]:
    """Returns the features that a request tells of a user, checked.

    Args:
        values: Features as sent, by name; one without values is missing.
        declared: The model's user features by name.
        limits: The most that one request may hold.

    Returns:
        Their values by name; missing features are left out.

    Raises:
        InvalidRequestError: A feature is not known, or of another kind.
    """
    if len(values) > len(declared):
        raise InvalidRequestError(
            f"The request tells {len(values)} user features; the model has "
            f"{len(declared)}: {', '.join(sorted(declared)) or 'none'}."
        )
    sent = {}
    for name, value in values.items():
        feature = declared.get(name)
        if feature is None:
            raise InvalidRequestError(
                f"The model has no user feature {name[:64]!r}; it has: "
                f"{', '.join(sorted(declared)) or 'none'}."
            )
        known = _feature_value(feature, value, limits)
        if known is not None:
            sent[name] = known
    return sent


def _feature_value(
    feature: Feature, value: pb.FeatureValues, limits: Limits
) -> FeatureValue | None:
    """Returns what is known of a feature; None if nothing is."""
    kind = value.WhichOneof("kind")
    if kind is None:
        return None
    expected = "numbers" if feature.kind == NUMERIC else "strings"
    if kind != expected:
        raise InvalidRequestError(
            f"The user feature {feature.name!r} is {feature.kind}: send it "
            f"as {expected}, not as {kind}."
        )
    if feature.kind == NUMERIC:
        return _number(feature.name, value.numbers.values)
    texts = value.strings.values
    if not texts:
        return None
    if len(texts) > limits.feature_values:
        raise InvalidRequestError(
            f"The user feature {feature.name!r} has {len(texts)} values; at "
            f"most {limits.feature_values} are allowed."
        )
    for text in texts:
        size = len(text.encode())
        if size > limits.feature_bytes:
            raise InvalidRequestError(
                f"The user feature {feature.name!r} has a value of {size} "
                f"bytes; at most {limits.feature_bytes} are allowed."
            )
    if feature.kind == CATEGORICAL:
        _check_single(feature.name, len(texts))
        return texts[0]
    return list(texts)


def _number(name: str, numbers: Sequence[float]) -> float | None:
    _check_single(name, len(numbers))
    number = numbers[0] if numbers else math.nan
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise InvalidRequestError(
            f"The user feature {name!r} is {number}; send a finite number, "
            "or leave it out if it is missing."
        )
    return number


def _check_single(name: str, size: int) -> None:
    if size > 1:
        raise InvalidRequestError(
            f"The user feature {name!r} takes one value, got {size}."
        )
