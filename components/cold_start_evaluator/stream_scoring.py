"""Scores users by the protocol, as a gateway would serve them.

In the regime `online` what is learned from one user changes what the next
one starts from, so all users are scored together, in the order in which they
come; `serving.contract.online_stream` has the rules. Everywhere else users
are independent, and any batch of them will do.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.cold_users import ColdUser
from components.served_model import (
    ServedModel,
    adapt_inputs,
    feature_inputs,
    meta_gradient_inputs,
    rank_inputs,
)
from serving.contract import protocol
from serving.contract.guard import Adapted, Guard
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_gradient import MetaGradient
from serving.contract.meta_state import MetaState
from serving.contract.meta_tasks import MetaTask
from serving.contract.online_stream import OnlineScores, score_online
from serving.contract.support import Support, merge_support

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class ServedUsers:
    """Users as a model's signatures see them, asked for by index."""

    def __init__(self, model: ServedModel, users: Sequence[ColdUser]) -> None:
        """Puts the users' features together.

        Args:
            model: The model that serves them.
            users: The users.
        """
        self._model = model
        self._users = users
        self._features = feature_inputs(
            model.manifest.user_features, [user.features for user in users]
        )

    def rank(
        self, users: Rows, rows: Sequence[Rows], weights: Floats
    ) -> list[Floats]:
        """Scores some rows of some users; see `StreamModel`."""
        outputs = self._model.call(
            "rank",
            rank_inputs(
                self._features_of(users),
                [
                    self._users[user].item_ids[chosen]
                    for user, chosen in zip(users, rows, strict=True)
                ],
                weights,
            ),
        )["score"]
        return [
            padded[: len(chosen)]
            for padded, chosen in zip(outputs, rows, strict=True)
        ]

    def adapt(
        self,
        users: Rows,
        supports: Sequence[Support],
        weights: Floats,
        state: MetaState,
    ) -> Adapted:
        """Runs the inner loop; see `StreamModel`."""
        inputs = adapt_inputs(
            self._features_of(users), supports, weights, state
        )
        outputs = self._model.call("adapt", inputs)
        return Adapted(
            outputs["adaptive_weights"],
            outputs["loss_before"],
            outputs["loss_after"],
            outputs.get("event_loss"),
            outputs.get("event_loss_meta_init"),
        )

    def meta_gradient(
        self, tasks: Sequence[MetaTask[int]], state: MetaState
    ) -> MetaGradient:
        """Differentiates by the meta state; see `StreamModel`."""
        inputs = meta_gradient_inputs(
            self._features_of(np.array([task.context for task in tasks])),
            tasks,
            state,
        )
        return MetaGradient.of_outputs(
            self._model.call("meta_gradient", inputs)
        )

    def _features_of(self, users: Rows) -> dict[str, NDArray]:
        return {name: v[users] for name, v in self._features.items()}


def online_scores(
    model: ServedModel, users: Sequence[ColdUser], config: OnlineMetaConfig
) -> OnlineScores:
    """Scores the judged rows of all users' streams in the regime `online`.

    Args:
        model: The model.
        users: All cold users.
        config: When and how far the meta state moves.
    """
    manifest = model.manifest
    return score_online(
        ServedUsers(model, users),
        users,
        manifest.meta_state,
        manifest.reservoir_events,
        config,
        Guard.of(manifest.inner_loop, manifest.num_adaptive),
    )


def stream_scores(
    model: ServedModel, users: Sequence[ColdUser], learn: bool
) -> list[Floats]:
    """Scores the judged rows of the users' streams.

    Args:
        model: The model; the joint one for the regime `joint`.
        users: A batch of users.
        learn: Whether the weights are learned once, from the first support
            set, as in the regime `offline`; or never, as in `joint`.

    Returns:
        Per user the logits of its judged rows, window after window.
    """
    supports = [user.first_support if learn else () for user in users]
    judged = [
        np.concatenate(
            [
                np.zeros(0, np.int64),
                *(w.rows for w in user.windows),
            ]
        )
        for user in users
    ]
    return _adapted_scores(model, users, supports, judged)


def few_shot_scores(
    model: ServedModel, users: Sequence[ColdUser], support_size: int
) -> list[Floats]:
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
    supports, query_sets = zip(*cuts, strict=True)
    return _adapted_scores(model, users, supports, query_sets)


def _adapted_scores(
    model: ServedModel,
    users: Sequence[ColdUser],
    supports: Sequence[Rows | Sequence[int]],
    judged: Sequence[Rows],
) -> list[Floats]:
    """Scores rows after one call of `adapt` from the exported meta state.

    Who has no support set is scored with the meta-initialization.
    """
    manifest = model.manifest
    served = ServedUsers(model, users)
    weights = manifest.meta_state.initial_weights(len(users))
    learning = np.flatnonzero([len(rows) > 0 for rows in supports])
    if len(learning):
        weights[learning] = served.adapt(
            learning,
            [
                merge_support(
                    (),
                    users[user].events(supports[user]),
                    0,
                    manifest.reservoir_events,
                )
                for user in learning
            ],
            weights[learning],
            manifest.meta_state,
        ).weights
    return served.rank(np.arange(len(users)), judged, weights)
