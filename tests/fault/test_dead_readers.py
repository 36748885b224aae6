"""Readers that were killed leave slots behind in LMDB's table."""

import subprocess
import sys
import threading

import pytest

from serving import lmdb_file
from serving.store import LmdbStore
from tests.helpers.killed_writers import put_next, user_key

pytestmark = pytest.mark.fault

KILLED = 500
# Each reader holds a transaction open when it is killed.
READERS = """
import os, signal, sys
import lmdb
for _ in range(int(sys.argv[2])):
    ready, tell = os.pipe()
    reader = os.fork()
    if not reader:
        os.close(ready)
        env = lmdb.open(sys.argv[1], map_size=1 << 28)
        transaction = env.begin()
        os.write(tell, b"r")
        signal.pause()
    os.close(tell)
    assert os.read(ready, 1) == b"r"
    os.kill(reader, signal.SIGKILL)
    os.waitpid(reader, 0)
    os.close(ready)
"""


def kill_readers(path, count):
    return subprocess.run(
        [sys.executable, "-c", READERS, str(path), str(count)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def read_in_new_threads(store, count=8):
    """Reads user 0 in threads that need slots of their own."""
    found = []
    readers = [
        threading.Thread(target=lambda: found.append(store.get(user_key(0))))
        for _ in range(count)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return [record.sequence for record in found]


def test_table_full_of_killed_readers_is_cleared_by_who_reads(tmp_path):
    with LmdbStore(tmp_path, 1 << 28) as store:
        put_next(store, 0)
        assert "MDB_READERS_FULL" in kill_readers(tmp_path, KILLED).stderr
        assert read_in_new_threads(store) == [1] * 8


def test_killed_readers_never_fill_the_table_of_a_store_in_use(
    tmp_path, monkeypatch
):
    # Looked after at every write; two lots together would fill the table.
    monkeypatch.setattr(lmdb_file, "_CHECK_READERS_SECONDS", 0.0)
    with LmdbStore(tmp_path, 1 << 28) as store:
        for _ in range(3):
            put_next(store, 0)
            done = kill_readers(tmp_path, lmdb_file._MAX_READERS * 2 // 3)
            assert done.returncode == 0, done.stderr
    # Nor does anything of them hinder who opens it next.
    with LmdbStore(tmp_path, 1 << 28) as store:
        assert store.get(user_key(0)) is not None
