"""Calls to the model server, with deadlines and our errors."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import grpc.aio
from numpy.typing import NDArray

from serving import tf_serving
from serving.errors import (
    BackendDeadlineError,
    BackendError,
    BackendRefusalError,
    BackendUnavailableError,
    LaunchError,
    UnknownModelError,
)
from serving.protos import tf_serving_pb2 as pb
from serving.rpc.async_channel import AsyncChannel
from serving.rpc.local_channel import LocalChannel
from serving.rpc.local_frames import LOCAL
from serving.security.circuit_breaker import CircuitBreaker
from serving.security.tls import ClientTls, channel_credentials

_ERRORS = {
    grpc.StatusCode.INVALID_ARGUMENT: BackendRefusalError,
    grpc.StatusCode.UNAVAILABLE: BackendUnavailableError,
    # By the server: it came while the server began to close.
    grpc.StatusCode.CANCELLED: BackendUnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: BackendDeadlineError,
    # A pinned version that was unloaded meanwhile.
    grpc.StatusCode.NOT_FOUND: UnknownModelError,
}

# A server that ends breaks off what it has begun (TF Serving does not drain):
# such a call is tried once more, on another server where there are several.
# Each failure takes a token, each success gives a tenth back, and with half of
# them gone nothing is retried: a dead server gets no storm on top.
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": tf_serving.PREDICTION_SERVICE}],
                "retryPolicy": {
                    "maxAttempts": 2,
                    "initialBackoff": "0.01s",
                    "maxBackoff": "0.1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
)
_CHANNEL_OPTIONS = (
    ("grpc.service_config", _SERVICE_CONFIG),
    # All the addresses that a name has, as those of a headless Service.
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_receive_message_length", -1),
    # A server that comes back is found within a second: by
    # `available_versions`, which waits for a connection, whereas `predict`
    # fails at once while there is none.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
# Of the deadline. Callers who leave sooner may just be in a hurry.
_LONG_SHARE = 0.1
_PREDICT = tf_serving.PREDICT.encode()


class ModelServer:
    """A model server as the gateway sees it; lives inside one event loop."""

    def __init__(
        self,
        target: str,
        timeout_seconds: float,
        tls: ClientTls | None = None,
    ) -> None:
        """Connects on the first call.

        Args:
            target: `host:port`, or `local:PATH` of a socket on this machine.
            timeout_seconds: Deadline of each call.
            tls: How to know the server; None connects in plaintext.

        Raises:
            LaunchError: A TLS file can't be used, or TLS not at all.
        """
        self._target = target
        self._timeout = timeout_seconds
        self._breaker = CircuitBreaker(_LONG_SHARE * timeout_seconds)
        self._channel = connect(target, tls)

    async def predict(
        self,
        model: str,
        version: int,
        signature: str,
        inputs: Mapping[str, pb.TensorProto],
    ) -> dict[str, NDArray[Any]]:
        """Runs a signature of one version; returns its outputs by name.

        Raises:
            UnknownModelError: The version is not loaded (any more).
            BackendError: The server did not answer, or with an error.
        """
        request = pb.PredictRequest(inputs=inputs)
        request.model_spec.name = model
        request.model_spec.version.value = version
        request.model_spec.signature_name = signature
        response = await self.run(model, request.SerializeToString())
        return {
            name: tf_serving.decode_tensor(tensor)
            for name, tensor in response.outputs.items()
        }

    async def run(self, model: str, request: bytes) -> pb.PredictResponse:
        """Runs a signature.

        Args:
            model: Name of the model, for errors.
            request: A serialized PredictRequest.

        Raises:
            UnknownModelError: The version is not loaded (any more).
            BackendError: The server did not answer, or with an error.
        """
        with self._errors_of(model), self._breaker.guard():
            answer = await self._channel.call(_PREDICT, request, self._timeout)
        return pb.PredictResponse.FromString(answer)

    async def forward(
        self, method: str, request: bytes, seconds: float | None = None
    ) -> bytes:
        """Passes a request on as it is, and returns the answer as it is.

        Args:
            method: Path of the method, `/package.Service/Method`.
            request: A serialized request.
            seconds: How long the caller waits; None: as long as we do.

        Raises:
            grpc.aio.AioRpcError: What the server answered, or that it did
                not.
        """
        timeout = self._timeout
        if seconds is not None:
            timeout = min(timeout, seconds)
        with self._breaker.guard():
            return await self._channel.call(method.encode(), request, timeout)

    async def available_versions(self, model: str) -> list[int]:
        """Returns the versions that can answer, newest first.

        Raises:
            UnknownModelError: The server has no such model.
            BackendError: The server did not answer, or with an error.
        """
        request = pb.GetModelStatusRequest()
        request.model_spec.name = model
        with self._errors_of(model):
            answer = await self._channel.call(
                tf_serving.GET_MODEL_STATUS.encode(),
                request.SerializeToString(),
                self._timeout,
                wait_for_ready=True,
            )
        response = pb.GetModelStatusResponse.FromString(answer)
        return sorted(
            (
                status.version
                for status in response.model_version_status
                if status.state == pb.ModelVersionStatus.AVAILABLE
            ),
            reverse=True,
        )

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    @contextlib.contextmanager
    def _errors_of(self, model: str) -> Iterator[None]:
        """Turns gRPC's errors about a model into ours."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            kind = _ERRORS.get(error.code(), BackendError)
            raise kind(
                f"The model server {self._target} answered "
                f"{error.code().name} for model {model!r}: {error.details()}"
            ) from error


def connect(
    target: str, tls: ClientTls | None = None
) -> AsyncChannel | LocalChannel:
    """Makes the channel to a model server; it connects with the first call.

    Args:
        target: `host:port`, or `local:` and the path of a socket.
        tls: For TLS; None is plaintext.

    Raises:
        LaunchError: TLS is asked for where there is none.
    """
    if not target.startswith(LOCAL):
        credentials = None if tls is None else channel_credentials(tls)
        return AsyncChannel(target, _CHANNEL_OPTIONS, credentials)
    if tls is not None:
        raise LaunchError(
            f"The model server {target} is on this machine and reached "
            "without TLS: leave the --backend-tls flags out."
        )
    return LocalChannel(target.removeprefix(LOCAL))
