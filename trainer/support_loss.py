"""The support set's loss, and its gradient by a user's adaptive weights.

The loss of a user is the sum over its support set of  weight * logistic loss,
and a linear term by which degrees of labels draw the own vector
(`trainer.graded_labels`): convex in vector and bias like the loss itself.
A user's adaptive weights w act through the user's own vector and bias alone:

    logit of event s = e_s' z(w) + item bias of s

with z the own vector and bias and e_s the item vector and a 1. So the loss'
gradient by z is known in closed form, sum of  e_s weight_s (sigmoid(logit_s) -
target_s),  and only z(w), which has no dimension of events, is differentiated.
Second-order meta-learning differentiates this gradient once more, which is far
less work than to differentiate a gradient that was itself found by recording
the loss.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from trainer.embedded import Embedded

# What a user without events is divided by.
_LEAST_WEIGHT = 1e-6

# Users' own vectors and biases for adaptive weights [B, P].
Personalize = Callable[[tf.Tensor], Embedded]


class SupportSet(NamedTuple):
    """What the inner loop learns from.

    Attributes:
        item: Items, [B, S, ...].
        label: From 0 (disliked) to 1 (liked), float [B, S].
        weight: How often an event counts, float [B, S]; 0 pads.
    """

    item: Embedded
    label: tf.Tensor
    weight: tf.Tensor


class GradedSupport(NamedTuple):
    """A support set with what its labels say to vector and bias.

    Attributes:
        item: Items, [B, S, ...].
        taste: What the own vector's part of the loss is drawn to, [B, S].
        liked: What the own bias's part is drawn to, [B, S].
        weight: How often an event counts, float [B, S]; 0 pads.
    """

    item: Embedded
    taste: tf.Tensor
    liked: tf.Tensor
    weight: tf.Tensor

    def events(self) -> tf.Tensor:
        """Item vectors and a 1 each, e_s, float [B, S, D + 1]."""
        vector = self.item.vector
        return tf.concat([vector, tf.ones_like(vector[..., :1])], axis=-1)

    def gradient(self, logit: tf.Tensor) -> tf.Tensor:
        """The loss' gradient by own vectors and biases, float [B, D + 1].

        Args:
            logit: Of each event, float [B, S].
        """
        probability = tf.sigmoid(logit)
        by_vector = self.weight * (probability - self.taste)
        by_bias = self.weight * (probability - self.liked)
        return tf.concat(
            [
                tf.linalg.matvec(self.item.vector, by_vector, transpose_a=True),
                tf.reduce_sum(by_bias, axis=1, keepdims=True),
            ],
            axis=1,
        )


def logits(own: Embedded, item: Embedded) -> tf.Tensor:
    """Scores each user's candidates.

    Args:
        own: The users' own vectors and biases, [B, ...].
        item: Candidates, [B, N, ...].

    Returns:
        float [B, N].
    """
    dot = tf.linalg.matvec(item.vector, own.vector)
    return dot + own.bias + tf.squeeze(item.bias, axis=-1)


def mean_over_events(losses: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Each user's mean loss; 0 without events.

    Args:
        losses: Of each event, float [B, S].
        weight: How often an event counts, float [B, S]; 0 pads.

    Returns:
        float [B].
    """
    total = tf.maximum(tf.reduce_sum(weight, axis=1), _LEAST_WEIGHT)
    return tf.reduce_sum(weight * losses, axis=1) / total


class SupportGradient:
    """The gradient of each user's support loss, as a function of weights."""

    def __init__(
        self, personalize: Personalize, support: GradedSupport
    ) -> None:
        """Takes how adaptive weights make own vectors and biases."""
        self._personalize = personalize
        self._support = support
        self._events = support.events()
        self._item_bias = tf.squeeze(support.item.bias, axis=-1)

    def __call__(self, weights: tf.Tensor) -> tf.Tensor:
        """Returns the gradient at weights [B, P]; [B, P], differentiable."""
        with tf.GradientTape() as tape:
            tape.watch(weights)
            own = tf.concat(self._personalize(weights), axis=1)
        logit = tf.linalg.matvec(self._events, own) + self._item_bias
        return tape.gradient(
            own,
            weights,
            self._support.gradient(logit),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
