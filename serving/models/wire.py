"""Protocol buffers' wire format, as far as requests are put together by hand.

A message is its fields one after the other, so encoded parts that never change
can be kept and joined: https://protobuf.dev/programming-guides/encoding/.
"""

_LENGTH_DELIMITED = 2


def varint(number: int) -> bytes:
    """Encodes a number from 0."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, data: bytes) -> bytes:
    """Encodes a field that holds text, bytes or a message.

    Args:
        number: Number of the field, 1 to 15.
        data: The text in UTF-8, the bytes, or the message's own encoding.
    """
    tag, size = number << 3 | _LENGTH_DELIMITED, len(data)
    # What most fields are, in one step.
    if size < 0x80:
        return bytes((tag, size)) + data
    return bytes((tag,)) + varint(size) + data


def entry(number: int, key: str, value: bytes) -> bytes:
    """Encodes an entry of a map from text to messages."""
    return field(number, field(1, key.encode()) + field(2, value))
