"""Runs the embedded model server until SIGTERM or SIGINT."""

import argparse
import dataclasses
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path

# Before TensorFlow is imported: its start-up lines drown our own.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serving.flags import model_flag, port_flag
from serving.model_server.loaded_model import LoadedModel
from serving.model_server.service import Models, ModelServerService
from serving.model_server.versions import ModelVersions
from serving.model_server.warmup import load_warm

_log = logging.getLogger(__name__)

_MAX_MESSAGE_BYTES = 64 << 20
_GRACE_SECONDS = 5.0


@dataclasses.dataclass(frozen=True)
class Config:
    """What the flags say.

    Attributes:
        host: Address to listen on.
        port: Port to listen on.
        models: Base path of each model by name.
        poll_seconds: How often the base paths are looked at.
        threads: Requests answered at once.
    """

    host: str
    port: int
    models: dict[str, Path]
    poll_seconds: float
    threads: int


def parse_args(arguments: Sequence[str] | None = None) -> Config:
    """Reads the command line."""
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
        required=True,
        help="a model and the folder of its version folders; repeatable",
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
        "--poll-seconds",
        type=float,
        default=1.0,
        help="how often to look for new versions; default: %(default)s",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=8,
        help="requests answered at once; default: %(default)s",
    )
    flags = parser.parse_args(arguments)
    return Config(**{**vars(flags), "models": dict(flags.models)})


def poll_forever(
    models: Models,
    servicer: health.HealthServicer,
    poll_seconds: float,
    stopped: threading.Event,
) -> None:
    """Keeps versions and health up to date until `stopped` is set."""
    while not stopped.is_set():
        for versions in models.values():
            versions.poll()
        ready = all(versions.available for versions in models.values())
        servicer.set(
            "",
            health_pb2.HealthCheckResponse.SERVING
            if ready
            else health_pb2.HealthCheckResponse.NOT_SERVING,
        )
        stopped.wait(poll_seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until told to stop; returns the exit status."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # It warns that the loader of TF Serving's kind is the old one.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    config = parse_args(arguments)
    models = {
        name: ModelVersions[LoadedModel](name, base_path, load_warm)
        for name, base_path in config.models.items()
    }
    server = grpc.server(
        futures.ThreadPoolExecutor(config.threads, "rpc"),
        options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)],
    )
    server.add_generic_rpc_handlers(ModelServerService(models).handlers())
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    address = f"{config.host}:{config.port}"
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        _log.error("Can't listen on %s: %s", address, error)
        return 1

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    server.start()
    _log.info("Listening on %s", address)
    poller = threading.Thread(
        target=poll_forever,
        args=(models, servicer, config.poll_seconds, stopped),
        name="poll",
        daemon=True,
    )
    poller.start()
    stopped.wait()
    servicer.enter_graceful_shutdown()
    server.stop(_GRACE_SECONDS).wait()
    _log.info("Stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
