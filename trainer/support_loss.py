"""The support set's loss, and its gradient by a user's adaptive weights.

The loss of a user is the sum over its support set of  weight * logistic loss.
A user's adaptive weights w act through the user's own vector and bias alone:

    logit of event s = e_s' z(w) + item bias of s

with z the own vector and bias and e_s the item vector and a 1. So the loss'
gradient by z is known in closed form, sum of  e_s weight_s (sigmoid(logit_s) -
label_s),  and only z(w), which has no dimension of events, is differentiated.
Second-order meta-learning differentiates this gradient once more, which is far
less work than to differentiate a gradient that was itself found by recording
the loss.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from trainer.towers import Embedded

# Users' own vectors and biases for adaptive weights [B, P].
Personalize = Callable[[tf.Tensor], Embedded]


class SupportSet(NamedTuple):
    """What the inner loop learns from.

    Attributes:
        item: Items, [B, S, ...].
        label: 0 or 1, float [B, S].
        weight: How often an event counts, float [B, S]; 0 pads.
    """

    item: Embedded
    label: tf.Tensor
    weight: tf.Tensor


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


def support_gradient(
    personalize: Personalize, support: SupportSet, weights: tf.Tensor
) -> tf.Tensor:
    """The gradient of each user's support loss.

    Args:
        personalize: How adaptive weights make own vectors and biases.
        support: [B, S].
        weights: Where, float [B, P].

    Returns:
        float [B, P], differentiable.
    """
    with tf.GradientTape() as tape:
        tape.watch(weights)
        own = personalize(weights)
    probability = tf.sigmoid(logits(own, support.item))
    error = support.weight * (probability - support.label)
    by_own = Embedded(
        tf.linalg.matvec(support.item.vector, error, transpose_a=True),
        tf.reduce_sum(error, axis=1, keepdims=True),
    )
    return tape.gradient(
        own,
        weights,
        output_gradients=by_own,
        unconnected_gradients=tf.UnconnectedGradients.ZERO,
    )
