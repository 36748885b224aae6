"""How fast users' weights and events are stored, and what they take.

    python -m benchmarks.store [--users 1000000] [--stores lmdb redis]

Fills a store with users as MovieLens-1M has them (17 float32 weights, as many
events in the reservoir as its users rated, four features that were told) in
random order, then times point reads of random users, compare-and-puts and
appends, all through the contracts that the gateway uses. LMDB lies in a
temporary folder that the system's cache holds, as that of a gateway that has
run for a while; Redis is a server of its own on a Unix socket, with an
append-only file. Bytes are what the file has grown to (LMDB) or the server's
memory (Redis), with everything in it, over the users. Writes wait for the
disk: a plain fsync of it is timed beside them.

Prints a table and writes benchmarks/results/store.json.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import lmdb
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.about import about
from benchmarks.store_users import (
    RESERVOIRS,
    features_of,
    fill,
    key_of,
    record_of,
)
from serving.event_log import (
    EventLog,
    LmdbEventLog,
    LogConfig,
    LoggedEvent,
    Submission,
)
from serving.event_log.redis_log import RedisEventLog
from serving.redis_server import RedisConfig
from serving.store import (
    AdaptiveStore,
    LmdbStore,
)
from serving.store.redis_store import RedisStore
from tests.helpers.redis_server import RunningRedis

ROOT = pathlib.Path(__file__).parent.parent
BATCH = 2000
READS = 50_000
# The median lot counts: one may meet something else that the machine does.
LOTS = 5
WRITERS = 32
FLOORS = {
    "lmdb": {"read p99 ms": 0.2, "bytes per user": 1024},
    "redis": {"read p99 ms": 1.0, "bytes per user": 1024},
}
GOALS = {
    "lmdb": {"read p99 ms": 0.05, "bytes per user": 400},
    "redis": {"read p99 ms": 0.5, "bytes per user": 400},
}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a store and a log are, and how to see what they take."""

    name: str
    store: AdaptiveStore
    log: EventLog
    bytes_used: Callable[[], int]
    bytes_empty: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument(
        "--stores", nargs="+", default=["lmdb", "redis"], choices=list(FLOORS)
    )
    arguments = parser.parse_args()
    results = []
    for name in arguments.stores:
        opened = open_lmdb if name == "lmdb" else open_redis
        with opened(arguments.users) as place:
            results.append(measure(place, arguments.users))
    show(results)
    path = ROOT / "benchmarks" / "results" / "store.json"
    document = {
        **about("benchmarks.store"),
        "floors": FLOORS,
        "goals": GOALS,
        "results": results,
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


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
    running = RunningRedis()
    server = RedisConfig(running.url, read_timeout_seconds=10.0)

    def write(values: dict[bytes, bytes]) -> None:
        prefix = b"adaptower:weights:"
        running.client.mset({prefix + key: values[key] for key in values})

    def bytes_used() -> int:
        used: int = running.client.info("memory")["used_memory"]
        return used

    empty = bytes_used()
    fill(write, users)
    with RedisStore(server) as store, RedisEventLog(server, config) as log:
        yield Place("redis", store, log, bytes_used, empty)
    running.close()


def disk_bytes(path: pathlib.Path) -> int:
    """Blocks that LMDB's files take; the files themselves are sparse."""
    folders = ("store", "log")
    return sum(
        512 * (path / name / "data.mdb").stat().st_blocks for name in folders
    )


def measure(place: Place, users: int) -> dict[str, Any]:
    filled = place.bytes_used() - place.bytes_empty
    keys = [key_of(random.randrange(users)) for _ in range(READS)]
    # They are all there, and whole.
    assert None not in place.store.get_many(keys[:1000])
    reads = [timed(place.store.get, keys[lot::LOTS]) for lot in range(LOTS)]
    batches = [keys[start : start + 32] for start in range(0, 6400, 32)]
    batch_reads = timed(place.store.get_many, batches)
    sizes = [len(record_of(user).to_bytes()) for user in range(RESERVOIRS)]
    return {
        "store": place.name,
        "users": users,
        "record bytes, mean": float(np.mean(sizes)),
        "record bytes, most": max(sizes),
        "bytes per user": filled / users,
        "read p50 ms": median([percentile(lot, 50) for lot in reads]),
        "read p99 ms": median([percentile(lot, 99) for lot in reads]),
        "batch of 32 p50 ms": percentile(batch_reads, 50),
        "batch of 32 p99 ms": percentile(batch_reads, 99),
        "put p50 ms": percentile(timed(put_next(place.store), range(50)), 50),
        f"puts/s, {WRITERS} writers": rate(put_next(place.store)),
        f"puts/s, {WRITERS} writers of 32": 32 * rate(put_many(place.store)),
        "append p50 ms": percentile(timed(append(place.log), range(50)), 50),
        f"appends/s, {WRITERS} writers": rate(append(place.log)),
        **log_bytes(place),
        "fsync p50 ms": fsync_milliseconds(),
    }


def timed(work: Callable[[Any], Any], inputs: Any) -> list[float]:
    """Runs work on each input; returns how many milliseconds each took."""
    taken = []
    for value in inputs:
        begun = time.perf_counter()
        work(value)
        taken.append(1000 * (time.perf_counter() - begun))
    return taken


def rate(work: Callable[[Any], Any], seconds: float = 3.0) -> float:
    """Runs work in several threads at once; returns runs per second."""
    ends = time.perf_counter() + seconds

    def repeat(writer: int) -> int:
        done = 0
        while time.perf_counter() < ends:
            work(writer)
            done += 1
        return done

    with ThreadPoolExecutor(WRITERS) as threads:
        return sum(threads.map(repeat, range(WRITERS))) / seconds


def put_next(store: AdaptiveStore) -> Callable[[int], None]:
    def put(user: int) -> None:
        record = store.get(key_of(user))
        assert record is not None
        next_record = dataclasses.replace(record, sequence=record.sequence + 1)
        assert store.compare_and_put(next_record)

    return put


def put_many(store: AdaptiveStore) -> Callable[[int], None]:
    def put(writer: int) -> None:
        keys = [key_of(1000 + 32 * writer + n) for n in range(32)]
        records = [
            dataclasses.replace(record, sequence=record.sequence + 1)
            for record in store.get_many(keys)
            if record is not None
        ]
        assert all(store.compare_and_put_many(records))

    return put


def append(log: EventLog) -> Callable[[int], None]:
    numbers = iter(range(10**9))
    lock = threading.Lock()

    def run(user: int) -> None:
        with lock:
            number = next(numbers)
        log.append([submission(user, f"{id(numbers)}-{number}")])

    return run


def submission(user: int, event_id: str) -> Submission:
    event = LoggedEvent(event_id, "1193", 1.0, int(time.time()))
    return Submission(key_of(user), (event,), features_of(user))


def log_bytes(place: Place, events: int = 100_000) -> dict[str, float]:
    """What an event takes while it waits, and after it was learned."""
    learn_all(place.log)
    before = place.bytes_used()
    for start in range(0, events, BATCH):
        place.log.append(
            [submission(start + n, f"event-{start + n}") for n in range(BATCH)]
        )
    waiting = place.bytes_used()
    seconds = learn_all(place.log)
    learned = place.bytes_used()
    bytes_waiting = (waiting - before) / events
    return {
        "bytes per event that waits": bytes_waiting,
        # LMDB's file never shrinks; Redis gives memory back.
        "bytes per id that is remembered": (learned - before) / events,
        "events read and acknowledged/s": events / seconds,
    }


def learn_all(log: EventLog) -> float:
    begun = time.perf_counter()
    while entries := log.read("benchmark", 512):
        log.ack(entries)
    log.trim()
    return time.perf_counter() - begun


def fsync_milliseconds() -> float:
    """What the disk itself takes for a page, at the median."""

    def sync(descriptor: int) -> None:
        os.write(descriptor, bytes(4096))
        os.fdatasync(descriptor)

    with tempfile.TemporaryFile() as file:
        return percentile(timed(sync, [file.fileno()] * 50), 50)


def percentile(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent))


def show(results: list[dict[str, Any]]) -> None:
    table = Table(title="Stores and logs")
    table.add_column("figure")
    for result in results:
        table.add_column(result["store"], justify="right")
    table.add_column("floor / goal", justify="right")
    for figure in results[0]:
        if figure == "store":
            continue
        bounds = [
            f"{FLOORS[r['store']][figure]:g} / {GOALS[r['store']][figure]:g}"
            for r in results
            if figure in FLOORS[r["store"]]
        ]
        table.add_row(
            figure,
            *(number(result[figure]) for result in results),
            ", ".join(dict.fromkeys(bounds)),
        )
    console = Console()
    # A file or a pipe has no width of its own.
    console.width = max(console.width, 100)
    console.print(table)


def number(value: float) -> str:
    return f"{value:,.3f}" if value < 10 else f"{value:,.0f}"


if __name__ == "__main__":
    main()
