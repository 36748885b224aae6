"""`grpc.health.v1.Health`: whether the gateway can answer, now and next.

Not the asyncio servicer of grpcio-health-checking: there, when one of several
watchers of a service leaves, the others are never told of a change again
(https://github.com/grpc/grpc/pull/43403), and a drain would go unnoticed.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc

from serving.gateway.rpcs.call import Context

# Strangers may watch: each watcher takes some 20 kB for as long as it likes.
MAX_WATCHERS = 1_000

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Health"].full_name


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Health of the whole server (the empty name) and of its services.

    Lives inside one event loop. Nothing is serving at first.
    """

    def __init__(self, services: Iterable[str]) -> None:
        """Sets it up for the services with these names."""
        self._names = ("", *services)
        self._serving = False
        self._shut_down = False
        self._changed = asyncio.Event()
        self._watchers = 0

    def serve(self) -> None:
        """Says from now on that everything is serving."""
        self._serving = True
        self._tell()

    def shut_down(self) -> None:
        """Says from now on, whatever else is called, that nothing is."""
        self._shut_down = True
        self._tell()

    async def Check(
        self, request: pb.HealthCheckRequest, context: Context
    ) -> pb.HealthCheckResponse:
        """Answers with the status of a service."""
        if request.service not in self._names:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"There is no service {request.service!r}; there are: "
                f"{', '.join(map(repr, self._names))}.",
            )
        return pb.HealthCheckResponse(status=self._status(request.service))

    async def Watch(
        self, request: pb.HealthCheckRequest, context: Context
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        """Answers with the status of a service now and after each change."""
        if self._watchers >= MAX_WATCHERS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"There are {MAX_WATCHERS} watchers already; use Check.",
            )
        self._watchers += 1
        try:
            async for response in self._statuses(request.service):
                yield response
        finally:
            self._watchers -= 1

    async def _statuses(
        self, service: str
    ) -> AsyncIterator[pb.HealthCheckResponse]:
        told = None
        while True:
            # Taken first: what changes from here on sets this very event.
            changed, is_last = self._changed, self._shut_down
            status = self._status(service)
            if status != told:
                yield pb.HealthCheckResponse(status=status)
                told = status
            if is_last:
                # Nothing more to tell, and a drain waits for open streams.
                return
            await changed.wait()

    def _status(self, service: str) -> int:
        kinds = pb.HealthCheckResponse
        if service not in self._names:
            return int(kinds.SERVICE_UNKNOWN)
        serving = self._serving and not self._shut_down
        return int(kinds.SERVING if serving else kinds.NOT_SERVING)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
