"""Meta-training as the reference implementations of MeLU do it: user by user.

The model, its partition and the examples are ours. The driver is written in
their manner: for each user of the batch a gradient tape around the support
loss, a step, and so on; the query losses of all users are added up, and one
step of the optimizer follows.
"""

from collections.abc import Callable

import tensorflow as tf
import tf_keras

from trainer.episodes import Catalog
from trainer.tasks import Tasks
from trainer.two_tower import PartitionedTwoTower


class PerUserDriver:
    """Takes outer steps with a loop over users."""

    def __init__(
        self,
        model: PartitionedTwoTower,
        catalog: Catalog,
        steps: int,
        in_graph: bool,
    ) -> None:
        """Makes the driver.

        Args:
            model: Its user-specific layers must be trainable.
            catalog: Items.
            steps: Steps of the inner loop.
            in_graph: Whether a user's loss and gradients run as one
                `tf.function`; else everything runs eagerly.
        """
        self._model = model
        self._catalog_ids = catalog.ids
        self._steps = steps
        self._optimizer = tf_keras.optimizers.Adam(1e-3)
        self._user_gradients: Callable[..., list[tf.Tensor]] = (
            tf.function(self._gradients, autograph=False)
            if in_graph
            else self._gradients
        )

    def step(self, tasks: Tasks) -> None:
        """One outer step."""
        total: list[tf.Tensor] | None = None
        for user in range(tasks.support.label.shape[0]):
            one = tf.nest.map_structure(lambda t, u=user: t[u : u + 1], tasks)
            found = self._user_gradients(one)
            total = (
                found
                if total is None
                else [a + b for a, b in zip(total, found, strict=True)]
            )
        assert total is not None
        variables = self._model.trainable_variables
        self._optimizer.apply_gradients(zip(total, variables, strict=True))

    def _gradients(self, task: Tasks) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = self._query_loss(task)
        variables = self._model.trainable_variables
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        return [tf.convert_to_tensor(g) for g in gradients]

    def _query_loss(self, task: Tasks) -> tf.Tensor:
        model = self._model
        support, query_set = (
            (model.embed_items(self._catalog_ids, s.item_row, True), s)
            for s in (task.support, task.query_set)
        )
        user = model.user_tower(task.user_ids, training=True)

        def loss(rows: tuple, weights: tf.Tensor) -> tf.Tensor:
            items, labelled = rows
            return tf.reduce_mean(
                tf.nn.sigmoid_cross_entropy_with_logits(
                    labelled.label, model.score(user, items, weights)
                )
            )

        weights = model.initial_weights(1)
        rates = tf.exp(model.inner_loop.log_inner_lr)
        for step in range(self._steps):
            with tf.GradientTape() as tape:
                tape.watch(weights)
                support_loss = loss(support, weights)
            weights -= rates[step] * tape.gradient(support_loss, weights)
        return loss(query_set, weights)
