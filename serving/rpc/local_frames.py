"""Calls between two processes of one machine, as bytes on a Unix socket.

Each side greets the other with `HELLO`. Then come frames: calls one way,
answers the other, in any order; the number of a call is that of its answer.

    frame    length of the rest u32 | number u64 | rest
    call     deadline, seconds since 1970, f64 | length of the method u8 |
             method | request
    answer   gRPC's status code u8 | response, or what is wrong in words
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import grpc

# What a target of this kind begins with; the socket's path follows.
LOCAL = "local:"

# The number changes with the format, so that two releases which do not
# understand each other find out at once.
HELLO = b"ADT\x01"

_HEAD = struct.Struct("<IQ")
_CALL = struct.Struct("<dB")
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class CallFrame(NamedTuple):
    """A call.

    Attributes:
        deadline: Until when its caller waits, seconds since 1970.
        method: Path of the method, `/package.Service/Method`.
        request: The serialized request.
    """

    deadline: float
    method: bytes
    request: bytes


class AnswerFrame(NamedTuple):
    """What came of a call.

    Attributes:
        code: gRPC's status.
        content: The serialized response, or what is wrong in words.
    """

    code: grpc.StatusCode
    content: bytes


def encode_call(number: int, call: CallFrame) -> bytes:
    """Returns the frame of a call."""
    head = _CALL.pack(call.deadline, len(call.method))
    size = len(head) + len(call.method) + len(call.request)
    return b"".join((_HEAD.pack(size, number), head, call.method, call.request))


def decode_call(rest: bytes) -> CallFrame:
    """Reads the rest of a call's frame.

    Raises:
        ValueError: It is none.
    """
    if len(rest) < _CALL.size:
        raise ValueError(f"A call of {len(rest)} bytes is too short.")
    deadline, size = _CALL.unpack_from(rest)
    start = _CALL.size + size
    if len(rest) < start:
        raise ValueError(f"A call's method of {size} bytes is cut short.")
    return CallFrame(deadline, rest[_CALL.size : start], rest[start:])


def encode_answer(number: int, answer: AnswerFrame) -> bytes:
    """Returns the frame of an answer."""
    head = _HEAD.pack(1 + len(answer.content), number)
    return b"".join((head, bytes((answer.code.value[0],)), answer.content))


def decode_answer(rest: bytes) -> AnswerFrame:
    """Reads the rest of an answer's frame.

    Raises:
        ValueError: It is none.
    """
    if not rest or rest[0] not in _CODES:
        raise ValueError(f"An answer begins with {rest[:1]!r}.")
    return AnswerFrame(_CODES[rest[0]], rest[1:])


class FrameReader:
    """Cuts what arrives into frames, however it was torn apart."""

    def __init__(self, max_bytes: int | None = None) -> None:
        """Begins before the greeting.

        Args:
            max_bytes: The largest rest of a frame; None is no limit.
        """
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._greeted = False
        # Bytes to come of a frame that is too large.
        self._skip = 0

    def feed(
        self, data: bytes | memoryview
    ) -> Iterator[tuple[int, bytes | None]]:
        """Takes what arrived; yields the frames that it completes.

        Args:
            data: The next bytes.

        Yields:
            Number and rest of each frame; a rest that is too large is None,
            and nothing is kept of it.

        Raises:
            ValueError: The other side does not greet as it should.
        """
        buffer = self._buffer
        buffer += data
        if not self._greeted:
            if not HELLO.startswith(bytes(buffer[: len(HELLO)])):
                raise ValueError(
                    f"The other side greets with {bytes(buffer[:16])!r}, not "
                    f"{HELLO!r}: it is no part of this release of adaptower."
                )
            if len(buffer) < len(HELLO):
                return
            self._greeted = True
            del buffer[: len(HELLO)]
        while True:
            if self._skip:
                skipped = min(self._skip, len(buffer))
                del buffer[:skipped]
                self._skip -= skipped
            if len(buffer) < _HEAD.size:
                return
            size, number = _HEAD.unpack_from(buffer)
            if self._max_bytes is not None and size > self._max_bytes:
                del buffer[: _HEAD.size]
                self._skip = size
                yield number, None
                continue
            end = _HEAD.size + size
            if len(buffer) < end:
                return
            rest = bytes(buffer[_HEAD.size : end])
            del buffer[:end]
            yield number, rest
