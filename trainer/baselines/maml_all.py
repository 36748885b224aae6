"""`maml_all`: every parameter adapts per user, as in the earlier methods.

MAML (arXiv 1703.03400) as MeLU (arXiv 1908.00413) brought it to recommenders,
with nothing held fixed: towers, feature embeddings and item embeddings all
take the inner steps. Step sizes are learned per step and tensor (as in
arXiv 1810.09502), and so is what degrees of labels tell
(`trainer.graded_labels`), neither of which the earlier methods had.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras
from numpy.typing import NDArray

from trainer.baselines.fast_two_tower import FastTwoTower
from trainer.baselines.fast_weights import FastWeights, Inputs, Masks
from trainer.config import TrainerConfig
from trainer.graded_labels import KNOTS, Degrees, knot_shares
from trainer.outer_loop import mean_ranking_loss, ranking_task
from trainer.tasks import LabelledRows, Tasks

_LOG_INNER_LR = -1.0
_LOG_PRIOR_EVENTS = 1.0
# Of `FastWeights`, flat.
_NUM_TENSORS = 11


class MamlAll(tf_keras.layers.Layer):
    """The inner loop over all parameters of a `FastTwoTower`."""

    def __init__(
        self,
        model: FastTwoTower,
        config: TrainerConfig,
        degrees: Degrees | None = None,
    ) -> None:
        """Makes the learned step sizes; `degrees` as of our solvers."""
        super().__init__(name="maml_all")
        self.model = model
        self._degrees = degrees or Degrees()
        self.num_steps = config.num_inner_steps
        self.first_order = config.first_order
        self.log_inner_lr = self.add_weight(
            name="log_inner_lr",
            shape=[self.num_steps, _NUM_TENSORS],
            initializer=tf_keras.initializers.Constant(_LOG_INNER_LR),
        )
        # The support loss is a mean as if there were so many more events.
        self.log_prior_events = self.add_weight(
            name="log_prior_events",
            shape=[],
            initializer=tf_keras.initializers.Constant(_LOG_PRIOR_EVENTS),
        )
        # One for all parameters, as all of them act on one score.
        self.label_shift = self.add_weight(
            name="label_shift", shape=[len(KNOTS)], initializer="zeros"
        )

    def adapt(
        self,
        user_ids: Mapping[str, tf.Tensor],
        support: LabelledRows,
        shared: Inputs,
        item_index: tf.Tensor,
        masks: Masks | None = None,
    ) -> FastWeights:
        """Takes the inner steps from the shared parameters.

        Args:
            user_ids: Feature ids by name, int [B, L].
            support: What is learned from, [B, S].
            shared: Shared embeddings of the support sets' items.
            item_index: Ids that their id embeddings are of, [B, S].
            masks: Dropout.

        Returns:
            The users' own parameters.
        """
        model = self.model
        fast = model.initial(user_ids, tf.shape(support.item_row)[1])
        own_share = model.tables.step_shares(user_ids)
        events = support.item_row, item_index
        overlaps = model.tables.overlaps(events, events)
        total = tf.reduce_sum(support.weight, axis=1, keepdims=True)
        weight = support.weight / (total + tf.exp(self.log_prior_events))
        target = self._degrees.taste(support.label) + tf.linalg.matvec(
            knot_shares(support.label), self.label_shift
        )
        for step in range(self.num_steps):
            seen = model.tables.moved(shared, overlaps, fast)
            with tf.GradientTape() as tape:
                # Embeddings step as their events' gradients do.
                watched = fast._replace(
                    item_features=seen.features, item_id=seen.item_id
                )
                flat = tf.nest.flatten(watched)
                tape.watch(flat)
                losses = tf.nn.sigmoid_cross_entropy_with_logits(
                    target, model.score(watched, seen, masks)
                )
                loss = tf.reduce_sum(weight * losses)
            gradients = tape.gradient(loss, flat, unconnected_gradients="zero")
            if self.first_order:
                gradients = [tf.stop_gradient(g) for g in gradients]
            by_tensor = tf.nest.pack_sequence_as(watched, gradients)
            by_tensor = by_tensor._replace(
                user_features=own_share * by_tensor.user_features
            )
            rates = tf.unstack(tf.exp(self.log_inner_lr[step]))
            stepped = [
                value - rate * gradient
                for value, rate, gradient in zip(
                    tf.nest.flatten(fast),
                    rates,
                    tf.nest.flatten(by_tensor),
                    strict=True,
                )
            ]
            fast = tf.nest.pack_sequence_as(fast, stepped)
        return fast


class MamlLearner(tfrs.models.Model):
    """Trains all of `MamlAll` on tasks."""

    def __init__(
        self, maml: MamlAll, config: TrainerConfig, **kwargs: Any
    ) -> None:
        """Wraps the model; `zero_shot_weight` as in ours."""
        super().__init__(**kwargs)
        self.maml = maml
        self.two_tower = maml.model
        self._zero_shot_weight = config.zero_shot_weight
        self._ranking = ranking_task()

    @tf.autograph.experimental.do_not_convert
    def compute_loss(self, tasks: Tasks, training: bool = False) -> tf.Tensor:
        """The query sets' mean loss after the inner loop, and before it."""
        model = self.two_tower
        support, query_set = tasks.support, tasks.query_set
        rows = tf.concat([support.item_row, query_set.item_row], axis=1)
        users, size = tf.unstack(tf.shape(support.item_row))
        shared, index = model.embed_items(rows, training)
        masks = None
        if training:
            masks = model.masks(users, tf.shape(rows)[1])
        own = Inputs(*(t[:, :size] for t in shared))
        others = Inputs(*(t[:, size:] for t in shared))
        events = support.item_row, index[:, :size]
        fast = self.maml.adapt(
            tasks.user_ids, support, own, events[1], _part(masks, 0, size)
        )
        overlaps = model.tables.overlaps(
            (query_set.item_row, index[:, size:]), events
        )
        judged = _part(masks, size, None)
        loss = mean_ranking_loss(
            self._ranking,
            query_set,
            model.score(
                fast, model.tables.moved(others, overlaps, fast), judged
            ),
        )
        initial = model.initial(tasks.user_ids, 0)
        zero_shot = mean_ranking_loss(
            self._ranking, query_set, model.score(initial, others, judged)
        )
        return loss + self._zero_shot_weight * zero_shot + model.penalty()


