"""What a gateway is told by its flags, read once."""

import argparse
import dataclasses
from collections.abc import Sequence

from serving.flags import count_flag, port_flag
from serving.limits import Limits
from serving.online.learning_config import (
    LearningConfig,
    add_learning_flags,
    take_learning_flags,
)
from serving.security.config import (
    SecurityConfig,
    add_security_flags,
    take_security_config,
)

# When SubmitFeedback is answered: after the weights have moved, or as soon as
# the events are durable.
INLINE = "inline"
ASYNCHRONOUS = "asynchronous"
# More than these, some gigabytes, are a mistake.
MAX_KEPT_VECTORS = 10_000_000


@dataclasses.dataclass(frozen=True)
class GatewayConfig(LearningConfig):
    """What the flags say; these beside those of all that learns.

    Attributes:
        port: Port to listen on.
        feedback: When feedback is answered, `INLINE` or `ASYNCHRONOUS`.
        trace: Whether to make OpenTelemetry spans.
        log_requests: Whether every request gets a line in the log.
        health_port: Port for health checks in plaintext beside TLS; None
            answers them on `port` only.
        limits: The most that one request may hold.
        security: Who may call, how often, and over which connections.
        kept_vectors: Item vectors kept of each version, to score without the
            model server; 0 leaves all scoring to it.
    """

    port: int = 8600
    feedback: str = INLINE
    trace: bool = False
    log_requests: bool = False
    health_port: int | None = None
    limits: Limits = dataclasses.field(default_factory=Limits)
    security: SecurityConfig = dataclasses.field(default_factory=SecurityConfig)
    kept_vectors: int = 1 << 15


def parse_args(arguments: Sequence[str] | None = None) -> GatewayConfig:
    """Reads the gateway's command line."""
    parser = _parser()
    flags = vars(parser.parse_args(arguments))
    learning = take_learning_flags(flags, parser)
    if flags["kept_vectors"] > MAX_KEPT_VECTORS:
        parser.error(f"--kept-vectors can't be more than {MAX_KEPT_VECTORS:,}")
    limits = Limits(candidates=flags.pop("max_candidates"))
    security = take_security_config(flags, parser)
    return GatewayConfig(**learning, **flags, limits=limits, security=security)


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
    parser.add_argument(
        "--kept-vectors",
        type=count_flag,
        default=GatewayConfig.kept_vectors,
        metavar="N",
        help="item vectors kept of a version, so that a Rank of known "
        "items needs no call of the model server; some 250 bytes each; 0 asks "
        "it for every Rank; default: %(default)s",
    )
    add_security_flags(parser)
    _add_observability_flags(parser)
    return parser


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
