"""What all that learns is told by its flags, with RPCs or without."""

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving import logs
from serving.event_log.config import add_log_flags, take_log_config
from serving.event_log.event_log import LogConfig
from serving.flags import model_flag, port_flag
from serving.online.meta_stage_config import (
    MetaStageConfig,
    add_meta_flags,
    take_meta_config,
)
from serving.security.config import add_backend_tls_flags, take_backend_tls
from serving.security.tls import ClientTls
from serving.store.config import (
    StoreConfig,
    add_store_flags,
    take_store_config,
)

DEFAULT_MODEL = "adaptower"
WEIGHTS_DTYPES = ("float32", "float16")


@dataclasses.dataclass(frozen=True)
class LearningConfig:
    """What the flags say.

    Attributes:
        backend: `host:port` of the model server, or `local:PATH`.
        models: Base path of each model by name, to read manifests from.
        default_model: Asked when a request names none.
        backend_tls: How to connect to the model server; None: plain.
        host: Address to listen on.
        store: Where users' weights are, and for how long.
        log: How much the event log holds, and for how long.
        weights_dtype: How weights are stored, one of `WEIGHTS_DTYPES`.
        poll_seconds: How often the model server is asked for new versions.
        backend_timeout_seconds: Deadline of a call to the model server.
        grace_seconds: How long what has begun may take at the end.
        decay_half_life_days: After how long without events half of what a
            user's weights learned is left; 0 keeps it for ever.
        metrics_port: Port for Prometheus; None does not listen.
        log_format: One of `logs.FORMATS`.
        experiments: File that says what is tried on users; None: nothing.
        meta: Whether and where meta-initializations learn.
    """

    backend: str
    models: Mapping[str, Path]
    default_model: str = DEFAULT_MODEL
    backend_tls: ClientTls | None = None
    host: str = "127.0.0.1"
    store: StoreConfig = dataclasses.field(default_factory=StoreConfig)
    log: LogConfig = dataclasses.field(default_factory=LogConfig)
    weights_dtype: str = "float32"
    poll_seconds: float = 1.0
    backend_timeout_seconds: float = 2.0
    grace_seconds: float = 10.0
    decay_half_life_days: float = 0.0
    metrics_port: int | None = None
    log_format: str = logs.TEXT
    experiments: Path | None = None
    meta: MetaStageConfig = dataclasses.field(default_factory=MetaStageConfig)


def add_learning_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    parser.add_argument(
        "--backend",
        required=True,
        metavar="HOST:PORT",
        help="gRPC address of the model server; or local:PATH, the "
        "--local-socket of an embedded one on this machine, which is quicker",
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


def take_learning_flags(
    flags: dict[str, Any], parser: argparse.ArgumentParser
) -> dict[str, Any]:
    """Takes what `add_learning_flags` added out of parsed flags.

    Returns:
        Values for `LearningConfig` by name; what remains in `flags` is ready.
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
        "backend_tls": take_backend_tls(flags, parser),
    }
