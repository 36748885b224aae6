import asyncio

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2 as pb
from grpc_reflection.v1alpha import reflection_pb2_grpc

from serving.gateway import reflection
from serving.gateway.reflection import ReflectionService
from serving.ports import free_port
from serving.rpc.async_server import AsyncServer
from tests.helpers.patience import PATIENT_SECONDS

QUESTION = pb.ServerReflectionRequest(list_services="")


async def ask(stub):
    """Begins a stream, which stays open, with one question."""
    stream = stub.ServerReflectionInfo()
    await stream.write(QUESTION)
    answer = await stream.read()
    names = [each.name for each in answer.list_services_response.service]
    assert names == ["a.Service", reflection.SERVICE_NAME]
    return stream


async def scenario():
    server, port = AsyncServer(), free_port()
    service = ReflectionService(("a.Service",))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(service, server)
    server.add_insecure_port(f"localhost:{port}")
    await server.start()
    async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        streams = [await ask(stub) for _ in range(2)]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(stub)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        # One hangs up, another one has no more questions.
        streams[0].cancel()
        await streams[1].done_writing()
        assert await streams[1].read() == grpc.aio.EOF
        while service._streams:
            await asyncio.sleep(0.01)
        (await ask(stub)).cancel()
    await server.stop(0)


def test_streams_beyond_the_most_are_refused_until_one_ends(monkeypatch):
    monkeypatch.setattr(reflection, "MAX_STREAMS", 2)
    asyncio.run(asyncio.wait_for(scenario(), PATIENT_SECONDS))
