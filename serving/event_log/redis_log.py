"""The event log for many gateways and workers: streams in one Redis server.

Each call of the log is one script in the server; `redis_scripts` has them.
"""

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

from serving.errors import EventLogError, LogFullError
from serving.event_log import redis_scripts as scripts
from serving.event_log.entry import LogEntry, Submission
from serving.event_log.event_log import (
    Appended,
    EventLog,
    LogConfig,
    LogStatus,
)
from serving.event_log.redis_entries import (
    append_arguments,
    appended,
    decode_entry,
    entry_id_of,
)
from serving.event_log.redis_streams import CHUNK, GROUP, RedisStreams
from serving.redis_server import Call, RedisConfig, RedisServer
from serving.store.record import UserKey
from serving.store.tombstone import Retention, Tombstone, now_ms

DEFAULT_SHARDS = 16
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
        self._server = RedisServer(server, _failed, _full)
        self._streams = RedisStreams(self._server, shards)

    def append(  # noqa: D102
        self, submissions: Sequence[Submission], consumer: str | None = None
    ) -> list[Appended]:
        by_shard: dict[int, list[int]] = {}
        for place, submission in enumerate(submissions):
            by_shard.setdefault(self._streams.shard(submission.key), []).append(
                place
            )
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
                results[place] = appended(submissions[place], one)
        return results

    def _append(
        self, shard: int, submissions: Sequence[Submission], consumer: str
    ) -> Call:
        keys = [self._streams.name(shard)]
        arguments: list[bytes | str | int] = [
            GROUP,
            consumer,
            _milliseconds(self._config.dedup_seconds),
            self._most_per_shard,
        ]
        for submission in submissions:
            for kind in ("seen", "entries", "deleted"):
                keys.append(self._streams.key(kind, submission.key.digest))
            arguments += append_arguments(submission)
        return Call(keys, arguments)

    def read(  # noqa: D102
        self, consumer: str, limit: int, wait_seconds: float = 0.0
    ) -> list[LogEntry]:
        streams = self._streams.names
        leases = [
            self._streams.key("lease", b"%d" % n) for n in range(len(streams))
        ]
        keys = [
            self._streams.key("readers"),
            *itertools.chain(*zip(streams, leases, strict=True)),
        ]
        lease_ms = _milliseconds(self._config.lease_seconds)
        deadline = time.monotonic() + wait_seconds
        while True:
            # Each stream comes first at times, or the last would starve.
            first = random.randrange(len(streams))
            call = Call(keys, [GROUP, consumer, lease_ms, limit, first])
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
            entry = decode_entry(entry_id, fields)
            if entry is not None:
                entries.append(entry)
                continue
            with self._server.writing() as client:
                # What can't be read would only come again.
                client.xack(self._streams.name(shard), GROUP, entry_id)
        return entries

    def ack(self, entries: Sequence[LogEntry]) -> None:  # noqa: D102
        drop = int(self._config.keep_seconds <= 0)
        by_shard: dict[int, list[LogEntry]] = {}
        for entry in entries:
            by_shard.setdefault(self._streams.shard(entry.key), []).append(
                entry
            )
        calls = [
            Call(
                [
                    self._streams.name(shard),
                    *(
                        self._streams.key("entries", e.key.digest)
                        for e in group
                    ),
                ],
                [GROUP, drop, *(entry_id_of(e.position) for e in group)],
            )
            for shard, group in by_shard.items()
        ]
        self._server.run(scripts.ACK, calls)

    def events_of(self, key: UserKey) -> list[LogEntry]:  # noqa: D102
        call = Call(
            [
                self._streams.name(self._streams.shard(key)),
                self._streams.key("entries", key.digest),
            ],
            [],
        )
        (found,) = self._server.run(scripts.EVENTS_OF, [call])
        entries = (decode_entry(*entry) for entry in found)
        return [e for e in entries if e is not None and e.key == key]

    def entries(self) -> Iterator[LogEntry]:  # noqa: D102
        for shard in range(len(self._streams)):
            for stored in self._streams.entries(shard):
                entry = decode_entry(*stored)
                if entry is not None:
                    yield entry

    def delete(self, key: UserKey) -> tuple[int, Tombstone]:  # noqa: D102
        retention = Retention(tombstone_seconds=self._config.tombstone_seconds)
        tombstone = Tombstone.now(retention)
        call = Call(
            [
                self._streams.name(self._streams.shard(key)),
                self._streams.key("seen", key.digest),
                self._streams.key("entries", key.digest),
                self._streams.key("deleted", key.digest),
            ],
            [GROUP, tombstone.to_bytes(), tombstone.expires_ms],
        )
        (removed,) = self._server.run(scripts.DELETE, [call], durable=True)
        return removed, tombstone

    def trim_steps(self) -> Iterator[int]:  # noqa: D102
        before = now_ms() - _milliseconds(self._config.keep_seconds)
        for shard in range(len(self._streams)):
            yield from self._streams.drop(shard, before, CHUNK)

    def _make_room(self, shard: int, num_entries: int) -> None:
        """Drops learned entries of a stream that is full."""
        room = 0
        for dropped in self._streams.drop(shard, now_ms() + 1, num_entries):
            room += dropped
            if room >= num_entries:
                return

    def status(self) -> LogStatus:  # noqa: D102
        calls = [Call([name], []) for name in self._streams.names]
        counts = self._server.run(scripts.STATUS, calls)
        entries, delivered, waiting = map(sum, zip(*counts, strict=True))
        return LogStatus(entries, delivered + waiting)

    def close(self) -> None:  # noqa: D102
        self._server.close()

    @property
    def _most_per_shard(self) -> int:
        return max(1, self._config.max_entries // len(self._streams))


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def _failed(what: str) -> EventLogError:
    return EventLogError(f"The event log {what}")


def _full(what: str) -> LogFullError:
    return LogFullError(f"The event log {what}")
