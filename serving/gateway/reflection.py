"""gRPC reflection: tools like grpcurl ask a server for its services."""

from collections.abc import AsyncIterator, Iterable

import grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2 as pb

from serving.gateway.rpcs.call import Context

# Strangers may ask, and each keeps a stream open for as long as it likes.
MAX_STREAMS = 100

SERVICE_NAME = reflection.SERVICE_NAME


class ReflectionService(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """The library's, for so many at a time; lives inside one event loop."""

    def __init__(self, services: Iterable[str]) -> None:
        """Sets it up to tell of the services with these names."""
        super().__init__((*services, SERVICE_NAME))
        self._streams = 0

    async def ServerReflectionInfo(
        self,
        requests: AsyncIterator[pb.ServerReflectionRequest],
        context: Context,
    ) -> AsyncIterator[pb.ServerReflectionResponse]:
        """Answers one question after the other."""
        if self._streams >= MAX_STREAMS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{MAX_STREAMS} others ask at the moment; try again later.",
            )
        self._streams += 1
        try:
            async for answer in super().ServerReflectionInfo(requests, context):
                yield answer
        finally:
            self._streams -= 1
