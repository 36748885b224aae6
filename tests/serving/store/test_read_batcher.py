import asyncio
import threading

import pytest

from serving.errors import StoreError
from serving.store.read_batcher import ReadBatcher


class Slow:
    """Answers each key with itself, when it is told to."""

    def __init__(self):
        self.batches = []
        self.go_on = threading.Semaphore(0)

    def read(self, keys):
        self.batches.append(list(keys))
        self.go_on.acquire()
        return [key + b"!" for key in keys]


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def batcher(slow):
    batcher = ReadBatcher(slow.read, seconds=60.0)
    yield batcher
    slow.go_on.release(1000)
    batcher.close()


async def begun(slow, count):
    while len(slow.batches) < count:
        await asyncio.sleep(0.001)


def test_reads_of_one_turn_go_together_and_those_meanwhile_next(slow, batcher):
    async def run():
        first = [asyncio.ensure_future(batcher.get(k)) for k in (b"a", b"b")]
        await begun(slow, 1)
        later = [asyncio.ensure_future(batcher.get(k)) for k in (b"c", b"d")]
        await asyncio.sleep(0.01)
        slow.go_on.release(2)
        return await asyncio.gather(*first, *later)

    assert asyncio.run(run()) == [b"a!", b"b!", b"c!", b"d!"]
    assert slow.batches == [[b"a", b"b"], [b"c", b"d"]]


def test_read_that_is_given_up_disturbs_no_other(slow, batcher):
    async def run():
        kept, gone = (
            asyncio.ensure_future(batcher.get(k)) for k in (b"a", b"b")
        )
        await begun(slow, 1)
        never_sent = asyncio.ensure_future(batcher.get(b"c"))
        await asyncio.sleep(0)
        gone.cancel()
        never_sent.cancel()
        slow.go_on.release()
        return await kept

    assert asyncio.run(run()) == b"a!"
    assert slow.batches == [[b"a", b"b"]]


def test_error_of_a_read_reaches_all_who_wait_and_none_after(batcher):
    failing = ReadBatcher(lambda keys: 1 // 0, seconds=60.0)

    async def run():
        return await asyncio.gather(
            *(failing.get(b"a") for _ in range(3)), return_exceptions=True
        )

    errors = asyncio.run(run())
    assert [type(error) for error in errors] == [ZeroDivisionError] * 3
    # Another loop, and another turn.
    assert type(asyncio.run(run())[0]) is ZeroDivisionError
    failing.close()


def test_read_that_hangs_fails_those_who_wait_and_come_until_it_is_back(slow):
    hanging = ReadBatcher(slow.read, seconds=0.05)

    async def run():
        running = asyncio.ensure_future(hanging.get(b"a"))
        await begun(slow, 1)
        waiting = asyncio.ensure_future(hanging.get(b"b"))
        for late in (running, waiting, hanging.get(b"c")):
            with pytest.raises(StoreError, match="not answered a read"):
                await late
        # No thread more than the one that hangs.
        assert slow.batches == [[b"a"]]
        slow.go_on.release(1000)
        while True:
            try:
                return await hanging.get(b"d")
            except StoreError:
                await asyncio.sleep(0.01)

    assert asyncio.run(run()) == b"d!"
    hanging.close()


def test_who_can_not_wait_is_told_so_and_the_others_get_their_value(
    slow, batcher
):
    async def run():
        patient = asyncio.ensure_future(batcher.get(b"a"))
        with pytest.raises(
            StoreError, match=r"not answered a read for 0\.05 s"
        ):
            await batcher.get(b"a", seconds=0.05)
        # The store is not given up for it.
        later = asyncio.ensure_future(batcher.get(b"b", seconds=50.0))
        await asyncio.sleep(0)
        slow.go_on.release(2)
        return await asyncio.gather(patient, later)

    assert asyncio.run(run()) == [b"a!", b"b!"]


def test_closed_store_is_a_clear_error(slow, batcher):
    batcher.close()
    with pytest.raises(StoreError, match="closed"):
        asyncio.run(batcher.get(b"a"))
