"""Runs the embedded model server until SIGTERM or SIGINT."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from concurrent import futures

# Before TensorFlow is loaded: its start-up lines drown our own.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serving.errors import LaunchError
from serving.model_server.c_api import tensorflow
from serving.model_server.config import Config, parse_args
from serving.model_server.models import Models
from serving.model_server.service import ModelServerService

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until told to stop; returns the exit status."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    config = parse_args(arguments)
    try:
        _log.info("TensorFlow %s", tensorflow().TF_Version().decode())
        serve(config)
    except LaunchError as error:
        _log.error("%s", error)
        return 1
    return 0


def serve(config: Config) -> None:
    """Serves until SIGTERM or SIGINT, then drains.

    Raises:
        LaunchError: The models can't be set up, or the port is taken.
    """
    models = Models(config)
    health_service = health.HealthServicer()
    server = _build_server(config, models, health_service)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())

    def tell_health() -> None:
        status = health_pb2.HealthCheckResponse
        health_service.set(
            "", status.SERVING if models.ready else status.NOT_SERVING
        )

    server.start()
    _log.info("Listening on %s:%d", config.host, config.port)
    threading.Thread(
        target=models.poll_until,
        args=(stopped, tell_health),
        name="poll",
        daemon=True,
    ).start()
    stopped.wait()
    # First tell load balancers, then finish what has begun.
    health_service.enter_graceful_shutdown()
    server.stop(config.grace_seconds).wait()
    _log.info("Stopped")


def _build_server(
    config: Config, models: Models, health_service: health.HealthServicer
) -> grpc.Server:
    server = grpc.server(
        futures.ThreadPoolExecutor(config.threads, "rpc"),
        options=(
            ("grpc.max_receive_message_length", config.max_message_bytes),
            # A second server on the port would answer some of the requests.
            ("grpc.so_reuseport", 0),
        ),
        maximum_concurrent_rpcs=config.max_requests,
    )
    server.add_generic_rpc_handlers(ModelServerService(models).handlers())
    health_service.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    address = f"{config.host}:{config.port}"
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise LaunchError(f"Can't listen on {address}: {error}") from error
    return server


if __name__ == "__main__":
    sys.exit(main())
