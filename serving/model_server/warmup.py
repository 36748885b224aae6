"""Warm-up: a version answers these before anybody else's requests.

The first call of a signature is slow, because TensorFlow optimises the graph
then. The requests lie in the SavedModel, as for TF Serving.
"""

import itertools
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from serving.errors import GraphError
from serving.model_server.loaded_model import LoadedModel
from serving.protos import tf_serving_pb2 as pb

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000

# A TFRecord is its length, a checksum of that, the bytes, their checksum.
_HEAD = struct.Struct("<QI")
_TAIL_BYTES = 4

_log = logging.getLogger(__name__)


def load_warm(path: Path) -> LoadedModel:
    """Loads a SavedModel and replays its warm-up requests.

    A request that fails makes the load fail: the model would not answer its
    users either.

    Raises:
        ServingError: It does not load, or does not answer.
    """
    model = LoadedModel(path)
    try:
        replayed = sum(map(_replay, itertools.repeat(model), _logs(path)))
    except BaseException:
        model.close()
        raise
    _log.info("%s: %d warm-up requests replayed", path, replayed)
    return model


def _replay(model: LoadedModel, log: pb.PredictionLog) -> bool:
    if not log.HasField("predict_log"):
        return False
    model.predict(log.predict_log.request)
    return True


def _logs(path: Path) -> Iterator[pb.PredictionLog]:
    file = path / WARMUP_FILE
    if file.exists():
        with file.open("rb") as stream:
            for record in itertools.islice(_records(stream), MAX_RECORDS):
                yield pb.PredictionLog.FromString(record)


def _records(stream: BinaryIO) -> Iterator[bytes]:
    """Reads TFRecords; a damaged one does not parse, or does not answer."""
    while head := stream.read(_HEAD.size):
        if len(head) < _HEAD.size:
            raise GraphError("The warm-up requests are cut off.")
        size, _ = _HEAD.unpack(head)
        record = stream.read(size + _TAIL_BYTES)
        if len(record) < size + _TAIL_BYTES:
            raise GraphError("The warm-up requests are cut off.")
        yield record[:size]
