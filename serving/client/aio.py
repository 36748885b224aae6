"""The client for asyncio; what the calls do is told in `blocking`."""

from collections.abc import Sequence
from typing import TypeVar

import grpc.aio

from serving.client import calls
from serving.client.connection import ConnectedClient
from serving.client.errors import told_as_ours
from serving.client.status import GatewayStatus
from serving.client.user_data import DeletionReceipt, UserExport
from serving.client.values import (
    Features,
    FeedbackEvent,
    FeedbackResult,
    RankResult,
    RecommendResult,
)

_Answer = TypeVar("_Answer")
_Client = TypeVar("_Client", bound="AsyncRecommenderClient")


class AsyncRecommenderClient(ConnectedClient):
    """`RecommenderClient` for asyncio; for use inside one event loop."""

    _transport = grpc.aio

    async def rank(
        self,
        user_id: str,
        item_ids: Sequence[str],
        features: Features | None = None,
        model: str | None = None,
    ) -> RankResult:
        """See `RecommenderClient.rank`."""
        return await self._run(calls.rank(user_id, item_ids, features, model))

    async def recommend(
        self,
        user_id: str,
        k: int,
        features: Features | None = None,
        model: str | None = None,
        *,
        exclude_item_ids: Sequence[str] = (),
        include_seen: bool = False,
        exploration: float = 0.0,
        seed: int | None = None,
    ) -> RecommendResult:
        """See `RecommenderClient.recommend`."""
        return await self._run(
            calls.recommend(
                user_id,
                k,
                features,
                model,
                exclude_item_ids,
                include_seen,
                exploration,
                seed,
            )
        )

    async def submit_feedback(
        self,
        user_id: str,
        events: Sequence[FeedbackEvent],
        features: Features | None = None,
        model: str | None = None,
    ) -> FeedbackResult:
        """See `RecommenderClient.submit_feedback`."""
        return await self._run(
            calls.submit_feedback(user_id, events, features, model)
        )

    async def get_user(self, user_id: str) -> UserExport:
        """See `RecommenderClient.get_user`."""
        return await self._run(calls.get_user(user_id))

    async def delete_user(self, user_id: str) -> DeletionReceipt:
        """See `RecommenderClient.delete_user`."""
        return await self._run(calls.delete_user(user_id))

    async def get_status(self) -> GatewayStatus:
        """See `RecommenderClient.get_status`."""
        return await self._run(calls.get_status())

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def _run(self, call: calls.Call[_Answer]) -> _Answer:
        method = getattr(self._stub, call.method)
        with told_as_ours(call.method):
            response = await method(call.request, **self._options.keywords())
        return call.decode(response)

    async def __aenter__(self: _Client) -> _Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
