"""What callers notice of new versions.

No user is learned for a version before it is pushed, so that all of them are
stragglers at each switch, learned behind the answers that meet them.
"""

import time
from collections.abc import Iterator

import grpc
import numpy as np

from benchmarks.serving.figures import Figure
from benchmarks.serving.load import Driver, Job, drive
from benchmarks.serving.setting import RANK, Setting
from serving.client import RecommenderClient
from serving.protos import recommender_pb2 as pb

ROLLOVERS = 20
CLIENTS = 32
# Of the full rate: loading takes its share of the same cores.
SHARE = 0.4
# From a version's first answer to the next push.
REST_SECONDS = 0.5
LONGEST_SECONDS = 600.0
_POLL_SECONDS = 0.05


def measure_rollover(setting: Setting, seconds: float) -> Iterator[Figure]:
    """Pushes versions under a steady Poisson load.

    Args:
        setting: The servers.
        seconds: Of the load before the first push.
    """
    rank = setting.rank_requests()
    target = setting.gateway.target
    full = drive(Job(target, RANK, seconds, CLIENTS), rank)
    driver = Driver(
        Job(target, RANK, LONGEST_SECONDS, rate=SHARE * full.rate), rank
    )
    time.sleep(3 * seconds)
    first_push = time.perf_counter()
    windows = []
    with grpc.insecure_channel(target) as channel:
        ask = channel.unary_unary(RANK, None, pb.RankResponse.FromString)

        def version() -> int:
            try:
                return int(ask(rank[0], timeout=30).provenance.version)
            except grpc.RpcError:
                # Shed under load; the driver counts such.
                return 0

        first = version() + 1
        for number in range(first, first + ROLLOVERS):
            start = time.perf_counter()
            setting.push(number)
            while version() < number:
                time.sleep(_POLL_SECONDS)
            windows.append((start, time.perf_counter()))
            time.sleep(REST_SECONDS)
    driver.stop()
    load = driver.wait()
    with RecommenderClient(target) as client:
        counters = client.get_status().counters
    before = load.latencies[load.ended < first_push]
    during = load.latencies[load.ended >= first_push]
    p99_before, p99_during = (
        float(np.percentile(each, 99)) for each in (before, during)
    )
    yield Figure(
        "failed requests in 20 rollovers",
        sum(load.failures.values()),
        floor=0,
        goal=0,
        detail={"requests": len(during), "failures": load.failures},
    )
    yield Figure(
        "p99 during rollovers / before",
        p99_during / p99_before,
        floor=3,
        goal=1.5,
        detail={
            "requests_per_second": round(SHARE * full.rate),
            "p99_before_ms": p99_before,
            "p99_during_ms": p99_during,
            "p50_before_ms": float(np.median(before)),
            "p50_during_ms": float(np.median(during)),
            "push_to_first_answer_s": [round(b - a, 2) for a, b in windows],
            "relearned": {
                name: round(count)
                for name, count in counters.items()
                if "users_relearned_total" in name
            },
        },
    )
