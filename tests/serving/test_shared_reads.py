import asyncio
import subprocess
import sys
import threading

import pytest

from serving.shared_reads import SharedReads, SlowReadError
from tests.helpers.patience import wait_until


class Disk:
    """Answers when it is let; counts who reads."""

    def __init__(self):
        self.answers = threading.Event()
        self.reads = 0

    def read(self):
        self.reads += 1
        self.answers.wait()
        return self.reads


def test_those_who_ask_at_the_same_time_share_a_read():
    disk = Disk()

    async def run():
        reads = SharedReads(60.0)
        waiting = [
            asyncio.create_task(reads.read("key", disk.read)) for _ in range(5)
        ]
        # The loop goes on while they wait.
        while not disk.reads:
            await asyncio.sleep(0)
        disk.answers.set()
        assert await asyncio.gather(*waiting) == [1] * 5
        # The next one reads what there is by then.
        assert await reads.read("key", disk.read) == 2

    asyncio.run(run())


def test_who_waits_in_vain_gives_up_and_takes_no_second_thread():
    disk = Disk()

    async def run():
        reads = SharedReads(0.01)
        for _ in range(5):
            with pytest.raises(SlowReadError, match=r"more than 0\.01 s"):
                await reads.read("key", disk.read)
        # Others are not held up.
        while True:
            try:
                assert await reads.read("other", lambda: "found") == "found"
                break
            except SlowReadError:
                continue

    asyncio.run(run())
    # Its thread may be slow to begin.
    disk.answers.set()
    wait_until(lambda: not any(map(reads_here, threading.enumerate())))
    assert disk.reads == 1


def reads_here(thread):
    return thread.name == "shared-read"


def test_who_is_cancelled_leaves_the_read_to_the_others():
    disk = Disk()

    async def run():
        reads = SharedReads(60.0)
        first, second = [
            asyncio.create_task(reads.read("key", disk.read)) for _ in range(2)
        ]
        while not disk.reads:
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        disk.answers.set()
        assert await second == 1

    asyncio.run(run())


def test_error_is_for_all_who_wait_and_the_next_read_is_another():
    async def run():
        reads = SharedReads(60.0)

        def fail():
            raise OSError("bad sector")

        outcomes = await asyncio.gather(
            *(reads.read("key", fail) for _ in range(3)),
            return_exceptions=True,
        )
        assert [str(error) for error in outcomes] == ["bad sector"] * 3
        assert await reads.read("key", lambda: 1) == 1

    asyncio.run(run())


def test_end_of_the_process_waits_for_no_read():
    script = """
import asyncio, threading
from serving.shared_reads import SharedReads, SlowReadError

async def run():
    try:
        await SharedReads(0.01).read("key", threading.Event().wait)
    except SlowReadError:
        print("gave up")

asyncio.run(run())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("gave up\n", "")
