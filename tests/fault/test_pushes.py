"""Pushes that die half way, and pushes at the same moment.

A model server looks on all the time, as quickly as it can, and loads what is
listed: whatever it ever saw was whole.
"""

import subprocess
import sys
import textwrap
import threading

import pytest

from components.versioned_pusher import versions
from serving.contract.manifest import MANIFEST_FILE
from serving.model_server.model_config import ModelConfig, VersionPolicy
from serving.model_server.versions import ModelVersions
from tests.helpers.folders import contents, write_files

pytestmark = pytest.mark.fault

FILES = {
    "saved_model.pb": b"graph" * 1000,
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"weights" * 10_000,
    "assets/items.txt": b"001\n",
    MANIFEST_FILE: b"{}",
}
# Where a push is killed: in the middle of each file, before the copy is
# shown, and after.
MOMENTS = [*range(len(FILES)), "prepare", "sync", "rename", "shown"]
PUSH = """
    import os, pathlib, signal
    from components.versioned_pusher import versions

    moment, frozen = {moment!r}, {frozen!r}
    if frozen:
        versions.time.time = lambda: frozen

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    copied = 0

    def copy(source, destination):
        global copied
        if copied == moment:
            # Half of the file is there when the power goes.
            half = source.read_bytes()[: source.stat().st_size // 2]
            destination.write_bytes(half)
            die()
        versions.copy_file_durably(source, destination)
        copied += 1

    rename = versions._rename
    if moment == "sync":
        versions._sync_tree = lambda staged: die()
    if moment == "rename":
        versions._rename = lambda staged, final: die()
    if moment == "shown":
        versions._rename = lambda staged, final: (rename(staged, final), die())
    print(versions.push_version(
        pathlib.Path({model_dir!r}),
        pathlib.Path({push_dir!r}),
        prepare=lambda staged: die() if moment == "prepare" else None,
        copy_file=copy,
    ))
"""


@pytest.fixture
def model_dir(tmp_path):
    return write_files(tmp_path / "model", FILES)


@pytest.fixture
def push_dir(tmp_path):
    return tmp_path / "serving" / "adaptower"


def start_push(model_dir, push_dir, moment=None, frozen=None):
    script = textwrap.dedent(PUSH).format(
        model_dir=str(model_dir),
        push_dir=str(push_dir),
        moment=moment,
        frozen=frozen,
    )
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    )


class Onlooker:
    """A model server's watcher, which polls without a rest.

    Attributes:
        seen: Contents of each version when it was loaded, by number.
    """

    def __init__(self, push_dir):
        self.seen = {}
        self._watched = ModelVersions(
            "adaptower",
            ModelConfig(push_dir, VersionPolicy(latest=1000)),
            self._load,
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._stopped.set()
        self._thread.join()

    def _poll(self):
        while not self._stopped.is_set():
            self._watched.poll()

    def _load(self, path):
        self.seen[int(path.name)] = contents(path)
        return self

    def close(self):
        """Nothing is held."""


def test_a_push_killed_at_any_moment_shows_nothing_half(model_dir, push_dir):
    kept = versions.push_version(model_dir, push_dir)
    with Onlooker(push_dir) as onlooker:
        for moment in MOMENTS:
            push = start_push(model_dir, push_dir, moment)
            push.communicate(timeout=60)
            assert push.returncode == -9, moment
        # Nothing is left in the way of the next push, which also tidies up.
        last = versions.push_version(model_dir, push_dir)
    listed = versions.listed_versions(push_dir)
    # Killed after the rename, the version was whole, and stays.
    assert len(listed) == 3
    assert {kept, last} < set(listed)
    assert {kept} <= set(onlooker.seen) <= set(listed)
    assert all(seen == FILES for seen in onlooker.seen.values())
    assert not list(push_dir.parent.glob(".staging-*"))


def test_pushes_at_the_same_moment_are_distinct_versions(model_dir, push_dir):
    moment = 1_700_000_000.5
    with Onlooker(push_dir) as onlooker:
        pushes = [
            start_push(model_dir, push_dir, frozen=moment) for _ in range(3)
        ]
        pushed = [int(push.communicate(timeout=60)[0]) for push in pushes]
    assert sorted(pushed) == [int(moment) + n for n in range(3)]
    assert versions.listed_versions(push_dir) == sorted(pushed)
    for version in pushed:
        assert contents(push_dir / str(version)) == FILES
    assert all(seen == FILES for seen in onlooker.seen.values())
