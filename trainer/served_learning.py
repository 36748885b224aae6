"""The SavedModel's signatures that learn: from one user's events, and from all.

`adapt` gives users weights, `meta_gradient` says where the meta state should
go. The meta state is an input of both: it moves on while the model is served.
"""

import tensorflow as tf

from trainer.lesson import take_lesson
from trainer.meta_gradient import meta_gradient
from trainer.served_embedding import ITEM_KNOWN, RawItems, RawUsers
from trainer.served_inputs import ADAPTIVE_WEIGHTS
from trainer.support_loss import SupportSet
from trainer.two_tower import PartitionedTwoTower


class ServedLearning:
    """The inner loop and its gradient, for users and items as callers send."""

    def __init__(
        self, model: PartitionedTwoTower, users: RawUsers, items: RawItems
    ) -> None:
        """Learns by a trained model.

        Args:
            model: A trained model.
            users: Embeds users.
            items: Embeds items.
        """
        self._model = model
        self._users = users
        self._items = items

    def adapt(
        self,
        item_id: tf.Tensor,
        label: tf.Tensor,
        weight: tf.Tensor,
        adaptive_weights: tf.Tensor,
        meta_init: tf.Tensor,
        log_inner_lr: tf.Tensor,
        **raw: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Runs the inner loop.

        Args:
            item_id: Items of the support sets, string [B, S].
            label: From 0 (disliked) to 1 (liked), float [B, S].
            weight: float [B, S]; 0 pads.
            adaptive_weights: What the users have; where to start, if their
                weights are carried on, float [B, P].
            meta_init: What the inner loop pulls toward, float [P].
            log_inner_lr: Log of its step sizes, float [T, P].
            **raw: Raw user features.

        Returns:
            New `adaptive_weights` [B, P]; mean support loss of each user
            before and after, `loss_before` and `loss_after`, [B]; loss of
            each event under the weights at the start, `event_loss`, and under
            the meta-initialization, `event_loss_meta_init`, [B, S];
            `item_known` bool [B, S], as in `rank`.
        """
        rows = self._items.rows(item_id)
        adapted = take_lesson(
            self._model,
            self._users.embed(raw, tf.shape(item_id)[0]),
            SupportSet(self._items.embed(rows), label, weight),
            adaptive_weights,
            meta_init,
            log_inner_lr,
        )
        return {
            ADAPTIVE_WEIGHTS: adapted.weights,
            "loss_before": adapted.loss_before,
            "loss_after": adapted.loss_after,
            "event_loss": adapted.event_loss,
            "event_loss_meta_init": adapted.event_loss_meta_init,
            ITEM_KNOWN: self._items.known(rows),
        }

    def meta_gradient(
        self,
        support_item_id: tf.Tensor,
        support_label: tf.Tensor,
        support_weight: tf.Tensor,
        query_item_id: tf.Tensor,
        query_label: tf.Tensor,
        query_weight: tf.Tensor,
        meta_init: tf.Tensor,
        log_inner_lr: tf.Tensor,
        **raw: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Differentiates the outer loss; see `trainer.meta_gradient`.

        Args:
            support_item_id: Items of the support sets, string [B, S].
            support_label: float [B, S].
            support_weight: float [B, S]; 0 pads.
            query_item_id: Items of the query sets, string [B, Q].
            query_label: float [B, Q].
            query_weight: float [B, Q]; 0 pads.
            meta_init: Where the inner loop starts, float [P].
            log_inner_lr: Log of its step sizes, float [T, P].
            **raw: Raw user features.

        Returns:
            `loss` [B]: each task's mean query loss after the inner loop; the
            gradient of the losses' sum by the meta state,
            `meta_init_gradient` [P] and `log_inner_lr_gradient` [T, P].
        """
        user = self._users.embed(raw, tf.shape(support_item_id)[0])
        found = meta_gradient(
            self._model,
            user,
            SupportSet(
                self._items.embed(self._items.rows(support_item_id)),
                support_label,
                support_weight,
            ),
            SupportSet(
                self._items.embed(self._items.rows(query_item_id)),
                query_label,
                query_weight,
            ),
            meta_init,
            log_inner_lr,
        )
        return {
            "loss": found.loss,
            "meta_init_gradient": found.meta_init,
            "log_inner_lr_gradient": found.log_inner_lr,
        }
