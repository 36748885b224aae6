"""TF Serving's gRPC services over the loaded versions."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import grpc
import tensorflow as tf

from serving.errors import (
    InvalidRequestError,
    ServingError,
    UnknownModelError,
    status_of,
)
from serving.model_server.loaded_model import LoadedModel
from serving.model_server.versions import ModelVersions
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import MODEL_SERVICE, PREDICTION_SERVICE

SIGNATURE_FIELD = "signature_def"
_SIGNATURE_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"

_log = logging.getLogger(__name__)
_STATUS_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}

Models: TypeAlias = Mapping[str, ModelVersions[LoadedModel]]


class ModelServerService:
    """Predict, GetModelMetadata and GetModelStatus."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def predict(self, request: pb.PredictRequest) -> pb.PredictResponse:
        """Runs a signature of a version, the newest unless one is named."""
        version, model = self._find(request.model_spec)
        response = model.predict(request)
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        return response

    def get_model_metadata(
        self, request: pb.GetModelMetadataRequest
    ) -> pb.GetModelMetadataResponse:
        """Tells the signatures of a version."""
        if list(request.metadata_field) != [SIGNATURE_FIELD]:
            raise InvalidRequestError(
                f"metadata_field must be [{SIGNATURE_FIELD!r}], got "
                f"{list(request.metadata_field)}."
            )
        version, model = self._find(request.model_spec)
        response = pb.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        packed = response.metadata[SIGNATURE_FIELD]
        packed.type_url = (
            "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        )
        packed.value = model.signature_map().SerializeToString()
        return response

    def get_model_status(
        self, request: pb.GetModelStatusRequest
    ) -> pb.GetModelStatusResponse:
        """Tells the states of one version or of all known ones."""
        spec = request.model_spec
        return pb.GetModelStatusResponse(
            model_version_status=self._versions(spec).status(_version(spec))
        )

    def _versions(self, spec: pb.ModelSpec) -> ModelVersions[LoadedModel]:
        versions = self._models.get(spec.name)
        if versions is None:
            raise UnknownModelError(
                f"Servable not found for request: model {spec.name!r}. "
                f"Served models: {', '.join(sorted(self._models))}."
            )
        return versions

    def _find(self, spec: pb.ModelSpec) -> tuple[int, LoadedModel]:
        return self._versions(spec).find(_version(spec))

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Returns the handlers to add to a gRPC server."""
        return [
            grpc.method_handlers_generic_handler(
                PREDICTION_SERVICE,
                {
                    "Predict": _handler(self.predict, pb.PredictRequest),
                    "GetModelMetadata": _handler(
                        self.get_model_metadata, pb.GetModelMetadataRequest
                    ),
                },
            ),
            grpc.method_handlers_generic_handler(
                MODEL_SERVICE,
                {
                    "GetModelStatus": _handler(
                        self.get_model_status, pb.GetModelStatusRequest
                    ),
                },
            ),
        ]


def _version(spec: pb.ModelSpec) -> int | None:
    if spec.WhichOneof("version_choice") == "version_label":
        raise InvalidRequestError(
            f"Version labels ({spec.version_label!r}) are not supported; "
            "name a version, or none for the newest."
        )
    return spec.version.value if spec.HasField("version") else None


def _handler(
    method: Callable[[Any], Any], request_type: Any
) -> grpc.RpcMethodHandler:
    """Wraps a method; its errors become gRPC statuses."""

    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(request)
        except ServingError as error:
            context.abort(status_of(error), str(error))
        except tf.errors.OpError as error:
            # TensorFlow's error codes are gRPC's.
            code = _STATUS_BY_NUMBER.get(
                error.error_code, grpc.StatusCode.UNKNOWN
            )
            context.abort(code, error.message)
        except Exception as error:
            _log.exception("Unexpected error")
            context.abort(grpc.StatusCode.INTERNAL, repr(error))

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=request_type.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )
