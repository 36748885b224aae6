"""Scores a batch of users by the protocol, as a gateway would serve them.

Users are independent, so a batch goes through its windows in step: one call
of `rank` and one of `adapt` per window for all its users, each with its own
weights, reservoir and count, as the gateway keeps them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.cold_users import ColdUser
from components.served_model import (
    ServedModel,
    adapt_inputs,
    feature_inputs,
    rank_inputs,
)
from serving.contract import protocol
from serving.contract.support import SupportEvent, merge_support

JOINT = "joint"
OFFLINE = "offline"
ONLINE = "online"
REGIMES = (JOINT, OFFLINE, ONLINE)

Scores = NDArray[np.float32]
RowIndices = Sequence[int] | NDArray[np.int64]


class UserStates:
    """What a gateway's store holds of each user of a batch."""

    def __init__(self, model: ServedModel, users: Sequence[ColdUser]) -> None:
        """Starts all users at the meta-initialization.

        Args:
            model: The model that serves them.
            users: The batch.
        """
        self._model = model
        self._users = users
        self._features = feature_inputs(
            model.manifest.user_features, [user.features for user in users]
        )
        self._meta_state = model.manifest.meta_state
        self._weights = self._meta_state.initial_weights(len(users))
        self._reservoirs: list[tuple[SupportEvent, ...]] = [()] * len(users)
        self._counts = [0] * len(users)

    def rank(self, rows: Sequence[RowIndices]) -> list[Scores]:
        """Scores some rows of each user.

        Args:
            rows: Row indices per user; empty for users to leave out.

        Returns:
            Logits of those rows, per user.
        """
        asked = [index for index, chosen in enumerate(rows) if len(chosen)]
        scores = [np.zeros(0, np.float32)] * len(rows)
        if not asked:
            return scores
        outputs = self._model.call(
            "rank",
            rank_inputs(
                {name: v[asked] for name, v in self._features.items()},
                [self._users[index].item_ids[rows[index]] for index in asked],
                self._weights[asked],
            ),
        )["score"]
        for index, padded in zip(asked, outputs, strict=True):
            scores[index] = padded[: len(rows[index])]
        return scores

    def learn(self, rows: Sequence[RowIndices]) -> None:
        """Adapts the users' weights to some rows of theirs, as new events.

        Args:
            rows: Row indices per user; users without any are left as is.
        """
        asked = [index for index, chosen in enumerate(rows) if len(chosen)]
        if not asked:
            return
        supports = [
            merge_support(
                self._reservoirs[index],
                self._users[index].events(rows[index]),
                self._counts[index],
                self._model.manifest.reservoir_events,
            )
            for index in asked
        ]
        self._weights[asked] = self._model.call(
            "adapt",
            adapt_inputs(
                {name: v[asked] for name, v in self._features.items()},
                supports,
                self._weights[asked],
                self._meta_state,
            ),
        )["adaptive_weights"]
        for index, support in zip(asked, supports, strict=True):
            self._reservoirs[index] = support.reservoir
            self._counts[index] = support.count


def stream_scores(
    model: ServedModel, users: Sequence[ColdUser], regime: str
) -> list[Scores]:
    """Scores the judged rows of the users' streams.

    Args:
        model: The model; the joint one for the regime `joint`.
        users: A batch of users.
        regime: One of `REGIMES`.

    Returns:
        Per user the logits of its judged rows, window after window.
    """
    states = UserStates(model, users)
    if regime != JOINT:
        states.learn(
            [protocol.first_support_rows(user.positions) for user in users]
        )
    windows = [protocol.stream_windows(user.positions) for user in users]
    scores: list[list[Scores]] = [[] for _ in users]
    for step in range(max(map(len, windows), default=0)):
        rows = [w[step].rows if step < len(w) else () for w in windows]
        for parts, part in zip(scores, states.rank(rows), strict=True):
            parts.append(part)
        if regime == ONLINE:
            states.learn(rows)
    return [np.concatenate([np.zeros(0, np.float32), *p]) for p in scores]


def few_shot_scores(
    model: ServedModel, users: Sequence[ColdUser], support_size: int
) -> list[Scores]:
    """Scores the users' query sets after a support set of k events.

    Args:
        model: The model.
        users: A batch of users.
        support_size: k; 0 scores with the meta-initialization.

    Returns:
        Per user the logits of its query set.
    """
    cuts = [
        protocol.few_shot_rows(user.positions, support_size) for user in users
    ]
    states = UserStates(model, users)
    states.learn([support for support, _ in cuts])
    return states.rank([query_set for _, query_set in cuts])
