"""How soon an event counts, and how many users learn per second."""

import time
from collections.abc import Iterator

import grpc
import numpy as np
import psutil

from benchmarks.serving.driver import Driver, drive
from benchmarks.serving.figures import Figure
from benchmarks.serving.load import Job
from benchmarks.serving.requests import EVENTS, FEEDBACK, MODEL, RANK
from benchmarks.serving.setting import Setting
from serving.event_log import EventLog, LogConfig, Submission
from serving.event_log.config import open_event_log
from serving.launch import start_worker
from serving.online.told import encode_told, submission_of
from serving.protos import recommender_pb2 as pb
from serving.store.config import StoreConfig

CLIENTS = 32
PROBES_APART_SECONDS = 0.02
WAITING_USERS = 16_000
# A busy machine must not turn this into a measurement of retries.
WORKER_TIMEOUT_SECONDS = 30.0


def measure_online(setting: Setting, seconds: float) -> Iterator[Figure]:
    """Measures learning from events.

    Args:
        setting: The servers.
        seconds: Of each measurement.
    """
    yield _event_to_effect(setting, seconds)
    yield _users_per_second(setting)


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


def _users_per_second(setting: Setting) -> Figure:
    """From the log to stored weights, with many users waiting."""
    store = StoreConfig(str(setting.folder / "waiting"))
    with open_event_log(store, LogConfig()) as log:
        for chunk in _chunks(WAITING_USERS):
            log.append(
                [
                    _submission(setting.requests.feedback(f"fresh-{number}"))
                    for number in chunk
                ]
            )
        with start_worker(
            setting.backend,
            {MODEL: setting.base_path},
            setting.folder / "waiting",
            setting.folder / "worker.log",
            [f"--backend-timeout-seconds={WORKER_TIMEOUT_SECONDS}"],
        ) as worker:
            process = psutil.Process(worker.process.pid)
            servers = psutil.Process(setting.model_server.process.pid)
            # What it takes to begin is not counted.
            begin = _wait(log, WAITING_USERS * 3 // 4)
            cpu = [sum(p.cpu_times()[:2]) for p in (process, servers)]
            end = _wait(log, WAITING_USERS // 8)
            used = [
                sum(p.cpu_times()[:2]) - before
                for p, before in zip((process, servers), cpu, strict=True)
            ]
    learned, seconds = begin[0] - end[0], end[1] - begin[1]
    return Figure(
        "users adapted per second",
        learned / seconds,
        floor=2_000,
        goal=20_000,
        more_is_better=True,
        detail={
            "events_per_user": EVENTS,
            "users": learned,
            "worker_cpu_ms_per_user": 1e3 * used[0] / learned,
            "model_server_cpu_ms_per_user": 1e3 * used[1] / learned,
        },
    )


def _wait(log: EventLog, most: int) -> tuple[int, float]:
    """Waits until so few users wait; returns how many do, and when."""
    while (left := log.status().unlearned) > most:
        time.sleep(0.005)
    return left, time.perf_counter()


def _submission(request: pb.SubmitFeedbackRequest) -> Submission:
    told = encode_told(request.features)
    return submission_of(MODEL, request.user_id, request.events, told)


def _chunks(count: int) -> Iterator[range]:
    for start in range(0, count, 512):
        yield range(start, min(start + 512, count))
