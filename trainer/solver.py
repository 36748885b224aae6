"""What all solvers of the inner loop have in common.

A solver makes a user's adaptive weights of the user's own events. What it has
learned about learning, step sizes and prior, are its variables. Like adaptive
layers it is trainable only while meta-learning runs.

Labels may hold degrees; what they tell is learned (`trainer.graded_labels`).

For preset `learned` it also has a gate per adaptive value, which its step size
is multiplied by. The outer loss carries a penalty on the gates' sum (an L1
penalty, since gates are never negative), and a value whose gate has reached
zero never leaves the meta-initialization again: it has become fixed.
"""

from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from trainer.config import LEARNED, TrainerConfig
from trainer.embedded import Embedded
from trainer.graded_labels import KNOTS, Degrees, knot_shares, liked
from trainer.support_loss import GradedSupport, Personalize, SupportSet

# Log of the prior precision to start from.
_LOG_PRECISION = 0.0
# Where the variable behind a gate of 1 starts. At Adam's outer_lr per step, a
# gate that nothing speaks for is closed after this / outer_lr steps.
_GATE_START = 0.2

_JUST_BELOW = 1e-6

Self = TypeVar("Self", bound="Solver")


class Solver(tf_keras.layers.Layer):
    """Base of solvers.

    Attributes:
        log_inner_lr: Log of the step sizes, [T, P]; T is 0 where there are
            none.
        log_precision: Log of the prior's precision, the pull toward the
            meta-initialization, [P].
        taste_shift: What is added to the own vector's targets at each of
            `KNOTS`.
        liked_shift: What is added to the own bias's.
        carried_share: How much of a user's weights so far the loop starts
            from (`trainer.carried_share`); None where the start tells nothing.
    """

    carried_share: tf.Variable | None = None

    def __init__(
        self,
        fan_in: NDArray[np.int64],
        config: TrainerConfig,
        degrees: Degrees | None = None,
        gated: bool | None = None,
        **kwargs: Any,
    ) -> None:
        """Makes the solver.

        Args:
            fan_in: How many adaptive weights act on a unit together with each
                of the P adaptive weights, int [P]. The more, the tighter is
                the prior to start from.
            config: Number of steps.
            degrees: Of meta_train's labels; None if they are 0 and 1.
            gated: Whether it has gates; by `config.partition` if None.
            **kwargs: Of the base class.
        """
        super().__init__(name="inner_loop", trainable=False, **kwargs)
        self._config = config
        self.num_steps = config.num_inner_steps
        self._fan_in = fan_in
        self.log_precision = self._per_value(
            "log_precision", _LOG_PRECISION + np.log(fan_in)
        )
        self._degrees = degrees or Degrees()
        self.taste_shift, self.liked_shift = (
            self.add_weight(name=name, shape=[len(KNOTS)], initializer="zeros")
            for name in ("taste_shift", "liked_shift")
        )
        self._gate: tf.Variable | None = None
        if config.partition == LEARNED if gated is None else gated:
            self._gate = self._per_value("gate", _GATE_START)

    def call(
        self,
        weights: tf.Tensor,
        meta_init: tf.Tensor,
        personalize: Personalize,
        support: SupportSet,
        log_inner_lr: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Solves for each user of a batch.

        Args:
            weights: Where each user starts, float [B, P]: the
                meta-initialization, or what was stored of the user.
            meta_init: What is pulled toward, float [P].
            personalize: How weights [B, P] make the users' own vectors and
                biases; differentiable.
            support: What is learned from, [B, S].
            log_inner_lr: Log of the step sizes, float [T, P]; the layer's own
                if None.

        Returns:
            Adapted weights, float [B, P].
        """
        raise NotImplementedError

    def graded(self, support: SupportSet) -> GradedSupport:
        """What a support set's labels say to own vectors and biases."""
        item, label, weight = support
        if self._config.predict_degree:
            return GradedSupport(item, label, label, weight)
        shares = knot_shares(label)
        return GradedSupport(
            item,
            self._degrees.taste(label)
            + tf.linalg.matvec(shares, self.taste_shift),
            liked(label) + tf.linalg.matvec(shares, self.liked_shift),
            weight,
        )

    def label_targets(self) -> dict[str, list[float]]:
        """What labels at the knots tell: `label`, `taste` and `liked`."""
        label = np.array(KNOTS, np.float32)
        # The first of two equal ones is that of labels just below.
        label[:-1][np.diff(label) == 0] -= _JUST_BELOW
        nobody = Embedded(tf.zeros([0]), tf.zeros([0]))
        told = self.graded(SupportSet(nobody, tf.constant(label), label))
        return {
            name: np.asarray(values).round(4).tolist()
            for name, values in (
                ("label", label),
                ("taste", told.taste),
                ("liked", told.liked),
            )
        }

    def gates(self) -> tf.Tensor:
        """Factors of the step sizes, [P], none negative; ones if not gated."""
        if self._gate is None:
            return tf.ones_like(self.log_precision)
        return tf.nn.relu(self._gate) / _GATE_START

    def penalty(self) -> tf.Tensor:
        """What a learned partition's outer loss is charged for, a scalar."""
        if self._gate is None:
            return tf.zeros([])
        return tf.reduce_sum(self.gates())

    def step_sizes(self) -> NDArray[np.float32]:
        """How far a gradient of 1 moves each value, [P]."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What was learned, as JSON, for people to read."""
        raise NotImplementedError

    def reduced(self: Self, adapts: NDArray[np.bool_]) -> Self:
        """The same solver for only some of the values, bool [P].

        Gates become part of the step sizes, so those values are solved for
        as before.
        """
        raise NotImplementedError

    def _without_gates(self: Self, adapts: NDArray[np.bool_]) -> Self:
        solver = type(self)(
            self._fan_in[adapts],
            self._config,
            degrees=self._degrees,
            gated=False,
        )
        solver.taste_shift.assign(self.taste_shift)
        solver.liked_shift.assign(self.liked_shift)
        return solver

    def _per_value(
        self,
        name: str,
        start: float | NDArray[np.float64],
        rows: int | None = None,
        trainable: bool = True,
    ) -> tf.Variable:
        """A variable [P] or [rows, P]."""
        size = len(self._fan_in)
        shape = [size] if rows is None else [rows, size]

        def initial(shape: Any, dtype: Any = None, **_: Any) -> tf.Tensor:
            return tf.broadcast_to(tf.cast(start, dtype), shape)

        return self.add_weight(
            name=name, shape=shape, initializer=initial, trainable=trainable
        )
