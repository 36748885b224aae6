"""One Redis or Valkey server: connections to it, scripts, durable writes.

Calls are synchronous: a call that its caller gives up on reads its reply all
the same, so no later call on that connection gets a reply meant for another
(which happens to clients that are cancelled halfway). Who lives in an event
loop calls from a thread.
"""

import contextlib
import dataclasses
import functools
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from serving.redis_config import RedisConfig
from serving.redis_guard import RedisGuard

_log = logging.getLogger(__name__)

_MAX_CONNECTIONS = 128


@dataclasses.dataclass(frozen=True)
class Call:
    """One run of a script.

    Attributes:
        keys: Keys it works on.
        arguments: The rest.
    """

    keys: Sequence[bytes]
    arguments: Sequence[bytes | str | int | float]


class RedisServer:
    """Connections to one server; safe to use from several threads."""

    def __init__(
        self,
        config: RedisConfig,
        failed: Callable[[str], Exception],
        full: Callable[[str], Exception],
    ) -> None:
        """Connects, and looks whether the server can do what is needed.

        Args:
            config: Where the server is, and how it is used.
            failed: Makes the error to raise if the server fails.
            full: Makes the error to raise if the server has no room.
        """
        self._config = config
        self._where = config.address
        self._failed = failed
        self._guard = RedisGuard(config, failed, full)
        # Any: redis-py's types can't tell replies from their awaitables.
        # A read may be tried twice: connections of a server that was restarted
        # are stale. What writes may be done although its answer was lost, and
        # who asked must hear of that.
        self._reads: Any = self._connect(config.read_timeout_seconds, 1)
        self._writes: Any = self._connect(config.write_timeout_seconds, 0)
        with self.writing() as client:
            client.ping()
            if config.durable:
                # Fails where the server can't, and waits for nothing.
                client.execute_command("WAITAOF", 1, 0, 1)
                self._check_fsync(client)

    def _connect(self, timeout_seconds: float, retries: int) -> "redis.Redis":
        try:
            return redis.Redis.from_url(
                self._config.url,
                # Replies look different in version 3.
                protocol=2,
                socket_timeout=timeout_seconds,
                socket_connect_timeout=timeout_seconds,
                max_connections=_MAX_CONNECTIONS,
                retry=Retry(
                    NoBackoff(), retries, (redis.exceptions.ConnectionError,)
                ),
            )
        except ValueError as error:
            raise self._failed(
                f"at {self._where} has no address of a Redis server: {error}"
            ) from error

    def _check_fsync(self, client: Any) -> None:
        """Makes sure that WAITAOF waits for the disk.

        With `everysec`, Redis 7.4 and Valkey up to 9.1 at least may answer it
        before they sync: https://github.com/redis/redis/pull/13793.
        """
        try:
            found = client.config_get("appendfsync")
        except redis.exceptions.ResponseError:
            _log.warning(
                "Redis does not tell its appendfsync; see that it is `always`, "
                "or a crash may lose what was acknowledged"
            )
            return
        policy = next(iter(found.values()))
        if policy not in ("always", b"always"):
            raise self._failed(
                f"at {self._where} has `appendfsync {_text(policy)}`, with "
                "which it may answer before its disk has a write. Set it to "
                "`always`, or do without durable writes."
            )

    def key(self, kind: str, *parts: bytes) -> bytes:
        """Returns the key of something."""
        return b":".join((self._config.prefix.encode(), kind.encode(), *parts))

    @contextlib.contextmanager
    def reading(self) -> Iterator[Any]:
        """Gives a client for reads that must be quick."""
        with self._guard.calling():
            yield self._reads

    @contextlib.contextmanager
    def writing(self) -> Iterator[Any]:
        """Gives a client for what may take longer."""
        with self._guard.calling():
            yield self._writes

    def run(
        self, script: str, calls: Sequence[Call], durable: bool = False
    ) -> list[Any]:
        """Runs a script for several calls in one round trip.

        Args:
            script: Lua.
            calls: What to run it on, one after the other, each atomically.
            durable: Whether to wait until the server's disk has what they
                wrote, if the configuration says so.

        Returns:
            What the script returned for each call.
        """
        results = self.run_each(script, calls, durable)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def run_each(
        self, script: str, calls: Sequence[Call], durable: bool = False
    ) -> list[Any]:
        """Like `run`, but no call fails for another's lack of room.

        Returns:
            What the script returned for each call, or the error that says
            that the server has no room for it: then it did nothing.
        """
        if not calls:
            return []
        with self.writing() as client:
            results = self._try(client, script, calls, durable)
            # All or none, or what was done would be done again.
            if all(map(_has_no_script, results[: len(calls)])):
                # The server is new, or was restarted.
                client.script_load(script)
                results = self._try(client, script, calls, durable)
            for place, result in enumerate(results):
                if isinstance(result, redis.exceptions.OutOfMemoryError):
                    results[place] = self._guard.refused(result)
                elif isinstance(result, Exception):
                    if isinstance(result, redis.exceptions.ReadOnlyError):
                        self._connect_anew()
                    raise result
        if durable and self._config.durable and results.pop()[0] < 1:
            raise self._failed(
                f"at {self._where} did not sync to disk within "
                f"{self._config.write_timeout_seconds:g} s; the write counts "
                "as not done. See how busy its disk is, and set `appendfsync "
                "always`."
            )
        return results

    def _connect_anew(self) -> None:
        """Drops connections to a server that became a replica.

        After a failover the address may lead to the one that took its place.
        """
        for client in (self._reads, self._writes):
            client.connection_pool.disconnect(inuse_connections=False)

    def _try(
        self,
        client: Any,
        script: str,
        calls: Sequence[Call],
        durable: bool,
    ) -> list[Any]:
        digest = _sha1(script)
        pipeline = client.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(
                digest, len(call.keys), *call.keys, *call.arguments
            )
        if durable and self._config.durable:
            # It waits for the writes of its own connection only.
            milliseconds = int(900 * self._config.write_timeout_seconds)
            pipeline.execute_command("WAITAOF", 1, 0, milliseconds)
        results: list[Any] = pipeline.execute(raise_on_error=False)
        return results

    def close(self) -> None:
        """Closes the connections. Calling it again does nothing."""
        self._guard.close()
        self._reads.close()
        self._writes.close()


def _has_no_script(result: Any) -> bool:
    return isinstance(result, redis.exceptions.NoScriptError)


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@functools.cache
def _sha1(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
