"""What every `AdaptiveStore` must do; subclass it per implementation."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from serving.contract.support import SupportEvent
from serving.errors import RecordError, StoreError
from serving.store import (
    AdaptiveStore,
    UserKey,
    UserRecord,
    fingerprint_digest,
)


def make_record(
    user_id: str = "u1",
    sequence: int = 1,
    model: str = "adaptower",
    value: float = 0.5,
) -> UserRecord:
    return UserRecord(
        key=UserKey(model, user_id),
        fingerprint=fingerprint_digest("f"),
        sequence=sequence,
        support_count=2 * sequence,
        weights=np.full(5, value, np.float32),
        reservoir=(SupportEvent("007", 1.0), SupportEvent("8", 0.0)),
        recent_events=(1, 2**32 - 1),
        updated_ms=1_700_000_000_000,
    )


def assert_same(actual: UserRecord | None, expected: UserRecord) -> None:
    assert actual is not None
    assert actual.to_bytes() == expected.to_bytes()


class AdaptiveStoreSuite:
    """Tests; subclasses give `make_store` and `damage`."""

    @pytest.fixture
    def store(self, tmp_path) -> Iterator[AdaptiveStore]:
        with self.make_store(tmp_path) as store:
            yield store

    def make_store(self, tmp_path) -> AdaptiveStore:
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
        assert_same(store.get(UserKey("adaptower", "u1")), make_record())

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
        assert_same(store.get(UserKey("adaptower", "u1")), make_record())
        assert store.compare_and_put(make_record(sequence=2))

    def test_racing_writers_lose_no_update(self, store):
        key = UserKey("adaptower", "u1")

        def add_ten():
            done = 0
            while done < 10:
                record = store.get(key)
                sequence = record.sequence if record else 0
                done += store.compare_and_put(
                    make_record(sequence=sequence + 1)
                )

        threads = [threading.Thread(target=add_ten) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.get(key).sequence == 40

    def test_deleted_user_is_unknown_again(self, store):
        store.compare_and_put(make_record())
        assert store.delete(UserKey("adaptower", "u1"))
        assert not store.delete(UserKey("adaptower", "u1"))
        assert store.get(UserKey("adaptower", "u1")) is None

    def test_get_many_keeps_order_and_gaps(self, store):
        for user in ("u1", "u3"):
            store.compare_and_put(make_record(user))
        keys = [UserKey("adaptower", user) for user in ("u3", "u2", "u1")]
        third, gap, first = store.get_many(keys)
        assert_same(third, make_record("u3"))
        assert gap is None
        assert_same(first, make_record("u1"))

    def test_iterate_yields_one_model_in_order(self, store):
        for user in ("b", "a", "ä", "c"):
            store.compare_and_put(make_record(user))
        store.compare_and_put(make_record("z", model="adaptower2"))
        store.compare_and_put(make_record("z", model="adapt"))
        users = [r.key.user_id for r in store.iterate("adaptower")]
        assert users == ["a", "b", "c", "ä"]

    def test_damaged_record_is_rejected_and_replaced(self, store):
        store.compare_and_put(make_record())
        key = UserKey("adaptower", "u1")
        data = bytearray(make_record().to_bytes())
        data[len(data) // 2] ^= 0x10
        self.overwrite(store, key, bytes(data))
        with pytest.raises(RecordError, match="damaged"):
            store.get(key)
        assert store.get_many([key]) == [None]
        assert list(store.iterate("adaptower")) == []
        assert store.compare_and_put(make_record(sequence=1))
        assert_same(store.get(key), make_record())

    def test_record_of_another_user_is_rejected(self, store):
        key = UserKey("adaptower", "u1")
        self.overwrite(store, key, make_record("u2").to_bytes())
        with pytest.raises(RecordError, match="belongs to"):
            store.get(key)

    def test_weights_that_are_not_finite_are_not_stored(self, store):
        with pytest.raises(RecordError, match="not finite"):
            store.compare_and_put(make_record(value=float("nan")))
        assert store.get(UserKey("adaptower", "u1")) is None

    def test_closed_store_refuses_reads(self, store):
        store.close()
        store.close()
        with pytest.raises(StoreError):
            store.get(UserKey("adaptower", "u1"))
