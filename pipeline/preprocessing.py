"""From raw examples to ids: the `preprocessing_fn` of Transform.

Everything that the towers see is an id, so that an unknown item, a missing
age and a genre never seen in training need no special case in the model: each
has the last id of its feature. The same graph runs in the pipeline and inside
the served model.
"""

import os
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf
import tensorflow_transform as tft

from serving.contract.features import (
    CATEGORICAL,
    CATEGORICAL_LIST,
    NUM_BUCKETS,
    Feature,
)

# Columns of an event that are used as they are.
PASSED_THROUGH = ("user_id", "item_id", "label", "timestamp", "position")


def preprocessing_fn(
    inputs: Mapping[str, Any], custom_config: Mapping[str, Any]
) -> dict[str, Any]:
    """Turns raw features into ids.

    Vocabularies and quantiles come from the splits that Transform analyses,
    meta_train alone. They count events, not users or items: what is seen
    often gets a small id, ties in reverse lexicographic order.

    Args:
        inputs: Columns of `pipeline.schema.build_schema`: dense [B, 1] for the
            columns of the event, sparse [B, n] for features.
        custom_config: `user_features` and `item_features`, each a list of
            what `Feature.to_dict` returns.

    Returns:
        `PASSED_THROUGH` as [B]; `item_index` int64 [B]; of each feature,
        under its name, int64 ids: [B], or sparse [B, n] for lists. With V
        known values the ids are 0 to V, the last for missing and unknown
        ones; numeric features have `NUM_BUCKETS` quantile buckets instead.
    """
    outputs = {
        name: tf.squeeze(inputs[name], axis=1) for name in PASSED_THROUGH
    }
    outputs["item_index"] = _vocabulary_ids(outputs["item_id"], "item_id")
    declared = [
        *custom_config["user_features"],
        *custom_config["item_features"],
    ]
    for feature in map(Feature.from_dict, declared):
        raw = inputs[feature.name]
        if feature.kind == CATEGORICAL:
            ids = _vocabulary_ids(_dense(raw, ""), feature.name)
        elif feature.kind == CATEGORICAL_LIST:
            present = tf.sparse.retain(raw, tf.not_equal(raw.values, ""))
            ids = _vocabulary_ids(present, feature.name)
        else:
            ids = _bucket_ids(raw)
        outputs[feature.name] = ids
    return outputs


def _vocabulary_ids(values: Any, name: str) -> Any:
    """Looks values up; the empty text is never part of a vocabulary."""
    return tft.compute_and_apply_vocabulary(
        values, num_oov_buckets=1, vocab_filename=name
    )


def _bucket_ids(raw: tf.SparseTensor) -> tf.Tensor:
    """Quantile bucket of each value; a missing one or a NaN has the last id."""
    present = tf.sparse.retain(raw, tf.logical_not(tf.math.is_nan(raw.values)))
    return _dense(
        tft.bucketize(present, NUM_BUCKETS),
        tf.constant(NUM_BUCKETS, tf.int64),
    )


def _dense(sparse: tf.SparseTensor, missing: Any) -> tf.Tensor:
    """Makes [B] of a sparse [B, 0 or 1]; its width depends on the batch."""
    columns = tft.sparse_tensor_to_dense_with_shape(
        sparse, [None, 1], default_value=missing
    )
    return tf.squeeze(columns, axis=1)
