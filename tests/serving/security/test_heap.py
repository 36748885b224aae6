import asyncio
import subprocess
import sys

from serving.security.heap import LARGE_BYTES, HeapTrimmer


def trims_after(sizes):
    """How often the heap is trimmed after requests of these sizes."""
    trims = []

    async def run():
        trimmer = HeapTrimmer(trims.append, delay_seconds=0.02)
        for size in sizes:
            trimmer.note(size)
        await asyncio.sleep(0.2)

    asyncio.run(run())
    return len(trims)


def test_small_requests_trim_nothing():
    assert trims_after([LARGE_BYTES - 1] * 1000) == 0


def test_many_large_requests_trim_once():
    assert trims_after([LARGE_BYTES] * 1000) == 1


PROGRAM = """
import asyncio
from pathlib import Path
from serving.protos import recommender_pb2 as pb
from serving.security.heap import HeapTrimmer

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

async def run():
    trimmer = HeapTrimmer(delay_seconds=0.01)
    data = pb.RankRequest(item_ids=["1"] * 1_000_000).SerializeToString()
    message = pb.RankRequest.FromString(data)
    full = resident()
    del message
    trimmer.note(len(data))
    await asyncio.sleep(0.5)
    print(full - resident())

asyncio.run(run())
"""


def test_pages_of_a_large_message_are_given_back():
    given_back = subprocess.check_output([sys.executable, "-c", PROGRAM])
    assert int(given_back) > 20 << 20
