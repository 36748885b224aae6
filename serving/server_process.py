"""A server as a child process: started, waited for, stopped.

It ends with its parent, even if that is killed.
"""

import contextlib
import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import grpc

from serving.errors import LaunchError
from serving.ports import HOST, require_free
from serving.rpc.local_frames import LOCAL

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

_log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class ServerProcess:
    """A running server; as a context manager it stops at the end.

    Attributes:
        name: What it is, in words.
        target: `host:port` it listens on.
        log_path: File with what it printed.
        process: The child process.
        local_socket: Unix socket on which it answers this machine, if any;
            its folder holds nothing else, and goes with it.
    """

    name: str
    target: str
    log_path: Path
    process: "subprocess.Popen[bytes]"
    local_socket: Path | None = None

    @property
    def backend(self) -> str:
        """The quickest way to it for a gateway on this machine."""
        if self.local_socket is None:
            return self.target
        return f"{LOCAL}{self.local_socket}"

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
            f"The {self.name} ended with status {self.stop()} before it was "
            f"ready. {self._log_tail()}"
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
        status = self.process.wait()
        if self.local_socket is not None:
            self.local_socket.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self.local_socket.parent.rmdir()
        return status

    def _log_tail(self) -> str:
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        tail = "\n".join(text.splitlines()[-_TAIL_LINES:])
        return f"The end of its log, {self.log_path}:\n{tail}"

    def __enter__(self) -> "ServerProcess":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def start_process(
    name: str,
    command: Sequence[str],
    port: int,
    log_path: Path,
    local_socket: Path | None = None,
) -> ServerProcess:
    """Starts a server; it may not answer yet.

    Args:
        name: What it is, in words.
        command: What runs it.
        port: Where it is going to listen.
        log_path: Where its output goes.
        local_socket: Unix socket that it is going to make, if any.

    Raises:
        LaunchError: It can't be started, or somebody listens there already.
    """
    _log.info("Starting the %s: %s", name, " ".join(command))
    require_free(port, name)
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
    target = f"{HOST}:{port}"
    return ServerProcess(name, target, log_path, process, local_socket)


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
