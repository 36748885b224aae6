"""A model server of our own, for one model, that never outlives us."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
)

from components.errors import ModelServerError
from serving.ports import free_port

TENSORFLOW_MODEL_SERVER = "tensorflow_model_server"

_POLL_SECONDS = 0.2
_RPC_SECONDS = 2.0
_SHOWN_LOG_LINES = 15
_REPOSITORY = Path(__file__).parents[2]
_PR_SET_PDEATHSIG = 1
# Loaded before any fork: a child may do next to nothing before its exec.
_LIBC = ctypes.CDLL(None, use_errno=True)
_State = get_model_status_pb2.ModelVersionStatus


def server_command(model_name: str, base_path: Path, port: int) -> list[str]:
    """Returns how to start the model server that is there.

    Args:
        model_name: Name to serve under.
        base_path: Folder of the version folders.
        port: gRPC port.
    """
    binary = shutil.which(TENSORFLOW_MODEL_SERVER)
    if binary is not None:
        return [
            binary,
            f"--port={port}",
            "--rest_api_port=0",
            f"--model_name={model_name}",
            f"--model_base_path={base_path}",
            # A candidate that can't be loaded stays so; don't try for minutes.
            "--max_num_load_retries=0",
        ]
    return [
        sys.executable,
        "-m",
        "serving.model_server",
        f"--port={port}",
        f"--model={model_name}={base_path}",
    ]


@contextlib.contextmanager
def running_server(
    model_name: str, base_path: Path, log_path: Path, deadline_seconds: float
) -> Iterator[grpc.Channel]:
    """Serves a base path until the context ends.

    Args:
        model_name: Name to serve under.
        base_path: Folder of the version folders.
        log_path: Where the server's output goes.
        deadline_seconds: How long version 1 may take to be available.

    Yields:
        A channel to the server, which has version 1 loaded.

    Raises:
        ModelServerError: It exits, reports that it can't load the model, or
            takes too long.
    """
    port = free_port()
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            server_command(model_name, base_path, port),
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": _python_path()},
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                _wait_available(
                    channel, process, model_name, log_path, deadline_seconds
                )
                yield channel
        finally:
            # The whole session, so that no child of the server stays behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_available(
    channel: grpc.Channel,
    process: subprocess.Popen[bytes],
    model_name: str,
    log_path: Path,
    deadline_seconds: float,
) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model_name
    deadline = time.monotonic() + deadline_seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ModelServerError(
                "the model server exited with status "
                f"{process.returncode}; its last lines:\n{_tail(log_path)}"
            )
        try:
            response = stub.GetModelStatus(request, timeout=_RPC_SECONDS)
        except grpc.RpcError:
            pass  # Not listening yet, or the model is not known yet.
        else:
            for version in response.model_version_status:
                if version.state == _State.AVAILABLE:
                    return
                if version.status.error_code:
                    raise ModelServerError(
                        "the model server can't load the model: "
                        f"{version.status.error_message}"
                    )
        time.sleep(_POLL_SECONDS)
    raise ModelServerError(
        f"the model was not available after {deadline_seconds:g} s; the "
        f"server's last lines:\n{_tail(log_path)}"
    )


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _python_path() -> str:
    return os.pathsep.join(
        filter(None, [str(_REPOSITORY), os.environ.get("PYTHONPATH")])
    )


def _tail(log_path: Path) -> str:
    lines = log_path.read_text("utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_SHOWN_LOG_LINES:])
