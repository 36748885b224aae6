"""A SavedModel of the contract, in process, for whole batches of users.

The serving side reaches a model through a model server; the gates load it
here, to score many users at once and to have something to compare a server's
answers with.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.cold_users import RawValue
from serving.contract.features import (
    CATEGORICAL,
    CATEGORICAL_LIST,
    NUMERIC,
    Feature,
)
from serving.contract.manifest import AdaptiveManifest
from serving.contract.meta_state import MetaState
from serving.contract.meta_tasks import MetaTask
from serving.contract.support import Support, SupportEvent

Floats = NDArray[np.float32]
Inputs = dict[str, NDArray[Any]]
Texts = Sequence[str] | NDArray[np.object_]


def feature_inputs(
    features: Sequence[Feature], users: Sequence[Mapping[str, RawValue]]
) -> Inputs:
    """Returns user features as the signatures take them.

    Args:
        features: The features of the model's manifest.
        users: Raw values of each user by feature name; missing ones absent.

    Returns:
        One array per feature, of first dimension users: bytes (empty if
        missing), padded bytes for a list, float32 (NaN if missing).
    """
    inputs: Inputs = {}
    for feature in features:
        values: list[Any] = [user.get(feature.name) for user in users]
        if feature.kind == NUMERIC:
            inputs[feature.name] = np.array(
                [np.nan if v is None else v for v in values], np.float32
            )
        elif feature.kind == CATEGORICAL_LIST:
            inputs[feature.name] = pad_texts([v or () for v in values])
        elif feature.kind == CATEGORICAL:
            inputs[feature.name] = np.array(
                [(v or "").encode() for v in values], object
            )
    return inputs


def pad_texts(texts: Sequence[Texts]) -> NDArray[np.object_]:
    """Returns lists of text as bytes [len(texts), longest], padded by b''."""
    width = max([1, *map(len, texts)])
    padded = np.full((len(texts), width), b"", object)
    for row, values in enumerate(texts):
        padded[row, : len(values)] = [value.encode() for value in values]
    return padded


def pad_floats(
    floats: Sequence[Sequence[float] | NDArray[Any]],
) -> Floats:
    """Returns lists of numbers as float32 [len(floats), longest], 0-padded."""
    width = max([1, *map(len, floats)])
    padded = np.zeros((len(floats), width), np.float32)
    for row, values in enumerate(floats):
        padded[row, : len(values)] = values
    return padded


def rank_inputs(
    features: Inputs, item_ids: Sequence[Texts], weights: Floats
) -> Inputs:
    """Inputs of the signature `rank`."""
    return {
        **features,
        "item_id": pad_texts(item_ids),
        "adaptive_weights": weights,
    }


def adapt_inputs(
    features: Inputs,
    supports: Sequence[Support],
    weights: Floats,
    meta_state: MetaState,
) -> Inputs:
    """Inputs of the signature `adapt`."""
    return {
        **features,
        **_row_inputs([s.events for s in supports]),
        "adaptive_weights": weights,
        **meta_state.inputs(),
    }


def meta_gradient_inputs(
    features: Inputs, tasks: Sequence[MetaTask[Any]], meta_state: MetaState
) -> Inputs:
    """Inputs of the signature `meta_gradient`."""
    support = _row_inputs([task.support for task in tasks])
    query_set = _row_inputs([task.query_set for task in tasks])
    return {
        **features,
        **{f"support_{name}": value for name, value in support.items()},
        **{f"query_{name}": value for name, value in query_set.items()},
        **meta_state.inputs(),
    }


def _row_inputs(
    events: Sequence[Sequence[SupportEvent]],
) -> Inputs:
    return {
        "item_id": pad_texts([[e.item_id for e in own] for own in events]),
        "label": pad_floats([[e.label for e in own] for own in events]),
        "weight": pad_floats([[1.0] * len(own) for own in events]),
    }


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A loaded SavedModel with its manifest.

    Attributes:
        manifest: What it says of its adaptive part.
        saved_model: The loaded object; holds what the signatures use.
    """

    manifest: AdaptiveManifest
    saved_model: Any

    @classmethod
    def load(cls, path: str | Path) -> "ServedModel":
        """Loads the SavedModel in a folder.

        Raises:
            ManifestError: Its manifest is absent or wrong.
        """
        manifest = AdaptiveManifest.load(path)
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
        # Takes seconds, and only processes that load a model need it.
        import tensorflow as tf

        return cls(manifest, tf.saved_model.load(str(path)))

    def call(self, signature: str, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """Calls a signature with arrays, and returns its outputs as such."""
        import tensorflow as tf

        outputs = self.saved_model.signatures[signature](
            **{name: tf.constant(value) for name, value in inputs.items()}
        )
        return {name: value.numpy() for name, value in outputs.items()}
