"""Starts the servers as child processes, and waits until they answer.

    with (
        start_model_server({"adaptower": base_path}) as model_server,
        start_gateway(
            model_server.target, {"adaptower": base_path}, store=folder
        ) as gateway,
    ):
        client = RecommenderClient(gateway.target)

The children end with their parent, even if it is killed.
"""

import dataclasses
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.errors import LaunchError
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import GET_MODEL_STATUS

TF_SERVING_BINARY = "tensorflow_model_server"
HOST = "127.0.0.1"
# TensorFlow takes long to import while its bytecode is not compiled.
READY_SECONDS = 120.0
STOP_SECONDS = 15.0

_POLL_SECONDS = 0.05
_TAIL_LINES = 20

# What a child runs first, given our process id and its command: it asks Linux
# for SIGTERM when we end. Not a `preexec_fn`: for that Python forks, and
# gRPC's fork handlers may hang in the child, before it runs anything.
# The signal comes when the thread that started the child ends, so start
# servers from a thread that lives as long as they should.
_END_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
)
# Calls that don't wait for a connection leave a channel that could not
# connect at first as it is for ten seconds.
_ASK: dict[str, Any] = {"timeout": 1.0, "wait_for_ready": True}

_log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class ServerProcess:
    """A running server; as a context manager it stops at the end.

    Attributes:
        name: What it is, in words.
        target: `host:port` it listens on.
        log_path: File with what it printed.
        process: The child process.
    """

    name: str
    target: str
    log_path: Path
    process: "subprocess.Popen[bytes]"

    @property
    def port(self) -> int:
        """Port it listens on."""
        return int(self.target.rpartition(":")[2])

    def wait_until_ready(
        self,
        is_ready: Callable[[grpc.Channel], bool],
        seconds: float,
        target: str | None = None,
    ) -> None:
        """Waits until a check passes; stops the process if it does not.

        Args:
            is_ready: Asks the server over a channel; an RPC error means no.
            seconds: How long to wait.
            target: Where to ask, if not where it listens.

        Raises:
            LaunchError: The process ended, or time ran out.
        """
        deadline = time.monotonic() + seconds
        target = target or self.target
        with grpc.insecure_channel(target, _CHANNEL_OPTIONS) as channel:
            while self.process.poll() is None:
                try:
                    if is_ready(channel):
                        return
                except grpc.RpcError:
                    # Not listening yet; ask again.
                    pass
                if time.monotonic() > deadline:
                    self.stop()
                    raise LaunchError(
                        f"The {self.name} was not ready to answer on "
                        f"{self.target} within {seconds:.0f} s. "
                        f"{self._log_tail()}"
                    )
                time.sleep(_POLL_SECONDS)
        raise LaunchError(
            f"The {self.name} ended with status {self.process.returncode} "
            f"before it was ready. {self._log_tail()}"
        )

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Asks the process to end, kills it if it does not.

        Args:
            seconds: How long to wait before killing it.

        Returns:
            Its exit status; negative for a signal.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                _log.warning("The %s did not end and is killed", self.name)
                self.process.kill()
        return self.process.wait()

    def _log_tail(self) -> str:
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        tail = "\n".join(text.splitlines()[-_TAIL_LINES:])
        return f"The end of its log, {self.log_path}:\n{tail}"

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


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
    if binary:
        config = log_path.with_suffix(".models.config")
        config.write_text(tf_serving_config(models), encoding="utf-8")
        command = tf_serving_command(binary, port, config, poll_seconds)
    else:
        command = [
            *(sys.executable, "-m", "serving.model_server"),
            *(f"--host={HOST}", f"--port={port}"),
            f"--poll-seconds={poll_seconds}",
            *(f"--model={name}={path}" for name, path in models.items()),
        ]
    server = _start("model server", command, port, log_path)

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
) -> ServerProcess:
    """Starts a gateway and waits until it serves.

    Args:
        backend: `host:port` of the model server.
        models: Base path of each model by name.
        store: Folder of the LMDB store; None keeps weights in memory.
        port: Port to listen on; 0 takes a free one.
        log_path: Where its output goes; a temporary file by default.
        health_port: Port for health checks in plaintext, needed with TLS.
        flags: More flags of `python -m serving.gateway`.
        ready_seconds: How long to wait.

    Raises:
        LaunchError: It did not come up; the message quotes its log.
    """
    port = port or free_port()
    command = [
        *(sys.executable, "-m", "serving.gateway"),
        *(f"--host={HOST}", f"--port={port}", f"--backend={backend}"),
        *(f"--model={name}={path}" for name, path in models.items()),
        *([] if store is None else [f"--store={store}"]),
        *([] if health_port is None else [f"--health-port={health_port}"]),
        *flags,
    ]
    server = _start("gateway", command, port, _log_path(log_path, "gateway"))

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
        backend: `host:port` of the model server.
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
    server = _start("worker", command, port, _log_path(log_path, "worker"))

    def is_listening(channel: grpc.Channel) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0

    server.wait_until_ready(is_listening, ready_seconds)
    return server


