"""What LMDB and Redis wrote is synced to disk before anybody is told so.

A killed process proves nothing of this: the system keeps what it wrote. The
system calls tell.
"""

import re
import shutil
import subprocess
import sys

import pytest

from tests.helpers.killed_writers import append_next, open_both, put_next
from tests.helpers.redis_server import RunningRedis

pytestmark = pytest.mark.fault

PROGRAM = """
import os, sys
from pathlib import Path
from tests.helpers.killed_writers import append_next, open_both, put_next
store, log = open_both(Path(sys.argv[1]))
numbers = {}
steps = {
    "put": lambda: put_next(store, 0),
    "append": lambda: append_next(log, 0, numbers),
    "delete": lambda: store.delete(next(store.iterate("adaptower")).key),
}
for name in ("put", "append", "put", "append", "delete"):
    os.write(1, f"begin {name}\\n".encode())
    steps[name]()
    os.write(1, f"acknowledged {name}\\n".encode())
"""
CALL = re.compile(r"^\d+ +(\w+)\((\d+|[^,)]+)(.*)= (-?\d+)")


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """System calls of one thread in their order: name, file, the rest."""
    if shutil.which("strace") is None:
        pytest.skip("no strace on this machine")
    folder = tmp_path_factory.mktemp("trace")
    calls = "openat,write,writev,pwrite64,pwritev,fsync,fdatasync,msync"
    done = subprocess.run(
        [
            *("strace", "-f", "-s", "40", "-e", f"trace={calls}"),
            *("-o", str(folder / "trace")),
            *(sys.executable, "-c", PROGRAM, str(folder / "data")),
        ],
        capture_output=True,
        text=True,
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace may not look at processes here")
    assert done.returncode == 0, done.stderr
    lines = (folder / "trace").read_text().splitlines()
    return [match.groups() for line in lines if (match := CALL.match(line))]


def spans(trace):
    """The calls between the begin of a write and its acknowledgement."""
    found, current = [], None
    for call in trace:
        name, _, rest, _ = call
        if name == "write" and '"begin ' in rest:
            current = []
        elif name == "write" and '"acknowledged ' in rest:
            found.append(current)
            current = None
        elif current is not None:
            current.append(call)
    return found


def test_data_is_synced_before_the_meta_page_and_that_before_the_reply(trace):
    synchronous = {
        descriptor
        for name, _, rest, descriptor in trace
        if name == "openat" and "data.mdb" in rest and "O_DSYNC" in rest
    }
    assert synchronous, "LMDB opens no descriptor that syncs with each write"
    assert len(spans(trace)) == 5
    for calls in spans(trace):
        kinds = [
            "meta"
            if name.startswith("pwrite") and file in synchronous
            else "data"
            if name.startswith(("pwrite", "write"))
            else "sync"
            for name, file, _, result in calls
            if name != "openat" and int(result) >= 0
        ]
        # Nothing is written between the sync of the data and the meta page
        # that makes the data valid, and nothing after it.
        assert kinds[-2:] == ["sync", "meta"], calls
        assert "data" in kinds[:-2], calls


@pytest.fixture
def traced_redis(tmp_path):
    """A server whose system calls are written down."""
    if shutil.which("strace") is None:
        pytest.skip("no strace on this machine")
    server = RunningRedis()
    path = tmp_path / "trace"
    watching = subprocess.Popen(
        [
            *("strace", "-f", "-s", "40", "-p", str(server.process_id)),
            *("-e", "trace=write,fdatasync,fsync", "-o", str(path)),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    if "attached" not in watching.stderr.readline():
        pytest.skip("strace may not look at processes here")
    yield server, path
    server.close()
    watching.wait()


def test_redis_syncs_each_write_before_it_replies(traced_redis):
    server, path = traced_redis
    store, log = open_both(server.url)
    numbers = {}
    with store, log:
        for _ in range(5):
            put_next(store, 0)
            append_next(log, 0, numbers)
    server.kill()
    found = [
        (name, rest)
        for line in path.read_text().splitlines()
        if (match := CALL.match(line))
        for name, _, rest, _ in [match.groups()]
    ]
    unsynced, syncs = False, 0
    for name, rest in found:
        if name.endswith("sync"):
            syncs += unsynced
            unsynced = False
        elif "SET\\r\\n" in rest or "MULTI\\r\\n" in rest:
            # The append-only file is in the protocol of the commands.
            unsynced = True
        else:
            assert not unsynced, f"replied before the sync: {rest}"
    assert syncs >= 10
