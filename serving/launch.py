"""Starts the servers as child processes, and waits until they answer.

    with (
        start_model_server({"adaptower": base_path}) as model_server,
        start_gateway(
            model_server.backend, {"adaptower": base_path}, store=folder
        ) as gateway,
    ):
        client = RecommenderClient(gateway.target)

The children end with their parent, even if it is killed.
"""

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.ports import HOST, free_port
from serving.protos import tf_serving_pb2 as pb
from serving.server_process import ServerProcess, start_process
from serving.tf_serving import GET_MODEL_STATUS
from serving.tf_serving_command import (
    TF_SERVING_BINARY,
    tf_serving_command,
    tf_serving_config,
)

# TensorFlow takes long to import while its bytecode is not compiled.
READY_SECONDS = 120.0

# Calls that don't wait for a connection leave a channel that could not
# connect at first as it is for ten seconds.
_ASK: dict[str, Any] = {"timeout": 1.0, "wait_for_ready": True}


def start_model_server(
    models: Mapping[str, Path],
    port: int = 0,
    log_path: Path | None = None,
    poll_seconds: float = 1.0,
    ready_seconds: float = READY_SECONDS,
) -> ServerProcess:
    """Starts a model server and waits until every model can answer.

    It is `tensorflow_model_server` where that is on PATH, else the embedded
    one.

    Args:
        models: Base path of each model by name.
        port: Port to listen on; 0 takes a free one.
        log_path: Where its output goes; a temporary file by default.
        poll_seconds: How often it looks for new versions.
        ready_seconds: How long to wait.

    Raises:
        LaunchError: It did not come up; the message quotes its log.
    """
    port = port or free_port()
    log_path = _log_path(log_path, "model_server")
    binary = shutil.which(TF_SERVING_BINARY)
    local_socket = None
    if binary:
        config = log_path.with_suffix(".models.config")
        config.write_text(tf_serving_config(models), encoding="utf-8")
        command = tf_serving_command(binary, port, config, poll_seconds)
    else:
        # Not beside the model: a socket's path can't be long.
        folder = tempfile.mkdtemp(prefix="adaptower-")
        local_socket = Path(folder) / "model_server"
        command = [
            *(sys.executable, "-m", "serving.model_server"),
            *(f"--host={HOST}", f"--port={port}"),
            f"--local-socket={local_socket}",
            f"--poll-seconds={poll_seconds}",
            *(f"--model={name}={path}" for name, path in models.items()),
        ]
    server = start_process(
        "model server", command, port, log_path, local_socket
    )

    def all_available(channel: grpc.Channel) -> bool:
        ask = channel.unary_unary(
            GET_MODEL_STATUS,
            request_serializer=pb.GetModelStatusRequest.SerializeToString,
            response_deserializer=pb.GetModelStatusResponse.FromString,
        )
        return all(
            any(
                status.state == pb.ModelVersionStatus.AVAILABLE
                for status in ask(
                    pb.GetModelStatusRequest(
                        model_spec=pb.ModelSpec(name=name)
                    ),
                    **_ASK,
                ).model_version_status
            )
            for name in models
        )

    server.wait_until_ready(all_available, ready_seconds)
    return server


def start_gateway(
    backend: str,
    models: Mapping[str, Path],
    store: Path | None = None,
    port: int = 0,
    log_path: Path | None = None,
    health_port: int | None = None,
    flags: Sequence[str] = (),
    ready_seconds: float = READY_SECONDS,
    python: str = sys.executable,
) -> ServerProcess:
    """Starts a gateway and waits until it serves.

    Args:
        backend: Of the model server, `ServerProcess.backend`.
        models: Base path of each model by name.
        store: Folder of the LMDB store; None keeps weights in memory.
        port: Port to listen on; 0 takes a free one.
        log_path: Where its output goes; a temporary file by default.
        health_port: Port for health checks in plaintext, needed with TLS.
        flags: More flags of `python -m serving.gateway`.
        ready_seconds: How long to wait.
        python: What runs it. It needs no more than the packages of
            `deploy/gateway/requirements.lock`.

    Raises:
        LaunchError: It did not come up; the message quotes its log.
    """
    port = port or free_port()
    command = [
        *(python, "-m", "serving.gateway"),
        *(f"--host={HOST}", f"--port={port}", f"--backend={backend}"),
        *(f"--model={name}={path}" for name, path in models.items()),
        *([] if store is None else [f"--store={store}"]),
        *([] if health_port is None else [f"--health-port={health_port}"]),
        *flags,
    ]
    server = start_process(
        "gateway", command, port, _log_path(log_path, "gateway")
    )

    def is_serving(channel: grpc.Channel) -> bool:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), **_ASK
        )
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    server.wait_until_ready(
        is_serving,
        ready_seconds,
        f"{HOST}:{health_port}" if health_port else None,
    )
    return server


def start_worker(
    backend: str,
    models: Mapping[str, Path],
    store: Path | str,
    log_path: Path | None = None,
    flags: Sequence[str] = (),
    ready_seconds: float = READY_SECONDS,
) -> ServerProcess:
    """Starts a worker of the online stage and waits until it learns.

    Args:
        backend: Of the model server, `ServerProcess.backend`.
        models: Base path of each model by name.
        store: Where users' weights and the event log are.
        log_path: Where its output goes; a temporary file by default.
        flags: More flags of `python -m serving.online work`.
        ready_seconds: How long to wait.

    Raises:
        LaunchError: It did not come up; the message quotes its log.
    """
    # It answers Prometheus, and nothing else.
    port = free_port()
    command = [
        *(sys.executable, "-m", "serving.online", "work"),
        *(f"--host={HOST}", f"--metrics-port={port}", f"--backend={backend}"),
        *(f"--model={name}={path}" for name, path in models.items()),
        f"--store={store}",
        *flags,
    ]
    server = start_process(
        "worker", command, port, _log_path(log_path, "worker")
    )

    def is_listening(channel: grpc.Channel) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0

    server.wait_until_ready(is_listening, ready_seconds)
    return server


def _log_path(path: Path | None, name: str) -> Path:
    if path is None:
        handle, text = tempfile.mkstemp(f"-{name}.log", "adaptower-")
        os.close(handle)
        return Path(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
