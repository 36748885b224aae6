"""Checks requests and turns them into inputs of the model's signatures.

Every check says what is wrong, where, and what would be right.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from serving.contract.features import CATEGORICAL, NUMERIC, Feature
from serving.errors import InvalidRequestError
from serving.gateway.config import Limits
from serving.protos import recommender_pb2 as pb
from serving.protos import tf_serving_pb2
from serving.tf_serving import encode_tensor, string_tensor

# Seconds since 1970 that lie beyond this are milliseconds by mistake.
_LAST_TIMESTAMP = 10**11


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


def check_candidates(item_ids: Sequence[str], limits: Limits) -> None:
    """Checks the candidates of a Rank."""
    if not item_ids:
        raise InvalidRequestError(
            "item_ids is empty; send the candidates to score, at least one."
        )
    if len(item_ids) > limits.candidates:
        raise InvalidRequestError(
            f"{len(item_ids)} candidates are more than the "
            f"{limits.candidates} allowed in one Rank; send them in parts."
        )
    for item_id in item_ids:
        check_id("item_id", item_id, limits)


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
    for event in events:
        check_id("event_id", event.event_id, limits)
        check_id("item_id", event.item_id, limits)
        if not 0.0 <= event.label <= 1.0:
            raise InvalidRequestError(
                f"Event {event.event_id!r} has the label {event.label}; it "
                "must be a number from 0 (disliked) to 1 (liked)."
            )
        if not 0 <= event.timestamp < _LAST_TIMESTAMP:
            raise InvalidRequestError(
                f"Event {event.event_id!r} has the timestamp "
                f"{event.timestamp}; it must be in seconds (not milliseconds) "
                "since 1970."
            )


def feature_inputs(
    values: Mapping[str, pb.FeatureValues],
    features: Iterable[Feature],
    limits: Limits,
) -> dict[str, tf_serving_pb2.TensorProto]:
    """Encodes a user's features; those left out become missing values.

    Args:
        values: Features as sent, by name.
        features: Features as the model's manifest declares them.
        limits: The most that one request may hold.

    Returns:
        Inputs of a signature for a batch of one user, by name.

    Raises:
        InvalidRequestError: A feature is not known, or of another kind.
    """
    declared = {feature.name: feature for feature in features}
    unknown = sorted(values.keys() - declared.keys())
    if unknown:
        raise InvalidRequestError(
            f"The model has no user feature {', '.join(map(repr, unknown))}; "
            f"it has: {', '.join(sorted(declared)) or 'none'}."
        )
    missing = pb.FeatureValues()
    return {
        name: _feature_input(feature, values.get(name, missing), limits)
        for name, feature in declared.items()
    }


def _feature_input(
    feature: Feature, value: pb.FeatureValues, limits: Limits
) -> tf_serving_pb2.TensorProto:
    kind = value.WhichOneof("kind")
    expected = "numbers" if feature.kind == NUMERIC else "strings"
    if kind not in (None, expected):
        raise InvalidRequestError(
            f"The user feature {feature.name!r} is {feature.kind}: send it "
            f"as {expected}, not as {kind}."
        )
    if feature.kind == NUMERIC:
        return _numeric_input(feature.name, value.numbers.values)
    texts = value.strings.values
    if len(texts) > limits.feature_values:
        raise InvalidRequestError(
            f"The user feature {feature.name!r} has {len(texts)} values; at "
            f"most {limits.feature_values} are allowed."
        )
    if feature.kind == CATEGORICAL:
        _check_single(feature.name, len(texts))
        return string_tensor(texts or [""], (1,))
    return string_tensor(texts or [""], (1, len(texts) or 1))


def _numeric_input(
    name: str, numbers: Sequence[float]
) -> tf_serving_pb2.TensorProto:
    _check_single(name, len(numbers))
    number = numbers[0] if numbers else math.nan
    if math.isinf(number):
        raise InvalidRequestError(
            f"The user feature {name!r} is {number}; send a finite number, "
            "or leave it out if it is missing."
        )
    return encode_tensor(np.array([number], np.float32))


def _check_single(name: str, size: int) -> None:
    if size > 1:
        raise InvalidRequestError(
            f"The user feature {name!r} takes one value, got {size}."
        )
