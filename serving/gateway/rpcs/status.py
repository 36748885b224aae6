"""GetStatus: what this gateway serves, and how it has been going."""

import time

from serving.gateway.rpcs.call import Call
from serving.metrics import Metrics
from serving.models.registry import ModelRegistry
from serving.protos import recommender_pb2 as pb
from serving.store import AdaptiveStore


class StatusRpcs:
    """Tells of the gateway itself."""

    def __init__(
        self, registry: ModelRegistry, store: AdaptiveStore, metrics: Metrics
    ) -> None:
        self._registry = registry
        self._store = store
        self._metrics = metrics
        self._started = time.monotonic()

    async def get_status(
        self, request: pb.GetStatusRequest, call: Call
    ) -> pb.GetStatusResponse:
        """Tells models, store, counters and uptime of this process."""
        return pb.GetStatusResponse(
            models=[self._model_status(name) for name in self._registry.names],
            default_model=self._registry.default_model,
            store=type(self._store).__name__,
            uptime_seconds=time.monotonic() - self._started,
            counters=self._metrics.counters(),
            request_id=call.request_id,
        )

    def _model_status(self, name: str) -> pb.ModelStatus:
        status = pb.ModelStatus(
            model=name, trouble=self._registry.trouble(name)
        )
        model = self._registry.served(name)
        if model is not None:
            status.version = model.version
            status.fingerprint = model.manifest.fingerprint
            status.meta_init_version = model.meta_state.version
            status.num_adaptive = model.manifest.num_adaptive
            for feature in model.manifest.user_features:
                status.user_features[feature.name] = feature.kind
        return status
