"""The catalog's items through the transform graph."""

import os
from collections.abc import Sequence

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl.coders import example_coder
from tfx_bsl.tfxio import tensor_to_arrow

# Shown to people, never learned from, and so unknown to Transform.
DISPLAY_TITLE = "display_title"


class CatalogTransformer:
    """Applies the part of a transform graph that needs items only."""

    def __init__(
        self, transform_uri: str, item_features: Sequence[str]
    ) -> None:
        """Loads the graph.

        Args:
            transform_uri: Folder of Transform's output.
            item_features: Features to keep.
        """
        output = tft.TFTransformOutput(transform_uri)
        raw_spec = output.raw_feature_spec()
        self._raw_spec = {
            name: raw_spec[name] for name in ("item_id", *item_features)
        }
        self._raw_spec[DISPLAY_TITLE] = tf.io.VarLenFeature(tf.string)
        self._outputs = ("item_id", "item_index", *item_features)
        # Outputs that depend on a user's feature are left out by the layer.
        self._layer = output.transform_features_layer()
        self._encoder = example_coder.RecordBatchToExamplesEncoder()

    def transform(self, examples: Sequence[bytes]) -> list[bytes]:
        """Transforms items.

        Args:
            examples: Serialized raw items.

        Returns:
            A serialized tf.Example per item with `item_id`, `item_index`, the
            ids of its features, and its title if it has one.
        """
        raw = tf.io.parse_example(tf.constant(examples), self._raw_spec)
        title = raw.pop(DISPLAY_TITLE)
        transformed = self._layer(raw)
        tensors = {name: transformed[name] for name in self._outputs}
        tensors[DISPLAY_TITLE] = title
        converter = tensor_to_arrow.TensorsToRecordBatchConverter(
            {name: _batch_spec(value) for name, value in tensors.items()}
        )
        return self._encoder.encode(converter.convert(tensors))


def _batch_spec(value: tf.Tensor | tf.SparseTensor) -> tf.TypeSpec:
    """The type of a [B] or sparse [B, n] tensor for any B and n."""
    if isinstance(value, tf.SparseTensor):
        return tf.SparseTensorSpec([None, None], value.dtype)
    return tf.TensorSpec([None], value.dtype)
