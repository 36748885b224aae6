"""Readers that were killed leave slots behind in LMDB's table."""

import subprocess
import sys
import threading

import pytest

from serving import lmdb_file
from serving.event_log import LmdbEventLog
from serving.store import LmdbStore
from tests.helpers.killed_writers import append_next, put_next, user_key

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


class Store:
    """An LMDB store with what it takes to write and read one user."""

    def __init__(self, path):
        self.opened = LmdbStore(path, 1 << 28)

    def write(self):
        put_next(self.opened, 0)

    def read(self):
        """Whether what was written is there."""
        return self.opened.get(user_key(0)) is not None


class Log:
    """The same of an event log."""

    def __init__(self, path):
        self.opened = LmdbEventLog(path)
        self._numbers = {}

    def write(self):
        append_next(self.opened, 0, self._numbers)

    def read(self):
        return bool(self.opened.events_of(user_key(0)))


@pytest.fixture(params=[Store, Log])
def kind(request):
    return request.param


def read_in_new_threads(used, count=8):
    """Reads in threads that need slots of their own."""
    found = []
    readers = [
        threading.Thread(target=lambda: found.append(used.read()))
        for _ in range(count)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return found


def test_table_full_of_killed_readers_is_cleared_by_who_reads(kind, tmp_path):
    used = kind(tmp_path)
    with used.opened:
        used.write()
        assert "MDB_READERS_FULL" in kill_readers(tmp_path, KILLED).stderr
        assert read_in_new_threads(used) == [True] * 8


def test_killed_readers_never_fill_the_table_of_what_is_in_use(
    kind, tmp_path, monkeypatch
):
    # Looked after at every write; two lots together would fill the table.
    monkeypatch.setattr(lmdb_file, "_CHECK_READERS_SECONDS", 0.0)
    used = kind(tmp_path)
    with used.opened:
        for _ in range(3):
            used.write()
            done = kill_readers(tmp_path, lmdb_file._MAX_READERS * 2 // 3)
            assert done.returncode == 0, done.stderr
    # Nor does anything of them hinder who opens it next.
    used = kind(tmp_path)
    with used.opened:
        assert used.read()
