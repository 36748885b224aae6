"""The servers that are measured, and the requests they get."""

import contextlib
import dataclasses
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
import numpy as np
import psutil
from rich.console import Console

from pipeline.rebase import rebase_store
from serving.contract.features import CATEGORICAL_LIST, NUMERIC, Feature
from serving.contract.manifest import MANIFEST_FILE, AdaptiveManifest
from serving.launch import start_gateway, start_model_server
from serving.models.templates import RankRow, RequestTemplates
from serving.protos import recommender_pb2 as pb
from serving.server_process import ServerProcess, free_port
from serving.store.config import StoreConfig

MODEL = "adaptower"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
RANK = "/adaptower.v1.Recommender/Rank"
FEEDBACK = "/adaptower.v1.Recommender/SubmitFeedback"

STORE = "store"
CANDIDATES = 100
KNOWN_USERS = 200
EVENTS = 10
# A busy machine takes its time to load a model.
READY_SECONDS = 600.0


class Requests:
    """Draws requests of items and features that the model knows."""

    def __init__(self, version: Path, seed: int = 0) -> None:
        """Reads the vocabularies that lie in a version's SavedModel."""
        assets = version / "assets"
        self.manifest = AdaptiveManifest.load(version)
        self._values = {
            feature.name: (assets / feature.name).read_text().splitlines()
            for feature in self.manifest.user_features
            if (assets / feature.name).exists()
        }
        self._item_ids = (assets / "item_ids").read_text().splitlines()
        self._templates = RequestTemplates(
            MODEL, int(version.name), self.manifest
        )
        self._random = np.random.default_rng(seed)
        self._event_numbers = itertools.count()

    def rank(self, user_id: str) -> pb.RankRequest:
        """Asks the gateway for the scores of candidates."""
        request = pb.RankRequest(
            user_id=user_id, item_ids=self._items(CANDIDATES)
        )
        self._add_features(request)
        return request

    def feedback(
        self, user_id: str, events: int = EVENTS
    ) -> pb.SubmitFeedbackRequest:
        """Tells the gateway of events that nobody told it of before."""
        request = pb.SubmitFeedbackRequest(user_id=user_id)
        for item_id in self._items(events):
            request.events.add(
                event_id=f"{user_id}-{next(self._event_numbers)}",
                item_id=item_id,
                label=float(self._random.integers(2)),
            )
        self._add_features(request)
        return request

    def predict(self) -> bytes:
        """Asks the model server what the gateway asks it for a Rank."""
        weights = self._random.normal(0, 0.1, self.manifest.num_adaptive)
        row = RankRow(
            weights.astype(np.float32),
            {
                feature.name: 1.0
                if feature.kind == NUMERIC
                else [self._value(feature)]
                if feature.kind == CATEGORICAL_LIST
                else self._value(feature)
                for feature in self.manifest.user_features
            },
            self._items(CANDIDATES),
        )
        return self._templates.rank([row])

    def _items(self, count: int) -> list[str]:
        indices = self._random.integers(len(self._item_ids), size=count)
        return [self._item_ids[index] for index in indices]

    def _add_features(
        self, request: pb.RankRequest | pb.SubmitFeedbackRequest
    ) -> None:
        for feature in self.manifest.user_features:
            values = request.features[feature.name]
            if feature.kind == NUMERIC:
                values.numbers.values.append(1.0)
            else:
                values.strings.values.append(self._value(feature))

    def _value(self, feature: Feature) -> str:
        values = self._values.get(feature.name, [""])
        return values[int(self._random.integers(len(values)))]


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
    gateway_start_seconds: float
    requests: Requests
    users: Sequence[str]

    def rank_requests(self) -> list[bytes]:
        """Serialized requests for `RANK`, one of each user."""
        return [self.requests.rank(u).SerializeToString() for u in self.users]

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
    run: Path, gateway_flags: Sequence[str], over_grpc: bool = False
) -> Iterator[Setting]:
    """Starts a model server and a gateway with a run's newest version.

    Args:
        run: Folder of a pipeline run that pushed a model.
        gateway_flags: More flags of the gateway.
        over_grpc: Whether the gateway reaches the model server by gRPC, as it
            must reach TF Serving, and not over a local socket.
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
            seconds,
            requests,
            users,
        )


@contextlib.contextmanager
def running_bare(module: str, argument: str) -> Iterator[str]:
    """Starts a bare server to compare with; gives its `host:port`.

    Args:
        module: `benchmarks.serving.echo` or `benchmarks.serving.proxy`.
        argument: Its argument after the port.
    """
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", module, str(port), argument]
    )
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


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
