"""What the model server is told by its flags."""

import argparse
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from serving.flags import model_flag, port_flag
from serving.model_server.model_config import DEFAULT_LATEST, ModelConfig

MAX_MESSAGE_BYTES = 64 << 20
# With none of them no call would ever be taken, or the processor never rest.
_MORE_THAN_0 = (
    "threads",
    "max_message_bytes",
    "max_batch_rows",
    "poll_seconds",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """What the flags say.

    Attributes:
        models: Each model by name, from the flags.
        model_config_file: File with more models, read again when it changes.
        host: Address to listen on.
        port: Port to listen on.
        local_socket: Unix socket for gateways on this machine, besides.
        poll_seconds: How often base paths and file are looked at.
        threads: How many answer requests.
        max_message_bytes: The largest request.
        max_batch_rows: The most rows of several requests that run together;
            1 turns batching off.
        max_batch_wait_seconds: How long a run waits for more requests under
            load.
        grace_seconds: How long running requests may take after SIGTERM.
    """

    models: Mapping[str, ModelConfig]
    model_config_file: Path | None
    host: str
    port: int
    local_socket: Path | None
    poll_seconds: float
    threads: int
    max_message_bytes: int
    max_batch_rows: int
    max_batch_wait_seconds: float
    grace_seconds: float


def parse_args(arguments: Sequence[str] | None = None) -> Config:
    """Reads the command line."""
    parser = _parser()
    flags = vars(parser.parse_args(arguments))
    paths = flags.pop("models")
    if not paths and flags["model_config_file"] is None:
        parser.error("give at least one --model, or a --model-config-file")
    for name in _MORE_THAN_0:
        if not flags[name] > 0:
            parser.error(f"--{name.replace('_', '-')} must be more than 0")
    wait_seconds = flags.pop("max_batch_wait_micros") / 1e6
    models = {name: ModelConfig(path) for name, path in paths}
    return Config(models=models, max_batch_wait_seconds=wait_seconds, **flags)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.model_server",
        description=(
            "Serves SavedModels over TF Serving's gRPC API (Predict, "
            "GetModelMetadata, GetModelStatus) where no "
            "tensorflow_model_server is installed. New numbered folders "
            "under a base path are loaded while the old version answers."
        ),
        epilog=(
            "example: python -m serving.model_server --port 8500 "
            "--model adaptower=runs/latest/serving/adaptower"
        ),
    )
    parser.add_argument(
        "--model",
        dest="models",
        metavar="NAME=BASE_PATH",
        type=model_flag,
        action="append",
        default=[],
        help="a model and the folder of its version folders, of which the "
        f"newest {DEFAULT_LATEST} are served; repeatable",
    )
    parser.add_argument(
        "--model-config-file",
        type=Path,
        metavar="FILE",
        help="models with version policies and labels, as a "
        "model_config_file of TF Serving's; read again when it changes",
    )
    parser.add_argument(
        "--port", type=port_flag, default=8500, help="default: %(default)s"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="default: %(default)s; there is no authentication, so keep "
        "it on a network that only gateways reach",
    )
    parser.add_argument(
        "--local-socket",
        type=Path,
        metavar="PATH",
        help="make a Unix socket as well, for gateways on this machine "
        "(--backend local:PATH), which saves the time that gRPC takes; only "
        "this process' user can open it",
    )
    parser.add_argument(
        "--poll-seconds",
        type=float,
        default=1.0,
        help="how often to look for new versions; default: %(default)s",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count() or 1,
        help="how many answer requests, those of one connection in turn; "
        "default: one per core",
    )
    parser.add_argument(
        "--max-message-bytes",
        type=int,
        default=MAX_MESSAGE_BYTES,
        help="the largest request; default: %(default)s",
    )
    parser.add_argument(
        "--max-batch-rows",
        type=int,
        default=64,
        help="the most rows of several requests that run together; 1 turns "
        "batching off; default: %(default)s",
    )
    parser.add_argument(
        "--max-batch-wait-micros",
        type=float,
        default=0.0,
        help="how long a run waits for more requests under load; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--grace-seconds",
        type=float,
        default=10.0,
        help="how long running requests may take after SIGTERM; "
        "default: %(default)s",
    )
    return parser
