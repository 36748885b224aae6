"""A user's features, as a request tells them, checked against a model's.

Every check says what is wrong, where, and what would be right.
"""

import math
from collections.abc import Collection, Mapping, Sequence

from serving.contract.features import CATEGORICAL, NUMERIC, Feature
from serving.errors import InvalidRequestError
from serving.limits import Limits
from serving.models.templates import FeatureValue
from serving.protos import recommender_pb2 as pb


def sent_features(
    values: Mapping[str, pb.FeatureValues],
    declared: Mapping[str, Feature],
    limits: Limits,
    elsewhere: Collection[str] = (),
) -> dict[str, FeatureValue]:
    """Returns the features that a request tells of a user, checked.

    Args:
        values: Features as sent, by name; one without values is missing.
        declared: The model's user features by name.
        limits: The most that one request may hold.
        elsewhere: Names of features that count as missing if this model does
            not have them.

    Returns:
        Their values by name; missing features are left out.

    Raises:
        InvalidRequestError: A feature is not known, or of another kind.
    """
    if elsewhere:
        values = {
            name: value
            for name, value in values.items()
            if name in declared or name not in elsewhere
        }
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
