"""PredictRequests of one model version, ready but for what requests add.

An encoded message is its encoded fields, joined. So what requests share is
encoded once, and a request joins to it what it adds, which takes half the time
of building the message and encoding all of it for every Rank.

Several users' ranks go into one request as the rows of a batch; shorter rows
are padded with the empty item id.
"""

import functools
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from google.protobuf.wrappers_pb2 import Int64Value
from numpy.typing import NDArray

from serving.contract.features import CATEGORICAL_LIST, NUMERIC, Feature
from serving.contract.manifest import AdaptiveManifest
from serving.models import wire
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import encode_tensor, shape_proto

RANK = "rank"
EMBED = "embed"
RECOMMEND = "recommend"
ADAPTIVE_WEIGHTS = "adaptive_weights"
# Outputs of `rank` and `recommend`, and of `embed`.
SCORE = "score"
USER_VECTOR = "user_vector"
ITEM_VECTOR = "item_vector"
# Output of `rank`, `embed` and `adapt`: which items the model knows. Of `rank`
# and `adapt` only if they tell.
ITEM_KNOWN = "item_known"

# What a user's features are: a category, a list of them, or a number.
FeatureValue: TypeAlias = str | list[str] | float
Features: TypeAlias = Mapping[str, FeatureValue]

_INPUTS = pb.PredictRequest.DESCRIPTOR.fields_by_name["inputs"].number
_TENSOR = pb.TensorProto.DESCRIPTOR.fields_by_name
_CONTENT = _TENSOR["tensor_content"].number
_STRING_VAL = _TENSOR["string_val"].number
_FLOAT = struct.Struct("<f")
_MISSING_NUMBER = _FLOAT.pack(float("nan"))
_NO_TEXT = wire.field(_STRING_VAL, b"")


class RankRow(NamedTuple):
    """One user's rank, a row of a batch.

    Attributes:
        weights: The user's, float32, shape [P].
        features: Those that are known; the others count as missing.
        item_ids: Candidates.
    """

    weights: NDArray[np.float32]
    features: Features
    item_ids: Sequence[str]


class RequestTemplates:
    """Encodes requests to one version."""

    def __init__(
        self, name: str, version: int, manifest: AdaptiveManifest
    ) -> None:
        """Prepares what all requests share.

        Args:
            name: Name on the model server.
            version: Version to pin.
            manifest: Its features and adaptive part.
        """
        self._rank, self._embed, self._recommend = (
            pb.PredictRequest(
                model_spec=pb.ModelSpec(
                    name=name,
                    version=Int64Value(value=version),
                    signature_name=signature,
                )
            ).SerializeToString()
            for signature in (RANK, EMBED, RECOMMEND)
        )
        self._features = manifest.user_features
        self._num_adaptive = manifest.num_adaptive

    def rank(self, rows: Sequence[RankRow]) -> bytes:
        """Returns the request for the scores of some users' candidates.

        Args:
            rows: The batch; a row gets as many scores as the longest needs,
                the surplus at its end.
        """
        return self._of_rows(self._rank, rows)

    def embed(self, rows: Sequence[RankRow]) -> bytes:
        """Returns the request for some users' and candidates' vectors.

        Args:
            rows: As for `rank`.
        """
        return self._of_rows(self._embed, rows)

    def recommend(
        self,
        weights: NDArray[np.float32],
        features: Features,
        k: int,
        excluded: Sequence[str],
    ) -> bytes:
        """Returns the request for the best items of the catalogue.

        Args:
            weights: The user's, shape [P].
            features: Those that are known.
            k: How many items.
            excluded: Items to leave out.
        """
        count = encode_tensor(np.array(k, np.int32)).SerializeToString()
        return b"".join(
            (
                self._recommend,
                *self._users([RankRow(weights, features, ())]),
                wire.entry(_INPUTS, "k", count),
                encode_texts("exclude_item_id", [excluded]),
            )
        )

    def _of_rows(self, start: bytes, rows: Sequence[RankRow]) -> bytes:
        items = encode_texts("item_id", [row.item_ids for row in rows])
        return b"".join((start, *self._users(rows), items))

    def _users(self, rows: Sequence[RankRow]) -> Iterable[bytes]:
        """Encodes the inputs that tell of the users."""
        weights = b"".join([row.weights.tobytes() for row in rows])
        shape = (len(rows), self._num_adaptive)
        yield _numbers(ADAPTIVE_WEIGHTS, shape, weights)
        for feature in self._features:
            name = feature.name
            values = [row.features.get(name) for row in rows]
            yield encode_feature(feature, values)


def encode_feature(
    feature: Feature, values: Sequence[FeatureValue | None]
) -> bytes:
    """Encodes a feature as an entry of a request's inputs.

    Args:
        feature: Its name and kind.
        values: One per row; None is missing.
    """
    if feature.kind == CATEGORICAL_LIST:
        return encode_texts(
            feature.name,
            [value if isinstance(value, list) else () for value in values],
        )
    shape = (len(values),)
    if feature.kind == NUMERIC:
        return _numbers(
            feature.name,
            shape,
            b"".join(
                _MISSING_NUMBER if value is None else _FLOAT.pack(value)
                for value in values
            ),
        )
    tensor = _type(pb.DT_STRING, shape) + b"".join(
        [
            _text(value) if isinstance(value, str) else _NO_TEXT
            for value in values
        ]
    )
    return wire.entry(_INPUTS, feature.name, tensor)


def _numbers(name: str, shape: tuple[int, ...], content: bytes) -> bytes:
    tensor = _type(pb.DT_FLOAT, shape) + wire.field(_CONTENT, content)
    return wire.entry(_INPUTS, name, tensor)


def encode_texts(name: str, rows: Sequence[Sequence[str]]) -> bytes:
    """Encodes rows of texts as [B, longest row], '' at the end of others."""
    # Never empty: TensorFlow compares and concatenates over this axis.
    width = max(1, *map(len, rows))
    parts = [_type(pb.DT_STRING, (len(rows), width))]
    for row in rows:
        parts.extend(map(_text, row))
        parts.append(_NO_TEXT * (width - len(row)))
    return wire.entry(_INPUTS, name, b"".join(parts))


@functools.lru_cache(maxsize=4096)
def _type(dtype: "pb.DataType.ValueType", shape: tuple[int, ...]) -> bytes:
    return pb.TensorProto(
        dtype=dtype, tensor_shape=shape_proto(shape)
    ).SerializeToString()


# The items of a catalogue come again and again, as do users' categories.
@functools.lru_cache(maxsize=1 << 15)
def _text(text: str) -> bytes:
    return wire.field(_STRING_VAL, text.encode())
