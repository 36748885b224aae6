"""What the SavedModel's signatures embed: users by features, items by id."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from serving.contract.features import USER_ROW, Feature
from trainer.embedded import Embedded, EmbeddedUser
from trainer.features import PAD
from trainer.served_inputs import present_values
from trainer.towers import UserTower

ITEM_KNOWN = "item_known"


class RawUsers:
    """Users, from features as callers send them."""

    def __init__(
        self,
        features: Sequence[Feature],
        transform: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        user_tower: UserTower,
    ) -> None:
        """Puts the way from raw features to the tower together.

        Args:
            features: Of users.
            transform: Makes ids of raw features.
            user_tower: Embeds ids.
        """
        self._features = features
        self._transform = transform
        self._user_tower = user_tower

    def embed(
        self, raw: Mapping[str, tf.Tensor], num_users: tf.Tensor
    ) -> EmbeddedUser:
        """Embeds users.

        Args:
            raw: Features by name, [B] or [B, L]; '' and NaN are missing.
            num_users: B, int32 []; no feature may say it.
        """
        present = {}
        for feature in self._features:
            values = raw[feature.name]
            if values.shape.rank == 1:
                values = values[:, tf.newaxis]
            present[feature.name] = present_values(values)
        return self.embed_present(present, num_users)

    def embed_present(
        self, raw: Mapping[str, tf.SparseTensor], num_users: tf.Tensor
    ) -> EmbeddedUser:
        """Embeds users; arguments as of `embed`, without what is missing."""
        ids = {USER_ROW: tf.zeros([num_users, 1], tf.int64)}
        transformed = self._transform(dict(raw)) if raw else {}
        for feature in self._features:
            value = transformed[feature.name]
            if isinstance(value, tf.SparseTensor):
                value = tf.sparse.to_dense(value, default_value=PAD)
            else:
                value = value[:, tf.newaxis]
            ids[feature.name] = value
        return self._user_tower(ids)


class RawItems:
    """Items, from their ids."""

    def __init__(
        self,
        item_row: tf.lookup.StaticHashTable,
        embedded: Embedded,
        num_items: int,
    ) -> None:
        """Puts the lookup and what it leads to together.

        Args:
            item_row: Row of each item id; `num_items` for unknown ones.
            embedded: The rows as the item tower sees them, [items + 1, ...].
            num_items: How many are known.
        """
        self._item_row = item_row
        self._embedded = embedded
        self._num_items = num_items

    def rows(self, item_id: tf.Tensor) -> tf.Tensor:
        """Rows of items, int64 [...] as string [...]."""
        return self._item_row.lookup(item_id)

    def known(self, rows: tf.Tensor) -> tf.Tensor:
        """Whether they are rows of known items, bool [...]."""
        return rows < self._num_items

    def embed(self, rows: tf.Tensor) -> Embedded:
        """Items as the item tower sees them, [..., *] of rows [...]."""
        return self._embedded.gather(rows)
