"""Makes gRPC handlers of the gateway's methods.

Around each method: the call gets an id, errors become statuses, and calls
are counted and, if wanted, traced and logged.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from serving import logs
from serving.errors import InvalidRequestError, ServingError
from serving.gateway.rpcs.call import (
    REQUEST_ID,
    Call,
    Context,
    Method,
    status_and_words,
)
from serving.gateway.tracing import Tracer
from serving.metrics import Metrics
from serving.security.heap import HeapTrimmer
from serving.security.refusals import trailing_metadata

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Observers:
    """Who is told of calls.

    Attributes:
        metrics: Counts them.
        tracer: Traces them, if there is one.
        log_requests: Whether each gets a line in the log.
    """

    metrics: Metrics
    tracer: Tracer | None = None
    log_requests: bool = False
    _trimmer: HeapTrimmer = dataclasses.field(default_factory=HeapTrimmer)

    def handler(
        self, path: str, method: Method, request_type: Any = None
    ) -> grpc.RpcMethodHandler:
        """Returns the gRPC handler of a method.

        Args:
            path: `/package.Service/Method`.
            method: Answers with a message, or with the bytes of one.
            request_type: Message class of the requests; None passes their
                bytes.
        """
        name = path.rpartition("/")[2]
        count = self.metrics.method(name).observe
        if self.tracer is not None:
            method = self.tracer.traced(path, method)
        if self.log_requests:
            method = _logged(name, method)

        async def handle(request: Any, context: Context) -> Any:
            started = time.perf_counter()
            call = Call.of(context)
            logs.request_id.set(call.request_id)
            code = grpc.StatusCode.OK
            try:
                if request is None:
                    raise InvalidRequestError(
                        f"The bytes sent are no {request_type.DESCRIPTOR.name}."
                    )
                return await method(request, call)
            except asyncio.CancelledError:
                code = grpc.StatusCode.CANCELLED
                raise
            except Exception as error:
                code, words = status_and_words(error)
                if not isinstance(error, (ServingError, grpc.RpcError)):
                    _log.exception("Unexpected error in %s", name)
                await context.abort(
                    code,
                    words,
                    (
                        (REQUEST_ID, call.request_id),
                        *trailing_metadata(error),
                    ),
                )
            finally:
                count(code, time.perf_counter() - started)

        return grpc.unary_unary_rpc_method_handler(
            handle,
            request_deserializer=_parser(request_type, self._trimmer),
            response_serializer=_to_bytes,
        )


def _logged(name: str, method: Method) -> Method:
    async def run(request: Any, call: Call) -> Any:
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            return await method(request, call)
        except BaseException as error:
            code, _ = status_and_words(error)
            raise
        finally:
            milliseconds = round((time.perf_counter() - started) * 1e3, 3)
            _log.info(
                "%s %s in %.3f ms",
                name,
                code.name,
                milliseconds,
                extra={
                    "method": name,
                    "code": code.name,
                    "milliseconds": milliseconds,
                    **call.notes(),
                },
            )

    return run


def _parser(request_type: Any, trimmer: HeapTrimmer) -> Callable[[bytes], Any]:
    """Returns a parser that gives None for bytes that are no message.

    What a deserializer raises, gRPC would answer as an internal error. Without
    a type it gives the bytes.
    """

    def parse(data: bytes) -> Any:
        trimmer.note(len(data))
        if request_type is None:
            return data
        try:
            return request_type.FromString(data)
        except DecodeError:
            return None

    return parse


def _to_bytes(answer: Any) -> bytes:
    if isinstance(answer, bytes):
        return answer
    data: bytes = answer.SerializeToString()
    return data
