"""Several clients of a replay at once, each with users of its own.

A user's steps keep their order; those of different users come as they come,
as in service.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from serving.contract.timeline import Step

_Item = TypeVar("_Item")


def walk(
    steps: Iterable[Step], clients: int, take: Callable[[int, Step], None]
) -> None:
    """Takes the steps of a timeline.

    What a step raises ends the walk; other clients finish the step they are
    at.

    Args:
        steps: The steps.
        clients: How many take steps at a time; one takes them in order.
        take: Takes a step, given its number.
    """
    numbered = list(enumerate(steps))
    if clients == 1:
        for number, step in numbered:
            take(number, step)
        return
    stopped = threading.Event()

    def run(own: Sequence[tuple[int, Step]]) -> None:
        for number, step in own:
            if stopped.is_set():
                return
            take(number, step)

    shares = [
        [(n, step) for n, step in numbered if step.arrival % clients == client]
        for client in range(clients)
    ]
    with ThreadPoolExecutor(clients) as pool:
        try:
            running = [pool.submit(run, share) for share in shares]
            done, _ = wait(running, return_when=FIRST_EXCEPTION)
        finally:
            stopped.set()
    for future in done:
        future.result()


class InOrder(Generic[_Item]):
    """Passes items on in their order, in whichever they come."""

    def __init__(self, pass_on: Callable[[_Item], None]) -> None:
        """Begins with item 0.

        Args:
            pass_on: Given the items, one at a time.
        """
        self._pass_on = pass_on
        self._waiting: dict[int, _Item] = {}
        self._next = 0
        self._lock = threading.Lock()

    def put(self, number: int, item: _Item) -> None:
        """Takes an item; every number comes once."""
        with self._lock:
            self._waiting[number] = item
            while self._next in self._waiting:
                self._pass_on(self._waiting.pop(self._next))
                self._next += 1
