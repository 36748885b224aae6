"""Work on many things where there is room for few at a time."""

from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def in_parts(
    work: Callable[[Sequence[_T]], int],
    things: Sequence[_T],
    full: type[Exception],
) -> int:
    """Does something about things in one transaction, or in as few as it takes.

    To remove takes room before it makes some. A file that is full has it for a
    few things at a time, perhaps not for each of them: the first ones that it
    has it for make room for more. What is left over is for the next time.

    Args:
        work: Does it to some of the things; returns to how many.
        things: All of them.
        full: What `work` raises if there is no room.

    Returns:
        The sum of what `work` returned.

    Raises:
        Exception: There was no room for any of them: `full`.
    """
    try:
        return work(things)
    except full:
        if len(things) < 2:
            raise
    middle = len(things) // 2
    done = 0
    trouble: Exception | None = None
    for part in (things[:middle], things[middle:]):
        try:
            done += in_parts(work, part, full)
        except full as error:
            trouble = error
    if trouble is not None and not done:
        raise trouble
    return done
