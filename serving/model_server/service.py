"""TF Serving's gRPC services over the loaded versions."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from serving.errors import (
    InvalidRequestError,
    ServingError,
    UnknownModelError,
    status_of,
)
from serving.model_server.batching import Job, run_jobs
from serving.model_server.loaded_model import LoadedModel, Signature
from serving.model_server.models import Models, Versions
from serving.model_server.versions import Loaded
from serving.protos import tf_serving_pb2 as pb
from serving.rpc.call import UnaryCall
from serving.tf_serving import (
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    PREDICT,
)

SIGNATURE_FIELD = "signature_def"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
_SIGNATURE_URL = "type.googleapis.com/tensorflow.serving.SignatureDefMap"

_log = logging.getLogger(__name__)

_Method: TypeAlias = tuple[Any, Callable[[Any], Any]]


@dataclasses.dataclass(eq=False)
class _Prediction:
    """A Predict under way."""

    call: UnaryCall
    request: pb.PredictRequest
    versions: Versions
    loaded: Loaded[LoadedModel]
    signature: Signature
    job: Job


class ModelServerService:
    """Answers Predict, GetModelMetadata, GetModelStatus and health's Check.

    Several threads may call `handle`.
    """

    def __init__(self, models: Models, max_batch_rows: int) -> None:
        """Sets the service up.

        Args:
            models: What answers.
            max_batch_rows: The most rows of several requests that run
                together.
        """
        self._models = models
        self._max_batch_rows = max_batch_rows
        self._methods: Mapping[str, _Method] = {
            GET_MODEL_METADATA: (
                pb.GetModelMetadataRequest,
                self._get_model_metadata,
            ),
            GET_MODEL_STATUS: (
                pb.GetModelStatusRequest,
                self._get_model_status,
            ),
            HEALTH_CHECK: (health_pb2.HealthCheckRequest, self._check),
        }

    def handle(self, calls: Sequence[UnaryCall]) -> None:
        """Answers or refuses each of some calls, Predicts together."""
        predictions = []
        for call in calls:
            try:
                if call.deadline < time.time():
                    call.refuse(
                        grpc.StatusCode.DEADLINE_EXCEEDED,
                        "The deadline passed before the call's turn came.",
                    )
                elif call.method == PREDICT:
                    predictions.append(self._begin(call))
                else:
                    self._answer(call)
            except Exception as error:
                _refuse(call, error)
        try:
            run_jobs(
                [prediction.job for prediction in predictions],
                self._max_batch_rows,
            )
        except Exception:
            # Those who have run are answered, and every version is released.
            _log.exception("Not every Predict ran")
        for prediction in predictions:
            try:
                self._end(prediction)
            except Exception as error:
                _refuse(prediction.call, error)

    def _begin(self, call: UnaryCall) -> _Prediction:
        """Reads a Predict; its version stays loaded until `_end`."""
        request = _parse(pb.PredictRequest, call.request)
        versions, loaded = self._acquire(request.model_spec)
        try:
            signature = loaded.model.signature(
                request.model_spec.signature_name
            )
            job = Job(signature, signature.read(request))
        except Exception:
            versions.release(loaded)
            raise
        return _Prediction(call, request, versions, loaded, signature, job)

    def _end(self, prediction: _Prediction) -> None:
        """Answers a Predict that has run."""
        prediction.versions.release(prediction.loaded)
        outcome = prediction.job.outcome
        if not isinstance(outcome, list):
            raise outcome or RuntimeError("A job did not run.")
        request = prediction.request
        response = prediction.signature.response(outcome, request.output_filter)
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = prediction.loaded.version
        prediction.call.answer(response.SerializeToString())

    def _answer(self, call: UnaryCall) -> None:
        method = self._methods.get(call.method)
        if method is None:
            call.refuse(
                grpc.StatusCode.UNIMPLEMENTED,
                f"There is no method {call.method}.",
            )
            return
        request_type, answer = method
        response = answer(_parse(request_type, call.request))
        call.answer(response.SerializeToString())

    def _get_model_metadata(
        self, request: pb.GetModelMetadataRequest
    ) -> pb.GetModelMetadataResponse:
        """Tells the signatures of a version."""
        if list(request.metadata_field) != [SIGNATURE_FIELD]:
            raise InvalidRequestError(
                f"metadata_field must be [{SIGNATURE_FIELD!r}], got "
                f"{list(request.metadata_field)}."
            )
        versions, loaded = self._acquire(request.model_spec)
        response = pb.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = loaded.version
        packed = response.metadata[SIGNATURE_FIELD]
        packed.type_url = _SIGNATURE_URL
        packed.value = loaded.model.signature_map().SerializeToString()
        versions.release(loaded)
        return response

    def _get_model_status(
        self, request: pb.GetModelStatusRequest
    ) -> pb.GetModelStatusResponse:
        """Tells the states of one version or of all known ones."""
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        return pb.GetModelStatusResponse(
            model_version_status=self._models.find(spec.name).status(version)
        )

    def _check(
        self, request: health_pb2.HealthCheckRequest
    ) -> health_pb2.HealthCheckResponse:
        """Tells whether every model can answer."""
        if request.service:
            raise UnknownModelError(
                f"Unknown service {request.service!r}; ask for the empty name."
            )
        status = health_pb2.HealthCheckResponse
        return status(
            status=status.SERVING if self._models.ready else status.NOT_SERVING
        )

    def _acquire(
        self, spec: pb.ModelSpec
    ) -> tuple[Versions, Loaded[LoadedModel]]:
        versions = self._models.find(spec.name)
        version = spec.version.value if spec.HasField("version") else None
        return versions, versions.acquire(version, spec.version_label)


def _parse(request_type: Any, data: bytes) -> Any:
    try:
        return request_type.FromString(data)
    except DecodeError as error:
        raise InvalidRequestError(
            f"The bytes sent are no {request_type.DESCRIPTOR.name}."
        ) from error


def _refuse(call: UnaryCall, error: Exception) -> None:
    if isinstance(error, ServingError):
        call.refuse(status_of(error), str(error))
    else:
        _log.error("Unexpected error in %s", call.method, exc_info=error)
        call.refuse(grpc.StatusCode.INTERNAL, repr(error))
