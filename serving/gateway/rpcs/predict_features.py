"""User features of a Predict that may be answered by another arm's model.

Who sends it knows the model that is asked, not the one that answers: what only
the one has is left out, and what only the other has gets its default.
"""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from serving.contract.features import Feature
from serving.errors import InvalidRequestError
from serving.models.templates import encode_feature
from serving.protos import recommender_pb2
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import decode_tensor


def fitted(
    request: pb.PredictRequest,
    declared: Mapping[str, Feature],
    asked: Collection[str],
    elsewhere: Collection[str],
    batch: int,
) -> pb.PredictRequest:
    """Returns a request with the user features that a model has.

    Args:
        request: As sent; it stays as it is.
        declared: User features of the model that answers, by name.
        asked: Names of those of the model that the request asks. One that
            is missing is missing for all: the model server refuses that.
        elsewhere: Names of the features that any model has.
        batch: Rows of the request.
    """
    surplus = [
        name
        for name in request.inputs
        if name in elsewhere and name not in declared
    ]
    missing = [
        feature
        for name, feature in declared.items()
        if name not in request.inputs and name not in asked
    ]
    if not surplus and not missing:
        return request
    fit = pb.PredictRequest()
    fit.CopyFrom(request)
    for name in surplus:
        del fit.inputs[name]
    fit.MergeFromString(
        b"".join([encode_feature(each, [None] * batch) for each in missing])
    )
    return fit


def told_features(
    inputs: Mapping[str, pb.TensorProto], names: Collection[str], rows: int
) -> list[dict[str, recommender_pb2.FeatureValues]]:
    """Returns what inputs tell of each row's user, as Rank takes it.

    Args:
        inputs: As sent.
        names: Of features; others are no inputs of a user's.
        rows: Of the answer.
    """
    found: list[dict[str, recommender_pb2.FeatureValues]] = [
        {} for _ in range(rows)
    ]
    for name in names:
        column = _column(inputs[name], rows) if name in inputs else None
        if column is None:
            continue
        for row, values in zip(found, column, strict=True):
            told = row[name] = recommender_pb2.FeatureValues()
            if column.dtype == object:
                told.strings.values.extend(
                    value.decode(errors="replace")
                    for value in values.ravel()
                    if value
                )
            else:
                told.numbers.values.extend(values.ravel().tolist())
    return found


def _column(tensor: pb.TensorProto, rows: int) -> NDArray[np.generic] | None:
    """Returns a feature of all rows; None if it does not fit them.

    What was left out, the model that answered has not looked at.
    """
    try:
        column = decode_tensor(tensor)
        return np.broadcast_to(column, (rows, *column.shape[1:]))[:, np.newaxis]
    except (InvalidRequestError, ValueError):
        return None
