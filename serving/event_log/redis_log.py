"""The event log for many gateways and workers: streams in one Redis server.

    PREFIX:log:shards                number of streams
    PREFIX:log:readers               readers, by the time they read last
    PREFIX:log:stream:N              entries: user `u`, head `h`, events `e`
    PREFIX:log:lease:N               the reader that has the stream
    PREFIX:log:seen:DIGEST           hashes of the user's event ids, by time
    PREFIX:log:entries:DIGEST        ids of the user's entries
    PREFIX:log:deleted:DIGEST        tombstone

DIGEST is that of the user. A user's entries are all in one stream.
"""

import itertools
import logging
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

from serving.errors import EventLogError, LogFullError, RecordError
from serving.event_log import redis_scripts as scripts
from serving.event_log.entry import (
    LogEntry,
    LoggedEvent,
    Submission,
    decode_fields,
    encode_events,
    encode_head,
)
from serving.event_log.event_log import (
    POSITION_TIME_BITS,
    Appended,
    EventLog,
    LogConfig,
    LogStatus,
)
from serving.packing import seal
from serving.redis_server import Call, RedisConfig, RedisServer
from serving.store.adaptive_store import deleted
from serving.store.record import UserKey
from serving.store.tombstone import Retention, Tombstone, now_ms

_log = logging.getLogger(__name__)

DEFAULT_SHARDS = 16
_GROUP = "online"
_CHUNK = 256
# Streams and leases that come free are looked at again this often.
_BLOCK_SECONDS = 0.02


