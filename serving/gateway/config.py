"""What a gateway is told by its flags, read once."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.event_log.config import add_log_flags, take_log_config
from serving.event_log.event_log import LogConfig
from serving.flags import model_flag, port_flag
from serving.gateway import logs
from serving.online.config import (
    MetaStageConfig,
    add_meta_flags,
    take_meta_config,
)
from serving.security.config import (
    SecurityConfig,
    add_backend_tls_flags,
    add_security_flags,
    take_backend_tls,
    take_security_config,
)
from serving.store.config import (
    StoreConfig,
    add_store_flags,
    take_store_config,
)

DEFAULT_MODEL = "adaptower"
# When SubmitFeedback is answered: after the weights have moved, or as soon as
# the events are durable.
INLINE = "inline"
ASYNCHRONOUS = "asynchronous"
WEIGHTS_DTYPES = ("float32", "float16")


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that one request may hold.

    Attributes:
        candidates: Candidates of a Rank, and results of a Recommend; of a
            Predict in all its rows together.
        events: Events of a SubmitFeedback.
        id_bytes: Length of a user, item or event id in UTF-8.
        feature_values: Values of one feature.
        feature_bytes: Length of one of them in UTF-8.
        batch_rows: Rows of a Predict that the gateway adds weights to.
        filled_values: Values of a Predict's tensors that are not sent, but
            equal to one that is.
        message_bytes: A request as a whole.
        clock_skew_seconds: How far in the future an event may seem to be.
    """

    candidates: int = 10_000
    events: int = 1_000
    id_bytes: int = 256
    feature_values: int = 1_000
    feature_bytes: int = 1_024
    batch_rows: int = 1_024
    filled_values: int = 1 << 17
    message_bytes: int = 4 << 20
    clock_skew_seconds: float = 300.0


@dataclasses.dataclass(frozen=True)
class GatewayConfig:
    """What the flags say.

    Attributes:
        backend: `host:port` of the model server.
        models: Base path of each model by name, to read manifests from.
        default_model: Asked when a request names none.
        host: Address to listen on.
        port: Port to listen on.
        store: Where users' weights are, and for how long.
        log: How much the event log holds, and for how long.
        feedback: When feedback is answered, `INLINE` or `ASYNCHRONOUS`.
        weights_dtype: How weights are stored, one of `WEIGHTS_DTYPES`.
        poll_seconds: How often the model server is asked for new versions.
        backend_timeout_seconds: Deadline of a call to the model server.
        grace_seconds: How long running requests may take at the end.
        decay_half_life_days: After how long without events half of what a
            user's weights learned is left; 0 keeps it for ever.
        metrics_port: Port for Prometheus; None does not listen.
        trace: Whether to make OpenTelemetry spans.
        log_format: One of `logs.FORMATS`.
        log_requests: Whether every request gets a line in the log.
        health_port: Port for health checks in plaintext beside TLS; None
            answers them on `port` only.
        experiments: File that says what is tried on users; None: nothing.
        meta: Whether and where meta-initializations learn.
        limits: The most that one request may hold.
        security: Who may call, how often, and over which connections.
    """

    backend: str
    models: Mapping[str, Path]
    default_model: str = DEFAULT_MODEL
    host: str = "127.0.0.1"
    port: int = 8600
    store: StoreConfig = dataclasses.field(default_factory=StoreConfig)
    log: LogConfig = dataclasses.field(default_factory=LogConfig)
    feedback: str = INLINE
    weights_dtype: str = "float32"
    poll_seconds: float = 1.0
    backend_timeout_seconds: float = 2.0
    grace_seconds: float = 10.0
    decay_half_life_days: float = 0.0
    metrics_port: int | None = None
    trace: bool = False
    log_format: str = logs.TEXT
    log_requests: bool = False
    health_port: int | None = None
    experiments: Path | None = None
    meta: MetaStageConfig = dataclasses.field(default_factory=MetaStageConfig)
    limits: Limits = Limits()
    security: SecurityConfig = dataclasses.field(default_factory=SecurityConfig)


def parse_args(arguments: Sequence[str] | None = None) -> GatewayConfig:
    """Reads the gateway's command line."""
    parser = _parser()
    flags = vars(parser.parse_args(arguments))
    learning = take_learning_flags(flags, parser)
    limits = Limits(candidates=flags.pop("max_candidates"))
    backend_tls = learning["security"].backend_tls
    learning["security"] = take_security_config(flags, parser, backend_tls)
    return GatewayConfig(limits=limits, **learning, **flags)


