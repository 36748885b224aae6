"""The partitioned two-tower model again, in NumPy and float64.

Written from the formulas in the docstrings of `trainer.two_tower`,
`trainer.inner_loop` and `trainer.outer_loop`, one user at a time, as the
second implementation that tests compare with.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.helpers.numpy_targets import targets

Array = np.ndarray
Ids = Mapping[str, Array]


@dataclasses.dataclass
class NumpyTwoTower:
    """Parameters and formulas.

    Attributes:
        user: Arrays of the user tower in order: a table per feature, kernel
            and bias of the hidden layer, kernel and bias of the output.
        item: The same of the item tower, then the table of item ids.
        meta_init: [P]: the bias, then the offset of the user vector.
        log_inner_lr: [steps, P].
        log_precision: [P].
        log_curvature: [P].
        taste_shift: What labels tell of taste besides, see `numpy_targets`.
        liked_shift: And of how often the user likes.
        carried_share: How much of the weights so far the loop starts from.
        user_features: Names in the tables' order.
        item_features: The same.
    """

    user: list[Array]
    item: list[Array]
    meta_init: Array
    log_inner_lr: Array
    log_precision: Array
    log_curvature: Array
    taste_shift: Array
    liked_shift: Array
    carried_share: Array
    user_features: Sequence[str]
    item_features: Sequence[str]

    @classmethod
    def of(cls, model: Any, space: Any) -> "NumpyTwoTower":
        """Copies the parameters of a `PartitionedTwoTower`."""

        def copies(variables: Any) -> list[Array]:
            return [np.array(v, np.float64) for v in variables]

        loop = model.inner_loop
        return cls(
            copies(model.user_tower.weights),
            copies(model.item_tower.weights),
            copies([model.partition.meta_init()])[0],
            *copies([loop.log_inner_lr, loop.log_precision]),
            *copies([loop.log_curvature, loop.taste_shift, loop.liked_shift]),
            *copies([loop.carried_share]),
            [f.name for f in space.user_features],
            [f.name for f in space.item_features],
        )

    def arrays(self) -> list[Array]:
        """All parameters; changing them in place changes the model."""
        return [
            *self.user,
            *self.item,
            self.meta_init,
            self.log_inner_lr,
            self.log_precision,
            self.log_curvature,
            self.taste_shift,
            self.liked_shift,
        ]

    def embed_user(self, ids: Ids) -> tuple[Array, float]:
        """Vector and bias of one user, given ids [L] by feature."""
        output = _features(self.user, self.user_features, ids)
        return output[:-1], output[-1]

    def embed_items(self, ids: Ids, rows: Array) -> tuple[Array, Array]:
        """Vectors [n, D] and biases [n] of some rows of the catalog."""
        outputs = []
        for row in rows:
            of_item = {name: values[row] for name, values in ids.items()}
            by_id = self.item[-1][of_item["item_index"][0]]
            outputs.append(
                _features(self.item, self.item_features, of_item) + by_id
            )
        output = np.array(outputs).reshape(len(rows), -1)
        return output[:, :-1], output[:, -1]

    def score(self, user: Any, items: Any, weights: Array) -> Array:
        """Logits [n]."""
        offset = weights[1:] if len(weights) > 1 else 0.0
        return items[0] @ (user[0] + offset) + user[1] + weights[0] + items[1]

    def support_gradient(
        self, user: Any, items: Any, label: Array, weight: Array, at: Array
    ) -> Array:
        """Gradient [P] of the support loss."""
        probability = _sigmoid(self.score(user, items, at))
        taste, liked = targets(label, self.taste_shift, self.liked_shift)
        by_bias = weight @ (probability - liked)
        by_vector = (weight * (probability - taste)) @ items[0]
        return np.append(by_bias, by_vector)[: len(at)]

    def adapt(
        self,
        user: Any,
        items: Any,
        label: Array,
        weight: Array,
        start: Array,
        gradients: list[Array] | None = None,
    ) -> Array:
        """The inner loop for one user.

        Args:
            user: What `embed_user` gives.
            items: What `embed_items` gives of the support set.
            label: [S].
            weight: [S].
            start: [P].
            gradients: Support gradients of each step, recorded if empty, else
                used instead of computing them: constants, as the first-order
                outer loop sees them.

        Returns:
            Adapted weights [P].
        """
        precision = np.exp(self.log_precision)
        scale = 1 / (precision + np.exp(self.log_curvature) * weight.sum())
        weights = self.meta_init + self.carried_share * (start - self.meta_init)
        use = bool(gradients)
        for step, log_lr in enumerate(self.log_inner_lr):
            if use:
                gradient = gradients[step]
            else:
                gradient = self.support_gradient(
                    user, items, label, weight, weights
                )
                if gradients is not None:
                    gradients.append(gradient)
            pull = precision * (weights - self.meta_init)
            weights = weights - np.exp(log_lr) * scale * (gradient + pull)
        return weights

    def outer_loss(
        self,
        catalog_ids: Ids,
        tasks: Any,
        zero_shot_weight: float,
        gradients: list[list[Array]] | None = None,
    ) -> float:
        """What `MetaLearner.compute_loss` documents.

        Args:
            catalog_ids: Of the whole catalog.
            tasks: `Tasks` of NumPy arrays.
            zero_shot_weight: Weight of the loss at the meta-initialization.
            gradients: A list per user, as `adapt` takes.
        """
        adapted_loss = zero_shot_loss = total = 0.0
        for number in range(len(tasks.support.label)):
            user = self.embed_user(
                {name: ids[number] for name, ids in tasks.user_ids.items()}
            )
            support, query_set = (
                (
                    self.embed_items(catalog_ids, rows.item_row[number]),
                    rows.label[number],
                    rows.weight[number],
                )
                for rows in (tasks.support, tasks.query_set)
            )
            adapted = self.adapt(
                user,
                *support,
                self.meta_init,
                None if gradients is None else gradients[number],
            )
            items, label, weight = query_set
            for weights in (adapted, self.meta_init):
                logits = self.score(user, items, weights)
                loss = weight @ (np.logaddexp(0, logits) - label * logits)
                if weights is adapted:
                    adapted_loss += loss
                else:
                    zero_shot_loss += loss
            total += weight.sum()
        return (adapted_loss + zero_shot_weight * zero_shot_loss) / max(
            total, 1.0
        )


def _sigmoid(logits: Array) -> Array:
    return 1 / (1 + np.exp(-logits))


def _features(arrays: list[Array], names: Sequence[str], ids: Ids) -> Array:
    """A feature network's output [D + 1] for one user or item."""
    means = []
    for table, name in zip(arrays, names, strict=False):
        present = [table[i] for i in ids[name] if i != -1]
        means.append(
            np.mean(present, axis=0) if present else np.zeros(table.shape[1])
        )
    kernel, bias, out_kernel, out_bias = arrays[len(names) : len(names) + 4]
    hidden = np.maximum(np.concatenate(means) @ kernel + bias, 0.0)
    return hidden @ out_kernel + out_bias
