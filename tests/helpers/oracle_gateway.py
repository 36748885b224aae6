"""A gateway in this process, over a real channel, answered by the oracle."""

import asyncio
import threading

import grpc
from grpc_health.v1 import health_pb2_grpc

from serving.event_log import LogConfig
from serving.event_log.config import open_event_log
from serving.experiments.joining import read_lines
from serving.gateway.config import GatewayConfig
from serving.gateway.health import HealthService
from serving.gateway.service import SERVICE_NAME, gateway_services
from serving.gateway.trials import Trials
from serving.online.parts import make_parts
from serving.ports import free_port
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.rpc.async_server import AsyncServer
from serving.store.config import StoreConfig
from tests.helpers.patience import PATIENT_SECONDS
from tests.helpers.toy_model import ToyParameters


class OracleGateway:
    """Everything of a gateway but its process.

    Attributes:
        backend: What stands in for the model server.
        store: Where users' weights are.
        metrics: What counts its calls.
        health: Its health service.
        target: `host:port` where it listens.
        channel: A connection to it.
        stub: Its Recommender.
    """

    def __init__(
        self,
        backend,
        store,
        base_path,
        models=1,
        experiments=None,
        log=None,
        **flags,
    ):
        self.log = log or open_event_log(StoreConfig(), LogConfig())
        self.backend = backend
        self.store = store
        names = [f"model{number}" for number in range(models)]
        paths = {name: base_path / name for name in names}
        for name, path in paths.items():
            for version in backend.versions:
                manifest = ToyParameters.from_seed(version).manifest(name)
                manifest.save(path / str(version))
        # A busy machine must not turn other tests into tests of timeouts.
        flags = {"backend_timeout_seconds": PATIENT_SECONDS} | flags
        self.config = GatewayConfig(
            backend="none", models=paths, default_model=names[0], **flags
        )
        self.experiments = experiments
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            # Ends with the process if setting up fails.
            target=self._loop.run_forever,
            daemon=True,
        )
        self._thread.start()
        self.target = f"localhost:{self.run(self._start())}"
        self.channel = grpc.insecure_channel(self.target)
        self.stub = pb_grpc.RecommenderStub(self.channel)

    def run(self, coroutine):
        """Runs a coroutine in the gateway's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(
            20
        )

    def refresh(self):
        """Looks for new versions now."""
        self.run(self._registry.refresh())

    def exposure_log(self):
        """Returns the lines of all that was noted so far."""
        # Somebody unknown: lines leave in their order, and it waits for its.
        self.run(self.trials.forget(""))
        return read_lines(self.experiments.log)

    def end_shadows(self):
        """Waits for what is done in the shadow."""

        async def end():
            await asyncio.gather(*self.trials._shadows, return_exceptions=True)

        self.run(end())

    async def _start(self):
        parts = make_parts(
            self.config, self.store, self.log, self.backend, self.experiments
        )
        self.metrics = parts.metrics
        self.trials = Trials(self.experiments, self.metrics.count_lost_exposure)
        self.meta_stage = parts.meta_stage
        self._stage = parts.stage
        self._stragglers = parts.stragglers
        self._registry = parts.registry
        with self.backend.sound():
            await self._registry.refresh()
        self._server = AsyncServer(
            options=(
                (
                    "grpc.max_receive_message_length",
                    self.config.limits.message_bytes,
                ),
            )
        )
        self._server.add_generic_rpc_handlers(
            gateway_services(self.config, parts, self.trials)
        )
        self._stage.start()
        self.health = HealthService((SERVICE_NAME,))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        port = free_port()
        self._server.add_insecure_port(f"localhost:{port}")
        await self._server.start()
        return port

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.channel.close()
        self.run(self._server.stop(0))
        self.run(self._stage.close(5))
        self.run(self._stragglers.close())
        self.run(self.trials.close())
        self.run(self.meta_stage.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.log.close()
