"""Appends to the streams of a Redis event log.

A call is one script for each stream. What one stream has no room for does not
keep the others from what they have.
"""

from collections.abc import Sequence
from typing import Any

from serving.errors import LogFullError
from serving.event_log import redis_scripts as scripts
from serving.event_log.entry import Submission
from serving.event_log.event_log import Appended, LogConfig
from serving.event_log.redis_entries import append_arguments, appended
from serving.event_log.redis_streams import CHUNK, GROUP, RedisStreams
from serving.redis_server import Call, RedisServer

_FULL = b"full"


class RedisAppender:
    """Shares submissions out among the streams."""

    def __init__(
        self, server: RedisServer, streams: RedisStreams, config: LogConfig
    ) -> None:
        """Sets it up.

        Args:
            server: Has the streams.
            streams: Where entries go.
            config: How much the log holds, and for how long.
        """
        self._server = server
        self._streams = streams
        self._config = config
        self._most_per_stream = max(1, config.max_entries // len(streams))

    def append(
        self, submissions: Sequence[Submission], name: str
    ) -> list[Appended]:
        """Stores events durably.

        Args:
            submissions: What users did.
            name: The consumer to deliver the entries to, as the streams know
                it; empty if there is none.

        Returns:
            What became of each submission, in their order.

        Raises:
            EventLogError: The server failed; any of them may be stored.
        """
        places: dict[int, list[int]] = {}
        for place, submission in enumerate(submissions):
            shard = self._streams.shard(submission.key)
            places.setdefault(shard, []).append(place)
        groups = {
            shard: [submissions[place] for place in group]
            for shard, group in places.items()
        }
        replies = self._run(groups, name)
        full = {
            shard: group
            for shard, group in groups.items()
            if replies[shard] == _FULL
        }
        for shard, group in full.items():
            self._make_room(shard, len(group))
        # Once more, now that learned entries are gone.
        replies |= self._run(full, name)
        results: list[Appended] = [None] * len(submissions)
        for shard, group in groups.items():
            told = self._told(group, replies[shard])
            for place, one in zip(places[shard], told, strict=True):
                results[place] = one
        return results

    def _run(
        self, groups: dict[int, list[Submission]], name: str
    ) -> dict[int, Any]:
        """Returns what the script says of each stream's submissions."""
        calls = [self._call(*group, name) for group in groups.items()]
        replies = self._server.run_each(scripts.APPEND, calls, durable=True)
        return dict(zip(groups, replies, strict=True))

    def _call(
        self, shard: int, submissions: Sequence[Submission], name: str
    ) -> Call:
        keys = [self._streams.name(shard)]
        arguments: list[bytes | str | int] = [
            GROUP,
            name,
            milliseconds(self._config.dedup_seconds),
            self._most_per_stream,
        ]
        for submission in submissions:
            for kind in ("seen", "entries", "deleted"):
                keys.append(self._streams.key(kind, submission.key.digest))
            arguments += append_arguments(submission)
        return Call(keys, arguments)

    def _make_room(self, shard: int, num_entries: int) -> None:
        """Drops learned entries of a stream that is full."""
        room = 0
        for dropped in self._streams.drop(shard, 0, max(num_entries, CHUNK)):
            room += dropped
            if room >= num_entries:
                return

    def _told(
        self, submissions: Sequence[Submission], reply: Any
    ) -> list[Appended]:
        """Returns what became of a stream's submissions."""
        if reply == _FULL:
            reply = LogFullError(
                f"The event log holds {self._most_per_stream} entries in a "
                "stream that are not learned from yet, and takes in no more "
                f"than {self._config.max_entries} in all. Send the events "
                "again later; if it stays so, see that the online stage runs "
                "and keeps up."
            )
        if isinstance(reply, LogFullError):
            return [reply] * len(submissions)
        return list(map(appended, submissions, reply))


def milliseconds(seconds: float) -> int:
    """Returns a time as Redis takes it: whole, and more than none."""
    return max(1, int(seconds * 1000))
