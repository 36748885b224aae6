"""What every `AdaptiveStore` must do; subclass it per implementation."""

import asyncio
import dataclasses
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from serving.contract.support import SupportEvent
from serving.errors import DeletedUserError, RecordError, StoreError
from serving.store import (
    AdaptiveStore,
    Retention,
    UserKey,
    UserRecord,
    fingerprint_digest,
)
from serving.store.record_bytes import encode_record
from serving.store.tombstone import now_ms
from tests.helpers.patience import wait_until

KEY = UserKey("adaptower", "u1")


def make_record(
    user_id: str = "u1",
    sequence: int = 1,
    model: str = "adaptower",
    value: float = 0.5,
    age_ms: int | None = None,
) -> UserRecord:
    """A record, written long ago if no age is given."""
    updated_ms = 1_700_000_000_000 if age_ms is None else now_ms() - age_ms
    return UserRecord(
        key=UserKey(model, user_id),
        fingerprint=fingerprint_digest("f"),
        sequence=sequence,
        support_count=2 * sequence,
        weights=np.full(5, value, np.float32),
        reservoir=(SupportEvent("007", 1.0), SupportEvent("8", 0.0)),
        updated_ms=updated_ms,
        log_position=sequence << 20,
        features=b"\0told\xff",
    )


def assert_same(actual: UserRecord | None, expected: UserRecord) -> None:
    assert actual is not None
    assert encode_record(actual) == encode_record(expected)