class RedisEventLog(EventLog):
    """Keeps the events in the streams of a Redis or Valkey server."""

    def __init__(
        self,
        server: RedisConfig,
        config: LogConfig | None = None,
        shards: int = DEFAULT_SHARDS,
    ) -> None:
        """Connects to the server.

        Args:
            server: Where the server is, and how it is used.
            config: How much the log holds, and for how long.
            shards: Number of streams; the most workers that have something
                to do at a time. The same for all that use the log.

        Raises:
            EventLogError: The server can't be reached, or can't do what is
                needed, or the log has another number of streams.
        """
        self._config = config or LogConfig()
        self._num_shards = shards
        self._server = RedisServer(server, _failed, _full)
        self._open_streams()

    def _open_streams(self) -> None:
        name = self._key("shards")
        with self._server.writing() as client:
            client.setnx(name, self._num_shards)
            found = int(client.get(name))
        if found != self._num_shards:
            raise EventLogError(
                f"The event log has {found} streams, not {self._num_shards}. "
                "A user's events would go astray: use the same number "
                "everywhere, or learn all events before you change it."
            )
        streams = [Call([self._stream(n)], [_GROUP]) for n in range(found)]
        self._server.run(scripts.OPEN, streams)

    def append(  # noqa: D102
        self, submissions: Sequence[Submission], consumer: str | None = None
    ) -> list[Appended]:
        by_shard: dict[int, list[int]] = {}
        for place, submission in enumerate(submissions):
            by_shard.setdefault(self._shard(submission.key), []).append(place)
        groups = [
            (shard, [submissions[place] for place in places])
            for shard, places in by_shard.items()
        ]
        calls = [self._append(*group, consumer or "") for group in groups]
        replies = self._server.run(scripts.APPEND, calls, durable=True)
        if b"full" in replies:
            # Learned entries go first; then once more, as far as need be.
            for (shard, group), reply in zip(groups, replies, strict=True):
                if reply == b"full":
                    self._make_room(shard, len(group))
            again = [n for n, reply in enumerate(replies) if reply == b"full"]
            later = self._server.run(
                scripts.APPEND, [calls[n] for n in again], durable=True
            )
            for n, reply in zip(again, later, strict=True):
                replies[n] = reply
        if b"full" in replies:
            raise LogFullError(
                f"The event log holds {self._most_per_shard} entries in a "
                "stream that are not learned from yet, and takes in no more "
                f"than {self._config.max_entries} in all. Send the events "
                "again later; if it stays so, see that the online stage runs "
                "and keeps up."
            )
        results: list[Appended] = [None] * len(submissions)
        for places, reply in zip(by_shard.values(), replies, strict=True):
            for place, one in zip(places, reply, strict=True):
                results[place] = _appended(submissions[place], one)
        return results

    def _append(
        self, shard: int, submissions: Sequence[Submission], consumer: str
    ) -> Call:
        keys = [self._stream(shard)]
        arguments: list[bytes | str | int] = [
            _GROUP,
            consumer,
            _milliseconds(self._config.dedup_seconds),
            self._most_per_shard,
        ]
        for submission in submissions:
            digest = submission.key.digest
            for kind in ("seen", "entries", "deleted"):
                keys.append(self._key(kind, digest))
            head = seal(bytearray(encode_head(submission)))
            arguments += [digest, head, len(submission.events)]
            for event in submission.events:
                arguments.append(event.hash(submission.key))
                arguments.append(seal(bytearray(encode_events([event]))))
        return Call(keys, arguments)

    def read(  # noqa: D102
        self, consumer: str, limit: int, wait_seconds: float = 0.0
    ) -> list[LogEntry]:
        streams = [self._stream(n) for n in range(self._num_shards)]
        leases = [
            self._key("lease", b"%d" % n) for n in range(self._num_shards)
        ]
        keys = [
            self._key("readers"),
            *itertools.chain(*zip(streams, leases, strict=True)),
        ]
        lease_ms = _milliseconds(self._config.lease_seconds)
        deadline = time.monotonic() + wait_seconds
        while True:
            # Each stream comes first at times, or the last would starve.
            first = random.randrange(self._num_shards)
            call = Call(keys, [_GROUP, consumer, lease_ms, limit, first])
            (taken,) = self._server.run(scripts.TAKE, [call])
            entries = self._decoded(taken)
            left = deadline - time.monotonic()
            if entries or left <= 0:
                return entries
            self._wait(streams, min(left, _BLOCK_SECONDS))

    def _wait(self, streams: Sequence[bytes], seconds: float) -> None:
        """Waits until an entry comes to one of the streams."""
        with self._server.writing() as client:
            client.xread(
                dict.fromkeys(streams, "$"),
                count=1,
                block=max(1, int(seconds * 1000)),
            )

    def _decoded(self, taken: Sequence[Any]) -> list[LogEntry]:
        """Decodes entries with their streams; acknowledges damaged ones."""
        entries = []
        for shard, (entry_id, fields) in taken:
            entry = _entry(entry_id, fields)
            if entry is not None:
                entries.append(entry)
                continue
            with self._server.writing() as client:
                # What can't be read would only come again.
                client.xack(self._stream(shard), _GROUP, entry_id)
        return entries

    def ack(self, entries: Sequence[LogEntry]) -> None:  # noqa: D102
        drop = int(self._config.keep_seconds <= 0)
        by_shard: dict[int, list[LogEntry]] = {}
        for entry in entries:
            by_shard.setdefault(self._shard(entry.key), []).append(entry)
        calls = [
            Call(
                [
                    self._stream(shard),
                    *(self._key("entries", e.key.digest) for e in group),
                ],
                [_GROUP, drop, *(_entry_id(e.position) for e in group)],
            )
            for shard, group in by_shard.items()
        ]
        self._server.run(scripts.ACK, calls)

    def events_of(self, key: UserKey) -> list[LogEntry]:  # noqa: D102
        call = Call(
            [self._stream(self._shard(key)), self._key("entries", key.digest)],
            [],
        )
        (found,) = self._server.run(scripts.EVENTS_OF, [call])
        entries = (_entry(*entry) for entry in found)
        return [e for e in entries if e is not None and e.key == key]

    def entries(self) -> Iterator[LogEntry]:  # noqa: D102
        for shard in range(self._num_shards):
            start = "-"
            while chunk := self._chunk(shard, start):
                for entry_id, fields in chunk:
                    entry = _entry(entry_id, fields)
                    if entry is not None:
                        yield entry
                start = f"({chunk[-1][0].decode()}"

    def _chunk(self, shard: int, start: str) -> list[Any]:
        call = Call([self._stream(shard)], [start, _CHUNK])
        (chunk,) = self._server.run(scripts.RANGE, [call])
        found: list[Any] = chunk
        return found

    def delete(self, key: UserKey) -> tuple[int, Tombstone]:  # noqa: D102
        retention = Retention(tombstone_seconds=self._config.tombstone_seconds)
        tombstone = Tombstone.now(retention)
        call = Call(
            [
                self._stream(self._shard(key)),
                self._key("seen", key.digest),
                self._key("entries", key.digest),
                self._key("deleted", key.digest),
            ],
            [_GROUP, tombstone.to_bytes(), tombstone.expires_ms],
        )
        (removed,) = self._server.run(scripts.DELETE, [call], durable=True)
        return removed, tombstone

    def trim_steps(self) -> Iterator[int]:  # noqa: D102
        before = now_ms() - _milliseconds(self._config.keep_seconds)
        for shard in range(self._num_shards):
            yield from self._drop(shard, before, _CHUNK)

    def _make_room(self, shard: int, num_entries: int) -> None:
        """Drops learned entries of a stream that is full."""
        room = 0
        for dropped in self._drop(shard, now_ms() + 1, num_entries):
            room += dropped
            if room >= num_entries:
                return

    def _drop(self, shard: int, before_ms: int, look_at: int) -> Iterator[int]:
        """Drops learned entries that came before a moment.

        Yields:
            How many of the next `look_at` entries were dropped.
        """
        start = b"-"
        while start:
            call = Call(
                [self._stream(shard)],
                [_GROUP, self._key("entries", b""), start, before_ms, look_at],
            )
            ((dropped, start),) = self._server.run(scripts.TRIM, [call])
            yield dropped

    def status(self) -> LogStatus:  # noqa: D102
        calls = [Call([self._stream(n)], []) for n in range(self._num_shards)]
        counts = self._server.run(scripts.STATUS, calls)
        entries, delivered, waiting = map(sum, zip(*counts, strict=True))
        return LogStatus(entries, delivered + waiting)

    def close(self) -> None:  # noqa: D102
        self._server.close()

    @property
    def _most_per_shard(self) -> int:
        return max(1, self._config.max_entries // self._num_shards)

    def _key(self, kind: str, *parts: bytes) -> bytes:
        return self._server.key("log", kind.encode(), *parts)

    def _shard(self, key: UserKey) -> int:
        return int.from_bytes(key.digest, "big") % self._num_shards

    def _stream(self, shard: int) -> bytes:
        return self._key("stream", b"%d" % shard)


def _appended(submission: Submission, reply: Sequence[Any]) -> Appended:
    """Returns what a reply of `APPEND` stands for."""
    key = submission.key
    if reply[0] == b"deleted":
        return deleted(key)
    if reply[0] == b"known":
        return None
    entry_id, claimed, *places = reply
    events: tuple[LoggedEvent, ...] = tuple(
        submission.events[place] for place in places
    )
    return LogEntry(
        _position(entry_id), key, events, submission.features, bool(claimed)
    )


def _entry(entry_id: bytes, fields: Sequence[bytes]) -> LogEntry | None:
    """Decodes a stream's entry; None if it is damaged."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        values.setdefault(name, []).append(value)
    try:
        return decode_fields(
            _position(entry_id), values[b"h"][0], values.get(b"e", [])
        )
    except (RecordError, KeyError) as error:
        _log.warning("Left out: %s", error)
        return None


def _position(entry_id: bytes) -> int:
    milliseconds, _, number = entry_id.partition(b"-")
    return (int(milliseconds) << POSITION_TIME_BITS) + int(number)


def _entry_id(position: int) -> str:
    milliseconds, number = divmod(position, 1 << POSITION_TIME_BITS)
    return f"{milliseconds}-{number}"


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _failed(what: str) -> EventLogError:
    return EventLogError(f"The event log {what}")


def _full(what: str) -> LogFullError:
    return LogFullError(f"The event log {what}")
