"""What the SavedModel's signatures take: their inputs, and what is missing."""

import tensorflow as tf

from serving.contract.features import CATEGORICAL_LIST, NUMERIC, Feature

ITEM_ID = "item_id"
LABEL = "label"
WEIGHT = "weight"
ADAPTIVE_WEIGHTS = "adaptive_weights"
EXCLUDE = "exclude_item_id"
NUM_RESULTS = "k"
EXAMPLES = "examples"
# What the inputs of the two halves of a task start with.
SUPPORT = "support_"
QUERY_SET = "query_"

_META_INIT = "meta_init"
_LOG_INNER_LR = "log_inner_lr"


def present_values(values: tf.Tensor) -> tf.SparseTensor:
    """The values [B, L] that are not missing ('' or NaN)."""
    if values.dtype == tf.string:
        is_present = values != ""
    else:
        is_present = tf.logical_not(tf.math.is_nan(values))
    where = tf.where(is_present)
    return tf.SparseTensor(
        where,
        tf.gather_nd(values, where),
        tf.shape(values, out_type=tf.int64),
    )


def rows_spec(prefix: str = "") -> dict[str, tf.TensorSpec]:
    """Inputs that hold labelled rows of each user."""
    dtypes = {ITEM_ID: tf.string, LABEL: tf.float32, WEIGHT: tf.float32}
    return {
        prefix + name: tf.TensorSpec([None, None], dtype, prefix + name)
        for name, dtype in dtypes.items()
    }


def meta_state_spec(steps: int, size: int) -> dict[str, tf.TensorSpec]:
    """Inputs that hold the meta state: [size], and [steps, size]."""
    return {
        _META_INIT: tf.TensorSpec([size], tf.float32, _META_INIT),
        _LOG_INNER_LR: tf.TensorSpec([steps, size], tf.float32, _LOG_INNER_LR),
    }


def raw_input(feature: Feature) -> tf.TensorSpec:
    """The input that holds a user feature as callers send it, [B] or [B, L]."""
    if feature.kind == NUMERIC:
        return tf.TensorSpec([None], tf.float32, feature.name)
    rank = 2 if feature.kind == CATEGORICAL_LIST else 1
    return tf.TensorSpec([None] * rank, tf.string, feature.name)
