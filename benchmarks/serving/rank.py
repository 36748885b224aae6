"""What a gateway in between costs a Rank: throughput, latency, memory.

Two proxies in the gateway's place, which know nothing, tell how much of that is
the price of being in between on this machine: one with Python's gRPC, one with
what the gateway uses for it.
"""

import dataclasses
import statistics
from collections.abc import Iterator

import grpc

from benchmarks.serving import echo, own_proxy, proxy
from benchmarks.serving.driver import Result, drive
from benchmarks.serving.figures import Figure
from benchmarks.serving.load import Job
from benchmarks.serving.requests import PREDICT, RANK
from benchmarks.serving.setting import (
    Setting,
    cpu_seconds,
    resident_mb,
    running_bare,
)

ROUNDS = 5
CLIENTS = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Round:
    """The servers under the same load, one right after the other.

    Attributes:
        straight: Predict, straight at the model server.
        proxy: The same Predict, through a bare proxy.
        own_proxy: The same Predict, the gateway's way.
        gateway: Rank, at the gateway, of users it has ranked for before.
        strangers: The same of users it meets for the first time, whom the
            model server is asked for.
        echo: The bare server.
        cpu_ms: CPU time of a server per request, by what was asked; unlike
            the rest it tells the same on a machine that does other work.
    """

    straight: Result
    proxy: Result
    own_proxy: Result
    gateway: Result
    strangers: Result
    echo: Result
    cpu_ms: dict[str, float]


def measure_rank(setting: Setting, seconds: float) -> Iterator[Figure]:
    """Measures Rank beside Predict, straight and proxied, and a bare echo.

    Args:
        setting: The servers.
        seconds: Of each measurement.
    """
    rank, predict = setting.rank_requests(), setting.predict_requests()
    with grpc.insecure_channel(setting.gateway.target) as channel:
        answer: bytes = channel.unary_unary(RANK)(rank[0], timeout=30)
    gateway, model_server = setting.gateway, setting.model_server
    python = setting.gateway_python
    with (
        running_bare(python, echo.__name__, str(len(answer))) as echo_target,
        running_bare(
            python, proxy.__name__, model_server.target
        ) as proxy_target,
        running_bare(
            python, own_proxy.__name__, setting.backend
        ) as own_proxy_target,
    ):

        def measure(clients: int) -> Round:
            cpu_ms: dict[str, float] = {}

            def load(
                what: str, target: str, method: str, requests: list[bytes]
            ) -> Result:
                job = Job(target, method, seconds, clients)
                before = cpu_seconds(gateway), cpu_seconds(model_server)
                result = drive(job, requests)
                if result.failures:
                    raise RuntimeError(f"{what} failed: {result.failures}")
                warm = 1 + job.warm_seconds / seconds
                for name, server, start in zip(
                    ("gateway", "model_server"),
                    (gateway, model_server),
                    before,
                    strict=True,
                ):
                    used = 1e3 * (cpu_seconds(server) - start)
                    used /= warm * len(result.latencies)
                    cpu_ms[f"{what}: {name}"] = round(used, 3)
                return result

            return Round(
                load("Predict", model_server.target, PREDICT, predict),
                load("proxied", proxy_target, PREDICT, predict),
                load("own way", own_proxy_target, PREDICT, predict),
                load("Rank", gateway.target, RANK, rank),
                load(
                    "Rank of strangers",
                    gateway.target,
                    RANK,
                    setting.stranger_requests(),
                ),
                load("echo", echo_target, echo.METHOD, rank),
                cpu_ms,
            )

        crowd = [measure(CLIENTS) for _ in range(ROUNDS)]
        alone = [measure(1) for _ in range(ROUNDS)]
    yield from _throughput(crowd)
    yield from _added_latency(alone)
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
        "strangers_per_second": [each.strangers.rate for each in rounds],
        "predict_per_second": [each.straight.rate for each in rounds],
        "proxied_per_second": [each.proxy.rate for each in rounds],
        "echo_per_second": [each.echo.rate for each in rounds],
    }
    detail = {
        "clients": CLIENTS,
        "cpu_ms": _cpu_ms(rounds),
        **{name: list(map(round, values)) for name, values in rates.items()},
    }
    for name, mine, other, floor, goal in (
        (
            "Rank / straight Predict, throughput",
            "rank_per_second",
            "predict_per_second",
            0.6,
            0.9,
        ),
        (
            "Rank of strangers / straight Predict, throughput",
            "strangers_per_second",
            "predict_per_second",
            0.6,
            0.9,
        ),
        (
            "bare proxy / straight Predict, throughput",
            "proxied_per_second",
            "predict_per_second",
            None,
            None,
        ),
        (
            "Rank / bare grpc.aio echo, throughput",
            "rank_per_second",
            "echo_per_second",
            0.2,
            0.5,
        ),
    ):
        ratios = [
            ours / theirs
            for ours, theirs in zip(rates[mine], rates[other], strict=True)
        ]
        yield Figure(
            name,
            statistics.median(ratios),
            floor,
            goal,
            more_is_better=True,
            detail={"ratios": [round(each, 3) for each in ratios], **detail},
        )


def _added_latency(rounds: list[Round]) -> Iterator[Figure]:
    detail = {"cpu_ms": _cpu_ms(rounds)} | {
        f"{name}_{percent}_ms": [
            round(getattr(each, name).percentile(percent), 3) for each in rounds
        ]
        for name in (
            "straight",
            "proxy",
            "own_proxy",
            "gateway",
            "strangers",
            "echo",
        )
        for percent in (50, 99)
    }
    for name, server, floor, goal in (
        ("latency the gateway adds, p50, ms", "gateway", 1.0, 0.4),
        (
            "latency the gateway adds for strangers, p50, ms",
            "strangers",
            1.0,
            0.4,
        ),
        ("latency a bare proxy adds, p50, ms", "proxy", None, None),
        ("latency the gateway's way adds, p50, ms", "own_proxy", None, None),
    ):
        added = [
            getattr(each, server).percentile(50) - each.straight.percentile(50)
            for each in rounds
        ]
        yield Figure(name, statistics.median(added), floor, goal, detail=detail)


def _cpu_ms(rounds: list[Round]) -> dict[str, float]:
    """CPU time of the servers per request, medians of the rounds."""
    return {
        name: statistics.median(each.cpu_ms[name] for each in rounds)
        for name in (
            "Predict: model_server",
            "Rank: gateway",
            "Rank: model_server",
            "Rank of strangers: gateway",
            "Rank of strangers: model_server",
        )
    }
