"""The inner loop for scores that are affine in the adaptive weights, solved.

Finds the minimum of

    sum over the support set of  weight * logistic loss
        + 1/2 (w - w0)' L (w - w0)

w0 the meta-initialization and L a learned diagonal precision: the posterior
mode of a Bayesian logistic regression per user. It is convex, so there is one
minimum, which does not depend on where a user starts, and no step size.

A user's own vector and bias z are affine in the weights, z = z0 + A (w - w0),
and the loss sees nothing but z. At the minimum w - w0 = L^-1 A' u for some u of
z's length, D + 1, so what is solved for is u: with C = A L^-1 A' and events E
[S, D + 1], Newton's step is

    u <- u - (I + E' K E C)^-1 (E' (weight * (sigmoid(logit) - target)) + u)

with logit = logit at w0 + E C u, and K the diagonal of weight * curvature. All
systems are of size D + 1, however many weights adapt, and solvable where A has
fewer rows than that (the matrix has eigenvalues of 1 and more).

The first steps take K from Jaakkola and Jordan's quadratic bound on the loss
(Statistics and Computing 10, 2000) instead of the second derivative. They
lower the loss whatever the data, as Newton's own steps may not far from the
minimum; the last ones are Newton's, which converge quadratically near it.

The outer loop's gradient is that of the last step, which at the minimum is the
implicit function theorem's: nothing is differentiated through the others.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.config import NEWTON, TrainerConfig
from trainer.embedded import Embedded
from trainer.solver import Solver
from trainer.support_loss import (
    GradedSupport,
    Personalize,
    SupportSet,
    logits,
)

# So many of the last steps are Newton's own.
_NEWTON_STEPS = 3
# The bound's curvature is 1/4 - l^2 / 96 near 0, where it can't be divided.
_SMALL_LOGIT = 1e-2


class NewtonSolver(Solver):
    """The minimum of the regularized support loss; it has no step sizes."""

    def __init__(
        self, fan_in: NDArray[np.int64], config: TrainerConfig, **kwargs: Any
    ) -> None:
        """Makes the solver; arguments as of `Solver`."""
        super().__init__(fan_in, config, **kwargs)
        # Empty, which Keras would warn of at each training.
        self.log_inner_lr = self._per_value(
            "log_inner_lr", 0.0, rows=0, trainable=False
        )

    def call(
        self,
        weights: tf.Tensor,
        meta_init: tf.Tensor,
        personalize: Personalize,
        support: SupportSet,
        log_inner_lr: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Solves; arguments as of `Solver`.

        Returns:
            Adapted weights, float [B, P]; exactly the meta-initialization for
            users without support events.
        """
        del log_inner_lr
        start = tf.zeros_like(weights) + meta_init
        own, jacobian = _linearize(personalize, start)
        spread = jacobian * self._variance()
        problem = _Problem(
            self.graded(support),
            base=logits(own, support.item),
            covariance=tf.matmul(spread, jacobian, transpose_b=True),
        )
        fixed = problem.detached()
        u = tf.zeros_like(jacobian[..., 0])
        for left in range(self.num_steps, 1, -1):
            u = fixed.step(u, newton=left <= _NEWTON_STEPS)
        u = problem.step(tf.stop_gradient(u), newton=True)
        return start + tf.linalg.matvec(spread, u, transpose_a=True)

    def step_sizes(self) -> NDArray[np.float32]:
        """The prior's variances, [P]."""
        variance: NDArray[np.float32] = self._variance().numpy()
        return variance

    def settings(self) -> dict[str, Any]:
        """Number of steps and prior variances [P]."""
        return {
            "solver": NEWTON,
            "num_inner_steps": self.num_steps,
            "prior_variance": self.step_sizes().round(6).tolist(),
        }

    def reduced(self, adapts: NDArray[np.bool_]) -> "NewtonSolver":
        """The solver for some of the values; gates are in its prior."""
        solver = self._without_gates(adapts)
        solver.log_precision.assign(-np.log(self.step_sizes()[adapts]))
        return solver

    def _variance(self) -> tf.Tensor:
        return self.gates() * tf.exp(-self.log_precision)


def _linearize(
    personalize: Personalize, weights: tf.Tensor
) -> tuple[Embedded, tf.Tensor]:
    """Own vectors and biases at some weights, and their Jacobian [B, D+1, P].

    Row by row: TensorFlow's `batch_jacobian` traces a function at each call
    outside of a graph, which takes a hundred times as long.
    """
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(weights)
        own = personalize(weights)
        values = tf.unstack(tf.concat([own.vector, own.bias], 1), axis=1)
    rows = [
        tape.gradient(
            value,
            weights,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        for value in values
    ]
    return own, tf.stack(rows, axis=1)


class _Problem:
    """A batch of users' regressions, in terms of u [B, D + 1]."""

    def __init__(
        self, support: GradedSupport, base: tf.Tensor, covariance: tf.Tensor
    ) -> None:
        """Takes logits at w0 [B, S] and C [B, D + 1, D + 1]."""
        self._support = support
        self._base = base
        self._covariance = covariance
        self._events = support.events()
        self._effects = tf.matmul(self._events, covariance)

    def detached(self) -> "_Problem":
        """The same numbers as constants."""
        support, base, covariance = tf.nest.map_structure(
            tf.stop_gradient, (self._support, self._base, self._covariance)
        )
        return _Problem(support, base, covariance)

    def step(self, u: tf.Tensor, newton: bool) -> tf.Tensor:
        """One step, with the curvature of the loss or of its bound."""
        support = self._support
        logit = self._base + tf.linalg.matvec(self._effects, u)
        probability = tf.sigmoid(logit)
        curvature = (
            probability * (1.0 - probability)
            if newton
            else _bound_curvature(logit, probability)
        )
        weighted = self._events * (support.weight * curvature)[..., tf.newaxis]
        system = tf.matmul(weighted, self._effects, transpose_a=True)
        system += tf.eye(tf.shape(u)[1])
        gradient = u + support.gradient(logit)
        change = tf.linalg.solve(system, gradient[..., tf.newaxis])
        return u - tf.squeeze(change, axis=-1)


def _bound_curvature(logit: tf.Tensor, probability: tf.Tensor) -> tf.Tensor:
    """Of the quadratic that touches the loss at a logit and lies above it."""
    small = tf.abs(logit) < _SMALL_LOGIT
    return tf.where(
        small, 0.25, (probability - 0.5) / tf.where(small, 1.0, logit)
    )
