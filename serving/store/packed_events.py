"""A user's reservoir in few bytes, item ids exact to the letter.

    number of events; if it is 0, nothing follows
    coding of the ids (1 byte), then
        NUMBERS  common prefix, digits (0: as many as it takes), width in
                 bits, and each id's number in that many bits
        TEXTS    length and UTF-8 of each id
        DEFLATED the same, compressed
    number of distinct labels, 0 for exactly (0, 1); each as float32
    each label's index among them, in as few bits as that takes

Most catalogues number their items: 192 ids below 4,096 take 291 bytes where
their texts take 960. Other ids (UUIDs, names) are kept as texts.
"""

import functools
import itertools
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

from serving.contract.support import SupportEvent
from serving.errors import RecordError
from serving.packing import Reader, pack_bits, put_bytes, put_text, put_varint

_NUMBERS, _TEXTS, _DEFLATED = range(3)
_PLAIN_LABELS = (0.0, 1.0)
_MAX_LABEL = float(np.finfo(np.float32).max)
# 18 digits fit 63 bits.
_MAX_DIGITS = 18
_DIGITS = "0123456789"
_LEADING_ZERO = re.compile(r"0[0-9]")


class PackedEvents(Sequence[SupportEvent]):
    """Events that are decoded when somebody looks at them.

    Rank reads a user's weights and has no use for the events.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data

    @functools.cached_property
    def _events(self) -> tuple[SupportEvent, ...]:
        return unpack_events(self.data)

    @overload
    def __getitem__(self, index: int) -> SupportEvent: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[SupportEvent, ...]: ...

    def __getitem__(
        self, index: int | slice
    ) -> SupportEvent | tuple[SupportEvent, ...]:
        return self._events[index]

    def __len__(self) -> int:
        # Asked of everybody who is met behind: it must not decode them all.
        return Reader(self.data).varint()

    def __iter__(self) -> Iterator[SupportEvent]:
        return iter(self._events)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PackedEvents | tuple):
            return NotImplemented
        return self._events == tuple(other)

    def __hash__(self) -> int:
        return hash(self._events)


def pack_events(events: Sequence[SupportEvent]) -> bytes:
    """Encodes events.

    Args:
        events: The events, oldest first; labels are rounded to float32.

    Raises:
        RecordError: A label is not finite.
    """
    if isinstance(events, PackedEvents):
        return events.data
    out = bytearray()
    put_varint(out, len(events))
    if events:
        _put_ids(out, [event.item_id for event in events])
        _put_labels(out, events)
    return bytes(out)


def unpack_events(data: bytes) -> tuple[SupportEvent, ...]:
    """Decodes events.

    Raises:
        ValueError: The bytes are damaged.
    """
    reader = Reader(data)
    count = reader.varint()
    events: tuple[SupportEvent, ...] = ()
    if count:
        ids = _read_ids(reader, count)
        events = tuple(map(SupportEvent, ids, _read_labels(reader, count)))
    reader.end()
    return events


def _put_ids(out: bytearray, ids: Sequence[str]) -> None:
    numbered = _numbered(ids)
    if numbered is not None:
        prefix, digits, numbers = numbered
        width = max(numbers).bit_length()
        out.append(_NUMBERS)
        put_text(out, prefix)
        out += bytes((digits, width))
        out += pack_bits(numbers, width)
        return
    texts = bytearray()
    for item_id in ids:
        put_text(texts, item_id)
    deflated = zlib.compress(texts, level=1)
    if len(deflated) < len(texts):
        out.append(_DEFLATED)
        put_bytes(out, deflated)
    else:
        out.append(_TEXTS)
        put_bytes(out, bytes(texts))


def _numbered(ids: Sequence[str]) -> tuple[str, int, list[int]] | None:
    """Splits ids into one prefix, the digits they are padded to, numbers.

    None if they do not all have that form.
    """
    prefix = _common_prefix(ids).rstrip(_DIGITS)
    rests = [item_id[len(prefix) :] for item_id in ids]
    if not all(
        rest.isascii() and rest.isdecimal() and len(rest) <= _MAX_DIGITS
        for rest in rests
    ):
        return None
    digits = 0
    if any(map(_LEADING_ZERO.match, rests)):
        digits = len(rests[0])
        if any(len(rest) != digits for rest in rests):
            return None
    return prefix, digits, [int(rest) for rest in rests]


def _common_prefix(texts: Sequence[str]) -> str:
    # What the first and the last in order share, all of them do.
    first, last = min(texts), max(texts)
    pairs = zip(first, last, strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda p: p[0] == p[1], pairs))
    return first[:shared]


def _read_ids(reader: Reader, count: int) -> Iterable[str]:
    coding = reader.take(1)[0]
    if coding == _NUMBERS:
        prefix = reader.text()
        digits, width = reader.take(2)
        numbers = reader.bits(count, width).tolist()
        return [f"{prefix}{number:0{digits}d}" for number in numbers]
    data = reader.bytes()
    if coding == _DEFLATED:
        try:
            data = zlib.decompress(data)
        except zlib.error as error:
            raise ValueError(str(error)) from error
    elif coding != _TEXTS:
        raise ValueError(f"coding {coding} of ids is not known")
    texts = Reader(data)
    ids = [texts.text() for _ in range(count)]
    texts.end()
    return ids


def _put_labels(out: bytearray, events: Sequence[SupportEvent]) -> None:
    for event in events:
        if not abs(event.label) <= _MAX_LABEL:
            raise RecordError(
                f"The label {event.label} of item {event.item_id!r} is not a "
                "finite float32 and is not stored."
            )
    labels = [float(np.float32(event.label)) for event in events]
    values = sorted(set(labels))
    if set(values) <= set(_PLAIN_LABELS):
        values = list(_PLAIN_LABELS)
        put_varint(out, 0)
    else:
        put_varint(out, len(values))
        out += np.array(values, "<f4").tobytes()
    places = {value: place for place, value in enumerate(values)}
    width = (len(values) - 1).bit_length()
    out += pack_bits([places[label] for label in labels], width)


def _read_labels(reader: Reader, count: int) -> Iterable[float]:
    size = reader.varint()
    values: Sequence[float] = _PLAIN_LABELS
    if size:
        values = np.frombuffer(reader.take(4 * size), "<f4").tolist()
    width = (len(values) - 1).bit_length()
    places = reader.bits(count, width).tolist()
    if max(itertools.chain(places, (0,))) >= len(values):
        raise ValueError("a label is not among the labels")
    return [values[place] for place in places]
