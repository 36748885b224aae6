"""Processes that work until they are killed, and what they had acknowledged.

A writer stores and appends, a learner learns what was appended. Both tell of
every acknowledgement through a pipe before they go on, so what the parent
reads there, and nothing else, must have survived.
"""

import hashlib
import multiprocessing
import os
import random
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from serving.contract.support import RESERVOIR_EVENTS, SupportEvent
from serving.event_log import (
    EventLog,
    LmdbEventLog,
    LogConfig,
    LogEntry,
    LoggedEvent,
    Submission,
)
from serving.event_log.redis_log import RedisEventLog
from serving.redis_config import RedisConfig
from serving.store import (
    AdaptiveStore,
    LmdbStore,
    UserKey,
    UserRecord,
    fingerprint_digest,
)
from serving.store.record_bytes import encode_record
from serving.store.redis_store import RedisStore

STORE, LOG = b"s", b"l"
THREADS = 4
_ACK = struct.Struct("<ciq")
_MAP_BYTES = 1 << 28
# What dead learners had is free again so soon.
_LEASE_SECONDS = 0.2
_EVENTS_PER_SUBMISSION = 3
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])

Place = Path | str
Acknowledged = list[tuple[bytes, int, int]]


def open_both(place: Place) -> tuple[AdaptiveStore, EventLog]:
    """Opens store and log in a folder, or at a Redis server's address."""
    config = LogConfig(map_bytes=_MAP_BYTES, lease_seconds=_LEASE_SECONDS)
    if isinstance(place, str):
        # A busy machine must not turn it into a test of timeouts.
        server = RedisConfig(
            place, read_timeout_seconds=60.0, write_timeout_seconds=60.0
        )
        return RedisStore(server), RedisEventLog(server, config, shards=2)
    store = LmdbStore(place / "store", _MAP_BYTES)
    return store, LmdbEventLog(place / "log", config)


def user_key(user: int) -> UserKey:
    return UserKey("adaptower", f"user-{user}")


def user_of(key: UserKey) -> int:
    return int(key.user_id.removeprefix("user-"))


def record_of(user: int, sequence: int) -> UserRecord:
    """A record whose every part tells which it is."""
    return UserRecord(
        key=user_key(user),
        fingerprint=fingerprint_digest(str(user)),
        sequence=sequence,
        support_count=sequence,
        weights=np.full(17, sequence, np.float32),
        reservoir=(SupportEvent(str(sequence), 1.0),) * 96,
        updated_ms=sequence,
    )


def submission_of(user: int, number: int) -> Submission:
    events = tuple(
        LoggedEvent(f"{number}-{n}", str(number), 1.0, number)
        for n in range(_EVENTS_PER_SUBMISSION)
    )
    return Submission(user_key(user), events, str(number).encode() * 50)


def put_next(store: AdaptiveStore, user: int) -> int:
    """Stores a user's next record; returns its sequence."""
    record = store.get(user_key(user))
    sequence = record.sequence + 1 if record else 1
    assert store.compare_and_put(record_of(user, sequence))
    return sequence


def append_next(log: EventLog, user: int, numbers: dict[int, int]) -> int:
    """Appends a user's next submission; returns its number."""
    number = numbers[user] = numbers.get(user, -1) + 1
    (entry,) = log.append([submission_of(user, number)])
    assert isinstance(entry, LogEntry)
    return number


def _write(place: Place, first_number: int, connection: Connection) -> None:
    store, log = open_both(place)
    pipe = connection.fileno()

    def repeat(kind: bytes, user: int, step: Callable[[], int]) -> None:
        while True:
            # Shorter than a pipe's buffer: all of it arrives, or nothing.
            os.write(pipe, _ACK.pack(kind, user, step()))

    for user in range(THREADS):
        numbers = {user: first_number - 1}
        for kind, step in (
            (STORE, lambda user=user: put_next(store, user)),
            (
                LOG,
                lambda user=user, numbers=numbers: append_next(
                    log, user, numbers
                ),
            ),
        ):
            threading.Thread(target=repeat, args=(kind, user, step)).start()