class AdaptiveStoreSuite:
    """Tests; subclasses say how to make a store and to reach below it."""

    @pytest.fixture
    def store(self, tmp_path) -> Iterator[AdaptiveStore]:
        with self.make_store(tmp_path) as store:
            yield store

    def make_store(
        self, tmp_path, retention: Retention | None = None
    ) -> AdaptiveStore:
        raise NotImplementedError

    def stored_keys(self, store: AdaptiveStore) -> set[bytes]:
        """Returns the keys of all that takes room, expired or not."""
        raise NotImplementedError

    def overwrite(
        self, store: AdaptiveStore, key: UserKey, data: bytes
    ) -> None:
        """Writes raw bytes past the interface, as a broken disk would."""
        raise NotImplementedError

    def test_unknown_user_has_no_record(self, store):
        assert store.get(UserKey("adaptower", "nobody")) is None

    def test_put_record_reads_back(self, store):
        assert store.compare_and_put(make_record())
        assert_same(store.get(KEY), make_record())
        assert_same(asyncio.run(store.aget(KEY)), make_record())

    @pytest.mark.parametrize("count", [0, 1, 20])
    def test_many_are_read_in_order_from_an_event_loop(self, store, count):
        keys = [UserKey("adaptower", str(number)) for number in range(count)]
        for key in keys[1::2]:
            store.compare_and_put(make_record(key.user_id))
        found = asyncio.run(store.aget_many(keys))
        assert [record and record.key for record in found] == [
            key if number % 2 else None for number, key in enumerate(keys)
        ]

    def test_models_and_users_keep_apart(self, store):
        for model, user in (("a", "b"), ("ab", ""), ("a", "bc")):
            store.compare_and_put(make_record(user, model=model))
        assert store.get(UserKey("ab", "c")) is None
        found = store.get(UserKey("a", "bc"))
        assert_same(found, make_record("bc", model="a"))

    def test_put_is_refused_unless_it_follows(self, store):
        assert not store.compare_and_put(make_record(sequence=2))
        assert store.compare_and_put(make_record(sequence=1))
        assert not store.compare_and_put(make_record(sequence=1, value=9))
        assert not store.compare_and_put(make_record(sequence=3))
        assert_same(store.get(KEY), make_record())
        assert store.compare_and_put(make_record(sequence=2))

    def test_racing_writers_lose_no_update(self, store):
        def add_ten():
            done = 0
            while done < 10:
                record = store.get(KEY)
                sequence = record.sequence if record else 0
                done += store.compare_and_put(
                    make_record(sequence=sequence + 1)
                )

        threads = [threading.Thread(target=add_ten) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.get(KEY).sequence == 40

    def test_deleted_user_is_unknown_again(self, store):
        store.compare_and_put(make_record())
        existed, _ = store.delete(KEY)
        assert existed
        existed, _ = store.delete(KEY)
        assert not existed
        assert store.get(KEY) is None
        assert store.get_many([KEY]) == [None]
        assert list(store.iterate("adaptower")) == []

    def test_tombstone_refuses_late_records_until_it_expires(self, tmp_path):
        retention = Retention(tombstone_seconds=3600)
        with self.make_store(tmp_path, retention) as store:
            store.compare_and_put(make_record())
            before = now_ms()
            _, tombstone = store.delete(KEY)
            assert before <= tombstone.deleted_ms <= now_ms()
            assert tombstone.expires_ms - tombstone.deleted_ms == 3_600_000
            assert store.tombstone(KEY) == tombstone
            for sequence in (1, 2):
                with pytest.raises(DeletedUserError, match="'u1'"):
                    store.compare_and_put(make_record(sequence=sequence))
            assert store.compare_and_put(make_record("u2"))
        with self.make_store(
            tmp_path, Retention(tombstone_seconds=0.1)
        ) as store:
            # Deleting again renews the tombstone: here, it ends at once.
            store.delete(KEY)
            wait_until(lambda: store.tombstone(KEY) is None)
            assert store.compare_and_put(make_record())
            assert_same(store.get(KEY), make_record())

    def test_deleted_user_among_others_is_named(self, store):
        store.delete(KEY)
        records = [make_record("u0"), make_record(), make_record("u2")]
        first, refused, last = store.compare_and_put_many(records)
        assert (first, last) == (True, True)
        assert isinstance(refused, DeletedUserError)

    def test_unknown_user_can_be_deleted(self, store):
        existed, tombstone = store.delete(KEY)
        assert not existed
        assert store.tombstone(KEY) == tombstone

    def test_users_unseen_for_long_expire(self, tmp_path):
        retention = Retention(ttl_seconds=3600)
        with self.make_store(tmp_path, retention) as store:
            stale = make_record("u1", age_ms=3_600_000)
            aging = make_record("u2", age_ms=3_599_000)
            fresh = make_record("u3", age_ms=0)
            records = (stale, aging, fresh)
            assert store.compare_and_put_many(records) == [True] * 3
            assert store.get(stale.key) is None
            wait_until(lambda: store.get(aging.key) is None)
            found = store.get_many([r.key for r in records])
            assert found[:2] == [None, None]
            assert_same(found[2], fresh)
            assert [r.key for r in store.iterate("adaptower")] == [fresh.key]
            # The user starts again at 1.
            again = dataclasses.replace(stale, updated_ms=now_ms())
            assert store.compare_and_put(again)
            assert_same(store.get(stale.key), again)

    def test_purge_removes_what_expired_and_nothing_else(self, tmp_path):
        retention = Retention(ttl_seconds=3600, tombstone_seconds=0.1)
        with self.make_store(tmp_path, retention) as store:
            store.compare_and_put(make_record(age_ms=3_600_000))
            gone = UserKey("adaptower", "u2")
            store.delete(gone)
            kept = make_record("u3", age_ms=0)
            store.compare_and_put(kept)
            wait_until(lambda: store.tombstone(gone) is None)
            store.purge()
            assert self.stored_keys(store) == {kept.key.to_bytes()}

    def test_one_round_trip_stores_many_users(self, store):
        records = [make_record(str(user)) for user in range(100)]
        records.append(make_record("late", sequence=7))
        results = store.compare_and_put_many(records)
        assert results == [True] * 100 + [False]
        assert len(list(store.iterate("adaptower"))) == 100

    def test_same_user_twice_in_one_batch_follows_itself(self, store):
        records = [make_record(sequence=n) for n in (1, 2, 2)]
        assert store.compare_and_put_many(records) == [True, True, False]

    def test_weights_of_several_versions_live_side_by_side(self, store):
        first = make_record()
        store.compare_and_put(first)
        new = fingerprint_digest("g")
        store.compare_and_put(
            dataclasses.replace(
                first,
                sequence=2,
                fingerprint=new,
                weights=np.full(3, 7, np.float16),
                support_count=9,
                earlier=first.earlier_than(new),
            )
        )
        record = store.get(KEY)
        old_weights = record.weights_for("f", 5)
        np.testing.assert_array_equal(old_weights.weights, first.weights)
        assert old_weights.support_count == first.support_count
        new_weights = record.weights_for("g", 3)
        assert new_weights.weights.tolist() == [7, 7, 7]
        assert new_weights.weights.dtype == np.float16
        assert new_weights.support_count == 9

    def test_retired_version_is_dropped_and_the_events_stay(self, store):
        old, new = fingerprint_digest("f"), fingerprint_digest("g")
        for user in map(str, range(5)):
            store.compare_and_put(make_record(user))
        moved = dataclasses.replace(
            make_record("0", sequence=2),
            fingerprint=new,
            earlier=make_record("0").earlier_than(new),
        )
        store.compare_and_put(moved)
        assert store.retire("adaptower", old) == 5
        assert store.retire("adaptower", old) == 0
        record = store.get(moved.key)
        assert record.weights_for("f", 5) is None
        assert record.weights_for("g", 5) is not None
        straggler = store.get(UserKey("adaptower", "1"))
        assert straggler.weights_for("f", 5) is None
        assert straggler.reservoir == make_record("1").reservoir
        assert straggler.support_count == make_record("1").support_count

    def test_get_many_keeps_order_and_gaps(self, store):
        for user in ("u1", "u3"):
            store.compare_and_put(make_record(user))
        keys = [UserKey("adaptower", user) for user in ("u3", "u2", "u1")]
        third, gap, first = store.get_many(keys)
        assert_same(third, make_record("u3"))
        assert gap is None
        assert_same(first, make_record("u1"))

    def test_iterate_yields_one_model(self, store):
        for user in ("b", "a", "ä", "c"):
            store.compare_and_put(make_record(user))
        store.compare_and_put(make_record("z", model="adaptower2"))
        store.compare_and_put(make_record("z", model="adapt"))
        users = [r.key.user_id for r in store.iterate("adaptower")]
        assert sorted(users) == ["a", "b", "c", "ä"]

    def test_damaged_record_is_rejected_and_replaced(self, store):
        store.compare_and_put(make_record())
        key = KEY
        data = bytearray(encode_record(make_record()))
        data[len(data) // 2] ^= 0x10
        self.overwrite(store, key, bytes(data))
        with pytest.raises(RecordError, match="damaged"):
            store.get(key)
        assert store.get_many([key]) == [None]
        assert list(store.iterate("adaptower")) == []
        assert store.compare_and_put(make_record(sequence=1))
        assert_same(store.get(key), make_record())

    def test_record_of_another_user_is_rejected(self, store):
        key = KEY
        self.overwrite(store, key, encode_record(make_record("u2")))
        with pytest.raises(RecordError, match="belongs to"):
            store.get(key)

    def test_weights_that_are_not_finite_are_not_stored(self, store):
        with pytest.raises(RecordError, match="not finite"):
            store.compare_and_put(make_record(value=float("nan")))
        assert store.get(KEY) is None

    def test_closed_store_refuses_reads(self, store):
        store.close()
        store.close()
        with pytest.raises(StoreError):
            store.get(KEY)
