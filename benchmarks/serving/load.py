"""A load driver for gRPC servers: a process of its own, closed or open loop.

In a closed loop, each of some clients sends its next request once the last
one is answered: that finds the throughput. In an open loop requests come when
they come (Poisson arrivals), and a latency counts from the moment a request
should have been sent, so that a server which stalls cannot hide it by
stalling its callers too (no coordinated omission).

Requests are bytes made before the clock starts; answers are not parsed.
"""

import asyncio
import collections
import dataclasses
import json
import math
import signal
import sys
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np

# Before each request in the file stands its size, in so many bytes.
SIZE_BYTES = 4
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    # Channels of one target share a connection otherwise.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclasses.dataclass(frozen=True)
class Job:
    """What to send.

    Attributes:
        target: `host:port` of the server.
        method: Path of the RPC.
        seconds: How long to send.
        clients: Clients of a closed loop.
        rate: Requests per second of an open loop; 0 is a closed loop.
        channels: Connections, which the requests take in turn.
        warm_seconds: How long to send before the clock starts.
        seed: Of the arrivals.
    """

    target: str
    method: str
    seconds: float
    clients: int = 1
    rate: float = 0.0
    channels: int = 4
    warm_seconds: float = 0.5
    seed: int = 0


class _Recorder:
    """Sends requests and writes down what becomes of them."""

    def __init__(self, calls: Sequence[Any], requests: Sequence[bytes]) -> None:
        self._calls = calls
        self._requests = requests
        self._count = 0
        self.latencies: list[float] = []
        self.ended: list[float] = []
        self.failures: collections.Counter[str] = collections.Counter()

    async def send(self, due: float) -> None:
        """Sends the next request, which was due at a moment."""
        number = self._count
        self._count += 1
        call = self._calls[number % len(self._calls)]
        try:
            await call(self._requests[number % len(self._requests)], timeout=30)
        except grpc.aio.AioRpcError as error:
            self.failures[error.code().name] += 1
            return
        now = time.perf_counter()
        self.latencies.append(now - due)
        self.ended.append(now)


class _Clock:
    """Says when to end; SIGTERM makes it sooner."""

    def __init__(self) -> None:
        self.end = math.inf
        self.stopped = False
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, self._stop
        )

    def _stop(self) -> None:
        self.stopped = True

    def runs(self, now: float) -> bool:
        """Whether to go on."""
        return now < self.end and not self.stopped


async def _closed(recorder: _Recorder, clients: int, clock: _Clock) -> None:
    async def client() -> None:
        while clock.runs(now := time.perf_counter()):
            await recorder.send(now)

    await asyncio.gather(*(client() for _ in range(clients)))


async def _open(
    recorder: _Recorder, rate: float, clock: _Clock, seed: int
) -> None:
    random = np.random.default_rng(seed)
    tasks: set[asyncio.Task[None]] = set()
    due = time.perf_counter()
    while clock.runs(due):
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(recorder.send(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += random.exponential(1 / rate)
    await asyncio.gather(*tasks)


async def _run(job: Job, requests: Sequence[bytes]) -> dict[str, Any]:
    channels = [
        grpc.aio.insecure_channel(job.target, _OPTIONS)
        for _ in range(job.channels)
    ]
    calls = [channel.unary_unary(job.method) for channel in channels]
    clock = _Clock()

    def loop(recorder: _Recorder, seconds: float) -> Awaitable[None]:
        clock.end = time.perf_counter() + seconds
        if job.rate:
            return _open(recorder, job.rate, clock, job.seed)
        return _closed(recorder, job.clients, clock)

    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    await loop(_Recorder(calls, requests), job.warm_seconds)
    recorder = _Recorder(calls, requests)
    cpu, start = time.process_time(), time.perf_counter()
    await loop(recorder, job.seconds)
    seconds = time.perf_counter() - start
    cpu = time.process_time() - cpu
    for channel in channels:
        await channel.close()
    return {
        "seconds": seconds,
        "latencies": [round(1e3 * each, 4) for each in recorder.latencies],
        "ended": [round(each, 4) for each in recorder.ended],
        "failures": recorder.failures,
        "cpu_seconds": cpu,
    }


def _read(path: Path) -> list[bytes]:
    data, requests, at = path.read_bytes(), [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + SIZE_BYTES], "little")
        at += SIZE_BYTES
        requests.append(data[at : at + size])
        at += size
    return requests


def main() -> None:
    """Does the job that stands on standard input."""
    job = Job(**json.loads(sys.stdin.read()))
    result = asyncio.run(_run(job, _read(Path(sys.argv[1]))))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
