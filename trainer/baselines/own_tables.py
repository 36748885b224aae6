"""Embedding tables of which every user has a copy.

A copy is not held as a table: gradient steps only reach the rows of the user's
own events, and they reach them by way of those events,

    table[id] = shared table[id] + sum over events s of  share(s, id) * d[s]

where share(s, id) is the id's share in the mean that event s sees and d[s] the
sum of that event's steps. So d [events, size] is the user's copy, an event or
candidate n sees the shared embedding plus  sum over s of K[n, s] d[s], with
K[n, s] = sum over ids of share(n, id) share(s, id). Nothing is approximated.
"""

from collections.abc import Mapping

import tensorflow as tf

from serving.contract.features import ITEM_INDEX
from trainer.baselines.fast_weights import FastWeights, Inputs
from trainer.config import TrainerConfig
from trainer.episodes import Catalog
from trainer.features import PAD, FeatureSpace


class OwnTables:
    """What users' copies of embedding tables add to the shared ones."""

    def __init__(
        self, space: FeatureSpace, catalog: Catalog, config: TrainerConfig
    ) -> None:
        """Computes the shares of the catalog's items.

        Args:
            space: Features of users and items.
            catalog: Items.
            config: Size of embeddings.
        """
        self._feature_size = config.feature_size
        items = {f.name: space.num_ids[f.name] for f in space.item_features}
        self._user_names = [f.name for f in space.user_features]
        self._item_names = list(items)
        self._shares = {
            name: _shares(catalog.ids[name], items[name]) for name in items
        }

    def overlaps(
        self, rows: tuple[tf.Tensor, tf.Tensor], events: tuple[tf.Tensor, ...]
    ) -> dict[str, tf.Tensor]:
        """K of the module's docstring, by table.

        Args:
            rows: Catalog rows [B, N] and item ids [B, N] of what is seen.
            events: Catalog rows [B, S] and item ids [B, S] of the events.

        Returns:
            float [B, N, S] by feature, and by `ITEM_INDEX`.
        """

        def by_share(name: str) -> tf.Tensor:
            shares = self._shares[name]
            seen = tf.gather(shares, rows[0])
            if shares.shape.rank == 1:
                own = tf.gather(shares, events[0])
                return (
                    _equal(seen, own)
                    * tf.cast(seen != PAD, tf.float32)[..., tf.newaxis]
                )
            return tf.matmul(
                seen, tf.gather(shares, events[0]), transpose_b=True
            )

        return {name: by_share(name) for name in self._item_names} | {
            ITEM_INDEX: _equal(rows[1], events[1])
        }

    def moved(
        self,
        shared: Inputs,
        overlaps: Mapping[str, tf.Tensor],
        fast: FastWeights,
    ) -> Inputs:
        """The rows' embeddings in the users' own tables.

        Args:
            shared: Their shared embeddings, [B, N, ...].
            overlaps: K of the rows and the users' events.
            fast: The users' copies.
        """
        steps = tf.split(
            fast.item_features, len(self._item_names) or 1, axis=-1
        )
        moves = [
            tf.matmul(overlaps[name], step)
            for name, step in zip(self._item_names, steps, strict=False)
        ]
        features = shared.features
        if moves:
            features += tf.concat(moves, axis=-1)
        by_id = tf.matmul(overlaps[ITEM_INDEX], fast.item_id)
        return Inputs(features, shared.item_id + by_id)

    def step_shares(self, user_ids: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """K of a user with itself: 1 / ids of each feature, [B, 1, inputs]."""
        counts = [
            tf.reduce_sum(tf.cast(user_ids[n] != PAD, tf.float32), axis=1)
            for n in self._user_names
        ]
        shares = [
            tf.repeat(
                tf.math.reciprocal_no_nan(count)[:, tf.newaxis],
                self._feature_size,
                axis=1,
            )
            for count in counts
        ]
        return tf.concat(shares, axis=1)[:, tf.newaxis] if shares else 0.0


def _shares(ids: tf.Tensor, num_ids: int) -> tf.Tensor:
    """Each item's ids: [items] of one column, else shares [items, num_ids]."""
    if ids.shape[1] == 1:
        return tf.squeeze(ids, axis=1)
    hot = tf.reduce_sum(tf.one_hot(ids, num_ids), axis=1)
    count = tf.reduce_sum(hot, axis=1, keepdims=True)
    return tf.math.divide_no_nan(hot, count)


def _equal(seen: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """1.0 where ids are the same, [B, N, S] of [B, N] and [B, S]."""
    return tf.cast(seen[..., tf.newaxis] == own[:, tf.newaxis], tf.float32)
