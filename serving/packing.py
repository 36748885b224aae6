"""Bytes of records and log entries: varints, texts, bit fields, checksums.

Integers are LEB128 varints; a sealed value ends with the CRC32 of the rest.
"""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_CRC = struct.Struct("<I")
_MAX_SHIFT = 63


def put_varint(out: bytearray, number: int) -> None:
    """Appends an integer.

    Raises:
        ValueError: It is negative, or has more than 70 bits.
    """
    if number < 0 or number >> (_MAX_SHIFT + 7):
        raise ValueError(f"{number} does not fit a varint")
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def put_text(out: bytearray, text: str) -> None:
    """Appends a text's length in UTF-8 and the text."""
    put_bytes(out, text.encode())


def put_bytes(out: bytearray, data: bytes) -> None:
    """Appends a length and that many bytes."""
    put_varint(out, len(data))
    out += data


def pack_bits(numbers: Sequence[int], width: int) -> bytes:
    """Packs non-negative integers into `width` bits each, 63 at most."""
    # For the few that there are, quicker than arrays.
    bits = 0
    for place, number in enumerate(numbers):
        bits |= number << (place * width)
    return bits.to_bytes((len(numbers) * width + 7) // 8, "little")


def seal(out: bytearray) -> bytes:
    """Returns the bytes with their checksum at the end."""
    return bytes(out + _CRC.pack(zlib.crc32(out)))


def unseal(data: bytes) -> bytes:
    """Returns the bytes without their checksum.

    Raises:
        ValueError: The checksum does not match, or there is none.
    """
    body = data[: -_CRC.size]
    if not body or _CRC.unpack(data[-_CRC.size :])[0] != zlib.crc32(body):
        raise ValueError("the checksum does not match")
    return body


class Reader:
    """Reads the parts one after the other; raises ValueError at their end."""

    def __init__(self, data: bytes, place: int = 0) -> None:
        self._data = data
        self._place = place

    def take(self, size: int) -> bytes:
        """Reads a number of bytes."""
        part = self._data[self._place : self._place + size]
        if len(part) != size:
            raise ValueError("it ends too early")
        self._place += size
        return part

    def varint(self) -> int:
        """Reads an integer."""
        try:
            byte = self._data[self._place]
            self._place += 1
            # Most are short, and every record that is read has several.
            if byte < 0x80:
                return byte
            number, shift = byte & 0x7F, 7
            while shift <= _MAX_SHIFT:
                byte = self._data[self._place]
                self._place += 1
                number |= (byte & 0x7F) << shift
                if byte < 0x80:
                    return number
                shift += 7
        except IndexError:
            raise ValueError("it ends too early") from None
        raise ValueError("a number is too long")

    def bytes(self) -> bytes:
        """Reads a length and that many bytes."""
        return self.take(self.varint())

    def text(self) -> str:
        """Reads a length and a text of that many bytes."""
        return self.bytes().decode()

    def bits(self, count: int, width: int) -> NDArray[np.int64]:
        """Reads what `pack_bits` made of `count` integers, shape [count]."""
        packed = np.frombuffer(self.take((count * width + 7) // 8), np.uint8)
        bits = np.unpackbits(packed, count=count * width, bitorder="little")
        powers = np.int64(1) << np.arange(width, dtype=np.int64)
        return bits.reshape(count, width).astype(np.int64) @ powers

    @property
    def at_end(self) -> bool:
        """Whether all was read."""
        return self._place == len(self._data)

    def end(self) -> None:
        """Raises ValueError if there are bytes left."""
        if not self.at_end:
            raise ValueError("there are bytes left over")
