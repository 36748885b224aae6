"""Warm-up: a version answers these before anybody else's requests.

The first call of a signature is slow, because TensorFlow optimises the graph
then. The requests lie in the SavedModel, as for TF Serving.

Loading and warming up want a core while others want answers. So each step can
have a rest after it, in which those who waited meanwhile are answered: nobody
waits for a new version as they wait for an answer.
"""

import contextlib
import itertools
import logging
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from serving.errors import GraphError
from serving.model_server.loaded_model import LoadedModel
from serving.protos import tf_serving_pb2 as pb

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000
# The length of a rest, in CPU time of the step before it.
_REST = 3.0

# A TFRecord is its length, a checksum of that, the bytes, their checksum.
_HEAD = struct.Struct("<QI")
_TAIL_BYTES = 4

_log = logging.getLogger(__name__)


def load_warm(path: Path, rests: bool = False) -> LoadedModel:
    """Loads a SavedModel and replays its warm-up requests.

    A request that fails makes the load fail: the model would not answer its
    users either.

    Args:
        path: Folder of the SavedModel.
        rests: Whether to leave the CPU to others between the steps.

    Raises:
        ServingError: It does not load, or does not answer.
    """
    with _step(rests):
        model = LoadedModel(path)
    replayed = 0
    try:
        for log in _logs(path):
            with _step(rests):
                replayed += _replay(model, log)
    except BaseException:
        model.close()
        raise
    _log.info("%s: %d warm-up requests replayed", path, replayed)
    return model


@contextlib.contextmanager
def _step(rests: bool) -> Iterator[None]:
    start = time.thread_time()
    yield
    if rests:
        time.sleep(_REST * (time.thread_time() - start))


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
