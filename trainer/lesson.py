"""A lesson: the inner loop, and how well its events are predicted around it.

What the online stage asks a model for, through the signature or in process.
"""

import tensorflow as tf

from serving.contract.guard import Adapted
from trainer.embedded import EmbeddedUser
from trainer.support_loss import SupportSet, mean_over_events
from trainer.two_tower import PartitionedTwoTower


def take_lesson(
    model: PartitionedTwoTower,
    user: EmbeddedUser,
    support: SupportSet,
    weights: tf.Tensor,
    meta_init: tf.Tensor,
    log_inner_lr: tf.Tensor,
) -> Adapted:
    """Learns users' weights from their support sets.

    Args:
        model: Whose fixed part it is.
        user: As embedded by the user tower, [B, ...].
        support: What the inner loop learns from, [B, S].
        weights: What the users have; where to start, if their weights are
            carried on, float [B, P].
        meta_init: What the inner loop pulls toward, float [P].
        log_inner_lr: Log of its step sizes, float [T, P].

    Returns:
        New weights and losses, as tensors.
    """
    adapted = model.adapt(
        user,
        *support,
        weights,
        meta_init=meta_init,
        log_inner_lr=log_inner_lr,
    )
    nobodys = tf.zeros_like(weights) + meta_init
    before, after, of_nobody = (
        model.event_loss(user, support.item, support.label, each)
        for each in (weights, adapted, nobodys)
    )
    return Adapted(
        adapted,
        mean_over_events(before, support.weight),
        mean_over_events(after, support.weight),
        before,
        of_nobody,
    )
