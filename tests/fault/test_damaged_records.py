"""Records and entries with flipped bits, and cut short, by the thousand."""

import random

import pytest

from serving.errors import RecordError
from serving.event_log import LmdbEventLog
from serving.event_log.entry import encode_events, encode_head
from serving.event_log.redis_log import RedisEventLog
from serving.packing import seal
from serving.store import LmdbStore
from serving.store.record_bytes import encode_record
from serving.store.redis_store import RedisStore
from tests.helpers.killed_writers import record_of, submission_of, user_key
from tests.helpers.redis_server import RunningRedis

pytestmark = pytest.mark.fault


@pytest.fixture(params=[300, pytest.param(10_000, marks=pytest.mark.slow)])
def count(request):
    """How many are damaged."""
    return request.param


def damaged(data, draw):
    if draw.random() < 0.5:
        return data[: draw.randrange(len(data))]
    broken = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        broken[draw.randrange(len(broken))] ^= draw.randint(1, 255)
    # Two flips may undo each other.
    return bytes(broken) if broken != data else data[:-1]


@pytest.fixture
def server():
    # Its disk is not what is tested, and takes its time.
    running = RunningRedis("--appendfsync", "no")
    yield running
    running.close()


@pytest.fixture
def config(server):
    return server.config(durable=False)


def damage_lmdb_store(store, values):
    store._file.write(
        lambda transaction: [
            transaction.put(key.to_bytes(), data)
            for key, data in values.items()
        ]
    )


def damage_redis_store(store, values):
    with store._server.writing() as client:
        client.mset({store._key(key): values[key] for key in values})


def check_records(store, damage, count):
    draw = random.Random(0)
    keys = [user_key(user) for user in range(count)]
    whole = [encode_record(record_of(user, 7)) for user in range(count)]
    damage(
        store,
        {
            key: damaged(data, draw)
            for key, data in zip(keys, whole, strict=True)
        },
    )
    rejected = 0
    for key in keys:
        try:
            store.get(key)
        except RecordError:
            rejected += 1
    assert rejected == count
    assert store.get_many(keys) == [None] * count
    assert list(store.iterate("adaptower")) == []
    # A damaged record is as good as none: the user starts again.
    first = [record_of(user, 1) for user in range(100)]
    assert store.compare_and_put_many(first) == [True] * 100


def test_no_damaged_record_of_lmdb_is_ever_read(tmp_path, count):
    with LmdbStore(tmp_path) as store:
        check_records(store, damage_lmdb_store, count)


def test_no_damaged_record_of_redis_is_ever_read(config, count):
    with RedisStore(config) as store:
        check_records(store, damage_redis_store, count)


def check_entries(log, count, whole):
    """Looks at a log of damaged entries, and one that is not."""
    assert log.status().entries == count + 1
    assert list(log.entries()) == [whole]
    assert log.events_of(whole.key) == [whole]
    delivered = []
    while log.status().unlearned:
        # Those that can't be read are not delivered for ever.
        entries = log.read("consumer", 512)
        log.ack(entries)
        delivered += entries
    assert delivered == [whole]


def test_no_damaged_entry_of_lmdb_is_ever_learned(tmp_path, count):
    draw = random.Random(0)
    with LmdbEventLog(tmp_path) as log:
        submissions = [submission_of(n, n) for n in range(count)]
        entries = log.append(submissions)
        (whole,) = log.append([submission_of(1, count)])
        stored = log._stored._entries

        def overwrite(transaction):
            for entry in entries:
                position = entry.position.to_bytes(8, "big")
                data = transaction.get(position, db=stored)
                transaction.put(position, damaged(data, draw), db=stored)

        log._file.write(overwrite)
        check_entries(log, count, whole)


def test_no_damaged_entry_of_redis_is_ever_learned(config, count):
    draw = random.Random(0)
    with RedisEventLog(config) as log:
        with log._server.writing() as client:
            pipeline = client.pipeline(transaction=False)
            for number in range(count):
                submission = submission_of(number, number)
                fields = {
                    b"u": submission.key.digest,
                    b"h": seal(bytearray(encode_head(submission))),
                    b"e": seal(bytearray(encode_events(submission.events[:1]))),
                }
                name = draw.choice((b"h", b"e"))
                fields[name] = damaged(fields[name], draw)
                shard = log._streams.shard(submission.key)
                pipeline.xadd(log._streams.name(shard), fields)
            pipeline.execute()
        (whole,) = log.append([submission_of(1, count)])
        check_entries(log, count, whole)
