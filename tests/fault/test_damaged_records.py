"""Records with flipped bits, and cut short, among thousands of others."""

import random

import pytest

from serving.errors import RecordError
from serving.store import LmdbStore
from tests.helpers.killed_writers import record_of, user_key

pytestmark = pytest.mark.fault

DAMAGED = 10_000


def damaged(data, draw):
    if draw.random() < 0.5:
        return data[: draw.randrange(len(data))]
    broken = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        broken[draw.randrange(len(broken))] ^= draw.randint(1, 255)
    # Two flips may undo each other.
    return bytes(broken) if broken != data else data[:-1]


def test_no_damaged_record_is_ever_read(tmp_path):
    draw = random.Random(0)
    keys = [user_key(user) for user in range(DAMAGED)]
    with LmdbStore(tmp_path) as store:

        def overwrite(transaction):
            for user, key in enumerate(keys):
                whole = record_of(user, 7).to_bytes()
                transaction.put(key.to_bytes(), damaged(whole, draw))

        store._file.write(overwrite)
        rejected = 0
        for key in keys:
            try:
                store.get(key)
            except RecordError:
                rejected += 1
        assert rejected == DAMAGED
        assert store.get_many(keys) == [None] * DAMAGED
        assert list(store.iterate("adaptower")) == []
        # A damaged record is as good as none: the user starts again.
        first = [record_of(user, 1) for user in range(100)]
        assert store.compare_and_put_many(first) == [True] * 100
