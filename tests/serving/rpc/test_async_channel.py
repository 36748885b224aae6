"""What grpc.aio's own calls do, ours do as well, on the same servers."""

import asyncio
import contextlib

import grpc
import grpc.aio
import pytest

from serving.ports import free_port
from serving.rpc.async_channel import AsyncChannel

METHOD = "/a.Service/Method"


class Behaviour:
    """Answers as the request says, and notes what it sees."""

    def __init__(self):
        self.seconds = None
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def answer(self, request, context):
        self.seconds = context.time_remaining()
        if request == b"refuse":
            await context.send_initial_metadata((("x-first", "f"),))
            await context.abort(
                grpc.StatusCode.DATA_LOSS, "böse", (("x-why-bin", b"\0w"),)
            )
        if request == b"wait":
            self.begun.set()
            try:
                await asyncio.sleep(200)
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return request * 2


@contextlib.asynccontextmanager
async def running(behaviour, port):
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                "a.Service",
                {
                    "Method": grpc.unary_unary_rpc_method_handler(
                        behaviour.answer
                    )
                },
            )
        ]
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


class Grpcs:
    """The same calls, by grpc.aio itself."""

    def __init__(self, target):
        self._channel = grpc.aio.insecure_channel(target)

    async def call(self, method, request, timeout, wait_for_ready=None):
        call = self._channel.unary_unary(method.decode())
        return await call(
            request, timeout=timeout, wait_for_ready=wait_for_ready
        )

    async def close(self):
        await self._channel.close()


@pytest.fixture(params=[Grpcs, AsyncChannel])
def drive(request):
    """Runs a coroutine function with a channel, a behaviour and a port."""

    def run(test, serving=True):
        async def main():
            port, behaviour = free_port(), Behaviour()
            channel = request.param(f"127.0.0.1:{port}")
            try:
                if not serving:
                    return await test(channel, behaviour, port)
                async with running(behaviour, port):
                    return await test(channel, behaviour, port)
            finally:
                await channel.close()

        return asyncio.run(asyncio.wait_for(main(), 200))

    return run


def call(channel, request, timeout=100.0, **options):
    return channel.call(METHOD.encode(), request, timeout, **options)


@pytest.mark.parametrize("request_", [b"", b"ab", bytes(1 << 16)])
def test_answer_and_deadline_arrive(drive, request_):
    async def test(channel, behaviour, port):
        assert await call(channel, request_) == request_ * 2
        # On the way it is rounded up, to three digits.
        assert 0 < behaviour.seconds <= 101

    drive(test)


def test_many_calls_at_once_get_their_own_answers(drive):
    async def test(channel, behaviour, port):
        requests = [str(number).encode() for number in range(200)]
        answers = await asyncio.gather(*(call(channel, r) for r in requests))
        assert answers == [request * 2 for request in requests]

    drive(test)


def test_refusal_tells_all_that_the_server_said(drive):
    async def test(channel, behaviour, port):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(channel, b"refuse")
        return refused.value

    error = drive(test)
    assert error.code() is grpc.StatusCode.DATA_LOSS
    assert error.details() == "böse"
    assert error.initial_metadata()["x-first"] == "f"
    assert error.trailing_metadata()["x-why-bin"] == b"\0w"


def test_deadline_ends_the_call(drive):
    async def test(channel, behaviour, port):
        for seconds in (0.2, 2.0, 20.0):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(channel, b"wait", seconds)
            assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if behaviour.begun.is_set():
                break
            # So busy a machine that the call had not even come.
        assert behaviour.begun.is_set()
        await behaviour.cancelled.wait()

    drive(test)


def test_server_learns_that_nobody_waits_any_more(drive):
    async def test(channel, behaviour, port):
        task = asyncio.ensure_future(call(channel, b"wait"))
        await behaviour.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await behaviour.cancelled.wait()
        assert await call(channel, b"a") == b"aa"

    drive(test)


def test_nobody_listening_is_told_at_once_or_waited_for(drive):
    async def test(channel, behaviour, port):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(channel, b"a")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        waiting = asyncio.ensure_future(
            call(channel, b"a", wait_for_ready=True)
        )
        async with running(behaviour, port):
            assert await waiting == b"aa"

    drive(test, serving=False)
