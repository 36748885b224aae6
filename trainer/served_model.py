"""The SavedModel's signatures.

A user's adaptive weights are an input of every signature that scores, never a
variable, so one model serves every user. Item vectors are computed once, at
export. Nothing here needs a custom op or Python at serving time.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tensorflow_transform as tft

from trainer.episodes import Catalog
from trainer.features import PAD, USER_ROW, FeatureSpace
from trainer.graded_labels import liked
from trainer.meta_gradient import meta_gradient, total_weight
from trainer.served_inputs import (
    ITEM_ID,
    present_values,
    raw_input,
    rows_spec,
)
from trainer.support_loss import SupportSet
from trainer.towers import Embedded, EmbeddedUser
from trainer.two_tower import PartitionedTwoTower

ADAPTIVE_WEIGHTS = "adaptive_weights"
META_INIT = "meta_init"
LOG_INNER_LR = "log_inner_lr"
SCORE = "score"
ITEM_KNOWN = "item_known"
EXCLUDE = "exclude_item_id"
NUM_RESULTS = "k"
EXAMPLES = "examples"
# What the inputs of the two halves of a task start with.
SUPPORT = "support_"
QUERY_SET = "query_"


class ServedModel(tf.Module):
    """What is saved: towers' results, lookups, inner loop, retrieval index."""

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
        meta_state = {
            META_INIT: tf.TensorSpec([size], tf.float32, META_INIT),
            LOG_INNER_LR: tf.TensorSpec(
                [steps, size], tf.float32, LOG_INNER_LR
            ),
        }

        def concrete(function: Any, **specs: tf.TensorSpec) -> Any:
            return tf.function(function).get_concrete_function(**specs)

        return {
            "rank": concrete(
                self.rank, **features, item_id=item_id, adaptive_weights=weights
            ),
            "recommend": concrete(
                self.recommend,
                **features,
                adaptive_weights=weights,
                k=tf.TensorSpec([], tf.int32, NUM_RESULTS),
                exclude_item_id=tf.TensorSpec([None, None], tf.string, EXCLUDE),
            ),
            "adapt": concrete(
                self.adapt,
                **features,
                **rows_spec(),
                adaptive_weights=weights,
                **meta_state,
            ),
            "meta_gradient": concrete(
                self.meta_gradient,
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
        user = self._embed_users(raw, tf.shape(item_id)[0])
        rows = self._item_row.lookup(item_id)
        score = self._model.value.score(
            user, self._embed_rows(rows), adaptive_weights
        )
        return {SCORE: score, ITEM_KNOWN: rows < self._num_items}

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
        user = self._embed_users(raw, tf.shape(adaptive_weights)[0])
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

    def adapt(
        self,
        item_id: tf.Tensor,
        label: tf.Tensor,
        weight: tf.Tensor,
        adaptive_weights: tf.Tensor,
        meta_init: tf.Tensor,
        log_inner_lr: tf.Tensor,
        **raw: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Runs the inner loop.

        Args:
            item_id: Items of the support sets, string [B, S].
            label: From 0 (disliked) to 1 (liked), float [B, S].
            weight: float [B, S]; 0 pads.
            adaptive_weights: What the users have; where to start, if their
                weights are carried on, float [B, P].
            meta_init: What the inner loop pulls toward, float [P].
            log_inner_lr: Log of its step sizes, float [T, P].
            **raw: Raw user features.

        Returns:
            New `adaptive_weights` [B, P]; mean support loss of each user
            before and after, `loss_before` and `loss_after`, [B]; loss of
            each event under the weights at the start, `event_loss`, and under
            the meta-initialization, `event_loss_meta_init`, [B, S];
            `item_known` bool [B, S], as in `rank`.
        """
        model = self._model.value
        user = self._embed_users(raw, tf.shape(item_id)[0])
        rows = self._item_row.lookup(item_id)
        items = self._embed_rows(rows)
        adapted = model.adapt(
            user,
            items,
            label,
            weight,
            adaptive_weights,
            meta_init=meta_init,
            log_inner_lr=log_inner_lr,
        )

        def event_loss(weights: tf.Tensor) -> tf.Tensor:
            return tf.nn.sigmoid_cross_entropy_with_logits(
                liked(label), model.score(user, items, weights)
            )

        def mean(losses: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(weight * losses, axis=1) / total_weight(weight)

        before = event_loss(adaptive_weights)
        nobodys = tf.zeros_like(adaptive_weights) + meta_init
        return {
            ADAPTIVE_WEIGHTS: adapted,
            "loss_before": mean(before),
            "loss_after": mean(event_loss(adapted)),
            "event_loss": before,
            "event_loss_meta_init": event_loss(nobodys),
            ITEM_KNOWN: rows < self._num_items,
        }

    def meta_gradient(
        self,
        support_item_id: tf.Tensor,
        support_label: tf.Tensor,
        support_weight: tf.Tensor,
        query_item_id: tf.Tensor,
        query_label: tf.Tensor,
        query_weight: tf.Tensor,
        meta_init: tf.Tensor,
        log_inner_lr: tf.Tensor,
        **raw: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Differentiates the outer loss; see `trainer.meta_gradient`.

        Args:
            support_item_id: Items of the support sets, string [B, S].
            support_label: float [B, S].
            support_weight: float [B, S]; 0 pads.
            query_item_id: Items of the query sets, string [B, Q].
            query_label: float [B, Q].
            query_weight: float [B, Q]; 0 pads.
            meta_init: Where the inner loop starts, float [P].
            log_inner_lr: Log of its step sizes, float [T, P].
            **raw: Raw user features.

        Returns:
            `loss` [B]: each task's mean query loss after the inner loop; the
            gradient of the losses' sum by the meta state,
            `meta_init_gradient` [P] and `log_inner_lr_gradient` [T, P].
        """
        user = self._embed_users(raw, tf.shape(support_item_id)[0])
        found = meta_gradient(
            self._model.value,
            user,
            SupportSet(
                self._embed_items(support_item_id),
                support_label,
                support_weight,
            ),
            SupportSet(
                self._embed_items(query_item_id), query_label, query_weight
            ),
            meta_init,
            log_inner_lr,
        )
        return {
            "loss": found.loss,
            "meta_init_gradient": found.meta_init,
            "log_inner_lr_gradient": found.log_inner_lr,
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
        items = self._embed_items(parsed.pop(ITEM_ID))
        user = self._embed_transformed(parsed, tf.size(examples))
        model = self._model.value
        weights = model.initial_weights(tf.size(examples))
        score = model.score(user, items, weights)
        return {SCORE: tf.squeeze(score, axis=1)}

    def _embed_items(self, item_id: tf.Tensor) -> Embedded:
        return self._embed_rows(self._item_row.lookup(item_id))

    def _embed_rows(self, rows: tf.Tensor) -> Embedded:
        return Embedded(self._item_vector, self._item_bias).gather(rows)

    def _embed_users(
        self, raw: Mapping[str, tf.Tensor], num_users: tf.Tensor
    ) -> EmbeddedUser:
        present = {}
        for feature in self._features:
            values = raw[feature.name]
            if values.shape.rank == 1:
                values = values[:, tf.newaxis]
            present[feature.name] = present_values(values)
        return self._embed_transformed(present, num_users)

    def _embed_transformed(
        self, raw: Mapping[str, tf.SparseTensor], num_users: tf.Tensor
    ) -> EmbeddedUser:
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


class _Untracked:
    """Keeps a model out of the SavedModel.

    Its layers that are served are tracked one by one; the item tower is not
    among them, its results are.
    """

    def __init__(self, value: PartitionedTwoTower) -> None:
        self.value = value