def _part(masks: Masks | None, start: int, stop: int | None) -> Masks | None:
    if masks is None:
        return None
    return Masks(masks.user, masks.item[:, start:stop])


class _State(NamedTuple):
    user_ids: Mapping[str, tf.Tensor]
    fast: FastWeights
    events: tuple[tf.Tensor, tf.Tensor] | None


class MamlScorer:
    """Adapts a copy of the whole model for each user.

    Always from the shared parameters, on reservoir and new events together:
    that is what it was trained to do with a support set of any size.
    """

    def __init__(self, maml: MamlAll) -> None:
        """Scores with the model as it is."""
        self._maml = maml

    def begin(self, user_ids: Mapping[str, tf.Tensor]) -> _State:
        """Users at the shared parameters."""
        return _State(user_ids, self._maml.model.initial(user_ids, 0), None)

    def learn(self, state: _State, support: LabelledRows) -> _State:
        """Runs the inner loop."""
        shared, index = self._maml.model.embed_items(support.item_row)
        fast = self._maml.adapt(state.user_ids, support, shared, index)
        return state._replace(fast=fast, events=(support.item_row, index))

    def score(self, state: _State, item_row: NDArray[np.int32]) -> tf.Tensor:
        """Scores candidates [B, N]."""
        model = self._maml.model
        items, index = model.embed_items(item_row)
        if state.events is not None:
            overlaps = model.tables.overlaps((item_row, index), state.events)
            items = model.tables.moved(items, overlaps, state.fast)
        return model.score(state.fast, items)
