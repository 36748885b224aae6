import asyncio

import pytest

from serving.gateway.server import drain

GRACE = 0.5


class Part:
    """A server, or a stage, that takes so long to end if it may.

    Attributes:
        given: How long it was given.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def stop(self, seconds: float) -> None:
        self.given = seconds
        await asyncio.sleep(min(seconds, self._seconds))

    async def close(self, seconds: float) -> None:
        await self.stop(seconds)


def drained(server_seconds):
    server, stage = Part(server_seconds), Part(0.0)
    asyncio.run(drain(server, stage, GRACE))
    return server.given, stage.given


def test_learning_has_what_calls_leave_of_the_time():
    _, stage = drained(0.0)
    assert stage == pytest.approx(GRACE, abs=0.2 * GRACE)


def test_calls_that_hang_leave_learning_its_least():
    server, stage = drained(60.0)
    assert server + 0.1 * GRACE == pytest.approx(GRACE)
    assert stage == pytest.approx(0.1 * GRACE)
