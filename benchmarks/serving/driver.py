"""Starts a load driver, and reads what it saw."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.serving.load import SIZE_BYTES, Job


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What came back.

    Attributes:
        seconds: From the first request to the last answer.
        latencies: Milliseconds of each answered request, in the order of the
            answers.
        ended: When each was answered, by this machine's `perf_counter`.
        failures: How many requests failed, by gRPC status.
        cpu_seconds: What the driver itself used.
    """

    seconds: float
    latencies: NDArray[np.float64]
    ended: NDArray[np.float64]
    failures: dict[str, int]
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """A percentile of the latencies, in milliseconds."""
        if not len(self.latencies):
            return float("nan")
        return float(np.percentile(self.latencies, percent))


class Driver:
    """A running driver; `wait` returns what it saw."""

    def __init__(self, job: Job, requests: Sequence[bytes]) -> None:
        """Starts the process.

        Args:
            job: What to do.
            requests: Serialized messages, sent in turn.
        """
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "requests"
        path.write_bytes(
            b"".join(
                len(request).to_bytes(SIZE_BYTES, "little") + request
                for request in requests
            )
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serving.load", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(dataclasses.asdict(job)))
        self._process.stdin.close()
        self._process.stdin = None

    def stop(self) -> None:
        """Ends the job before its time."""
        self._process.terminate()

    def wait(self) -> Result:
        """Waits for the end and returns what happened."""
        output, _ = self._process.communicate()
        self._folder.cleanup()
        if self._process.returncode:
            raise RuntimeError("The load driver failed; see above.")
        values = json.loads(output)
        for name in ("latencies", "ended"):
            values[name] = np.array(values[name])
        return Result(**values)


def drive(job: Job, requests: Sequence[bytes]) -> Result:
    """Runs a job to its end."""
    return Driver(job, requests).wait()
