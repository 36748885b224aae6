"""Writes the SavedModel, its adaptive manifest and its warm-up requests."""

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from numpy.typing import NDArray
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.contract.features import CATEGORICAL_LIST, NUMERIC
from serving.contract.manifest import AdaptiveManifest
from serving.contract.support import RESERVOIR_EVENTS
from trainer.episodes import Catalog
from trainer.features import FeatureSpace
from trainer.flat_model import flatten
from trainer.served_inputs import QUERY_SET, SUPPORT
from trainer.served_model import ServedModel
from trainer.two_tower import PartitionedTwoTower

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
_WARMUP_CANDIDATES = (1, 10, 100)


def export_model(
    directory: str,
    model: PartitionedTwoTower,
    catalog: Catalog,
    space: FeatureSpace,
    transform_output: tft.TFTransformOutput,
    model_name: str,
) -> AdaptiveManifest:
    """Exports a trained model.

    Args:
        directory: Where the SavedModel goes.
        model: Trained.
        catalog: Items.
        space: Features of users.
        transform_output: The graph that makes ids of raw features.
        model_name: Name it is served under.

    Returns:
        The manifest that was written beside it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        item_ids_file = Path(scratch) / "item_ids"
        item_ids_file.write_bytes(
            b"".join(item_id + b"\n" for item_id in catalog.item_ids)
        )
        served = ServedModel(
            model, catalog, space, transform_output, str(item_ids_file)
        )
        tf.saved_model.save(served, directory, signatures=served.signatures())
    flatten(directory, default="rank")
    meta_init = model.partition.meta_init().numpy()
    manifest = AdaptiveManifest(
        model_name=model_name,
        fingerprint=fingerprint(model, catalog),
        parameters=model.partition.parameters,
        meta_init=tuple(map(float, meta_init)),
        user_features=space.user_features,
        reservoir_events=RESERVOIR_EVENTS,
        log_inner_lr=_float_rows(model.inner_loop.log_inner_lr.numpy()),
        inner_loop=model.inner_loop.settings(),
        vector_size=served.vector_size,
    )
    manifest.save(directory)
    _write_warmup(directory, manifest, catalog)
    return manifest


def fingerprint(model: PartitionedTwoTower, catalog: Catalog) -> str:
    """Hash of all that adaptive weights were learned against.

    That is the fixed part, the partition and the catalog; not the meta state,
    which may move on while weights stay valid.
    """
    digest = hashlib.sha256()
    for variable in sorted(model.variables, key=lambda v: v.name):
        if variable is not model.inner_loop.log_inner_lr:
            digest.update(f"{variable.name}{variable.shape}".encode())
            fixed = model.partition.fixed_values(variable)
            digest.update(np.ascontiguousarray(fixed).tobytes())
    for parameter in model.partition.parameters:
        digest.update(repr(parameter).encode())
    for item_id in catalog.item_ids:
        digest.update(len(item_id).to_bytes(4, "little") + item_id)
    return digest.hexdigest()


def _float_rows(array: NDArray[np.float32]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in array)


def _write_warmup(
    directory: str, manifest: AdaptiveManifest, catalog: Catalog
) -> None:
    """Writes requests that TF Serving replays before it says AVAILABLE."""
    path = Path(directory) / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in _warmup_requests(manifest, catalog):
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())


def _warmup_requests(
    manifest: AdaptiveManifest, catalog: Catalog
) -> Iterable[predict_pb2.PredictRequest]:
    user: dict[str, Any] = {}
    for feature in manifest.user_features:
        if feature.kind == NUMERIC:
            user[feature.name] = np.array([np.nan], np.float32)
        elif feature.kind == CATEGORICAL_LIST:
            user[feature.name] = np.array([[b""]])
        else:
            user[feature.name] = np.array([b""])
    meta_state = manifest.meta_state
    weights = {"adaptive_weights": meta_state.initial_weights(1)}

    def request(
        signature: str, inputs: Mapping[str, Any]
    ) -> predict_pb2.PredictRequest:
        message = predict_pb2.PredictRequest()
        message.model_spec.name = manifest.model_name
        message.model_spec.signature_name = signature
        for name, value in {**user, **inputs}.items():
            message.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return message

    for count in _WARMUP_CANDIDATES:
        items = np.array([list(catalog.item_ids[:count])])
        label = np.zeros(items.shape, np.float32)
        rows = {"item_id": items, "label": label, "weight": label + 1.0}
        for signature in ("rank", "embed"):
            yield request(signature, {**weights, "item_id": items})
        yield request("adapt", {**weights, **rows, **meta_state.inputs()})
        yield request(
            "meta_gradient",
            {
                **{f"{SUPPORT}{name}": value for name, value in rows.items()},
                **{f"{QUERY_SET}{name}": value for name, value in rows.items()},
                **meta_state.inputs(),
            },
        )
    yield request(
        "recommend",
        {
            **weights,
            "k": np.int32(min(10, len(catalog.item_ids))),
            "exclude_item_id": np.array([[b""]]),
        },
    )