def tf_serving_config(models: Mapping[str, Path]) -> str:
    """Returns a model config file that keeps two versions of each model.

    Requests that pinned the older one must still be answered after a swap.
    """
    entries = "".join(
        "  config {\n"
        f'    name: "{name}"\n'
        f'    base_path: "{Path(path).resolve()}"\n'
        '    model_platform: "tensorflow"\n'
        "    model_version_policy { latest { num_versions: 2 } }\n"
        "  }\n"
        for name, path in models.items()
    )
    return f"model_config_list {{\n{entries}}}\n"


def tf_serving_command(
    binary: str, port: int, config: Path, poll_seconds: float
) -> list[str]:
    """Returns the command line of `tensorflow_model_server`.

    No REST (it has had vulnerabilities, and nobody needs it here), no
    profiler, health service on, threads of their own for loading so that a
    new version does not hold up requests, and short waits between retries.
    """
    return [
        binary,
        f"--port={port}",
        "--rest_api_port=0",
        f"--model_config_file={config}",
        f"--file_system_poll_wait_seconds={max(1, round(poll_seconds))}",
        "--enable_profiler=false",
        "--enable_grpc_healthcheck_service=true",
        "--num_load_threads=2",
        "--num_unload_threads=2",
        "--load_retry_interval_micros=2000000",
        "--tensorflow_intra_op_parallelism=1",
        "--tensorflow_inter_op_parallelism=1",
    ]


def free_port() -> int:
    """Returns a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _require_free(port: int, name: str) -> None:
    """Another server's answers must not be taken for the new one's.

    Raises:
        LaunchError: Somebody listens on the port.
    """
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise LaunchError(
                f"The {name} can't listen on {HOST}:{port}: somebody does "
                "already. Is another one running? End it, or choose another "
                "port."
            )


def _log_path(path: Path | None, name: str) -> Path:
    if path is None:
        handle, text = tempfile.mkstemp(f"-{name}.log", "adaptower-")
        os.close(handle)
        return Path(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _start(
    name: str, command: Sequence[str], port: int, log_path: Path
) -> ServerProcess:
    _log.info("Starting the %s: %s", name, " ".join(command))
    _require_free(port, name)
    with log_path.open("wb") as log:
        try:
            process = subprocess.Popen(
                [*_ending_with_us(), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_child_environment(),
            )
        except OSError as error:
            raise LaunchError(
                f"The {name} can't be started ({error}): {command[0]}"
            ) from error
    return ServerProcess(name, f"{HOST}:{port}", log_path, process)


def _child_environment() -> dict[str, str]:
    """The child finds our packages wherever it is started from."""
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _ending_with_us() -> list[str]:
    """Returns what to put before the command of a child.

    Only Linux can; elsewhere a parent that is killed leaves its children.
    """
    if sys.platform != "linux":
        return []
    python = [sys.executable, "-I", "-S", "-c", _END_WITH_PARENT]
    return [*python, str(os.getpid())]
