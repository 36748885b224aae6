import os
import subprocess
import sys
import threading

import pytest

from serving.model_server.leftover_cpu import with_leftover_cpu

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="threads have no priority of their own"
)


def niceness():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@linux_only
def test_work_after_the_first_has_a_low_priority_and_nobody_else():
    script = (
        "from serving.model_server.leftover_cpu import *\n"
        "from tests.serving.model_server.test_leftover_cpu import niceness\n"
        "own = niceness()\n"
        "first, second = [with_leftover_cpu(niceness) for _ in range(2)]\n"
        "expected = own, NICENESS, own\n"
        "assert (first, second, niceness()) == expected\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_errors_of_the_work_reach_the_caller():
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            with_leftover_cpu(lambda: 1 // 0)
    assert with_leftover_cpu(lambda: "done") == "done"