def learned_from(record: UserRecord | None, entry: LogEntry) -> UserRecord:
    """The next record; it tells all events so far, and their order."""
    events = [SupportEvent(e.item_id, e.label) for e in entry.events]
    known = tuple(record.reservoir) if record else ()
    return UserRecord(
        key=entry.key,
        fingerprint=fingerprint_digest("f"),
        sequence=record.sequence + 1 if record else 1,
        support_count=(record.support_count if record else 0) + len(events),
        weights=np.zeros(17, np.float32),
        reservoir=(*known, *events)[-RESERVOIR_EVENTS:],
        log_position=entry.position,
        features=history(
            (event.item_id for event in events),
            record.features if record else b"",
        ),
    )


def history(item_ids: Iterable[str], before: bytes = b"") -> bytes:
    """A digest of all items so far, in their order."""
    for item_id in item_ids:
        before = hashlib.blake2b(before + item_id.encode()).digest()
    return before


def learn(store: AdaptiveStore, entry: LogEntry) -> None:
    """Learns from an entry, unless its user's record did so before."""
    while True:
        record = store.get(entry.key)
        if record is not None and entry.position <= record.log_position:
            return
        if store.compare_and_put(learned_from(record, entry)):
            return


def _learn(place: Place, number: int, connection: Connection) -> None:
    store, log = open_both(place)
    while True:
        for entry in log.read(f"learner-{number}", 2, wait_seconds=0.01):
            learn(store, entry)
            log.ack([entry])
            ack = _ACK.pack(LOG, user_of(entry.key), entry.position)
            os.write(connection.fileno(), ack)


def kill_one_writer(place: Place, first_number: int) -> Acknowledged:
    """Starts a writer, kills it in the midst of its work.

    Args:
        place: What `open_both` takes.
        first_number: Number of each user's first submission.

    Returns:
        What it said was acknowledged: kind, user, sequence or number.
    """
    return _kill(_write, place, first_number)


def kill_one_learner(place: Place, number: int) -> Acknowledged:
    """Starts a learner, kills it in the midst of its work.

    Args:
        place: What `open_both` takes.
        number: Tells it from the others.

    Returns:
        What it said was learned: kind, user, position.
    """
    return _kill(_learn, place, number)


def _kill(
    work: Callable[[Place, int, Connection], None], place: Place, number: int
) -> Acknowledged:
    receiver, sender = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=work, args=(place, number, sender))
    process.start()
    sender.close()
    told = os.read(receiver.fileno(), _ACK.size)
    time.sleep(random.uniform(0.0, 0.1))
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while chunk := os.read(receiver.fileno(), 1 << 16):
        told += chunk
    receiver.close()
    return list(_ACK.iter_unpack(told))


class Expected:
    """What must be there after some writers died."""

    def __init__(self) -> None:
        self._sequences: dict[int, int] = {}
        self._numbers: set[tuple[int, int]] = set()

    def add(self, acknowledged: Acknowledged) -> None:
        for kind, user, number in acknowledged:
            if kind == STORE:
                before = self._sequences.get(user, 0)
                self._sequences[user] = max(before, number)
            else:
                self._numbers.add((user, number))

    def check(self, store: AdaptiveStore, log: EventLog) -> None:
        for user, sequence in self._sequences.items():
            # Raises if its bytes are damaged.
            record = store.get(user_key(user))
            assert record is not None
            assert record.sequence >= sequence
            whole = record_of(user, record.sequence)
            assert encode_record(record) == encode_record(whole)
        held: set[tuple[int, int]] = set()
        for user in range(THREADS):
            for entry in log.events_of(user_key(user)):
                number = int(entry.events[0].item_id)
                submission = submission_of(user, number)
                # All of a submission, or nothing.
                assert entry.events == submission.events
                assert entry.features == submission.features
                held.add((user, number))
        assert self._numbers <= held
        assert log.status().unlearned == len(held)
