"""The gateway's own way to the model server, without the gateway.

Passes requests on and answers back, as bytes, by what the gateway uses for
that: `serving.rpc` on uvloop. What it adds to a call is the way; what the
gateway adds besides is what it does on it.

    python -m benchmarks.serving.own_proxy PORT BACKEND
"""

import asyncio
import sys

import grpc
import uvloop

from serving.models.backend import connect
from serving.rpc.async_server import AsyncServer
from serving.rpc.context import CallContext, CallDetails

_SECONDS = 30.0


class _PassOn(grpc.GenericRpcHandler):
    def __init__(self, backend: str) -> None:
        self._channel = connect(backend)

    def service(
        self, handler_call_details: CallDetails
    ) -> grpc.RpcMethodHandler:
        method = handler_call_details.method.encode()

        async def pass_on(request: bytes, context: CallContext) -> bytes:
            del context
            return await self._channel.call(method, request, _SECONDS)

        return grpc.unary_unary_rpc_method_handler(pass_on)


async def serve(port: int, backend: str) -> None:
    """Serves until killed."""
    server = AsyncServer()
    server.add_generic_rpc_handlers([_PassOn(backend)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
