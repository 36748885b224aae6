"""One suite for our server and for the one of grpcio that it replaces."""

import asyncio
import contextvars

import grpc
import grpc.aio
import pytest

from serving.ports import free_port
from serving.rpc.async_server import AsyncServer

SERVICE = "a.Service"
who = contextvars.ContextVar("who", default="")


def to_bytes(text):
    # grpc.aio has encoded it already.
    return text if isinstance(text, bytes) else text.encode()


class Behaviour:
    """Handlers of all kinds, and what they have noticed."""

    def __init__(self):
        self.cancelled = asyncio.Event()
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()

    async def unary(self, request, context):
        match request:
            case "metadata":
                return dict(context.invocation_metadata())["x-key"]
            case "remaining":
                return str(context.time_remaining())
            case "who":
                return who.get()
            case "trailing":
                context.set_trailing_metadata((("x-trailing", "t"),))
            case "abort":
                await context.abort(
                    grpc.StatusCode.DATA_LOSS, "böse", (("x-why", "w"),)
                )
            case "raise":
                raise ValueError("a bug")
            case "wait":
                self.begun.set()
                try:
                    await self.gate.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
        return request * 2

    async def responses(self, request, context):
        for number in range(int(request)):
            yield str(number)
        if request == "0":
            await context.abort(grpc.StatusCode.OUT_OF_RANGE, "none")

    async def conversation(self, requests, context):
        async for request in requests:
            yield request.upper()

    def handlers(self):
        coding = {
            "request_deserializer": bytes.decode,
            "response_serializer": to_bytes,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Unary": grpc.unary_unary_rpc_method_handler(
                    self.unary, **coding
                ),
                "Responses": grpc.unary_stream_rpc_method_handler(
                    self.responses, **coding
                ),
                "Conversation": grpc.stream_stream_rpc_method_handler(
                    self.conversation, **coding
                ),
            },
        )


async def _refuse(requests, context):
    await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")


class Doorman(grpc.aio.ServerInterceptor):
    def __init__(self, name):
        self.name = name

    async def intercept_service(self, continuation, details):
        who.set(who.get() + self.name)
        if ("x-key", "burglar") in details.invocation_metadata:
            return grpc.stream_stream_rpc_method_handler(_refuse)
        return await continuation(details)


class Running:
    """A server, a channel to it, and what its handlers notice."""

    def __init__(self, server, address, behaviour):
        self.server = server
        self.behaviour = behaviour
        self.channel = grpc.aio.insecure_channel(address)
        coding = {
            "request_serializer": to_bytes,
            "response_deserializer": bytes.decode,
        }
        path = f"/{SERVICE}"
        self.unary = self.channel.unary_unary(f"{path}/Unary", **coding)
        self.missing = self.channel.unary_unary(f"{path}/Missing", **coding)
        self.responses = self.channel.unary_stream(
            f"{path}/Responses", **coding
        )
        self.conversation = self.channel.stream_stream(
            f"{path}/Conversation", **coding
        )


def ours(interceptors, options):
    return AsyncServer(interceptors, options)


def theirs(interceptors, options):
    return grpc.aio.server(interceptors=interceptors, options=options)


@pytest.fixture(params=[ours, theirs])
def run(request):
    """Runs a coroutine that is given a `Running`."""

    async def main(scenario):
        behaviour = Behaviour()
        server = request.param(
            (Doorman("outer "), Doorman("inner")),
            (("grpc.max_receive_message_length", 1000),),
        )
        server.add_generic_rpc_handlers((behaviour.handlers(),))
        address = f"127.0.0.1:{free_port()}"
        server.add_insecure_port(address)
        await server.start()
        running = Running(server, address, behaviour)
        try:
            await asyncio.wait_for(scenario(running), 20)
        finally:
            behaviour.gate.set()
            await running.channel.close()
            await server.stop(5)

    return lambda scenario: asyncio.run(main(scenario))


async def status_of(call):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


def test_unary_calls_are_answered(run):
    async def scenario(running):
        answers = [running.unary(str(n), timeout=60) for n in range(100)]
        assert await asyncio.gather(*answers) == [
            str(n) * 2 for n in range(100)
        ]

    run(scenario)


