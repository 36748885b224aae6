"""The inner loop: a user's adaptive weights from the user's own events.

For a whole batch of users at once. Users are independent of each other, so
the gradient of the losses' sum holds every user's own gradient, and there is
no loop over users.

Each step goes along the gradient of

    sum over the support set of  weight * loss  +  1/2 (w - w0)' L (w - w0)

where w0 is the meta-initialization and L a learned diagonal prior precision:
the pull toward the meta-initialization. The gradient is scaled by a learned
diagonal preconditioner 1 / (L + h n), n the summed support weights, so that
one set of step sizes fits one event and eighty, and by a learned step size
per step and parameter (as in Meta-SGD, arXiv 1707.09835). Second-order: the
outer loop differentiates through the steps.
"""

from typing import Any

import tensorflow as tf
import tf_keras

from trainer.config import TrainerConfig
from trainer.support_loss import Personalize, SupportSet, support_gradient

# Where learning of the inner loop itself starts: log of the step size, of the
# prior precision and of the curvature that one event adds.
_LOG_INNER_LR = -0.5
_LOG_PRECISION = 0.0
_LOG_CURVATURE = -3.0


class InnerLoop(tf_keras.layers.Layer):
    """Gradient steps on adaptive weights, with what they learned to learn.

    Like adaptive layers it is trainable only while meta-learning runs.
    """

    def __init__(
        self, num_adaptive: int, config: TrainerConfig, **kwargs: Any
    ) -> None:
        """Makes the loop for P = `num_adaptive` weights per user."""
        super().__init__(name="inner_loop", trainable=False, **kwargs)
        self.num_steps = config.num_inner_steps
        self.first_order = config.first_order
        self.log_inner_lr = self.add_weight(
            name="log_inner_lr",
            shape=[self.num_steps, num_adaptive],
            initializer=tf_keras.initializers.Constant(_LOG_INNER_LR),
        )
        self.log_precision = self.add_weight(
            name="log_precision",
            shape=[num_adaptive],
            initializer=tf_keras.initializers.Constant(_LOG_PRECISION),
        )
        self.log_curvature = self.add_weight(
            name="log_curvature",
            shape=[num_adaptive],
            initializer=tf_keras.initializers.Constant(_LOG_CURVATURE),
        )

    def call(
        self,
        weights: tf.Tensor,
        meta_init: tf.Tensor,
        personalize: Personalize,
        support: SupportSet,
        log_inner_lr: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Takes the inner steps.

        Args:
            weights: Where each user starts, float [B, P]: the
                meta-initialization, or what was stored of the user.
            meta_init: float [P].
            personalize: How weights [B, P] make the users' own vectors and
                biases; differentiable.
            support: What is learned from, [B, S].
            log_inner_lr: Log of the step sizes, float [steps, P]; the
                layer's own if None.

        Returns:
            Adapted weights, float [B, P]. A user without support events gets
            weights closer to the meta-initialization, and exactly that one
            when starting from it.
        """
        if log_inner_lr is None:
            log_inner_lr = self.log_inner_lr
        precision = tf.exp(self.log_precision)
        total = tf.reduce_sum(support.weight, axis=1, keepdims=True)
        scale = 1.0 / (precision + tf.exp(self.log_curvature) * total)
        for step in range(self.num_steps):
            gradient = support_gradient(personalize, support, weights)
            if self.first_order:
                gradient = tf.stop_gradient(gradient)
            gradient += precision * (weights - meta_init)
            weights -= tf.exp(log_inner_lr[step]) * scale * gradient
        return weights
