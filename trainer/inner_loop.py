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

The first step is taken from between w0 and the weights that a user has already
(`trainer.carried_share`).
"""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.config import GRADIENT, TrainerConfig
from trainer.solver import Solver
from trainer.support_loss import Personalize, SupportGradient, SupportSet

# Where learning of the inner loop itself starts: log of the step size and of
# the curvature that one event adds.
_LOG_INNER_LR = -0.5
_LOG_CURVATURE = -3.0


class InnerLoop(Solver):
    """Gradient steps on adaptive weights, with what they learned to learn."""

    def __init__(
        self, fan_in: NDArray[np.int64], config: TrainerConfig, **kwargs: Any
    ) -> None:
        """Makes the loop; arguments as of `Solver`."""
        super().__init__(fan_in, config, **kwargs)
        self.first_order = config.first_order
        self.log_inner_lr = self._per_value(
            "log_inner_lr", _LOG_INNER_LR, rows=self.num_steps
        )
        self.log_curvature = self._per_value(
            "log_curvature", _LOG_CURVATURE + np.log(fan_in)
        )
        self.carried_share: tf.Variable = self.add_weight(
            name="carried_share", shape=[], initializer="ones", trainable=False
        )

    def call(
        self,
        weights: tf.Tensor,
        meta_init: tf.Tensor,
        personalize: Personalize,
        support: SupportSet,
        log_inner_lr: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Takes the inner steps; arguments as of `Solver`.

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
        rate = tf.exp(log_inner_lr) * self.gates()
        support_gradient = SupportGradient(personalize, self.graded(support))
        weights = meta_init + self.carried_share * (weights - meta_init)
        for step in range(self.num_steps):
            gradient = support_gradient(weights)
            if self.first_order:
                gradient = tf.stop_gradient(gradient)
            gradient += precision * (weights - meta_init)
            weights -= rate[step] * scale * gradient
        return weights

    def step_sizes(self) -> NDArray[np.float32]:
        """Mean over the steps, for a user of few events, [P]."""
        rate = tf.reduce_mean(tf.exp(self.log_inner_lr), axis=0)
        sizes: NDArray[np.float32] = (
            rate * self.gates() * tf.exp(-self.log_precision)
        ).numpy()
        return sizes

    def settings(self) -> dict[str, Any]:
        """Step sizes [T, P], prior precision [P] and curvature [P]."""
        return {
            "solver": GRADIENT,
            "num_inner_steps": self.num_steps,
            "first_order": self.first_order,
            "inner_lr": _exp(self.log_inner_lr, 4),
            "prior_precision": _exp(self.log_precision, 4),
            "event_curvature": _exp(self.log_curvature, 6),
            "carried_share": float(self.carried_share),
        }

    def reduced(self, adapts: NDArray[np.bool_]) -> "InnerLoop":
        """The loop for some of the values; gates are in its step sizes."""
        rate = tf.exp(self.log_inner_lr) * self.gates()
        loop = self._without_gates(adapts)
        loop.log_inner_lr.assign(np.log(rate.numpy()[:, adapts]))
        loop.log_precision.assign(self.log_precision.numpy()[adapts])
        loop.log_curvature.assign(self.log_curvature.numpy()[adapts])
        loop.carried_share.assign(self.carried_share)
        return loop


def _exp(variable: tf.Variable, digits: int) -> Any:
    return np.exp(variable.numpy()).round(digits).tolist()
