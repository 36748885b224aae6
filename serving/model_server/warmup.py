"""Warm-up: a version answers these before anybody else's requests.

The first call of a signature is slow, because TensorFlow optimises the graph
then. The requests lie in the SavedModel, as for TF Serving.
"""

import logging
from pathlib import Path

import tensorflow as tf

from serving.model_server.loaded_model import LoadedModel
from serving.protos import tf_serving_pb2 as pb

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000

_log = logging.getLogger(__name__)


def load_warm(path: Path) -> LoadedModel:
    """Loads a SavedModel and replays its warm-up requests.

    A request that fails makes the load fail: the model would not answer its
    users either.
    """
    model = LoadedModel(path)
    records = path / WARMUP_FILE
    if not records.exists():
        return model
    dataset = tf.data.TFRecordDataset(str(records)).take(MAX_RECORDS)
    replayed = 0
    for record in dataset.as_numpy_iterator():
        log = pb.PredictionLog.FromString(record)
        if log.HasField("predict_log"):
            model.predict(log.predict_log.request)
            replayed += 1
    _log.info("%s: %d warm-up requests replayed", path, replayed)
    return model
