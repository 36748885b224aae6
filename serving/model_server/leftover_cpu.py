"""Work that takes the CPU that others leave.

Loading a version takes a core for most of a second, and requests that are
answered meanwhile want it, too. Only calls into TensorFlow are made so: they
do without Python's lock. A thread that has a lock and no CPU holds up
everybody; as there are locks in the kernel and in TensorFlow as well, the
priority is low but not the lowest.
"""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
NICENESS = 10
# TensorFlow's own threads start in the first call, and inherit its priority.
_tensorflow_runs = threading.Event()


def with_leftover_cpu(work: Callable[[], _T]) -> _T:
    """Runs work with a low priority and waits for it.

    On Linux, where a thread has a priority of its own; and not the first time
    in a process, when nobody is answered yet.

    Args:
        work: A call into TensorFlow, with as little Python as can be.
    """
    if sys.platform != "linux" or not _tensorflow_runs.is_set():
        result = work()
        _tensorflow_runs.set()
        return result
    # A thread can't raise its priority again, so it ends with the work.
    with ThreadPoolExecutor(1, initializer=_lower_priority) as pool:
        return pool.submit(work).result()


def _lower_priority() -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
