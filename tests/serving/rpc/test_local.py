"""Calls over a Unix socket: what callers see, whatever the other side does."""

import asyncio
import contextlib
import math
import socket
import stat
import threading
import time

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.rpc.local_channel import LocalChannel
from serving.rpc.local_frames import (
    HELLO,
    AnswerFrame,
    CallFrame,
    FrameReader,
    decode_answer,
    decode_call,
    encode_answer,
    encode_call,
)
from serving.rpc.local_server import LocalServer
from tests.helpers.patience import wait_until
from tests.helpers.rpc_handler import Handler

METHOD = b"/a.Service/Method"
MAX_BYTES = 100_000


@pytest.fixture
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("s") / "s"


@contextlib.contextmanager
def serving(path, handler, grace_seconds=100.0):
    server = LocalServer(handler, MAX_BYTES)
    server.listen(path)
    server.start()
    try:
        yield server
    finally:
        handler.gate.set()
        server.shut_down(grace_seconds)


@pytest.fixture
def handler(path):
    return Handler()


@pytest.fixture
def server(path, handler):
    with serving(path, handler) as server:
        yield server


def run(path, test):
    async def main():
        channel = LocalChannel(str(path))
        try:
            return await test(channel)
        finally:
            await channel.close()

    return asyncio.run(asyncio.wait_for(main(), 200))


def call(channel, request, seconds=100.0, **options):
    return channel.call(METHOD, request, seconds, **options)


