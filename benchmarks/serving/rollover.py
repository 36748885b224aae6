"""What callers notice of new versions.

A version comes as `docs/rollover.md` says: its users are learned again, then
it is pushed. Beside it stands what happens without the first: all users are
stragglers at each switch, learned behind the answers that meet them.
"""

import dataclasses
import time
from collections.abc import Iterator

import grpc
import numpy as np

from benchmarks.serving.driver import Driver, Result, drive
from benchmarks.serving.figures import Figure
from benchmarks.serving.load import Job
from benchmarks.serving.requests import RANK
from benchmarks.serving.setting import Setting
from serving.client import RecommenderClient
from serving.protos import recommender_pb2 as pb

ROLLOVERS = 20
CLIENTS = 32
# Of the load before the first push, in measurements: long enough that a
# disturbance from outside is in it as likely as during the rollovers.
BEFORE = 15
# Of the full rate: loading takes its share of the same cores.
SHARE = 0.4
# From a version's first answer to what comes next.
REST_SECONDS = 0.5
# The most that a rollover may take; the load ends after so many of them.
LONGEST_SECONDS = 60.0
_POLL_SECONDS = 0.05
_RELEARNED = "users_relearned_total"


@dataclasses.dataclass(frozen=True)
class _Window:
    """A version's coming, by `perf_counter`; it ends a rest after `answered`.

    Attributes:
        pushed: When it was pushed.
        answered: When it first answered.
    """

    pushed: float
    answered: float

    def holds(self, result: Result) -> np.ndarray:
        """Which answers fall into it."""
        until = self.answered + REST_SECONDS
        return (result.ended >= self.pushed) & (result.ended < until)


def measure_rollover(
    setting: Setting, seconds: float, rollovers: int = ROLLOVERS
) -> Iterator[Figure]:
    """Pushes versions under a steady Poisson load.

    Args:
        setting: The servers.
        seconds: Of the measurement of the full rate; the load before the
            first push lasts `BEFORE` times as long.
        rollovers: Versions pushed, with users rebased, and again without.
    """
    rank = setting.rank_requests()
    full = drive(Job(setting.gateway.target, RANK, seconds, CLIENTS), rank)
    rate = SHARE * full.rate
    for rebase, name in ((True, ""), (False, ", nobody rebased")):
        before = BEFORE * seconds
        longest = before + LONGEST_SECONDS * rollovers
        job = Job(setting.gateway.target, RANK, longest, rate=rate)
        yield from _measure(setting, job, before, rollovers, rebase, name)


def _measure(
    setting: Setting,
    job: Job,
    before_seconds: float,
    rollovers: int,
    rebase: bool,
    name: str,
) -> Iterator[Figure]:
    target, rank = job.target, setting.rank_requests()
    relearned = _relearned(target)
    driver = Driver(job, rank)
    time.sleep(before_seconds)
    begin = time.perf_counter()
    windows = []
    rebase_seconds = []
    with grpc.insecure_channel(target) as channel:
        ask = channel.unary_unary(RANK, None, pb.RankResponse.FromString)

        def version() -> int:
            try:
                return int(ask(rank[0], timeout=30).provenance.version)
            except grpc.RpcError:
                # Shed under load; the driver counts such.
                return 0

        first = version() + 1
        for number in range(first, first + rollovers):
            built = setting.build(number)
            if rebase:
                start = time.perf_counter()
                setting.rebase(built)
                rebase_seconds.append(time.perf_counter() - start)
                time.sleep(REST_SECONDS)
            start = time.perf_counter()
            setting.push(built)
            while version() < number:
                time.sleep(_POLL_SECONDS)
            windows.append(_Window(start, time.perf_counter()))
            time.sleep(REST_SECONDS)
    driver.stop()
    load = driver.wait()
    before = load.latencies[load.ended < begin]
    is_during = np.any([each.holds(load) for each in windows], axis=0)
    during = load.latencies[is_during]
    between = load.latencies[~is_during & (load.ended >= begin)]
    yield Figure(
        f"failed requests in {rollovers} rollovers{name}",
        sum(load.failures.values()),
        floor=0,
        goal=0,
        detail={"requests": len(load.latencies), "failures": load.failures},
    )
    yield Figure(
        f"p99 during rollovers / before{name}",
        float(np.percentile(during, 99) / np.percentile(before, 99)),
        floor=3,
        goal=1.5,
        detail={
            "requests_per_second": round(job.rate),
            "p99_before_ms": _percentile(before, 99),
            "p99_during_ms": _percentile(during, 99),
            "p99_while_rebasing_ms": _percentile(between, 99),
            "p50_before_ms": _percentile(before, 50),
            "p50_during_ms": _percentile(during, 50),
            "push_to_first_answer_s": [
                round(each.answered - each.pushed, 2) for each in windows
            ],
            "rebase_s": [round(each, 2) for each in rebase_seconds],
            "relearned": {
                kind: count - relearned.get(kind, 0)
                for kind, count in _relearned(target).items()
            },
        },
    )


def _percentile(latencies: np.ndarray, percent: float) -> float | None:
    return float(np.percentile(latencies, percent)) if len(latencies) else None


def _relearned(target: str) -> dict[str, int]:
    """How many users the gateway has learned again so far, by outcome."""
    with RecommenderClient(target) as client:
        counters = client.get_status().counters
    return {
        name: round(count)
        for name, count in counters.items()
        if _RELEARNED in name
    }
