"""Counters and histograms of one gateway process, as Prometheus reads them.

They are always counted, as `GetStatus` tells them too; `--metrics-port` says
where, if anywhere, Prometheus finds them.
"""

import functools
from collections.abc import Callable

import grpc
import prometheus_client
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
)

from serving.errors import LaunchError
from serving.protos import recommender_pb2 as pb

# From a quarter of a millisecond, what a Rank takes, to a deadline.
_SECONDS = (
    *(0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015),
    *(0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
_USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class MethodMetrics:
    """Counts the calls of one RPC."""

    def __init__(
        self, requests: Counter, seconds: Histogram, method: str
    ) -> None:
        self._requests = requests
        self._method = method
        self._seconds = seconds.labels(method)
        self._by_code: dict[grpc.StatusCode, Counter] = {}

    def observe(self, code: grpc.StatusCode, seconds: float) -> None:
        """Counts a call that ended."""
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._requests.labels(self._method, code.name)
            self._by_code[code] = counter
        counter.inc()
        self._seconds.observe(seconds)


class Metrics:
    """All metrics of a gateway.

    Attributes:
        registry: What Prometheus collects.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = functools.partial(
            Counter, namespace="adaptower", registry=self.registry
        )
        self._requests = counter("requests", "RPCs ended.", ("method", "code"))
        self._answers = counter(
            "answers",
            "Users answered, by rung of the cold-start ladder.",
            ("model", "rung"),
        )
        self._refusals = counter(
            "refusals",
            "Calls refused before they were looked at, by status.",
            ("code",),
        )
        self._events = counter(
            "feedback_events", "Events of SubmitFeedback.", ("outcome",)
        )
        self._meta_steps = counter(
            "meta_steps",
            "Steps of the meta state, by what became of them.",
            ("model", "outcome"),
        )
        self._learned = counter(
            "users_learned",
            "Lessons of the online stage: a user's new events, learned from.",
            ("model",),
        )
        self._guarded = counter(
            "guarded_users",
            "Lessons in which the guard stepped in, by reason.",
            ("reason",),
        )
        self._relearned = counter(
            "users_relearned",
            "Users who were met with weights of another version, or weights "
            "that rest on too few events, by what became of them.",
            ("model", "outcome"),
        )
        self._left_out = counter(
            "left_out_submissions",
            "Submissions that the model server refuses to learn from.",
        )
        self._waiting = Gauge(
            "waiting_submissions",
            "Submissions in this process that are not learned from yet.",
            namespace="adaptower",
            registry=self.registry,
        )
        self._batches = Histogram(
            "lesson_users",
            "Users who are learned from together.",
            namespace="adaptower",
            registry=self.registry,
            buckets=_USERS,
        )
        self._unknown_items = counter(
            "unknown_items",
            "Candidates and events whose item the model does not know.",
            ("method",),
        )
        ranks = counter(
            "scored_ranks",
            "Ranks of versions that give vectors, shadows' included: all of "
            "them were kept, or the model server was asked.",
            ("vectors",),
        )
        self._ranks_kept = ranks.labels("kept")
        self._ranks_asked = ranks.labels("asked")
        self._lost_exposures = counter(
            "lost_exposures",
            "Lines of the exposure log that were lost, by reason.",
            ("reason",),
        )
        self._seconds = Histogram(
            "request_seconds",
            "Time from a request to its answer.",
            ("method",),
            namespace="adaptower",
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._by_rung: dict[tuple[str, int], Counter] = {}
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.GCCollector(registry=self.registry)

    def method(self, name: str) -> MethodMetrics:
        """Returns what counts the calls of an RPC."""
        return MethodMetrics(self._requests, self._seconds, name)

    def count_answer(self, model: str, rung: "pb.Rung.ValueType") -> None:
        """Counts a user who was answered."""
        # Children are looked up once: `labels` formats and locks each time.
        counter = self._by_rung.get((model, rung))
        if counter is None:
            name = pb.Rung.Name(rung).removeprefix("RUNG_").lower()
            counter = self._answers.labels(model, name)
            self._by_rung[model, rung] = counter
        counter.inc()

    def count_refusal(self, code: grpc.StatusCode) -> None:
        """Counts a call refused for want of a token, or of room."""
        self._refusals.labels(code.name).inc()

    def count_events(self, accepted: int, duplicates: int) -> None:
        """Counts the events of a SubmitFeedback."""
        self._events.labels("accepted").inc(accepted)
        self._events.labels("duplicate").inc(duplicates)

    def count_learned(self, model: str) -> None:
        """Counts a user who was learned from."""
        self._learned.labels(model).inc()

    def count_guarded(self, reason: str, users: int) -> None:
        """Counts users whose weights the guard did not let through."""
        if users:
            self._guarded.labels(reason).inc(users)

    def count_relearned(self, model: str, outcome: str, users: int) -> None:
        """Counts users who were to be learned again for a version."""
        if users:
            self._relearned.labels(model, outcome).inc(users)

    def count_left_out(self) -> None:
        """Counts a submission that can't be learned from."""
        self._left_out.inc()

    def watch_waiting_entries(self, count: Callable[[], int]) -> None:
        """Has the number of waiting submissions asked when it is read."""
        self._waiting.set_function(count)

    def observe_batch(self, users: int) -> None:
        """Notes how many users are learned from together."""
        self._batches.observe(users)

    def count_meta_step(self, model: str, outcome: str) -> None:
        """Counts a step of a model's meta state."""
        self._meta_steps.labels(model, outcome).inc()

    def count_unknown_items(self, method: str, items: int) -> None:
        """Counts items that the model does not know."""
        if items:
            self._unknown_items.labels(method).inc(items)

    def count_ranks_kept(self) -> None:
        """Counts a rank that needed no call of the model server."""
        self._ranks_kept.inc()

    def count_ranks_asked(self) -> None:
        """Counts a rank whose vectors were asked for, some or all."""
        self._ranks_asked.inc()

    def count_lost_exposure(self, reason: str) -> None:
        """Counts a line that did not get into the exposure log."""
        self._lost_exposures.labels(reason).inc()

    def counters(self) -> dict[str, float]:
        """Returns the value of every counter, and of what waits, by name."""
        return {
            _series(sample.name, sample.labels): sample.value
            for metric in self.registry.collect()
            if metric.type in ("counter", "gauge")
            and metric.name.startswith("adaptower")
            for sample in metric.samples
            if not sample.name.endswith("_created")
        }

    def serve(self, host: str, port: int) -> None:
        """Answers Prometheus over HTTP, from a thread of its own.

        Raises:
            LaunchError: The address can't be listened on.
        """
        try:
            prometheus_client.start_http_server(port, host, self.registry)
        except OSError as error:
            raise LaunchError(
                f"Can't listen on {host}:{port} for metrics: "
                f"{error.strerror}. Choose another --metrics-port."
            ) from error


def _series(name: str, labels: dict[str, str]) -> str:
    values = ",".join(f'{key}="{value}"' for key, value in labels.items())
    return f"{name}{{{values}}}" if values else name
