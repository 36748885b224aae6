"""Runs the embedded model server until SIGTERM or SIGINT."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

# Before TensorFlow is loaded: its start-up lines drown our own.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from serving.errors import LaunchError
from serving.model_server.c_api import tensorflow
from serving.model_server.config import Config, parse_args
from serving.model_server.models import Models
from serving.model_server.service import ModelServerService
from serving.rpc.call_server import CallServer, Grouping
from serving.rpc.local_server import LocalServer

# How long a thread may keep Python's lock while others wait for it. The one
# that loads a version keeps it longest. A lower priority would not help: on a
# busy machine whoever has a lock and no CPU holds up everybody, and TensorFlow
# and the kernel have locks, too. Loading with it made the median of requests
# better, and stopped all of them for up to a second now and then.
_SWITCH_SECONDS = 0.0005

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until told to stop; returns the exit status."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    config = parse_args(arguments)
    sys.setswitchinterval(_SWITCH_SECONDS)
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
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    models = Models(config)
    service = ModelServerService(models, config.max_batch_rows)
    server = CallServer(
        service.handle,
        (("grpc.max_receive_message_length", config.max_message_bytes),),
        config.threads,
        Grouping(config.max_batch_rows, config.max_batch_wait_seconds),
    )
    address = f"{config.host}:{config.port}"
    try:
        server.listen(address)
    except RuntimeError as error:
        raise LaunchError(f"Can't listen on {address}: {error}") from error
    local = _local_server(config, service)
    server.start()
    _log.info("Listening on %s", address)
    threading.Thread(
        target=models.poll_until, args=(stopped,), name="poll", daemon=True
    ).start()
    stopped.wait()
    if local is not None:
        local.shut_down(config.grace_seconds)
    server.shut_down(config.grace_seconds)
    server.close()
    _log.info("Stopped")


def _local_server(
    config: Config, service: ModelServerService
) -> LocalServer | None:
    """Returns a started server for gateways on this machine, if wanted."""
    path = config.local_socket
    if path is None:
        return None
    server = LocalServer(
        service.handle,
        config.max_message_bytes,
        config.max_batch_wait_seconds,
    )
    try:
        server.listen(path)
    except OSError as error:
        raise LaunchError(
            f"Can't listen on the socket {path}: {error}"
        ) from error
    server.start()
    _log.info("Listening on %s", path)
    return server


if __name__ == "__main__":
    sys.exit(main())
