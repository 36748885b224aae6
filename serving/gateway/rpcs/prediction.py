"""TF Serving's own API, so that a client of TF Serving needs no new one.

Such a client adds an input `user_id` (string, scalar for the whole batch or
[B]) to its Predict, leaves out `adaptive_weights`, and the gateway exchanges
the one for the other; the empty id is nobody's and gets the
meta-initialization. Requests that carry their own weights, ask another
signature or name a model the gateway does not adapt pass as they are, byte
for byte, as do the answers; only their sizes are checked, see
`predict_checks.py`. How an answer came about is told in its trailing metadata,
`adaptower-provenance-bin`. Experiments on users cover a request for one user,
see `predict_trials.py`.
"""

from collections.abc import Mapping, Sequence

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import DecodeError

from serving.errors import InvalidRequestError, UnknownModelError
from serving.experiments.treatments import Treatment
from serving.gateway.provenance import provenance
from serving.gateway.requests import check_id
from serving.gateway.rpcs.call import Call
from serving.gateway.rpcs.predict_checks import (
    BATCHED,
    USER_ID,
    batch_size,
    check_filled,
    check_items,
    user_ids,
)
from serving.gateway.rpcs.predict_trials import PredictTrials
from serving.limits import Limits
from serving.metrics import Metrics
from serving.models.backend import ModelServer
from serving.models.ladder import Ladder, UserState
from serving.models.pinned import on_current_version
from serving.models.registry import ModelRegistry
from serving.models.served_model import ServedModel
from serving.models.templates import ADAPTIVE_WEIGHTS
from serving.protos import tf_serving_pb2 as pb
from serving.security.caller import check_user
from serving.store import AdaptiveStore
from serving.tf_serving import (
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    PREDICT,
    encode_tensor,
)

PROVENANCE = "adaptower-provenance-bin"


class PredictionRpcs:
    """Adds users' weights to Predict requests, and passes on the rest."""

    def __init__(
        self,
        registry: ModelRegistry,
        backend: ModelServer,
        store: AdaptiveStore,
        ladder: Ladder,
        limits: Limits,
        metrics: Metrics,
        trials: PredictTrials,
    ) -> None:
        self._trials = trials
        self._registry = registry
        self._backend = backend
        self._store = store
        self._ladder = ladder
        self._limits = limits
        self._metrics = metrics

    async def predict(self, data: bytes, call: Call) -> bytes:
        """Answers a Predict."""
        try:
            request = pb.PredictRequest.FromString(data)
        except DecodeError as error:
            raise InvalidRequestError(
                "The bytes sent are no PredictRequest."
            ) from error
        check_filled(request, len(data), self._limits)
        if not self._is_adapted(request.model_spec):
            return await self._pass_on(PREDICT, data, call)
        check_items(request, self._limits)
        if USER_ID not in request.inputs:
            return await self._pass_on(PREDICT, data, call)
        if ADAPTIVE_WEIGHTS not in request.inputs:
            return await self._predict_for_users(request, call)
        del request.inputs[USER_ID]
        return await self._pass_on(PREDICT, request.SerializeToString(), call)

    async def get_model_metadata(self, data: bytes, call: Call) -> bytes:
        """Passes a GetModelMetadata on."""
        return await self._pass_on(GET_MODEL_METADATA, data, call)

    async def get_model_status(self, data: bytes, call: Call) -> bytes:
        """Passes a GetModelStatus on."""
        return await self._pass_on(GET_MODEL_STATUS, data, call)

    async def _pass_on(self, method: str, data: bytes, call: Call) -> bytes:
        return await self._backend.forward(
            method, data, call.context.time_remaining()
        )

    def _is_adapted(self, spec: pb.ModelSpec) -> bool:
        return (
            spec.signature_name in BATCHED and spec.name in self._registry.names
        )

    async def _predict_for_users(
        self, request: pb.PredictRequest, call: Call
    ) -> bytes:
        """Answers with the users' weights in place of their ids."""
        spec = request.model_spec
        batch = batch_size(request, self._limits)
        ids = user_ids(request.inputs[USER_ID], batch)
        for user_id in ids:
            if user_id:
                check_id(USER_ID, user_id, self._limits)
                check_user(user_id)
        del request.inputs[USER_ID]

        named = spec.WhichOneof("version_choice") is not None
        treatment = (
            Treatment(spec.name)
            if named
            else self._trials.treat(spec.name, ids, call)
        )

        async def answer(model: ServedModel) -> bytes:
            users = await self._ladder.read_many(
                self._store, model, ids, call.store_seconds
            )
            if not treatment.adapts:
                users = [UserState(model.meta_init, u.record) for u in users]
            weights = np.stack([user.weights for user in users])
            if len(users) != batch:
                weights = np.broadcast_to(weights, (batch, weights.shape[1]))
            asked = self._trials.fitted(treatment, model, request, batch)
            tensor = encode_tensor(weights)
            asked.inputs[ADAPTIVE_WEIGHTS].CopyFrom(tensor)
            asked.model_spec.name = model.name
            asked.model_spec.version.value = model.version
            self._explain(model, users, request.inputs, call)
            data = asked.SerializeToString()
            try:
                response = await self._pass_on(PREDICT, data, call)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                raise UnknownModelError(error.details() or "") from error
            self._trials.note(
                treatment, call, users[0], model, request, response
            )
            return response

        if named:
            return await answer(await self._named_version(spec))
        return await on_current_version(self._registry, treatment, answer)

    async def _named_version(self, spec: pb.ModelSpec) -> ServedModel:
        if spec.HasField("version"):
            return await self._registry.version(spec.name, spec.version.value)
        raise InvalidRequestError(
            f"With a {USER_ID!r}, name a version or none for the current one, "
            f"not the label {spec.version_label!r}: the weights must be those "
            "of the version that answers."
        )

    def _explain(
        self,
        model: ServedModel,
        users: Sequence[UserState],
        inputs: Mapping[str, pb.TensorProto],
        call: Call,
    ) -> None:
        sent = [name for name in model.user_features if name in inputs]
        for user in users:
            self._metrics.count_answer(model.name, user.rung(bool(sent)))
        # Of a batch, what holds for all of it; it may be told of one user.
        told = provenance(model, users[0], call, sent)
        if len(users) > 1:
            for field in ("support_count", "store_hit", "rung", "kept_share"):
                told.ClearField(field)
            reasons = {user.degraded_reason for user in users} - {""}
            told.degraded = bool(reasons)
            told.degraded_reason = "; ".join(sorted(reasons))
        call.context.set_trailing_metadata(
            ((PROVENANCE, told.SerializeToString()),)
        )
