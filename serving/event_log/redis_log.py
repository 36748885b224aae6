"""The event log for many gateways and workers: streams in one Redis server.

Each call of the log is one script in the server, of those in `redis_scripts`,
which says why no entry is lost, or in `redis_upkeep_scripts`.
"""

import contextlib
import itertools
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

from serving.errors import EventLogError, LogFullError
from serving.event_log import redis_scripts as scripts
from serving.event_log import redis_upkeep_scripts as upkeep
from serving.event_log.entry import LogEntry, Submission
from serving.event_log.event_log import (
    Appended,
    EventLog,
    LogConfig,
    LogStatus,
)
from serving.event_log.redis_appender import RedisAppender, milliseconds
from serving.event_log.redis_entries import (
    decode_entry,
    entry_id_of,
    owner_of,
)
from serving.event_log.redis_streams import CHUNK, GROUP, RedisStreams
from serving.redis_config import RedisConfig
from serving.redis_server import Call, RedisServer
from serving.store.record import UserKey
from serving.store.tombstone import Retention, Tombstone

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
        self._appender = RedisAppender(
            self._server, self._streams, self._config
        )
        self._name = secrets.token_hex(8)

    @contextlib.contextmanager
    def _delivering(self, consumer: str) -> Iterator[str]:
        """Gives the name that a consumer has in the streams, for one call.

        What is pending under it, the consumer holds. If the call fails, its
        answer may be lost with entries that nobody holds: then nobody uses the
        name any more.
        """
        try:
            yield f"{consumer}-{self._name}"
        except BaseException:
            self._name = secrets.token_hex(8)
            raise

    def append(  # noqa: D102
        self, submissions: Sequence[Submission], consumer: str | None = None
    ) -> list[Appended]:
        if consumer is None:
            return self._appender.append(submissions, "")
        with self._delivering(consumer) as name:
            return self._appender.append(submissions, name)

    def read(  # noqa: D102
        self, consumer: str, limit: int, wait_seconds: float = 0.0
    ) -> list[LogEntry]:
        deadline = time.monotonic() + wait_seconds
        with self._delivering(consumer) as name:
            while True:
                entries = self._take(consumer, name, limit)
                left = deadline - time.monotonic()
                if entries or left <= 0:
                    return entries
                self._wait(min(left, _BLOCK_SECONDS))

    def _take(self, reader: str, name: str, limit: int) -> list[LogEntry]:
        streams = self._streams.names
        leases = [
            self._streams.key("lease", b"%d" % n) for n in range(len(streams))
        ]
        keys = [
            self._streams.key("readers"),
            *itertools.chain(*zip(streams, leases, strict=True)),
        ]
        arguments: list[bytes | str | int] = [
            GROUP,
            reader,
            name,
            milliseconds(self._config.lease_seconds),
            limit,
            # Each stream comes first at times, or the last would starve.
            random.randrange(len(streams)),
            self._streams.key("entries", b""),
        ]
        (taken,) = self._server.run(scripts.TAKE, [Call(keys, arguments)])
        return self._decoded(taken)

    def _wait(self, seconds: float) -> None:
        """Waits until an entry comes to one of the streams."""
        with self._server.writing() as client:
            client.xread(
                dict.fromkeys(self._streams.names, "$"),
                count=1,
                block=max(1, int(seconds * 1000)),
            )

    def _decoded(self, taken: Sequence[Any]) -> list[LogEntry]:
        """Decodes entries with their streams; drops damaged ones.

        They would only come again. Acknowledged ones would say that all before
        them are done with.
        """
        entries = []
        for shard, (entry_id, fields) in taken:
            entry = decode_entry(entry_id, fields)
            if entry is not None:
                entries.append(entry)
                continue
            keys = [
                self._streams.name(shard),
                self._streams.key("entries", owner_of(fields)),
            ]
            self._server.run(scripts.ACK, [Call(keys, [GROUP, 1, entry_id])])
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
        (found,) = self._server.run(upkeep.EVENTS_OF, [call])
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
        (removed,) = self._server.run(upkeep.DELETE, [call], durable=True)
        return removed, tombstone

    def trim_steps(self) -> Iterator[int]:  # noqa: D102
        self._streams.forget_consumers(milliseconds(self._config.lease_seconds))
        kept_ms = milliseconds(self._config.keep_seconds)
        for shard in range(len(self._streams)):
            yield from self._streams.drop(shard, kept_ms, CHUNK)

    def status(self) -> LogStatus:  # noqa: D102
        calls = [Call([name], []) for name in self._streams.names]
        counts = self._server.run(upkeep.STATUS, calls)
        entries, delivered, waiting = map(sum, zip(*counts, strict=True))
        return LogStatus(entries, delivered + waiting)

    def close(self) -> None:  # noqa: D102
        self._server.close()


def _failed(what: str) -> EventLogError:
    return EventLogError(f"The event log {what}")


def _full(what: str) -> LogFullError:
    return LogFullError(f"The event log {what}")
