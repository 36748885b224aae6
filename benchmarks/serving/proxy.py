"""A bare grpc.aio proxy: passes requests on and answers back, as bytes.

What it adds to a call is what Python's gRPC takes for being in between here,
before a gateway has looked at anything.

    python -m benchmarks.serving.proxy PORT TARGET
"""

import asyncio
import sys

import grpc
import grpc.aio


class _PassOn(grpc.GenericRpcHandler):
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler:
        call = self._channel.unary_unary(handler_call_details.method)

        async def pass_on(
            request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]"
        ) -> bytes:
            answer: bytes = await call(request)
            return answer

        return grpc.unary_unary_rpc_method_handler(pass_on)


async def serve(port: int, target: str) -> None:
    """Serves until killed."""
    async with grpc.aio.insecure_channel(target) as channel:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([_PassOn(channel)])
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
