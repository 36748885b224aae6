"""A model in training, asked as `serving.contract.stream_model` has it.

No signature and no raw feature is in between, and an event's item is called by
its row of the catalog. So it is what the benchmark scores the online stage by.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.contract.guard import Adapted
from serving.contract.meta_gradient import MetaGradient
from serving.contract.meta_state import Floats, MetaState
from serving.contract.meta_tasks import MetaTask
from serving.contract.stream_model import Ints
from serving.contract.support import Support, SupportEvent
from trainer.episodes import Catalog
from trainer.lesson import take_lesson
from trainer.meta_gradient import meta_gradient
from trainer.stream import StreamUsers
from trainer.support_loss import SupportSet
from trainer.two_tower import PartitionedTwoTower


@dataclasses.dataclass(frozen=True)
class InProcessUser:
    """A user of the stream; items are called by their rows.

    Attributes:
        user_id: Id.
        item_row: Rows of the catalog, shape [n].
        label: From 0 to 1, shape [n].
        positions: Which event each row is of, shape [n].
        timestamps: Seconds, shape [n].
    """

    user_id: str
    item_row: NDArray[np.int32]
    label: NDArray[np.float32]
    positions: Ints
    timestamps: Ints

    def events(self, rows: Ints) -> list[SupportEvent]:
        """Events with the item's row for an id."""
        return [
            SupportEvent(str(item), float(label))
            for item, label in zip(
                self.item_row[rows], self.label[rows], strict=True
            )
        ]


class InProcessModel:
    """A `serving.contract.stream_model.StreamModel`."""

    def __init__(
        self, model: PartitionedTwoTower, catalog: Catalog, users: StreamUsers
    ) -> None:
        """Embeds users and items once.

        Args:
            model: Trained; it does not change.
            catalog: Items.
            users: Whom it is asked about.
        """
        self._users = users
        embedded = model.user_tower(users.ids)
        item = model.item_tower(catalog.ids)

        def user(indices: tf.Tensor) -> Any:
            return tf.nest.map_structure(
                lambda values: tf.gather(values, indices), embedded
            )

        def rows(item_row: tf.Tensor, *others: tf.Tensor) -> SupportSet:
            return SupportSet(item.gather(item_row), *others)

        def adapt(
            indices: tf.Tensor,
            support: tuple[tf.Tensor, ...],
            weights: tf.Tensor,
            state: tuple[tf.Tensor, ...],
        ) -> Adapted:
            return take_lesson(
                model, user(indices), rows(*support), weights, *state
            )

        def rank(
            indices: tf.Tensor, item_row: tf.Tensor, weights: tf.Tensor
        ) -> tf.Tensor:
            return model.score(user(indices), item.gather(item_row), weights)

        def gradient(
            indices: tf.Tensor,
            support: tuple[tf.Tensor, ...],
            query_set: tuple[tf.Tensor, ...],
            state: tuple[tf.Tensor, ...],
        ) -> Any:
            return meta_gradient(
                model, user(indices), rows(*support), rows(*query_set), *state
            )

        self._adapt = _compiled(adapt)
        self._rank = _compiled(rank)
        self._gradient = _compiled(gradient)

    def adapt(
        self,
        users: Ints,
        supports: Sequence[Support],
        weights: Floats,
        state: MetaState,
    ) -> Adapted:
        """Runs the inner loop."""
        support = _padded_events([s.events for s in supports])
        found = self._adapt(users, support, weights, _pair(state))
        return Adapted(*(np.array(each) for each in found))

    def rank(
        self, users: Ints, rows: Sequence[Ints], weights: Floats
    ) -> list[Floats]:
        """Scores rows of users."""
        item_row = np.zeros((len(rows), max(map(len, rows))), np.int32)
        for index, (user, chosen) in enumerate(zip(users, rows, strict=True)):
            own = self._users.item_row[user][chosen]
            item_row[index, : len(chosen)] = own
        scores = self._rank(users, item_row, weights).numpy()
        return [
            padded[: len(chosen)]
            for padded, chosen in zip(scores, rows, strict=True)
        ]

    def meta_gradient(
        self, tasks: Sequence[MetaTask[int]], state: MetaState
    ) -> MetaGradient:
        """Differentiates by the meta state."""
        found = self._gradient(
            np.array([task.context for task in tasks]),
            _padded_events([task.support for task in tasks]),
            _padded_events([task.query_set for task in tasks]),
            _pair(state),
        )
        return MetaGradient(
            found.meta_init.numpy(),
            found.log_inner_lr.numpy(),
            found.loss.numpy(),
        )


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A graph that is traced for other sizes at most once more."""
    graph = tf.function(function, reduce_retracing=True)
    return lambda *arguments: graph(
        *tf.nest.map_structure(tf.constant, arguments)
    )


def _pair(state: MetaState) -> tuple[Floats, Floats]:
    return state.meta_init, state.log_inner_lr


def _padded_events(
    events: Sequence[Sequence[SupportEvent]],
) -> tuple[NDArray[np.int32], Floats, Floats]:
    """Item rows, labels and weights, [B, S] each; weight 0 pads."""
    width = max([1, *map(len, events)])
    item_row = np.zeros((len(events), width), np.int32)
    label = np.zeros((len(events), width), np.float32)
    weight = np.zeros((len(events), width), np.float32)
    for index, own in enumerate(events):
        item_row[index, : len(own)] = [int(event.item_id) for event in own]
        label[index, : len(own)] = [event.label for event in own]
        weight[index, : len(own)] = 1.0
    return item_row, label, weight
