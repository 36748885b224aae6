"""How long a test waits for what should come at once.

A busy machine may stop any process for seconds, which is no failure. Tests of
deadlines set their own.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

PATIENT_SECONDS = 60.0

_Result = TypeVar("_Result")


def wait_until(condition: Callable[[], _Result]) -> _Result:
    """Asks again and again; returns the first true answer."""
    deadline = time.monotonic() + PATIENT_SECONDS
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
    return result


async def until(condition: Callable[[], _Result]) -> _Result:
    """Does so beside an event loop, which goes on meanwhile."""
    return await asyncio.to_thread(wait_until, condition)
