"""One interface for all that is judged: begin, learn, score.

Whatever scores cold users, ours or a baseline, knows nothing of windows,
regimes or files: it is told of a batch of users, of what they did, and of
what to score. `score_stream` walks the protocol's stream with it.
"""

import enum
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.contract.regimes import JOINT, OFFLINE, ONLINE
from trainer.embedded import Embedded, EmbeddedUser
from trainer.episodes import Catalog
from trainer.stream import StreamStep
from trainer.tasks import LabelledRows
from trainer.two_tower import PartitionedTwoTower


class Scorer(Protocol):
    """Scores candidates of a batch of users.

    A state is what is known of a batch; nobody but the scorer looks into it,
    and it is never changed: `learn` returns a new one.
    """

    def begin(self, user_ids: Mapping[str, tf.Tensor]) -> Any:
        """What is known of users without events.

        Args:
            user_ids: Feature ids by name, int [B, L], `PAD` on the right.
        """

    def learn(self, state: Any, support: LabelledRows) -> Any:
        """What is known after a support set.

        Args:
            state: What was known before.
            support: New events and, before them, the reservoir of those that
                `state` has learned from already; [B, S], weight 0 pads.
        """

    def score(self, state: Any, item_row: NDArray[np.int32]) -> tf.Tensor:
        """Scores.

        Args:
            state: What is known of the users.
            item_row: Rows of the catalog, [B, N].

        Returns:
            Logits, float [B, N].
        """


class Learning(enum.Enum):
    """When a stream's users are learned from."""

    NEVER = JOINT
    ONCE = OFFLINE
    ALWAYS = ONLINE


class TwoTowerState(NamedTuple):
    """What `TwoTowerScorer` knows of a batch.

    Attributes:
        user: As the user tower embeds them, [B, ...].
        item: The catalog as the item tower embeds it, [items + 1, ...].
        weights: Adaptive weights, float [B, P].
    """

    user: EmbeddedUser
    item: Embedded
    weights: tf.Tensor


class TwoTowerScorer:
    """A partitioned two-tower model with its inner loop."""

    def __init__(self, model: PartitionedTwoTower, catalog: Catalog) -> None:
        """Scores with the model as it is whenever users begin."""
        self._model = model
        self._catalog_ids = catalog.ids

    def begin(self, user_ids: Mapping[str, tf.Tensor]) -> TwoTowerState:
        """Users at the meta-initialization."""
        user = self._model.user_tower(user_ids)
        return TwoTowerState(
            user,
            self._model.item_tower(self._catalog_ids),
            self._model.initial_weights(tf.shape(user.bias)[0]),
        )

    def learn(
        self, state: TwoTowerState, support: LabelledRows
    ) -> TwoTowerState:
        """Runs the inner loop from the users' weights."""
        weights = self._model.adapt(
            state.user,
            state.item.gather(support.item_row),
            support.label,
            support.weight,
            state.weights,
        )
        return state._replace(weights=weights)

    def score(
        self, state: TwoTowerState, item_row: NDArray[np.int32]
    ) -> tf.Tensor:
        """Scores with the users' weights."""
        return self._model.score(
            state.user, state.item.gather(item_row), state.weights
        )


def score_stream(
    scorer: Scorer,
    user_ids: Mapping[str, tf.Tensor],
    steps: Sequence[StreamStep],
    regimes: Sequence[Learning] = tuple(Learning),
) -> dict[Learning, list[NDArray[np.float32]]]:
    """Scores the windows of a stream.

    Args:
        scorer: What is judged.
        user_ids: Features of the users.
        steps: What `stream_steps` gives for them.
        regimes: When users are learned from; all three ways share the first
            support set.

    Returns:
        By regime, logits [B, N] of each window, steps 1 and on.
    """
    states = dict.fromkeys(regimes, scorer.begin(user_ids))
    scores: dict[Learning, list[NDArray[np.float32]]] = {r: [] for r in regimes}
    for index, step in enumerate(steps):
        if index > 0:
            for regime, state in states.items():
                logits = scorer.score(state, step.judged.item_row)
                scores[regime].append(np.asarray(logits))
        learning = [
            regime
            for regime in states
            if regime is Learning.ALWAYS
            or (regime is Learning.ONCE and index == 0)
        ]
        if learning and index + 1 < len(steps):
            learned = scorer.learn(states[learning[0]], step.support)
            states |= dict.fromkeys(learning, learned)
    return scores


def score_few_shot(
    scorer: Scorer, user_ids: Mapping[str, tf.Tensor], step: StreamStep
) -> NDArray[np.float32]:
    """Scores the query sets [B, N] after the support sets of `few_shot_step`.

    With k = 0 nothing is learned.
    """
    state = scorer.begin(user_ids)
    if step.support.weight.shape[1]:
        state = scorer.learn(state, step.support)
    return np.asarray(scorer.score(state, step.judged.item_row))
