"""The calls that are timed, alone and from several threads at once."""

import dataclasses
import os
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.store.places import Place
from benchmarks.store.users import features_of, key_of
from serving.event_log import EventLog, LoggedEvent, Submission
from serving.store import AdaptiveStore

BATCH = 2000
WRITERS = 32


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