def take_learning_flags(
    flags: dict[str, Any], parser: argparse.ArgumentParser
) -> dict[str, Any]:
    """Takes what `add_learning_flags` added out of parsed flags.

    Returns:
        Values for `GatewayConfig` by name; what remains in `flags` is ready.
    """
    models = dict(flags.pop("models"))
    default_model = flags.pop("default_model")
    if default_model is None:
        default_model = (
            DEFAULT_MODEL if DEFAULT_MODEL in models else next(iter(models))
        )
    if default_model not in models:
        parser.error(
            f"--default-model {default_model!r} is none of the models given "
            f"by --model: {', '.join(models)}"
        )
    return {
        "models": models,
        "default_model": default_model,
        "store": take_store_config(flags, parser),
        "log": take_log_config(flags, parser),
        "meta": take_meta_config(flags),
        "security": SecurityConfig(backend_tls=take_backend_tls(flags, parser)),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.gateway",
        description=(
            "Answers adaptower.v1.Recommender: Rank scores candidates with a "
            "user's own adaptive weights, SubmitFeedback learns them from "
            "what the user did. Needs a model server (tensorflow_model_server "
            "or python -m serving.model_server) with the same models."
        ),
        epilog=(
            "example: python -m serving.gateway --backend localhost:8500 "
            "--model adaptower=runs/latest/serving/adaptower "
            "--store runs/latest/store"
        ),
    )
    add_learning_flags(parser)
    parser.add_argument(
        "--port", type=port_flag, default=8600, help="default: %(default)s"
    )
    parser.add_argument(
        "--feedback",
        choices=(INLINE, ASYNCHRONOUS),
        default=INLINE,
        help="answer SubmitFeedback after the weights have moved, or as soon "
        "as the events are durable; default: %(default)s",
    )
    parser.add_argument(
        "--max-candidates",
        type=int,
        default=Limits.candidates,
        metavar="N",
        help="candidates of one Rank, or of all rows of a Predict; "
        "default: %(default)s",
    )
    add_security_flags(parser)
    _add_observability_flags(parser)
    return parser


def add_learning_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of all that learns, with RPCs or without."""
    parser.add_argument(
        "--backend",
        required=True,
        metavar="HOST:PORT",
        help="gRPC address of the model server",
    )
    parser.add_argument(
        "--model",
        dest="models",
        metavar="NAME=BASE_PATH",
        type=model_flag,
        action="append",
        required=True,
        help="a model's name on the model server, and the folder of its "
        "versions, whose manifests are read; repeatable",
    )
    parser.add_argument(
        "--default-model",
        metavar="NAME",
        help=f"asked when a request names none; default: {DEFAULT_MODEL}, or "
        "else the first --model",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; default: %(default)s; on a network that "
        "others share, use --tls-certificate and --tokens as well",
    )
    add_store_flags(parser)
    parser.add_argument(
        "--weights-dtype",
        choices=WEIGHTS_DTYPES,
        default="float32",
        help="float16 halves the weights' bytes and rounds them; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--poll-seconds",
        type=float,
        default=1.0,
        metavar="S",
        help="how often to look for new model versions; default: %(default)s",
    )
    parser.add_argument(
        "--backend-timeout-seconds",
        type=float,
        default=2.0,
        metavar="S",
        help="deadline of a call to the model server; default: %(default)s",
    )
    parser.add_argument(
        "--grace-seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="how long what has begun may take after SIGTERM; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--decay-half-life-days",
        type=float,
        default=0.0,
        metavar="D",
        help="after so long without events, a user's weights are half way "
        "back to the meta-initialization; default: they stay",
    )
    parser.add_argument(
        "--experiments",
        type=Path,
        metavar="FILE",
        help="A/B tests and shadows on users; see docs/experiments.md",
    )
    parser.add_argument(
        "--metrics-port",
        type=port_flag,
        metavar="PORT",
        help="answer Prometheus over HTTP on this port; default: don't",
    )
    parser.add_argument(
        "--log-format",
        choices=logs.FORMATS,
        default=logs.TEXT,
        help="text for people, JSON lines for machines; default: %(default)s",
    )
    add_log_flags(parser)
    add_meta_flags(parser)
    add_backend_tls_flags(parser)


def _add_observability_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("observability")
    group.add_argument(
        "--health-port",
        type=port_flag,
        metavar="PORT",
        help="answer gRPC health checks in plaintext on this port, for "
        "kubelets and others that can't speak TLS; default: don't",
    )
    group.add_argument(
        "--trace",
        action="store_true",
        help="make OpenTelemetry spans (extra 'traces'); start the gateway by "
        "opentelemetry-instrument to export them",
    )
    group.add_argument(
        "--log-requests",
        action="store_true",
        help="log a line for every request",
    )
