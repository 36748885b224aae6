"""Several coroutines at once, and one without a detour."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


async def together(*coroutines: Coroutine[Any, Any, _T]) -> list[_T]:
    """Runs coroutines as `asyncio.gather` does, and returns their results.

    A single one runs in the caller's own task: a task of its own would wait
    for its turn of the event loop, and the caller for another one after it.
    """
    if len(coroutines) == 1:
        return [await coroutines[0]]
    return await asyncio.gather(*coroutines)
