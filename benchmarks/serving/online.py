"""How soon an event counts, and how many users learn per second."""

import time
from collections.abc import Iterator

import grpc
import numpy as np

from benchmarks.serving.figures import Figure
from benchmarks.serving.load import Driver, Job, drive
from benchmarks.serving.setting import EVENTS, FEEDBACK, RANK, Setting
from serving.protos import recommender_pb2 as pb

CLIENTS = 32
PROBES_APART_SECONDS = 0.02
FRESH_USERS = 20_000


def measure_online(setting: Setting, seconds: float) -> Iterator[Figure]:
    """Measures learning from events.

    Args:
        setting: The servers.
        seconds: Of each measurement.
    """
    yield _event_to_effect(setting, seconds)
    yield _users_per_second(setting, seconds)


def _event_to_effect(setting: Setting, seconds: float) -> Figure:
    """From sending an event to the answer of the next Rank, which uses it."""
    rank = setting.rank_requests()
    job = Job(setting.gateway.target, RANK, seconds, CLIENTS)
    full_rate = drive(job, rank).rate
    driver = Driver(
        Job(
            setting.gateway.target,
            RANK,
            3 * seconds,
            rate=full_rate / 2,
            warm_seconds=1.0,
        ),
        rank,
    )
    with grpc.insecure_channel(setting.gateway.target) as channel:
        feedback = channel.unary_unary(
            FEEDBACK, pb.SubmitFeedbackRequest.SerializeToString
        )
        rank_call = channel.unary_unary(RANK, None, pb.RankResponse.FromString)
        # Once the load has begun.
        time.sleep(2.0)
        end = time.perf_counter() + 2 * seconds
        taken, late = [], 0
        for number in range(1_000_000):
            user = f"probe-{number}"
            event = setting.requests.feedback(user, events=1)
            question = setting.requests.rank(user).SerializeToString()
            start = time.perf_counter()
            if start > end:
                break
            feedback(event, timeout=30)
            answer = rank_call(question, timeout=30)
            while answer.provenance.support_count < 1:
                late += 1
                answer = rank_call(question, timeout=30)
            taken.append(1e3 * (time.perf_counter() - start))
            time.sleep(PROBES_APART_SECONDS)
    load = driver.wait()
    return Figure(
        "event to effect at half load, p99, ms",
        float(np.percentile(taken, 99)),
        floor=100,
        goal=20,
        detail={
            "p50_ms": float(np.percentile(taken, 50)),
            "probes": len(taken),
            "ranks_before_effect": late,
            "ranks_per_second_meanwhile": load.rate,
            "failures_meanwhile": load.failures,
        },
    )


def _users_per_second(setting: Setting, seconds: float) -> Figure:
    """Users who learn from `EVENTS` events each, all at once."""
    requests = [
        setting.requests.feedback(f"fresh-{number}").SerializeToString()
        for number in range(FRESH_USERS)
    ]
    job = Job(
        setting.gateway.target,
        FEEDBACK,
        seconds,
        CLIENTS,
        # A user who comes a second time has nothing new to learn.
        warm_seconds=0.0,
    )
    result = drive(job, requests)
    return Figure(
        "users adapted per second",
        result.rate,
        floor=2_000,
        goal=20_000,
        more_is_better=True,
        detail={
            "events_per_user": EVENTS,
            "clients": CLIENTS,
            "users": len(result.latencies),
            "failures": result.failures,
            "p50_ms": result.percentile(50),
        },
    )
