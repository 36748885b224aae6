"""The stores and logs that are measured, filled with users."""

import contextlib
import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import lmdb

from benchmarks.store.users import fill
from serving.event_log import EventLog, LmdbEventLog, LogConfig
from serving.event_log.redis_log import RedisEventLog
from serving.redis_config import RedisConfig
from serving.store import AdaptiveStore, LmdbStore
from serving.store.redis_store import RedisStore
from tests.helpers.redis_server import RunningRedis


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a store and a log are, and how to see what they take."""

    name: str
    store: AdaptiveStore
    log: EventLog
    bytes_used: Callable[[], int]
    bytes_empty: int


@contextlib.contextmanager
def open_lmdb(users: int) -> Iterator[Place]:
    config = LogConfig(keep_seconds=0, max_entries=10_000_000)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        with lmdb.open(str(path / "filled"), map_size=1 << 36) as filled:

            def write(values: dict[bytes, bytes]) -> None:
                with filled.begin(write=True) as transaction:
                    transaction.cursor().putmulti(values.items())

            fill(write, users)
            # Without the free pages that such large transactions leave.
            (path / "store").mkdir()
            filled.copy(str(path / "store"), compact=True)
            # The copy went past the system's cache.
            (path / "store" / "data.mdb").read_bytes()
        with (
            LmdbStore(path / "store") as store,
            LmdbEventLog(path / "log", config=config) as log,
        ):
            yield Place("lmdb", store, log, lambda: disk_bytes(path), 0)


@contextlib.contextmanager
def open_redis(users: int) -> Iterator[Place]:
    config = LogConfig(keep_seconds=0, max_entries=10_000_000)
    with contextlib.closing(RunningRedis()) as running:
        server = RedisConfig(running.url, read_timeout_seconds=10.0)
        # Any: redis-py's types can't tell replies from their awaitables.
        client: Any = running.client

        def write(values: dict[bytes, bytes]) -> None:
            prefix = b"adaptower:weights:"
            client.mset({prefix + key: values[key] for key in values})

        def bytes_used() -> int:
            return int(client.info("memory")["used_memory"])

        empty = bytes_used()
        fill(write, users)
        with RedisStore(server) as store, RedisEventLog(server, config) as log:
            yield Place("redis", store, log, bytes_used, empty)


def disk_bytes(path: pathlib.Path) -> int:
    """Blocks that LMDB's files take; the files themselves are sparse."""
    folders = ("store", "log")
    return sum(
        512 * (path / name / "data.mdb").stat().st_blocks for name in folders
    )
