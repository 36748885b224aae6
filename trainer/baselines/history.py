"""`history`: a user tower that pools the user's own earlier items.

What is usually advised for new users of a two-tower model: no weights of
their own, but their history as a feature. Each earlier event, its item as the
item tower sees it, an embedding of its own of the item, and its label, goes
through a small network; the results are averaged over the events (Deep Sets,
arXiv 1703.06114) and added to what the user's features say. Trained on the
tasks that meta-learning is trained on: what was seen before the cut, judged
on the rows after it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras
from numpy.typing import NDArray

from trainer.config import TrainerConfig
from trainer.embedded import Embedded
from trainer.episodes import Catalog
from trainer.features import FeatureSpace
from trainer.graded_labels import liked
from trainer.outer_loop import mean_ranking_loss, ranking_task
from trainer.tasks import LabelledRows, Tasks
from trainer.towers import ItemTower, UserTower

_ID_STDDEV = 0.05


class HistoryTwoTower(tf_keras.Model):
    """Two towers, and a set network over the user's earlier events."""

    def __init__(
        self, space: FeatureSpace, catalog: Catalog, config: TrainerConfig
    ) -> None:
        """Makes the model; sizes and dropout are those of the others."""
        super().__init__(name="history_two_tower")
        self._size = config.vector_size
        self._l2 = config.item_l2
        self._catalog_ids = dict(catalog.ids)
        self.user_tower = UserTower(space, config)
        self.item_tower = ItemTower(space, config)
        self._item_as_history = tf_keras.layers.Embedding(
            catalog.unknown_row + 1,
            config.vector_size,
            embeddings_initializer=tf_keras.initializers.RandomNormal(
                stddev=_ID_STDDEV, seed=config.seed
            ),
            name="item_as_history",
        )
        self._event = tf_keras.layers.Dense(config.hidden_size, "relu")
        self._hidden = tf_keras.layers.Dense(config.hidden_size, "relu")
        self._dropout = tf_keras.layers.Dropout(config.dropout)
        # Users without events are at what their features say.
        self._output = tf_keras.layers.Dense(
            config.vector_size + 1, kernel_initializer="zeros"
        )

    def embed_items(self, training: bool = False) -> Embedded:
        """Embeds the whole catalog."""
        return self.item_tower(self._catalog_ids, training=training)

    def embed_stranger(
        self, user_ids: Mapping[str, tf.Tensor], training: bool = False
    ) -> Embedded:
        """Embeds users by their features alone."""
        user = self.user_tower(user_ids, training=training)
        return Embedded(user.vector, user.bias)

    def embed_user(
        self,
        user_ids: Mapping[str, tf.Tensor],
        items: Embedded,
        history: LabelledRows,
        training: bool = False,
    ) -> Embedded:
        """Embeds users by features and history.

        Args:
            user_ids: Feature ids by name, int [B, L].
            items: The catalog as embedded.
            history: Earlier events, [B, S]; weight 0 pads.
            training: Whether dropout is on.

        Returns:
            Vectors [B, vector_size] and biases [B, 1].
        """
        user = self.embed_stranger(user_ids, training)
        item = items.gather(history.item_row)
        as_history = self._item_as_history(history.item_row)
        is_liked = liked(history.label)
        surprise = is_liked - tf.sigmoid(_score(user, item))
        event = tf.concat(
            [
                item.vector,
                item.bias,
                as_history,
                history.label[..., tf.newaxis],
                is_liked[..., tf.newaxis],
                surprise[..., tf.newaxis],
            ],
            axis=-1,
        )
        weight = history.weight[..., tf.newaxis]
        count = tf.reduce_sum(weight, axis=1)
        # The label's own sign lets a sum tell likes from dislikes at once.
        signed = tf.concat([event, event * surprise[..., tf.newaxis]], axis=-1)
        pooled = tf.reduce_sum(weight * self._event(signed), axis=1)
        mean = pooled / tf.maximum(count, 1.0)
        hidden = self._hidden(tf.concat([mean, tf.math.log1p(count)], axis=-1))
        # No event, no word of the history.
        said = self._output(self._dropout(hidden, training=training))
        said *= tf.cast(count > 0, tf.float32)
        return Embedded(
            user.vector + said[:, : self._size],
            user.bias + said[:, self._size :],
        )

    def penalty(self) -> tf.Tensor:
        """The L2 loss of the history's own embeddings, a scalar."""
        table = self._item_as_history.embeddings
        return self._l2 * tf.reduce_sum(tf.square(table))


def _score(user: Embedded, item: Embedded) -> tf.Tensor:
    """Logits [B, N] of candidates [B, N, ...]."""
    return (
        tf.einsum("bd,bnd->bn", user.vector, item.vector)
        + user.bias
        + tf.squeeze(item.bias, axis=-1)
    )


class HistoryLearner(tfrs.models.Model):
    """Trains a `HistoryTwoTower` on tasks."""

    def __init__(
        self, model: HistoryTwoTower, config: TrainerConfig, **kwargs: Any
    ) -> None:
        """Wraps the model; `zero_shot_weight` as in meta-learning."""
        super().__init__(**kwargs)
        self.history_model = model
        self._zero_shot_weight = config.zero_shot_weight
        self._ranking = ranking_task()

    @tf.autograph.experimental.do_not_convert
    def compute_loss(self, tasks: Tasks, training: bool = False) -> tf.Tensor:
        """The query sets' mean loss given the support sets as history.

        Plus `zero_shot_weight` times the same loss without any history.
        """
        model = self.history_model
        items = model.embed_items(training)
        candidates = items.gather(tasks.query_set.item_row)
        user = model.embed_user(tasks.user_ids, items, tasks.support, training)
        loss = mean_ranking_loss(
            self._ranking, tasks.query_set, _score(user, candidates)
        )
        stranger = model.embed_stranger(tasks.user_ids, training)
        zero_shot = mean_ranking_loss(
            self._ranking, tasks.query_set, _score(stranger, candidates)
        )
        return loss + self._zero_shot_weight * zero_shot + model.penalty()


class _State(NamedTuple):
    user_ids: Mapping[str, tf.Tensor]
    item: Embedded
    user: Embedded


class HistoryScorer:
    """Pools all events known so far."""

    def __init__(self, model: HistoryTwoTower) -> None:
        """Scores with the model as it is whenever users begin."""
        self._model = model

    def begin(self, user_ids: Mapping[str, tf.Tensor]) -> _State:
        """Users by their features."""
        return _State(
            user_ids,
            self._model.embed_items(),
            self._model.embed_stranger(user_ids),
        )

    def learn(self, state: _State, support: LabelledRows) -> _State:
        """Embeds the users anew; reservoir and new events are the history."""
        user = self._model.embed_user(state.user_ids, state.item, support)
        return state._replace(user=user)

    def score(self, state: _State, item_row: NDArray[np.int32]) -> tf.Tensor:
        """Scores candidates [B, N]."""
        return _score(state.user, state.item.gather(item_row))
