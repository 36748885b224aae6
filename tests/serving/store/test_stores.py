import asyncio
import itertools
import subprocess
import sys
import time

import pytest

from serving.errors import DeletedUserError, StoreError, StoreFullError
from serving.store import LmdbStore, MemoryStore, Retention, UserKey
from serving.store.redis_store import RedisStore
from tests.contract.adaptive_store_suite import (
    AdaptiveStoreSuite,
    assert_same,
    make_record,
)


class TestRedisStore(AdaptiveStoreSuite):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server):
        self.server = redis_server
        redis_server.clear()

    def make_store(self, tmp_path, retention=None):
        return RedisStore(self.server.config(), retention)

    def stored_keys(self, store):
        prefix = b"adaptower:weights:"
        return {
            key.removeprefix(prefix)
            for key in self.server.client.scan_iter(prefix + b"*")
        }

    def overwrite(self, store, key, data):
        self.server.client.set(store._key(key), data)

    def test_tombstone_lasts_as_long_as_the_server_refuses_records(
        self, store, monkeypatch
    ):
        record = make_record()
        _, tombstone = store.delete(record.key)
        ahead = tombstone.expires_ms + 60_000
        monkeypatch.setattr("serving.store.tombstone.now_ms", lambda: ahead)
        with pytest.raises(DeletedUserError):
            store.compare_and_put(record)
        assert store.tombstone(record.key) == tombstone

    def test_users_expire_although_a_version_was_retired_without_the_ttl(
        self, tmp_path
    ):
        record = make_record(age_ms=0)
        retention = Retention(ttl_seconds=3600)
        with self.make_store(tmp_path, retention) as store:
            store.compare_and_put(record)
            expires = self.server.client.pexpiretime(store._key(record.key))
        with self.make_store(tmp_path) as store:
            assert store.retire("adaptower", record.fingerprint) == 1
            name = store._key(record.key)
            assert self.server.client.pexpiretime(name) == expires
            # Who comes back is kept as this store keeps users: for good.
            again = make_record(sequence=3, age_ms=-1000)
            assert store.compare_and_put(again)
            assert self.server.client.pexpiretime(name) == -1


class TestMemoryStore(AdaptiveStoreSuite):
    def make_store(self, tmp_path, retention=None):
        return MemoryStore(retention)

    def stored_keys(self, store):
        return set(store._data)

    def overwrite(self, store, key, data):
        store._data[key.to_bytes()] = data


class TestLmdbStore(AdaptiveStoreSuite):
    def make_store(self, tmp_path, retention=None):
        return LmdbStore(tmp_path / "store", 1 << 22, retention)

    def stored_keys(self, store):
        return {key for key, _ in store._entries(b"")}

    def overwrite(self, store, key, data):
        store._file.write(lambda t: t.put(key.to_bytes(), data))

    def test_what_is_in_memory_is_read_without_a_thread(
        self, tmp_path, monkeypatch
    ):
        def read(keys):
            pytest.fail("read in a thread")

        with self.make_store(tmp_path) as store:
            record = make_record()
            store.compare_and_put(record)
            end = time.monotonic() + 60
            while not store._is_in_memory:
                assert time.monotonic() < end
                time.sleep(0.01)
            monkeypatch.setattr(store._batcher, "_read", read)
            assert_same(asyncio.run(store.aget(record.key)), record)

    def test_records_survive_a_killed_process(self, tmp_path):
        program = (
            "import os, signal, sys\n"
            "from serving.store import LmdbStore\n"
            "from tests.contract.adaptive_store_suite import make_record\n"
            "store = LmdbStore(sys.argv[1], map_bytes=1 << 22)\n"
            "assert store.compare_and_put(make_record())\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        path = tmp_path / "store"
        done = subprocess.run([sys.executable, "-c", program, str(path)])
        assert done.returncode == -9
        with LmdbStore(path, map_bytes=1 << 22) as store:
            found = store.get(UserKey("adaptower", "u1"))
            assert_same(found, make_record())

    def test_full_store_says_so_and_still_reads(self, tmp_path):
        with LmdbStore(tmp_path, map_bytes=1 << 16) as store:
            records = (make_record(str(user)) for user in range(10_000))
            with pytest.raises(StoreFullError, match="--store-map-bytes"):
                all(map(store.compare_and_put, records))
            found = store.get(UserKey("adaptower", "0"))
            assert_same(found, make_record("0"))

    def test_full_store_has_room_again_when_records_expire(self, tmp_path):
        retention = Retention(ttl_seconds=3600)
        with LmdbStore(tmp_path, 1 << 18, retention) as store:
            # All of them were written long ago.
            records = (make_record(f"{user}") for user in itertools.count())
            with pytest.raises(StoreFullError):
                all(map(store.compare_and_put, records))
            num_stored = len(self.stored_keys(store))
            assert sum(store.purge_steps()) == num_stored > 100
            assert all(
                store.compare_and_put(make_record(f"{user}", age_ms=0))
                for user in range(100)
            )

    def test_folder_that_is_a_file_is_a_clear_error(self, tmp_path):
        path = tmp_path / "store"
        path.write_text("not a folder")
        with pytest.raises(StoreError, match=str(path)):
            LmdbStore(path)
