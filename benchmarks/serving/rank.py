"""What a gateway in between costs a Rank: throughput, latency, memory."""

import dataclasses
import statistics
from collections.abc import Iterator

import grpc

from benchmarks.serving import echo
from benchmarks.serving.figures import Figure
from benchmarks.serving.load import Job, Result, drive
from benchmarks.serving.setting import (
    PREDICT,
    RANK,
    Setting,
    resident_mb,
    running_echo,
)

ROUNDS = 5
CLIENTS = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Round:
    """The three servers under the same load, one right after the other."""

    straight: Result
    gateway: Result
    echo: Result


def measure_rank(setting: Setting, seconds: float) -> Iterator[Figure]:
    """Measures Rank beside a straight Predict and a bare echo.

    Args:
        setting: The servers.
        seconds: Of each measurement.
    """
    rank, predict = setting.rank_requests(), setting.predict_requests()
    with grpc.insecure_channel(setting.gateway.target) as channel:
        answer: bytes = channel.unary_unary(RANK)(rank[0], timeout=30)
    with running_echo(len(answer)) as echo_target:

        def measure(clients: int) -> Round:
            def load(target: str, method: str, requests: list[bytes]) -> Result:
                job = Job(target, method, seconds, clients)
                result = drive(job, requests)
                if result.failures:
                    raise RuntimeError(f"{method} failed: {result.failures}")
                return result

            return Round(
                load(setting.model_server.target, PREDICT, predict),
                load(setting.gateway.target, RANK, rank),
                load(echo_target, echo.METHOD, rank),
            )

        crowd = [measure(CLIENTS) for _ in range(ROUNDS)]
        alone = [measure(1) for _ in range(ROUNDS)]
    yield from _throughput(crowd)
    yield _added_latency(alone)
    yield Figure(
        "gateway resident memory, MB",
        resident_mb(setting.gateway),
        floor=200,
        goal=100,
    )
    yield Figure(
        "gateway start to SERVING, s",
        setting.gateway_start_seconds,
        floor=5,
        goal=1,
    )


def _throughput(rounds: list[Round]) -> Iterator[Figure]:
    rates = {
        "rank_per_second": [each.gateway.rate for each in rounds],
        "predict_per_second": [each.straight.rate for each in rounds],
        "echo_per_second": [each.echo.rate for each in rounds],
    }
    detail = {
        "clients": CLIENTS,
        **{name: list(map(round, values)) for name, values in rates.items()},
    }
    for name, other, floor, goal in (
        ("Rank / straight Predict, throughput", "predict_per_second", 0.6, 0.9),
        ("Rank / bare grpc.aio echo, throughput", "echo_per_second", 0.2, 0.5),
    ):
        ratios = [
            mine / theirs
            for mine, theirs in zip(
                rates["rank_per_second"], rates[other], strict=True
            )
        ]
        yield Figure(
            name,
            statistics.median(ratios),
            floor,
            goal,
            more_is_better=True,
            detail={"ratios": [round(each, 3) for each in ratios], **detail},
        )


def _added_latency(rounds: list[Round]) -> Figure:
    added = [
        each.gateway.percentile(50) - each.straight.percentile(50)
        for each in rounds
    ]
    return Figure(
        "latency the gateway adds, p50, ms",
        statistics.median(added),
        floor=1.0,
        goal=0.4,
        detail={
            f"{name}_{percent}_ms": [
                round(getattr(each, name).percentile(percent), 3)
                for each in rounds
            ]
            for name in ("straight", "gateway", "echo")
            for percent in (50, 99)
        },
    )
