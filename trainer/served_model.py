"""The SavedModel's signatures.

A user's adaptive weights are an input of every signature that scores, never a
variable, so one model serves every user. Item vectors are computed once, at
export. Nothing here needs a custom op or Python at serving time.
"""

from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tensorflow_transform as tft

from trainer.embedded import Embedded
from trainer.episodes import Catalog
from trainer.features import FeatureSpace
from trainer.served_embedding import ITEM_KNOWN, RawItems, RawUsers
from trainer.served_inputs import (
    ADAPTIVE_WEIGHTS,
    EXAMPLES,
    EXCLUDE,
    ITEM_ID,
    NUM_RESULTS,
    QUERY_SET,
    SUPPORT,
    meta_state_spec,
    raw_input,
    rows_spec,
)
from trainer.served_learning import ServedLearning
from trainer.two_tower import PartitionedTwoTower

SCORE = "score"
USER_VECTOR = "user_vector"
ITEM_VECTOR = "item_vector"


class ServedModel(tf.Module):
    """What is saved: towers' results, lookups, inner loop, retrieval index.

    Attributes:
        learning: The signatures that learn; the others are methods.
    """

    def __init__(
        self,
        model: PartitionedTwoTower,
        catalog: Catalog,
        space: FeatureSpace,
        transform_output: tft.TFTransformOutput,
        item_ids_file: str,
    ) -> None:
        """Computes the item vectors and the retrieval index.

        Args:
            model: A trained model.
            catalog: Items.
            space: Features of users.
            transform_output: The graph that makes ids of raw features.
            item_ids_file: Text file with the catalog's item ids, a line each;
                becomes an asset.
        """
        super().__init__(name="served_model")
        # What is saved must be an attribute here. Those that embed and learn
        # hold it, too, but are plain objects, which nobody looks into.
        self._user_tower = model.user_tower
        self._user_head = model.user_head
        self._user_specific_layers = model.user_specific_layers
        self._model = _Untracked(model)
        self._features = space.user_features
        self._raw_spec = {
            name: spec
            for name, spec in transform_output.raw_feature_spec().items()
            if name in {f.name for f in space.user_features}
        }
        self._transform = transform_output.transform_features_layer()
        items = model.item_tower(catalog.ids)
        self._item_vector = tf.Variable(items.vector, trainable=False)
        self._item_bias = tf.Variable(items.bias, trainable=False)
        self._item_row = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                item_ids_file,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=catalog.unknown_row,
        )
        self._users = RawUsers(
            space.user_features, self._transform, self._user_tower
        )
        self._items = RawItems(
            self._item_row,
            Embedded(self._item_vector, self._item_bias),
            catalog.unknown_row,
        )
        self.learning = ServedLearning(model, self._users, self._items)
        self._num_items = catalog.unknown_row
        known = tf.concat([items.vector, items.bias], axis=1)[:-1]
        self._index = tfrs.layers.factorized_top_k.BruteForce().index(
            known, tf.constant(catalog.item_ids)
        )

    def signatures(self) -> dict[str, Any]:
        """Concrete functions by signature name."""
        features = {f.name: raw_input(f) for f in self._features}
        size = self._model.value.partition.size
        weights = tf.TensorSpec([None, size], tf.float32, ADAPTIVE_WEIGHTS)
        item_id = tf.TensorSpec([None, None], tf.string, ITEM_ID)
        steps = self._model.value.inner_loop.log_inner_lr.shape[0]
        meta_state = meta_state_spec(steps, size)

        def concrete(function: Any, **specs: tf.TensorSpec) -> Any:
            return tf.function(function).get_concrete_function(**specs)

        return {
            "rank": concrete(
                self.rank, **features, item_id=item_id, adaptive_weights=weights
            ),
            "embed": concrete(
                self.embed,
                **features,
                item_id=item_id,
                adaptive_weights=weights,
            ),
            "recommend": concrete(
                self.recommend,
                **features,
                adaptive_weights=weights,
                k=tf.TensorSpec([], tf.int32, NUM_RESULTS),
                exclude_item_id=tf.TensorSpec([None, None], tf.string, EXCLUDE),
            ),
            "adapt": concrete(
                self.learning.adapt,
                **features,
                **rows_spec(),
                adaptive_weights=weights,
                **meta_state,
            ),
            "meta_gradient": concrete(
                self.learning.meta_gradient,
                **features,
                **rows_spec(SUPPORT),
                **rows_spec(QUERY_SET),
                **meta_state,
            ),
            "score_examples": concrete(
                self.score_examples,
                examples=tf.TensorSpec([None], tf.string, EXAMPLES),
            ),
        }

    def rank(
        self, item_id: tf.Tensor, adaptive_weights: tf.Tensor, **raw: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Scores candidates.

        Args:
            item_id: Candidates, string [B, N].
            adaptive_weights: float [B, P].
            **raw: Raw user features.

        Returns:
            `score`: logits, float [B, N]; `item_known` bool [B, N]: False
            for those scored as an item never seen.
        """
        user = self._users.embed(raw, tf.shape(item_id)[0])
        rows = self._items.rows(item_id)
        score = self._model.value.score(
            user, self._items.embed(rows), adaptive_weights
        )
        return {SCORE: score, ITEM_KNOWN: self._items.known(rows)}

    def embed(
        self, item_id: tf.Tensor, adaptive_weights: tf.Tensor, **raw: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Embeds users and candidates, for callers who score by themselves.

        Args:
            item_id: Candidates, string [B, N].
            adaptive_weights: float [B, P].
            **raw: Raw user features.

        Returns:
            `user_vector` [B, V] and `item_vector` [B, N, V], whose dot
            products are the scores of `rank`, biases and all; `item_known`
            as `rank` gives it. What an item's vector is depends on its id
            alone.
        """
        user = self._users.embed(raw, tf.shape(item_id)[0])
        own = self._model.value.personalize(user, adaptive_weights)
        rows = self._items.rows(item_id)
        items = self._items.embed(rows)
        one = tf.ones_like
        return {
            USER_VECTOR: tf.concat(
                [own.vector, own.bias, one(own.bias)], axis=-1
            ),
            ITEM_VECTOR: tf.concat(
                [items.vector, one(items.bias), items.bias], axis=-1
            ),
            ITEM_KNOWN: self._items.known(rows),
        }

    @property
    def vector_size(self) -> int:
        """V, the length of the vectors that `embed` gives."""
        size: int = self._item_vector.shape[1] + 2
        return size

    def recommend(
        self,
        adaptive_weights: tf.Tensor,
        k: tf.Tensor,
        exclude_item_id: tf.Tensor,
        **raw: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Finds the best items of the whole catalog.

        Args:
            adaptive_weights: float [B, P].
            k: How many, int32 [].
            exclude_item_id: Items left out, string [B, E]; '' pads.
            **raw: Raw user features.

        Returns:
            `item_id` [B, k] and `score` [B, k], best first; fewer columns if
            the catalog has no more. Where exclusion leaves fewer than k, the
            rest is '' with score -inf.
        """
        user = self._users.embed(raw, tf.shape(adaptive_weights)[0])
        own = self._model.value.personalize(user, adaptive_weights)
        queries = tf.concat([own.vector, tf.ones_like(own.bias)], axis=1)
        # TFRS's query_with_exclusions needs a static number of exclusions.
        found = tf.minimum(k + tf.shape(exclude_item_id)[1], self._num_items)
        score, item_id = self._index(queries, k=found)
        excluded = tf.reduce_any(
            item_id[:, :, tf.newaxis] == exclude_item_id[:, tf.newaxis, :],
            axis=2,
        )
        score = tf.where(excluded, -float("inf"), score + own.bias)
        item_id = tf.where(excluded, "", item_id)
        score, order = tf.math.top_k(score, tf.minimum(k, found))
        return {
            ITEM_ID: tf.gather(item_id, order, batch_dims=1),
            SCORE: score,
        }

    def score_examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """Scores raw interaction examples of cold users, for TFMA.

        Args:
            examples: Serialized tf.Examples, string [B].

        Returns:
            `score`: logits at the meta-initialization, float [B].
        """
        spec = self._raw_spec | {ITEM_ID: tf.io.FixedLenFeature([1], tf.string)}
        parsed = tf.io.parse_example(examples, spec)
        items = self._items.embed(self._items.rows(parsed.pop(ITEM_ID)))
        user = self._users.embed_present(parsed, tf.size(examples))
        model = self._model.value
        weights = model.initial_weights(tf.size(examples))
        score = model.score(user, items, weights)
        return {SCORE: tf.squeeze(score, axis=1)}


class _Untracked:
    """Keeps a model out of the SavedModel.

    Its layers that are served are tracked one by one; the item tower is not
    among them, its results are.
    """

    def __init__(self, value: PartitionedTwoTower) -> None:
        self.value = value
