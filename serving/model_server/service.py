"""TF Serving's gRPC services over the loaded versions."""

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import grpc

from serving.errors import InvalidRequestError, ServingError, status_of
from serving.model_server.loaded_model import LoadedModel
from serving.model_server.models import Models
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import MODEL_SERVICE, PREDICTION_SERVICE

SIGNATURE_FIELD = "signature_def"
_SIGNATURE_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"

_log = logging.getLogger(__name__)


class ModelServerService:
    """Predict, GetModelMetadata and GetModelStatus."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def predict(self, request: pb.PredictRequest) -> pb.PredictResponse:
        """Runs a signature of a version, the newest unless one is named."""
        with self._use(request.model_spec) as (version, model):
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
        response = pb.GetModelMetadataResponse()
        packed = response.metadata[SIGNATURE_FIELD]
        packed.type_url = _SIGNATURE_URL
        with self._use(request.model_spec) as (version, model):
            packed.value = model.signature_map().SerializeToString()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        return response

    def get_model_status(
        self, request: pb.GetModelStatusRequest
    ) -> pb.GetModelStatusResponse:
        """Tells the states of one version or of all known ones."""
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        return pb.GetModelStatusResponse(
            model_version_status=self._models.find(spec.name).status(version)
        )

    def _use(
        self, spec: pb.ModelSpec
    ) -> contextlib.AbstractContextManager[tuple[int, LoadedModel]]:
        return self._models.find(spec.name).use(
            spec.version.value if spec.HasField("version") else None,
            spec.version_label,
        )

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


def _handler(
    method: Callable[[Any], Any], request_type: Any
) -> grpc.RpcMethodHandler:
    """Wraps a method; its errors become gRPC statuses."""

    def handle(request: Any, context: grpc.ServicerContext) -> Any:
        # It may have waited for a thread until nobody waited for it.
        if not context.is_active():
            context.abort(
                grpc.StatusCode.DEADLINE_EXCEEDED, "The deadline has passed."
            )
        try:
            return method(request)
        except ServingError as error:
            context.abort(status_of(error), str(error))
        except Exception as error:
            _log.exception("Unexpected error")
            context.abort(grpc.StatusCode.INTERNAL, repr(error))

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=request_type.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )
