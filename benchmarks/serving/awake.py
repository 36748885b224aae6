"""Keeps a machine's cores awake, by loops that run when nothing else would.

A core that sleeps takes its time to wake, and on a virtual machine it comes
back with cold caches, if the guest halts at once instead of polling for a
while (`/sys/module/haltpoll/parameters/guest_halt_poll_ns` is 0). A lonely call
meets that at every step; calls that keep the cores busy do not.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

_LOOP = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
while True:
    pass
"""


@contextlib.contextmanager
def kept_awake() -> Iterator[None]:
    """Has a loop of idle priority on each core."""
    loops = [
        subprocess.Popen([sys.executable, "-S", "-c", _LOOP, str(core)])
        for core in os.sched_getaffinity(0)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
