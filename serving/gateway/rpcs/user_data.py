"""GetUser and DeleteUser: what is held of a user, and that it goes."""

import asyncio
import itertools
import secrets

import numpy as np

from serving.errors import RecordError
from serving.event_log import EventLog
from serving.gateway.kept_versions import KeptVersions
from serving.gateway.provenance import provenance
from serving.gateway.requests import check_id
from serving.gateway.rpcs.call import Call
from serving.gateway.trials import Trials
from serving.limits import Limits
from serving.models.ladder import Ladder
from serving.models.registry import ModelRegistry
from serving.online.meta_stage import MetaStage
from serving.online.told import decode_told
from serving.protos import recommender_pb2 as pb
from serving.security.caller import check_user
from serving.store import AdaptiveStore, Tombstone, UserKey, UserRecord

_RECEIPT_BYTES = 16


class UserDataRpcs:
    """Exports and erases users, under every model at once."""

    def __init__(
        self,
        registry: ModelRegistry,
        store: AdaptiveStore,
        ladder: Ladder,
        limits: Limits,
        trials: Trials,
        meta_stage: MetaStage,
        log: EventLog,
        kept: KeptVersions,
    ) -> None:
        self._registry = registry
        self._store = store
        self._ladder = ladder
        self._limits = limits
        self._trials = trials
        self._meta_stage = meta_stage
        self._log = log
        self._kept = kept

    async def get_user(
        self, request: pb.GetUserRequest, call: Call
    ) -> pb.GetUserResponse:
        """Tells everything held of a user, and which weights would apply."""
        check_id("user_id", request.user_id, self._limits)
        check_user(request.user_id)
        models = [
            await self._user_model(name, request.user_id, call)
            for name in self._registry.names
        ]
        return pb.GetUserResponse(
            user_id=request.user_id,
            models=models,
            found=any(model.sequence or model.events for model in models),
            request_id=call.request_id,
        )

    async def delete_user(
        self, request: pb.DeleteUserRequest, call: Call
    ) -> pb.DeleteUserResponse:
        """Removes everything held of a user; returns the receipt."""
        check_id("user_id", request.user_id, self._limits)
        check_user(request.user_id)
        receipt = pb.DeleteUserResponse(
            receipt_id=secrets.token_hex(_RECEIPT_BYTES),
            request_id=call.request_id,
        )
        tombstones: list[Tombstone] = []
        for name in self._registry.names:
            key = UserKey(name, request.user_id)
            # The log first: what a worker took out of it before that, the
            # store's tombstone refuses.
            events, tombstone = await asyncio.to_thread(self._log.delete, key)
            receipt.events += events
            tombstones.append(tombstone)
            found, tombstone = await asyncio.to_thread(self._store.delete, key)
            receipt.records += found
            tombstones.append(tombstone)
        self._meta_stage.forget(request.user_id)
        self._kept.forget_users()
        await self._trials.forget(request.user_id)
        receipt.deleted_ms = max(each.deleted_ms for each in tombstones)
        receipt.expires_ms = min(each.expires_ms for each in tombstones)
        return receipt

    async def _user_model(
        self, name: str, user_id: str, call: Call
    ) -> pb.UserModel:
        exported = pb.UserModel()
        key = UserKey(name, user_id)
        try:
            record = await self._store.aget(key)
        except RecordError:
            # Damaged bytes tell nothing; the provenance says that they are.
            record = None
        if record is not None:
            _export(record, exported)
        entries = await asyncio.to_thread(self._log.events_of, key)
        for event in itertools.chain(*(entry.events for entry in entries)):
            exported.events.add(
                event_id=event.event_id,
                item_id=event.item_id,
                label=event.label,
                timestamp=event.timestamp,
            )
        tombstone = await asyncio.to_thread(self._store.tombstone, key)
        if tombstone is not None:
            exported.deleted_ms = tombstone.deleted_ms
        # A model that can't answer yet must not hold an export up.
        model = self._registry.served(name)
        if model is not None:
            user = await self._ladder.read(self._store, model, user_id)
            exported.provenance.CopyFrom(provenance(model, user, call))
        exported.provenance.model = name
        return exported


def _export(record: UserRecord, exported: pb.UserModel) -> None:
    exported.sequence = record.sequence
    exported.support_count = record.support_count
    for version in record.versions:
        exported.weights.add(
            fingerprint_digest=version.fingerprint.hex(),
            support_count=version.support_count,
            dtype=version.weights.dtype.name,
            values=version.weights.astype(np.float32).tolist(),
        )
    for event in record.reservoir:
        exported.reservoir.add(item_id=event.item_id, label=event.label)
    for name, values in decode_told(record.features).features.items():
        exported.features[name].CopyFrom(values)
