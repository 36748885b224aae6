"""Requests about many users at once, encoded column by column.

An encoded message is its encoded fields, joined: numbers are encoded as arrays
of the whole batch, ids and features as the gateway's own requests are. So a
user costs a row of arrays and a few joined bytes, not messages of its own.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.wrappers_pb2 import Int64Value
from numpy.typing import NDArray

from serving.models.served_model import ServedModel
from serving.models.templates import Features, encode_feature, encode_texts
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import encode_tensor


def padded(rows: Sequence[Sequence[float]]) -> NDArray[np.float32]:
    """Returns numbers of each user as [B, most], 0 at the end of others."""
    sizes = np.array(list(map(len, rows)))
    is_value = np.arange(max(1, sizes.max())) < sizes[:, np.newaxis]
    values = np.zeros(is_value.shape, np.float32)
    values[is_value] = list(itertools.chain.from_iterable(rows))
    return values


def encode_request(
    model: ServedModel,
    signature: str,
    users: Sequence[Features],
    item_ids: Mapping[str, Sequence[Sequence[str]]],
    numbers: Mapping[str, NDArray[Any]],
) -> bytes:
    """Returns a PredictRequest.

    Args:
        model: The version to ask.
        signature: What of it.
        users: Each user's known features.
        item_ids: Inputs that hold items of each user, by name; padded with
            the empty id.
        numbers: The other inputs by name, as they are.
    """
    head = pb.PredictRequest(
        model_spec=pb.ModelSpec(
            name=model.name,
            version=Int64Value(value=model.version),
            signature_name=signature,
        ),
        inputs={name: encode_tensor(array) for name, array in numbers.items()},
    ).SerializeToString()
    return b"".join(
        (
            head,
            *(
                encode_feature(feature, [u.get(feature.name) for u in users])
                for feature in model.manifest.user_features
            ),
            *(encode_texts(name, rows) for name, rows in item_ids.items()),
        )
    )
