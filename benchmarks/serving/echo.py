"""A bare grpc.aio server that answers every request with the same bytes.

What it reaches is what Python's gRPC allows here, with nothing behind it.

    python -m benchmarks.serving.echo PORT BYTES
"""

import asyncio
import sys

import grpc
import grpc.aio

METHOD = "/adaptower.benchmark.Echo/Echo"


async def serve(port: int, size: int) -> None:
    """Serves until killed."""
    answer = bytes(size)

    async def echo(
        request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> bytes:
        return answer

    _, service, name = METHOD.split("/")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                service, {name: grpc.unary_unary_rpc_method_handler(echo)}
            )
        ]
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