def status_of(path, request, seconds=100.0):
    async def test(channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(channel, request, seconds)
        return refused.value

    return run(path, test)


@pytest.mark.parametrize("request_", [b"", b"ab", bytes(70_000)])
def test_requests_are_answered(server, path, request_):
    answer = run(path, lambda channel: call(channel, request_))
    assert answer == 2 * request_


def test_method_and_deadline_arrive(server, path):
    async def test(channel):
        before = time.time()
        assert await call(channel, b"method") == METHOD
        return before, float(await call(channel, b"deadline", 50.0))

    before, deadline = run(path, test)
    # It is told to three digits.
    assert before + 50 - 0.001 <= deadline <= time.time() + 50 + 0.001


def test_many_calls_at_once_get_their_own_answers(server, path):
    requests = [b"%d" % number * 300 for number in range(500)]

    async def test(channel):
        return await asyncio.gather(*(call(channel, r) for r in requests))

    assert run(path, test) == [2 * request for request in requests]


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (b"refuse", grpc.StatusCode.DATA_LOSS, "böse"),
        (b"raise", grpc.StatusCode.INTERNAL, "Unexpected"),
        (bytes(MAX_BYTES), grpc.StatusCode.RESOURCE_EXHAUSTED, "100000 bytes"),
    ],
)
def test_refusals_have_a_status_and_the_next_call_works(
    server, path, request_, code, words
):
    async def test(channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(channel, request_)
        assert await call(channel, b"go on") == b"go ongo on"
        return refused.value

    error = run(path, test)
    assert error.code() is code
    assert words in error.details()


def test_calls_that_waited_come_as_a_group(server, path, handler):
    handler.gate.clear()

    async def test(channel):
        first = asyncio.ensure_future(call(channel, b"first"))
        while not handler.groups:
            await asyncio.sleep(0.001)
        others = [
            asyncio.ensure_future(call(channel, b"%d" % n)) for n in range(12)
        ]
        await asyncio.sleep(0.1)
        handler.gate.set()
        await asyncio.gather(first, *others)

    run(path, test)
    assert handler.groups[1:] == [[b"%d" % n for n in range(12)]]


def test_deadline_ends_the_call_and_the_late_answer_finds_nobody(
    server, path, handler
):
    handler.gate.clear()

    async def test(channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(channel, b"late", 0.1)
        handler.gate.set()
        assert await call(channel, b"a") == b"aa"
        return refused.value

    assert run(path, test).code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_cancelled_calls_do_no_harm(server, path, handler):
    handler.gate.clear()

    async def test(channel):
        tasks = [asyncio.ensure_future(call(channel, b"x")) for _ in range(20)]
        while not handler.groups:
            await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()
        handler.gate.set()
        return await call(channel, b"here")

    assert run(path, test) == b"herehere"


def test_nobody_listening_is_told_at_once_or_waited_for(path, handler):
    assert status_of(path, b"a").code() is grpc.StatusCode.UNAVAILABLE

    async def test(channel):
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await call(channel, b"a", 0.3, wait_for_ready=True)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        waiting = asyncio.ensure_future(
            call(channel, b"a", wait_for_ready=True)
        )
        await asyncio.sleep(0.05)
        with serving(path, handler):
            return await waiting

    assert run(path, test) == b"aa"


def test_server_that_comes_back_is_found_by_the_next_call(path, handler):
    async def test(channel):
        for _ in range(3):
            with serving(path, handler):
                assert await call(channel, b"a") == b"aa"
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(channel, b"a")
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE

    run(path, test)


def test_call_that_breaks_off_is_made_once_more(path):
    """A server that takes one call, and ends without a word; then another."""
    requests = []

    def serve_and_break_off(listener, times):
        for _ in range(times):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(HELLO)
                reader = FrameReader()
                frames = []
                while not frames:
                    frames = list(reader.feed(connection.recv(1 << 16)))
                requests.append(decode_call(frames[0][1]).request)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(
            target=serve_and_break_off, args=(listener, 2)
        )
        thread.start()
        error = status_of(path, b"once")
        thread.join(100)
    assert requests == [b"once", b"once"]
    assert error.code() is grpc.StatusCode.UNAVAILABLE


def test_shut_down_answers_what_has_come_in(path, handler):
    handler.gate.clear()

    async def test(channel):
        calls = [asyncio.ensure_future(call(channel, b"a")) for _ in range(3)]
        while not handler.groups:
            await asyncio.sleep(0.001)
        ending = threading.Thread(target=server.shut_down, args=(100.0,))
        ending.start()
        await asyncio.sleep(0.1)
        handler.gate.set()
        answers = await asyncio.gather(*calls)
        await asyncio.to_thread(ending.join)
        return answers

    server = LocalServer(handler, MAX_BYTES)
    server.listen(path)
    server.start()
    assert run(path, test) == [b"aa"] * 3
    assert not path.exists()


def test_unread_calls_wait_within_their_deadline(path):
    """Nobody reads: memory stays bounded, and callers are told in time."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        async def test(channel):
            return await asyncio.gather(
                *(call(channel, bytes(1 << 19), 0.5) for _ in range(20)),
                return_exceptions=True,
            )

        errors = run(path, test)
    assert {error.code() for error in errors} == {
        grpc.StatusCode.DEADLINE_EXCEEDED
    }


def test_strangers_are_turned_away(server, path, caplog):
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(path))
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        received = b""
        while data := stranger.recv(1 << 16):
            received += data
    assert received == HELLO
    # Told once the connection is closed.
    wait_until(lambda: "no part of this release" in caplog.text)
    assert run(path, lambda channel: call(channel, b"a")) == b"aa"


def test_connection_that_gets_no_thread_is_closed_and_the_next_one_served(
    server, path, monkeypatch, caplog
):
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == "local-calls":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(path))
            assert client.recv(len(HELLO)) == b""
        wait_until(lambda: "can't start new thread" in caplog.text)
    assert run(path, lambda channel: call(channel, b"a")) == b"aa"
    server.shut_down(100.0)


@contextlib.contextmanager
def strange_server(path):
    """Somebody else's, who takes one connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def greet():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"-ERR unknown command\r\n")
                # Whoever calls a closed connection may not get to read that.
                with contextlib.suppress(ConnectionResetError):
                    while connection.recv(1 << 16):
                        pass

        thread = threading.Thread(target=greet)
        thread.start()
        yield
        thread.join(100)


def test_strange_server_is_named(path):
    with strange_server(path):
        error = status_of(path, b"a")
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "no part of this release" in error.details()


def test_connection_that_ends_before_its_first_call_fails_it_at_once(path):
    """The strange greeting is there before the call is."""

    async def test(channel):
        link = await channel._connected(math.inf, False)
        while link.open:
            await asyncio.sleep(0.001)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await link.call(CallFrame(0.0, METHOD, b"a"), math.inf)
        return refused.value

    with strange_server(path):
        error = run(path, test)
    assert "no part of this release" in error.details()


def test_only_its_own_user_can_open_the_socket(server, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_socket_in_use_is_refused_and_a_dead_one_replaced(
    server, path, tmp_path_factory
):
    with pytest.raises(OSError, match="already"):
        LocalServer(Handler()).listen(path)
    left = tmp_path_factory.mktemp("s") / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    handler = Handler()
    with serving(left, handler):
        assert run(left, lambda channel: call(channel, b"a")) == b"aa"


NUMBERS = st.integers(0, 2**64 - 1)
CALLS = st.builds(
    CallFrame,
    st.floats(0, 1e12),
    st.binary(max_size=255),
    st.binary(max_size=300),
)
ANSWERS = st.builds(
    AnswerFrame, st.sampled_from(grpc.StatusCode), st.binary(max_size=300)
)


@given(
    st.lists(st.tuples(NUMBERS, CALLS)),
    st.lists(st.integers(1, 400), min_size=1),
)
def test_calls_survive_however_they_are_torn_apart(calls, cuts):
    data = HELLO + b"".join(encode_call(n, each) for n, each in calls)
    reader, read, position = FrameReader(), [], 0
    while position < len(data):
        for cut in cuts:
            part = data[position : position + cut]
            read += [(n, decode_call(rest)) for n, rest in reader.feed(part)]
            position += cut
    assert read == calls


@given(NUMBERS, ANSWERS)
def test_answers_survive(number, answer):
    ((read_number, rest),) = FrameReader().feed(
        HELLO + encode_answer(number, answer)
    )
    assert (read_number, decode_answer(rest)) == (number, answer)


@given(st.binary(max_size=50), st.integers(1, 60))
def test_frame_over_the_limit_is_left_out_and_the_next_one_read(big, cut):
    largest = len(encode_call(0, CallFrame(0.0, METHOD, b""))) - 12
    calls = [CallFrame(1.0, METHOD, big), CallFrame(2.0, METHOD, b"")]
    data = HELLO + b"".join(encode_call(n, c) for n, c in enumerate(calls))
    reader, read = FrameReader(largest), []
    for start in range(0, len(data), cut):
        read += reader.feed(data[start : start + cut])
    assert [number for number, _ in read] == [0, 1]
    assert (read[0][1] is None) == bool(big)
    assert decode_call(read[1][1]) == calls[1]


@given(st.binary(max_size=40))
def test_bytes_that_are_no_call_or_answer_are_refused_or_read(data):
    for decode in (decode_call, decode_answer):
        with contextlib.suppress(ValueError):
            decode(data)
