"""The lock of a run folder, held by processes."""

import os
import signal
import subprocess
import sys

import pytest

from pipeline.errors import RunLockedError
from pipeline.run_lock import run_lock

HOLD = """
import pathlib, sys, time
from pipeline.run_lock import run_lock
with run_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.fault
def test_second_run_is_refused_and_told_who_runs(tmp_path, holder):
    with (
        pytest.raises(RunLockedError, match=rf"process {holder.pid}, since"),
        run_lock(tmp_path),
    ):
        pass


@pytest.mark.fault
def test_killed_run_frees_its_lock(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with run_lock(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_lock_can_be_taken_again_after_an_error(tmp_path):
    with pytest.raises(KeyError), run_lock(tmp_path):
        raise KeyError
    with run_lock(tmp_path / "other"), run_lock(tmp_path):
        pass
