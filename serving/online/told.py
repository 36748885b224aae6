"""What a user told with events: kept with them, for whoever learns later.

The log and the store hold it as bytes and do not look inside.
"""

from collections.abc import Iterable, Mapping

from serving.contract.features import Feature
from serving.errors import InvalidRequestError
from serving.event_log import LoggedEvent, Submission
from serving.limits import Limits
from serving.models.features import sent_features
from serving.models.templates import FeatureValue
from serving.protos import recommender_pb2 as pb
from serving.store import UserKey

# What was taken in is not measured again.
_NO_LIMITS = Limits(feature_values=1 << 30, feature_bytes=1 << 30)


def encode_told(
    features: Mapping[str, pb.FeatureValues], named_model: bool = False
) -> bytes:
    """Encodes what a SubmitFeedback told of its user.

    Args:
        features: As sent.
        named_model: Whether the request named its model.
    """
    return pb.Told(
        features=features, named_model=named_model
    ).SerializeToString(deterministic=True)


def submission_of(
    model: str, user_id: str, events: Iterable[pb.FeedbackEvent], told: bytes
) -> Submission:
    """Returns what goes into the log.

    Args:
        model: Name of the model that learns.
        user_id: The user.
        events: Checked events, oldest first.
        told: What `encode_told` made.
    """
    return Submission(
        UserKey(model, user_id),
        tuple(
            [
                LoggedEvent(e.event_id, e.item_id, e.label, e.timestamp)
                for e in events
            ]
        ),
        told,
    )


def decode_told(data: bytes) -> pb.Told:
    """Decodes what `encode_told` made."""
    return pb.Told.FromString(data)


def known_features(
    told: pb.Told, declared: Mapping[str, Feature]
) -> dict[str, FeatureValue]:
    """Returns the features that a version of the model can use.

    They were checked against the version that served when they came: what
    the one that learns does not have, or has as another kind, counts as
    missing.

    Args:
        told: What the user told.
        declared: The version's user features by name.
    """
    try:
        return sent_features(told.features, declared, _NO_LIMITS)
    except InvalidRequestError:
        known: dict[str, FeatureValue] = {}
        for name, value in told.features.items():
            try:
                known |= sent_features({name: value}, declared, _NO_LIMITS)
            except InvalidRequestError:
                continue
        return known
