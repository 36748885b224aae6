"""The partitioned two-tower model.

    score(user, item) = own vector . item vector + own bias + item bias

where a user's own vector and bias are the user tower's, changed by the user's
adaptive weights (`trainer.user_head`). Item vectors are the same for all users,
so one retrieval index serves everybody.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from trainer.config import NEWTON, TrainerConfig
from trainer.embedded import Embedded, EmbeddedUser
from trainer.features import FeatureSpace
from trainer.graded_labels import Degrees, liked
from trainer.inner_loop import InnerLoop
from trainer.newton_solver import NewtonSolver
from trainer.partition import Partition
from trainer.solver import Solver
from trainer.support_loss import SupportSet, logits
from trainer.towers import ItemTower, UserTower
from trainer.user_head import UserHead


class PartitionedTwoTower(tf_keras.Model):
    """Two towers, and adaptive layers on the user side."""

    def __init__(
        self,
        space: FeatureSpace,
        config: TrainerConfig,
        degrees: Degrees | None = None,
    ) -> None:
        """Makes the model.

        Args:
            space: Features of users and items.
            config: Sizes; `partition` says which layers adapt.
            degrees: Of meta_train's labels; None if they are 0 and 1.
        """
        super().__init__(name="two_tower")
        self.user_tower = UserTower(space, config)
        self.item_tower = ItemTower(space, config)
        self.user_head = UserHead(self.user_tower, config)
        self.partition = Partition(self.user_head.adaptive_layers)
        solver = NewtonSolver if config.solver == NEWTON else InnerLoop
        self.inner_loop: Solver = solver(
            self.partition.fan_in(), config, degrees=degrees
        )

    @property
    def user_specific_layers(self) -> list[tf_keras.layers.Layer]:
        """What only a meta-learning loop may train."""
        return [*self.partition.layers, self.inner_loop]

    def keep_adaptive(self, adapts: NDArray[np.bool_]) -> None:
        """Reduces the partition; other values stay what they are for all.

        Args:
            adapts: Whether each value goes on adapting, bool [P]; of a gated
                solver, only values whose gates are open.

        Raises:
            PartitionError: None does.
        """
        self.partition = self.partition.reduced(adapts)
        self.inner_loop = self.inner_loop.reduced(adapts)

    def personalize(self, user: EmbeddedUser, weights: tf.Tensor) -> Embedded:
        """Applies each user's adaptive weights.

        Args:
            user: Users as the user tower embeds them, [B, ...].
            weights: Adaptive weights, float [B, P].

        Returns:
            The users' own vectors [B, vector_size] and biases [B, 1].
        """
        return self.user_head(user, self.partition.split(weights))

    def score(
        self, user: EmbeddedUser, item: Embedded, weights: tf.Tensor
    ) -> tf.Tensor:
        """Scores each user's candidates.

        Args:
            user: As embedded by the user tower, [B, ...].
            item: Each user's candidates, [B, N, ...].
            weights: Adaptive weights, float [B, P].

        Returns:
            Logits, float [B, N].
        """
        return logits(self.personalize(user, weights), item)

    def adapt(
        self,
        user: EmbeddedUser,
        item: Embedded,
        label: tf.Tensor,
        weight: tf.Tensor,
        start: tf.Tensor,
        meta_init: tf.Tensor | None = None,
        log_inner_lr: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Learns each user's adaptive weights from its support set.

        Args:
            user: As embedded by the user tower, [B, ...].
            item: Items of the support sets, [B, S, ...].
            label: From 0 (disliked) to 1 (liked), float [B, S].
            weight: How often an event counts, float [B, S]; 0 pads.
            start: Where the inner loop starts, float [B, P].
            meta_init: What the inner loop pulls toward, float [P]; the
                partition's own if None.
            log_inner_lr: Log of the step sizes, float [steps, P]; the inner
                loop's own if None.

        Returns:
            Adapted weights, float [B, P].
        """
        if meta_init is None:
            meta_init = self.partition.meta_init()
        return self.inner_loop(
            start,
            meta_init=meta_init,
            personalize=lambda weights: self.personalize(user, weights),
            support=SupportSet(item, label, weight),
            log_inner_lr=log_inner_lr,
        )

    def event_loss(
        self,
        user: EmbeddedUser,
        item: Embedded,
        label: tf.Tensor,
        weights: tf.Tensor,
    ) -> tf.Tensor:
        """Each event's loss, liked or not, float [B, S]; see `adapt`."""
        return tf.nn.sigmoid_cross_entropy_with_logits(
            liked(label), self.score(user, item, weights)
        )

    def initial_weights(self, num_users: tf.Tensor | int) -> tf.Tensor:
        """The meta-initialization for each of some users, [num_users, P]."""
        return tf.tile(self.partition.meta_init()[tf.newaxis], [num_users, 1])

    def embed_items(
        self,
        catalog_ids: Mapping[str, tf.Tensor],
        rows: tf.Tensor,
        training: bool = False,
    ) -> Embedded:
        """Embeds items by catalog row, each different one once.

        Args:
            catalog_ids: `item_index` and feature ids of the whole catalog,
                int [items, L].
            rows: Rows of the catalog, int [...].
            training: Whether dropout is on.

        Returns:
            Embedded items of shape [..., *].
        """
        unique, index = tf.unique(tf.reshape(rows, [-1]))
        ids = {
            name: tf.gather(ids, unique) for name, ids in catalog_ids.items()
        }
        items = self.item_tower(ids, training=training)
        return items.gather(tf.reshape(index, tf.shape(rows)))
