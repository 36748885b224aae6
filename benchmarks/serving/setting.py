"""The servers that are measured."""

import contextlib
import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import psutil
from rich.console import Console

from benchmarks.serving.requests import FEEDBACK, MODEL, Requests
from pipeline.rebase import rebase_store
from serving.contract.manifest import MANIFEST_FILE, AdaptiveManifest
from serving.launch import start_gateway, start_model_server
from serving.ports import free_port
from serving.server_process import ServerProcess
from serving.store.config import StoreConfig

STORE = "store"
KNOWN_USERS = 200
# More than come in one measurement.
STRANGERS = 16_000
# A busy machine takes its time to load a model.
READY_SECONDS = 600.0


@dataclasses.dataclass(eq=False)
class Setting:
    """Servers that are running.

    Attributes:
        folder: Where their files are.
        source: Folder of the version that is served.
        base_path: Folder of the versions.
        model_server: Answers `PREDICT`.
        backend: How the gateway reaches it.
        gateway: Answers `RANK` and `FEEDBACK`; its store knows the users.
        gateway_python: The Python that runs it.
        gateway_start_seconds: From its start to SERVING.
        requests: Makes requests.
        users: Users with weights of their own.
    """

    folder: Path
    source: Path
    base_path: Path
    model_server: ServerProcess
    backend: str
    gateway: ServerProcess
    gateway_python: str
    gateway_start_seconds: float
    requests: Requests
    users: Sequence[str]
    _strangers: Iterator[int] = dataclasses.field(
        default_factory=itertools.count
    )

    def rank_requests(self) -> list[bytes]:
        """Serialized requests for `RANK`, one of each user."""
        return [self.requests.rank(u).SerializeToString() for u in self.users]

    def stranger_requests(self) -> list[bytes]:
        """Serialized requests for `RANK`, of users that never came before."""
        return [
            self.requests.rank_of_stranger(
                f"stranger-{next(self._strangers)}"
            ).SerializeToString()
            for _ in range(STRANGERS)
        ]

    def predict_requests(self) -> list[bytes]:
        """Serialized requests for `PREDICT`."""
        return [self.requests.predict() for _ in self.users]

    def build(self, version: int) -> Path:
        """Makes the model anew, where no server looks, and returns its folder.

        By its fingerprint it has another fixed part: nobody's weights are
        good for it.
        """
        built = self.folder / "built" / str(version)
        shutil.copytree(
            self.source,
            built,
            copy_function=os.link,
            ignore=shutil.ignore_patterns(Path(MANIFEST_FILE).name),
        )
        manifest = AdaptiveManifest.load(self.source)
        dataclasses.replace(
            manifest, fingerprint=f"{manifest.fingerprint}-{version}"
        ).save(built)
        return built

    def rebase(self, built: Path) -> None:
        """Learns the known users again for a version that was built."""
        store = StoreConfig(str(self.folder / STORE))
        rebase_store(built, MODEL, store, Console(quiet=True))

    def push(self, built: Path) -> None:
        """Pushes a version that was built, complete or not at all."""
        built.rename(self.base_path / built.name)


@contextlib.contextmanager
def running(
    run: Path,
    gateway_flags: Sequence[str],
    over_grpc: bool = False,
    gateway_python: str = sys.executable,
) -> Iterator[Setting]:
    """Starts a model server and a gateway with a run's newest version.

    Args:
        run: Folder of a pipeline run that pushed a model.
        gateway_flags: More flags of the gateway.
        over_grpc: Whether the gateway reaches the model server by gRPC, as it
            must reach TF Serving, and not over a local socket.
        gateway_python: The Python that runs the gateway.
    """
    pushed = run / "serving" / MODEL
    source = max(
        (path for path in pushed.iterdir() if path.name.isdecimal()),
        key=lambda path: int(path.name),
    )
    with (
        # Beside the run: its files can be linked to only on one disk.
        tempfile.TemporaryDirectory(dir=run, prefix=".benchmark-") as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        base_path = folder / MODEL
        base_path.mkdir()
        shutil.copytree(source, base_path / "1", copy_function=os.link)
        models = {MODEL: base_path}
        model_server = stack.enter_context(
            start_model_server(
                models,
                log_path=folder / "model_server.log",
                poll_seconds=0.2,
                ready_seconds=READY_SECONDS,
            )
        )
        backend = model_server.target if over_grpc else model_server.backend
        start = time.perf_counter()
        gateway = stack.enter_context(
            start_gateway(
                backend,
                models,
                store=folder / STORE,
                log_path=folder / "gateway.log",
                flags=["--poll-seconds=0.2", *gateway_flags],
                python=gateway_python,
            )
        )
        seconds = time.perf_counter() - start
        requests = Requests(base_path / "1")
        users = [f"user-{number}" for number in range(KNOWN_USERS)]
        with grpc.insecure_channel(gateway.target) as channel:
            call = channel.unary_unary(FEEDBACK)
            for user in users:
                call(requests.feedback(user).SerializeToString(), timeout=30)
        yield Setting(
            folder,
            source,
            base_path,
            model_server,
            backend,
            gateway,
            gateway_python,
            seconds,
            requests,
            users,
        )


@contextlib.contextmanager
def running_bare(python: str, module: str, argument: str) -> Iterator[str]:
    """Starts a bare server to compare with; gives its `host:port`.

    Args:
        python: What runs it: the gateway's, to compare with that.
        module: `benchmarks.serving.echo`, `.proxy` or `.own_proxy`.
        argument: Its argument after the port.
    """
    port = free_port()
    process = subprocess.Popen([python, "-m", module, str(port), argument])
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def versions_of(python: str) -> dict[str, str]:
    """What a Python is, and what of its packages a call passes through."""
    program = (
        "import json, platform\n"
        "from importlib.metadata import version\n"
        "packages = ('grpcio', 'numpy', 'protobuf', 'uvloop')\n"
        "found = {name: version(name) for name in packages}\n"
        "print(json.dumps({'python': platform.python_version(), **found}))"
    )
    output = subprocess.check_output([python, "-c", program], text=True)
    versions: dict[str, str] = json.loads(output)
    return versions


def cpu_seconds(server: ServerProcess) -> float:
    """CPU time that a server has used since its start."""
    times = psutil.Process(server.process.pid).cpu_times()
    return float(times.user + times.system)


def resident_mb(server: ServerProcess) -> float:
    """Resident memory of a server and its children, in megabytes."""
    process = psutil.Process(server.process.pid)
    return (
        sum(
            each.memory_info().rss
            for each in (process, *process.children(recursive=True))
        )
        / 1e6
    )
