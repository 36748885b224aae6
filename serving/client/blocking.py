"""The client for threads."""

from collections.abc import Sequence
from typing import TypeVar

import grpc

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
_Client = TypeVar("_Client", bound="RecommenderClient")


class RecommenderClient(ConnectedClient):
    """Talks to a gateway; safe to use from several threads."""

    _transport = grpc

    def rank(
        self,
        user_id: str,
        item_ids: Sequence[str],
        features: Features | None = None,
        model: str | None = None,
    ) -> RankResult:
        """Scores candidates for a user.

        Args:
            user_id: The user; one never seen is served from meta_init.
            item_ids: Candidates, at least one.
            features: User features by name: a string, a list of strings or a
                number, as the model's manifest declares them.
            model: Which model to ask; the gateway's default if None.

        Raises:
            GatewayError: The gateway refused, or did not answer in time.
        """
        return self._run(calls.rank(user_id, item_ids, features, model))

    def recommend(
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
        """Finds the best items of the whole catalogue for a user.

        Args:
            user_id: The user.
            k: How many items, at least one.
            features: User features, as for `rank`.
            model: Which model to ask; the gateway's default if None.
            exclude_item_ids: Items to leave out, beside those seen.
            include_seen: Recommend items again that the user gave feedback
                on.
            exploration: 0 does not explore; 1 draws the weights from their
                posterior.
            seed: Of the draw; the gateway chooses one if None.

        Raises:
            GatewayError: The gateway refused, or did not answer in time.
        """
        return self._run(
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

    def submit_feedback(
        self,
        user_id: str,
        events: Sequence[FeedbackEvent],
        features: Features | None = None,
        model: str | None = None,
    ) -> FeedbackResult:
        """Lets the model learn from a user's events.

        Returns once they are durable. The next `rank` uses the new weights,
        unless the result says that they are pending.

        Args:
            user_id: The user.
            events: What the user did, oldest first, at least one.
            features: User features, as for `rank`.
            model: Which model learns; the gateway's default if None.

        Raises:
            GatewayError: The gateway refused, or did not answer in time.
        """
        return self._run(
            calls.submit_feedback(user_id, events, features, model)
        )

    def get_user(self, user_id: str) -> UserExport:
        """Returns everything that is held of a user.

        Raises:
            GatewayError: The gateway refused, or did not answer in time.
        """
        return self._run(calls.get_user(user_id))

    def delete_user(self, user_id: str) -> DeletionReceipt:
        """Removes everything that is held of a user, under every model.

        Raises:
            GatewayError: The gateway refused, or did not answer in time.
        """
        return self._run(calls.delete_user(user_id))

    def get_status(self) -> GatewayStatus:
        """Returns what the gateway serves, and how it has been going.

        Raises:
            GatewayError: The gateway refused, or did not answer in time.
        """
        return self._run(calls.get_status())

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _run(self, call: calls.Call[_Answer]) -> _Answer:
        method = getattr(self._stub, call.method)
        with told_as_ours(call.method):
            response = method(call.request, **self._options.keywords())
        return call.decode(response)

    def __enter__(self: _Client) -> _Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
