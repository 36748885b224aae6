"""A model server without TensorFlow: the toy's oracle behind TF Serving's API.

It can be slow, hang, refuse or die, as real ones do.
"""

import asyncio
import threading

import grpc
import grpc.aio

from serving import tf_serving
from serving.errors import ServingError, status_of
from serving.protos import tf_serving_pb2 as pb
from serving.security.tls import server_credentials
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.toy_model import ToyOracle, ToyParameters

# Flag of a gateway that needs the model server for every Rank.
KEEP_NOTHING = "--kept-vectors=0"


class OracleModelServer:
    """A gRPC server in a thread of its own.

    Attributes:
        backend: What answers.
        delay: How long each Predict takes, seconds.
        status: If set, what each Predict is refused with.
        calls: Predict calls that arrived.
        running: Predict calls under way.
        most_running: The most of them at once.
        port: Where it listens.
    """

    def __init__(self, versions=(1,), port=0, tls=None):
        self.backend = OracleBackend(
            {v: ToyOracle(ToyParameters.from_seed(v)) for v in versions}
        )
        self.delay = 0.0
        self.status = None
        self.calls = self.running = self.most_running = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, daemon=True
        )
        self._thread.start()
        self.port = self._run(self._start(port, tls))

    @property
    def target(self):
        return f"127.0.0.1:{self.port}"

    def stop(self):
        """Breaks off what is under way, as a killed server does."""
        if self._thread.is_alive():
            self._run(self._server.stop(None))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(
            20
        )

    async def _start(self, port, tls):
        self._server = grpc.aio.server()
        for method, handle, request in (
            (tf_serving.PREDICT, self._predict, pb.PredictRequest),
            (
                tf_serving.GET_MODEL_STATUS,
                self._get_model_status,
                pb.GetModelStatusRequest,
            ),
        ):
            service, name = method[1:].split("/")
            self._server.add_generic_rpc_handlers(
                (
                    grpc.method_handlers_generic_handler(
                        service,
                        {
                            name: grpc.unary_unary_rpc_method_handler(
                                handle,
                                request.FromString,
                                lambda message: message.SerializeToString(),
                            )
                        },
                    ),
                )
            )
        address = f"127.0.0.1:{port}"
        if tls is None:
            bound = self._server.add_insecure_port(address)
        else:
            credentials = server_credentials(tls)
            bound = self._server.add_secure_port(address, credentials)
        await self._server.start()
        return bound

    async def _predict(self, request, context):
        self.calls += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.delay)
            if self.status is not None:
                await context.abort(self.status, "as told")
            return await self.backend.run(
                request.model_spec.name, request.SerializeToString()
            )
        except ServingError as error:
            await context.abort(status_of(error), str(error))
        finally:
            self.running -= 1

    async def _get_model_status(self, request, context):
        versions = await self.backend.available_versions(
            request.model_spec.name
        )
        return pb.GetModelStatusResponse(
            model_version_status=[
                pb.ModelVersionStatus(
                    version=version, state=pb.ModelVersionStatus.AVAILABLE
                )
                for version in versions
            ]
        )


def save_manifests(base_path, name, versions=(1,)):
    """Writes what a gateway reads of a model's versions."""
    for version in versions:
        manifest = ToyParameters.from_seed(version).manifest(name)
        manifest.save(base_path / str(version))
