"""The calls of one replay: timed, counted, under user ids of its own."""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import grpc
import numpy as np
from numpy.typing import NDArray

from components.cold_users import ColdUser
from pipeline.errors import ReplayError
from serving.client import (
    Features,
    FeedbackEvent,
    FeedbackResult,
    RankResult,
)
from serving.contract.regimes import JOINT
from serving.limits import Limits

# Name under which the baseline is served; the other regimes ask for the
# gateway's default model.
JOINT_MODEL = "joint"

_Answer = TypeVar("_Answer")


class Client(Protocol):
    """What the replay needs of `serving.client.RecommenderClient`."""

    def rank(
        self,
        user_id: str,
        item_ids: Sequence[str],
        features: Features | None = None,
        model: str | None = None,
    ) -> RankResult:
        """Scores candidates for a user."""

    def submit_feedback(
        self,
        user_id: str,
        events: Sequence[FeedbackEvent],
        features: Features | None = None,
        model: str | None = None,
    ) -> FeedbackResult:
        """Learns from a user's events."""


class Session:
    """Calls of one replay: ids of its own, latencies, what was answered.

    Several threads may make calls.

    Ids carry a token, so that a second replay against the same store starts
    from users nobody has seen.
    """

    def __init__(self, client: Client, token: str | None = None) -> None:
        """Starts a session.

        Args:
            client: Talks to the gateway.
            token: Names the session in user ids; random by default.
        """
        self._client = client
        self._token = token or secrets.token_hex(4)
        self._lock = threading.Lock()
        self.rank_ms: list[float] = []
        self.rank_rows: list[int] = []
        self.feedback_ms: list[float] = []
        self.degraded = 0
        self.model_versions: dict[str, None] = {}

    def served_id(self, regime: str, user: ColdUser) -> str:
        """Returns the id under which a user is known in one regime."""
        served = self.prefix(regime) + user.user_id
        if len(served.encode()) <= Limits.id_bytes:
            return served
        digest = hashlib.sha256(user.user_id.encode()).hexdigest()
        return self.prefix(regime) + digest

    def prefix(self, regime: str) -> str:
        """Returns what the ids of all users of one regime start with."""
        return f"{self._token}/{regime}/"

    def rank(
        self, regime: str, user: ColdUser, item_ids: Sequence[str]
    ) -> NDArray[np.float64]:
        """Ranks candidates for a user; returns logits, shape [items].

        Raises:
            ReplayError: The gateway failed, or did not answer with one
                finite score per item.
        """
        answer, milliseconds = self._timed(
            f"Rank for user {user.user_id!r} ({regime})",
            lambda: self._client.rank(
                self.served_id(regime, user),
                item_ids,
                user.features,
                JOINT_MODEL if regime == JOINT else None,
            ),
        )
        model = f"{answer.provenance.model}/{answer.provenance.version}"
        with self._lock:
            self.rank_ms.append(milliseconds)
            self.rank_rows.append(len(item_ids))
            self.degraded += answer.provenance.degraded
            self.model_versions[model] = None
        scores = np.asarray(answer.scores, dtype=np.float64)
        if scores.shape != (len(item_ids),) or not np.isfinite(scores).all():
            raise ReplayError(
                f"Rank for user {user.user_id!r} ({regime}) answered "
                f"{scores.size} score(s), {np.isfinite(scores).sum()} of "
                f"them finite, for {len(item_ids)} candidates. Look into "
                "the logs of gateway and model server."
            )
        return scores

    def submit(
        self, regime: str, user: ColdUser, rows: NDArray[np.int64]
    ) -> None:
        """Submits some of a user's events as feedback.

        Event ids are unique within the user and made of the row, so the
        client may send a request again: each event is learned from once.

        Raises:
            ReplayError: The gateway failed, or left events out.
        """
        events = [
            FeedbackEvent(
                event_id=f"{self._token}-{row}",
                item_id=user.item_ids[row],
                label=float(user.labels[row]),
                # A log in local time may be hours ahead, which examples may
                # be and feedback may not; nothing is learned from the time.
                timestamp=min(int(user.timestamps[row]), int(time.time())),
            )
            for row in rows
        ]
        what = f"Feedback of user {user.user_id!r} ({regime})"
        answer, milliseconds = self._timed(
            what,
            lambda: self._client.submit_feedback(
                self.served_id(regime, user), events, user.features
            ),
        )
        self.feedback_ms.append(milliseconds)
        # A request that was sent again finds its events known: no loss.
        if answer.accepted + answer.duplicates != len(events):
            raise ReplayError(
                f"{what}: of {len(events)} events the gateway accepted "
                f"{answer.accepted} and knew {answer.duplicates}; what it "
                "left out is missing from the figures. Look into its log."
            )

    def _timed(
        self, what: str, call: Callable[[], _Answer]
    ) -> tuple[_Answer, float]:
        """Makes a call; returns the answer and how long it took, in ms."""
        start = time.perf_counter()
        try:
            answer = call()
        except grpc.RpcError as error:
            raise ReplayError(
                f"{what} failed: {error}. Is the gateway still up? "
                "`adaptower doctor` and the logs of the run tell more; "
                "`adaptower replay` starts the replay again."
            ) from error
        return answer, 1e3 * (time.perf_counter() - start)