def test_handlers_see_metadata_and_deadline(run):
    async def scenario(running):
        key = (("x-key", "value"),)
        assert await running.unary("metadata", metadata=key) == "value"
        assert await running.unary("remaining") == "None"
        remaining = await running.unary("remaining", timeout=5)
        assert 0 < float(remaining) < 6

    run(scenario)


def test_interceptors_share_the_handlers_context(run):
    async def scenario(running):
        assert await running.unary("who") == "outer inner"

    run(scenario)


def test_interceptors_can_refuse(run):
    async def scenario(running):
        burglar = {"metadata": (("x-key", "burglar"),), "timeout": 5}
        error = await status_of(running.unary("let me in", **burglar))
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED
        assert error.details() == "not you"

    run(scenario)


def test_abort_sends_status_words_and_metadata(run):
    async def scenario(running):
        error = await status_of(running.unary("abort", timeout=60))
        assert error.code() == grpc.StatusCode.DATA_LOSS
        assert error.details() == "böse"
        assert ("x-why", "w") in tuple(error.trailing_metadata())

    run(scenario)


def test_trailing_metadata_goes_after_the_answer(run):
    async def scenario(running):
        call = running.unary("trailing", timeout=60)
        assert await call == "trailing" * 2
        assert ("x-trailing", "t") in tuple(await call.trailing_metadata())

    run(scenario)


@pytest.mark.parametrize(
    ("request_text", "code"),
    [
        ("raise", grpc.StatusCode.UNKNOWN),
        ("x" * 2000, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_failures_have_a_status_and_the_next_call_works(
    run, request_text, code
):
    async def scenario(running):
        error = await status_of(running.unary(request_text, timeout=60))
        assert error.code() == code
        assert await running.unary("a", timeout=60) == "aa"

    run(scenario)


def test_unknown_method_is_unimplemented(run):
    async def scenario(running):
        error = await status_of(running.missing("", timeout=60))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED

    run(scenario)


def test_several_responses_come_in_order(run):
    async def scenario(running):
        got = [text async for text in running.responses("50", timeout=60)]
        assert got == [str(n) for n in range(50)]

    run(scenario)


def test_stream_can_be_aborted(run):
    async def scenario(running):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in running.responses("0", timeout=60):
                pass
        assert refused.value.code() == grpc.StatusCode.OUT_OF_RANGE

    run(scenario)


def test_conversation_goes_to_and_fro(run):
    async def scenario(running):
        call = running.conversation(timeout=60)
        for word in ("one", "two"):
            await call.write(word)
            assert await call.read() == word.upper()
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK

    run(scenario)


@pytest.mark.parametrize("hangs_up", [True, False])
def test_handler_is_cancelled_when_nobody_waits(run, hangs_up):
    async def scenario(running):
        # Connected, so that the deadline does not pass before the call comes.
        await running.unary("a")
        call = running.unary("wait", timeout=50 if hangs_up else 1)
        await running.behaviour.begun.wait()
        if hangs_up:
            call.cancel()
        await asyncio.wait_for(running.behaviour.cancelled.wait(), 60)

    run(scenario)


def test_stopping_server_lets_running_calls_end(run):
    async def scenario(running):
        call = running.unary("wait", timeout=10)
        waiting = asyncio.ensure_future(call)
        await running.behaviour.begun.wait()
        stopping = asyncio.ensure_future(running.server.stop(10))
        await asyncio.sleep(0.1)
        error = await status_of(running.unary("wait", timeout=1))
        assert error.code() in {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
            # Of a call that comes while the server begins to close.
            grpc.StatusCode.CANCELLED,
        }
        running.behaviour.gate.set()
        assert await waiting == "waitwait"
        await stopping

    run(scenario)


def test_stopping_server_cancels_what_outlasts_its_grace(run):
    async def scenario(running):
        call = asyncio.ensure_future(running.unary("wait", timeout=10))
        await running.behaviour.begun.wait()
        await running.server.stop(0.2)
        await status_of(call)
        assert running.behaviour.cancelled.is_set()

    run(scenario)
