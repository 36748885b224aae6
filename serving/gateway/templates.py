"""PredictRequests of one model version, ready but for what a request adds.

A request copies the template, which is one call into protobuf's C code, and
fills in weights, items and the features that were sent; the others lie in the
template as missing values already.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.contract.features import CATEGORICAL_LIST, NUMERIC, Feature
from serving.contract.manifest import AdaptiveManifest
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import encode_tensor, string_tensor

RANK = "rank"
RECOMMEND = "recommend"
ADAPTIVE_WEIGHTS = "adaptive_weights"

Tensors = Mapping[str, pb.TensorProto]


def missing_value(feature: Feature) -> pb.TensorProto:
    """Returns the input that stands for a feature of one user left out."""
    if feature.kind == NUMERIC:
        return encode_tensor(np.array([np.nan], np.float32))
    if feature.kind == CATEGORICAL_LIST:
        return string_tensor([""], (1, 1))
    return string_tensor([""], (1,))


class RequestTemplates:
    """Makes the requests for one user of one version."""

    def __init__(
        self, name: str, version: int, manifest: AdaptiveManifest
    ) -> None:
        """Prepares what all requests share.

        Args:
            name: Name on the model server.
            version: Version to pin.
            manifest: Its features and adaptive part.
        """
        self._base = pb.PredictRequest()
        self._base.model_spec.name = name
        self._base.model_spec.version.value = version
        for feature in manifest.user_features:
            self._base.inputs[feature.name].CopyFrom(missing_value(feature))
        zeros = np.zeros((1, manifest.num_adaptive), np.float32)
        self._base.inputs[ADAPTIVE_WEIGHTS].CopyFrom(encode_tensor(zeros))

    @functools.cached_property
    def _rank(self) -> pb.PredictRequest:
        template = self._of(RANK)
        template.inputs["item_id"].CopyFrom(string_tensor([], (1, 0)))
        return template

    @functools.cached_property
    def _recommend(self) -> pb.PredictRequest:
        template = self._of(RECOMMEND)
        template.inputs["k"].CopyFrom(encode_tensor(np.array(0, np.int32)))
        template.inputs["exclude_item_id"].CopyFrom(string_tensor([], (1, 0)))
        return template

    def rank(
        self,
        weights: NDArray[np.float32],
        features: Tensors,
        item_ids: Sequence[str],
    ) -> pb.PredictRequest:
        """Returns the request for the scores of some candidates.

        Args:
            weights: The user's, shape [P].
            features: Inputs of the features that were sent.
            item_ids: Candidates.
        """
        request = _filled(self._rank, weights, features)
        _fill_strings(request.inputs["item_id"], item_ids)
        return request

    def recommend(
        self,
        weights: NDArray[np.float32],
        features: Tensors,
        k: int,
        excluded: Sequence[str],
    ) -> pb.PredictRequest:
        """Returns the request for the best items of the catalogue.

        Args:
            weights: The user's, shape [P].
            features: Inputs of the features that were sent.
            k: How many items.
            excluded: Items to leave out.
        """
        request = _filled(self._recommend, weights, features)
        request.inputs["k"].tensor_content = np.int32(k).tobytes()
        # TensorFlow concatenates and compares over this axis: never empty.
        _fill_strings(request.inputs["exclude_item_id"], excluded or [""])
        return request

    def _of(self, signature: str) -> pb.PredictRequest:
        template = pb.PredictRequest()
        template.CopyFrom(self._base)
        template.model_spec.signature_name = signature
        return template


def _filled(
    template: pb.PredictRequest,
    weights: NDArray[np.float32],
    features: Tensors,
) -> pb.PredictRequest:
    request = pb.PredictRequest()
    request.CopyFrom(template)
    request.inputs[ADAPTIVE_WEIGHTS].tensor_content = weights.tobytes()
    for name, tensor in features.items():
        request.inputs[name].CopyFrom(tensor)
    return request


def _fill_strings(tensor: pb.TensorProto, values: Sequence[str]) -> None:
    tensor.tensor_shape.dim[1].size = len(values)
    tensor.string_val.extend([value.encode() for value in values])
