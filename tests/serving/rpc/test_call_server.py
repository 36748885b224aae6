"""The server beside gRPC's own client, which knows nothing of its innards."""

import socket
import struct
import threading
import time
from concurrent import futures

import grpc
import pytest

from serving.ports import free_port
from serving.rpc.call import MAX_WORDS_BYTES
from serving.rpc.call_server import MAX_UNREAD, CallServer, Grouping
from tests.helpers.patience import wait_until
from tests.helpers.rpc_handler import Handler

OPTIONS = (("grpc.max_receive_message_length", 1000),)
GROUPING = Grouping(max_calls=8)


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
def address():
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def server(handler, address):
    server = CallServer(handler, OPTIONS, 2, GROUPING)
    server.listen(address)
    server.start()
    yield server
    handler.gate.set()
    server.shut_down(5)
    server.close()


@pytest.fixture
def ask(server, address):
    with grpc.insecure_channel(address) as channel:
        yield channel.unary_unary("/a.Service/Method")


def test_requests_are_answered(ask):
    assert ask(b"", timeout=60) == b""
    assert ask(b"abc", timeout=60) == b"abcabc"
    assert ask(b"method", timeout=60) == b"/a.Service/Method"


def test_deadline_is_the_callers(ask):
    before = time.time()
    deadline = float(ask(b"deadline", timeout=50))
    # The server counts from when the request comes, to the tenth of a second.
    assert before + 50 - 0.2 <= deadline <= time.time() + 50 + 0.2


@pytest.mark.parametrize(
    ("request_bytes", "code", "words"),
    [
        (b"refuse", grpc.StatusCode.DATA_LOSS, "böse"),
        (b"raise", grpc.StatusCode.INTERNAL, "Unexpected"),
        (bytes(2000), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
    ],
)
def test_refusals_have_a_status(ask, request_bytes, code, words):
    with pytest.raises(grpc.RpcError) as refused:
        ask(request_bytes, timeout=60)
    assert refused.value.code() == code
    assert words in refused.value.details()
    assert ask(b"go on", timeout=60) == b"go ongo on"


def test_calls_that_waited_come_as_groups(ask, handler):
    handler.gate.clear()
    first = ask.future(b"first", timeout=50)
    while not handler.groups:
        time.sleep(0.001)
    others = [ask.future(b"%d" % n, timeout=50) for n in range(12)]
    time.sleep(0.2)
    handler.gate.set()
    assert [f.result() for f in others] == [2 * (b"%d" % n) for n in range(12)]
    assert first.result() == b"firstfirst"
    assert 1 < max(map(len, handler.groups)) <= GROUPING.max_calls


def test_callers_who_leave_do_no_harm(ask, handler):
    handler.gate.clear()
    calls = [ask.future(b"gone", timeout=60) for _ in range(20)]
    time.sleep(0.1)
    for call in calls:
        call.cancel()
    handler.gate.set()
    assert ask(b"here", timeout=60) == b"herehere"


def test_many_callers_get_their_own_answers(server, address):
    def converse(number):
        with grpc.insecure_channel(
            address, (("grpc.use_local_subchannel_pool", 1),)
        ) as channel:
            ask = channel.unary_unary("/a.Service/Method")
            return all(
                ask(b"%d-%d" % (number, n), timeout=60)
                == 2 * (b"%d-%d" % (number, n))
                for n in range(100)
            )

    with futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(converse, range(8)))


def test_running_calls_end_before_the_server_does(ask, server, handler):
    handler.gate.clear()
    running = ask.future(b"late", timeout=10)
    while not handler.groups:
        time.sleep(0.001)
    stopping = threading.Thread(target=server.shut_down, args=(10,))
    stopping.start()
    time.sleep(0.1)
    with pytest.raises(grpc.RpcError) as refused:
        ask(b"too late", timeout=1)
    assert refused.value.code() in {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        # Of a call that comes while the server begins to close.
        grpc.StatusCode.CANCELLED,
    }
    handler.gate.set()
    assert running.result() == b"latelate"
    stopping.join(5)
    assert not stopping.is_alive()


def test_taken_address_is_told(server, address):
    with pytest.raises(RuntimeError, match=address):
        CallServer(Handler()).listen(address)


def http2_frame(kind, flags, stream, payload):
    size = struct.pack(">I", len(payload))[1:]
    return size + struct.pack(">BBI", kind, flags, stream) + payload


