"""The outer loop's gradient by the meta state, the fixed part being frozen.

What the online stage asks a model for, through the signature or in process.
"""

from typing import NamedTuple

import tensorflow as tf

from trainer.embedded import EmbeddedUser
from trainer.support_loss import SupportSet, mean_over_events
from trainer.two_tower import PartitionedTwoTower


class MetaGradients(NamedTuple):
    """What `meta_gradient` gives.

    Attributes:
        loss: Each task's mean query loss after the inner loop, float [B].
        meta_init: Gradient of the losses' sum, float [P].
        log_inner_lr: The same, float [T, P].
    """

    loss: tf.Tensor
    meta_init: tf.Tensor
    log_inner_lr: tf.Tensor


def meta_gradient(
    model: PartitionedTwoTower,
    user: EmbeddedUser,
    support: SupportSet,
    query_set: SupportSet,
    meta_init: tf.Tensor,
    log_inner_lr: tf.Tensor,
) -> MetaGradients:
    """Differentiates tasks' query loss through the inner loop.

    Gradients are sums over the tasks, so a task without query rows adds
    nothing, and those of several calls may be added up.

    Args:
        model: Whose fixed part it is.
        user: As embedded by the user tower, [B, ...].
        support: What the inner loop learns from, [B, S].
        query_set: What its outcome is judged on, [B, Q].
        meta_init: Where the inner loop starts, float [P].
        log_inner_lr: Log of its step sizes, float [T, P].
    """
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([meta_init, log_inner_lr])
        start = tf.tile(meta_init[tf.newaxis], [tf.shape(user.bias)[0], 1])
        adapted = model.adapt(
            user,
            *support,
            start,
            meta_init=meta_init,
            log_inner_lr=log_inner_lr,
        )
        losses = model.event_loss(
            user, query_set.item, query_set.label, adapted
        )
        loss = mean_over_events(losses, query_set.weight)
        target = tf.reduce_sum(loss)
    by_init, by_steps = tape.gradient(
        target,
        [meta_init, log_inner_lr],
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
    return MetaGradients(loss, by_init, by_steps)
