"""The streams of a Redis event log, and the keys beside them.

    PREFIX:log:shards                number of streams
    PREFIX:log:readers               readers, by the time they read last
    PREFIX:log:stream:N              entries: user `u`, head `h`, events `e`
    PREFIX:log:lease:N               the reader that has the stream
    PREFIX:log:seen:DIGEST           hashes of the user's event ids, by time
    PREFIX:log:entries:DIGEST        ids of the user's entries
    PREFIX:log:deleted:DIGEST        tombstone

DIGEST is that of the user. A user's entries are all in one stream.
"""

from collections.abc import Iterator
from typing import Any

from serving.errors import EventLogError
from serving.event_log import redis_scripts as scripts
from serving.event_log import redis_upkeep_scripts as upkeep
from serving.redis_server import Call, RedisServer
from serving.store.record import UserKey

# Their consumer group.
GROUP = "online"
# Entries that are looked at in one go.
CHUNK = 256


class RedisStreams:
    """Streams of one server, by number."""

    def __init__(self, server: RedisServer, number: int) -> None:
        """Opens the streams; creates them if there are none.

        Args:
            server: Has them.
            number: How many there are.

        Raises:
            EventLogError: There is another number of them.
        """
        self._server = server
        self._number = number
        shards = self.key("shards")
        with server.writing() as client:
            client.setnx(shards, number)
            found = int(client.get(shards))
        if found != number:
            raise EventLogError(
                f"The event log has {found} streams, not {number}. "
                "A user's events would go astray: use the same number "
                "everywhere, or learn all events before you change it."
            )
        server.run(scripts.OPEN, [Call([name], [GROUP]) for name in self.names])

    def __len__(self) -> int:
        """How many there are."""
        return self._number

    @property
    def names(self) -> list[bytes]:
        """The key of each stream."""
        return [self.name(shard) for shard in range(self._number)]

    def name(self, shard: int) -> bytes:
        """Returns the key of a stream."""
        return self.key("stream", b"%d" % shard)

    def shard(self, key: UserKey) -> int:
        """Returns the number of a user's stream."""
        return int.from_bytes(key.digest, "big") % self._number

    def key(self, kind: str, *parts: bytes) -> bytes:
        """Returns a key of the log, as they are listed above."""
        return self._server.key("log", kind.encode(), *parts)

    def entries(self, shard: int) -> Iterator[Any]:
        """Yields id and fields of each entry of a stream."""
        start = "-"
        while chunk := self._chunk(shard, start):
            yield from chunk
            start = f"({chunk[-1][0].decode()}"

    def _chunk(self, shard: int, start: str) -> list[Any]:
        call = Call([self.name(shard)], [start, CHUNK])
        (chunk,) = self._server.run(upkeep.RANGE, [call])
        found: list[Any] = chunk
        return found

    def drop(self, shard: int, kept_ms: int, look_at: int) -> Iterator[int]:
        """Drops learned entries of a stream that were kept long enough.

        Args:
            shard: Number of the stream.
            kept_ms: For how long they are kept; 0 for not at all.
            look_at: How many entries to look at in one go.

        Yields:
            How many of the next `look_at` entries were dropped.
        """
        start = b"-"
        while start:
            call = Call(
                [self.name(shard)],
                [GROUP, self.key("entries", b""), start, kept_ms, look_at],
            )
            ((dropped, start),) = self._server.run(upkeep.TRIM, [call])
            yield dropped

    def forget_consumers(self, idle_ms: int) -> None:
        """Forgets the names of consumers that have nothing and ask nothing.

        One that asks again after that is known again.

        Args:
            idle_ms: For how long they did not ask.
        """
        calls = [Call([name], [GROUP, idle_ms]) for name in self.names]
        self._server.run(upkeep.FORGET, calls)