def send_raw_call(address, path):
    """Sends a call as no client of gRPC's would; waits for an answer."""
    host, port = address.split(":")
    headers = b"".join(
        b"\0%c%s%c%s" % (len(name), name, len(value), value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"x"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )
    )
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + http2_frame(4, 0, 0, b"")
            + http2_frame(1, 4, 1, headers)
            + http2_frame(0, 1, 1, bytes(5))
        )
        received = b""
        while b"grpc-status" not in received:
            part = connection.recv(4096)
            assert part, "the connection was closed"
            received += part


def test_method_that_is_no_text_does_not_end_the_server(ask, address):
    # More than there are threads.
    for _ in range(4):
        send_raw_call(address, b"/a.Service/\xff")
    assert ask(b"go on", timeout=60) == b"go ongo on"


def test_trouble_with_one_call_does_not_end_the_server(address):
    held, troubles = [], []

    def hold_or_answer(calls):
        for call in calls:
            if call.request == b"hold":
                held.append(call)
            else:
                call.answer(call.request)

    def trouble(call):
        troubles.append(call)
        raise ValueError("made up")

    server = CallServer(hold_or_answer, OPTIONS, on_hang_up=trouble)
    server.listen(address)
    server.start()
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary("/a.Service/Method")
        waiting = ask.future(b"hold", timeout=100)
        wait_until(lambda: held)
        waiting.cancel()
        wait_until(lambda: troubles)
        assert ask(b"go on", timeout=30) == b"go on"
    held.clear()
    troubles.clear()
    server.shut_down(5)
    server.close()


def test_requests_that_never_arrive_make_room_for_those_that_do(
    handler, address
):
    server = CallServer(handler, OPTIONS, max_unread=2)
    server.listen(address)
    server.start()
    never = threading.Event()

    def request(number):
        if number < 2:
            never.wait(60)
        yield b"%d" % number

    with grpc.insecure_channel(address) as channel:
        ask = channel.stream_unary("/a.Service/Method")
        calls = [ask.future(request(number), timeout=50) for number in (0, 1)]
        # Both are there first.
        wait_until(lambda: len(server._loops[0]._unread) == 2)
        answers = [ask(request(number), timeout=50) for number in range(2, 12)]
        wait_until(lambda: any(call.done() for call in calls))
        codes = {call.code() for call in calls if call.done()}
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert answers == [2 * (b"%d" % n) for n in range(2, 12)]
        never.set()
    server.shut_down(5)
    server.close()


@pytest.mark.parametrize("on_hang_up", [None, lambda call: None])
def test_call_without_a_request_is_refused_at_once(
    handler, address, on_hang_up
):
    server = CallServer(handler, OPTIONS, on_hang_up=on_hang_up)
    server.listen(address)
    server.start()
    with grpc.insecure_channel(address) as channel:
        ask = channel.stream_unary("/a.Service/Method")
        with pytest.raises(grpc.RpcError) as refused:
            ask(iter(()), timeout=60)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    server.shut_down(5)
    server.close()


@pytest.mark.parametrize("size", [100, 100_000])
def test_compressed_request_is_refused_without_being_unpacked(
    server, address, size
):
    """A million bytes of it might be a thousand million."""
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary("/a.Service/Method")
        with pytest.raises(grpc.RpcError) as refused:
            ask(bytes(size), timeout=60, compression=grpc.Compression.Gzip)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert ask(b"plain", timeout=60) == b"plainplain"


def test_requests_that_never_arrive_are_bounded_unless_told_otherwise(address):
    server = CallServer(Handler())
    server.listen(address)
    server.start()
    never = threading.Event()

    def request():
        never.wait(60)
        yield b""

    with grpc.insecure_channel(address) as channel:
        ask = channel.stream_unary("/a.Service/Method")
        calls = [ask.future(request(), timeout=50) for _ in range(MAX_UNREAD)]
        unread = server._loops[0]._unread
        wait_until(lambda: len(unread) == MAX_UNREAD)
        calls.append(ask.future(request(), timeout=50))
        wait_until(lambda: any(call.done() for call in calls))
        (refused,) = [call for call in calls if call.done()]
        assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        never.set()
    server.shut_down(5)
    server.close()


@pytest.mark.parametrize("letter", ["x", "ö"])
def test_status_is_told_however_many_words_go_with_it(address, letter):
    def refuse(calls):
        for call in calls:
            call.refuse(grpc.StatusCode.NOT_FOUND, "No " + letter * 100_000)

    server = CallServer(refuse)
    server.listen(address)
    server.start()
    with (
        grpc.insecure_channel(address) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        channel.unary_unary("/a.Service/Method")(b"", timeout=60)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    words = refused.value.details()
    assert words.startswith("No " + letter * 900)
    assert words.endswith(letter + "...")
    assert len(words.encode()) <= MAX_WORDS_BYTES + 3
    server.shut_down(5)
    server.close()
